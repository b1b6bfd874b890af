"""Whether a partner could be told now: secrets, addresses, credentials, limits, and how many people it could be told of.

Nothing here tells a partner of anybody: hosts are connected to, tokens got, and calls made that change nothing.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from todoke.processors.reconcile import accepted
from todoke.schemas.errors import Expired, Misconfigured, Rejected, Retry
from todoke.schemas.partners import Limits, Partner
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import SubjectRecord
from todoke.sinks import connectors, secrets
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, Connector
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

from .view import View

State = Literal["ok", "note", "unknown", "wrong"]
HOUR_MS = 3_600_000
AT_ONCE = 1000


class Finding(Struct, frozen=True):
    """What was looked at, and what was found. `wrong` must be mended; `unknown` could not be told now."""

    what: str
    state: State
    text: str


class Coverage(Struct, frozen=True):
    """How many people the view knows, how many of them a partner could be told of, and by how many identifiers of each kind."""

    people: int
    named: Mapping[str, int]
    kinds: Mapping[str, Mapping[str, int]]


async def examine(partner: Partner, environ: Mapping[str, str], now: Callable[[], int]) -> list[Finding]:
    """Everything that can be found out of a partner from here; its entry is sound in itself."""
    try:
        resolved, revealed = secrets.resolve(partner, environ)
    except Misconfigured as error:
        return [Finding("secrets", "wrong", str(error))]
    try:
        connector = connectors.build(resolved, revealed)
    except Misconfigured as error:
        return [Finding("settings", "wrong", str(error))]
    given = ", ".join(sorted(revealed)) or "none needed"
    found = [Finding("secrets", "ok", given), *rungs(partner, connector)]
    urls = addresses(resolved)
    allowed = connectors.hosts([resolved])
    found.append(_listed(urls, allowed, connector, now()))
    reached = await asyncio.gather(*(reach(url, partner.limits.timeout_ms / 1000) for url in urls))
    found += reached
    if any(each.state == "wrong" for each in reached):
        return [*found, Finding("credentials", "unknown", "not tried, since it can't be reached")]
    async with Sender(allowed) as sender:
        found.append(await credentials(Exchange(connector, sender, partner.limits.timeout_ms / 1000), now))
    return found


def addresses(resolved: Partner) -> tuple[str, ...]:
    """Every address that a partner's settings name, one for each host and port."""
    maker = connectors.CONNECTORS[resolved.connector]
    urls = maker.addresses(msgspec.convert(resolved.settings, maker.config))
    return tuple({authority(each): each for each in reversed(urls)}.values())


def rungs(partner: Partner, connector: Connector) -> Iterator[Finding]:
    """What counts as done, how that is learnt, and whether it can be learnt in time."""
    polls, done = connector.polls, partner.done
    ways = [name for name, each in (("questions", polls), ("reports", connector.callbacks)) if each]
    yield Finding(
        "evidence", "ok", f"done at {done}; reaches {connector.reaches.name}, by {', '.join(['answers', *ways])}"
    )
    if polls and done not in {"sent", "accepted"}:
        hours = min(partner.deadline_hours.values(), default=0)
        text = f"first asked after {_hours(polls.first_ms)}, then every {_hours(polls.every_ms)}, for {_hours(polls.ends_ms)}"
        late = polls.first_ms > hours * HOUR_MS
        more = f"; the shortest deadline is {hours} h, so it is seen to be met too late" if late else ""
        yield Finding("questions", "note" if late else "ok", text + more)


def limits(partner: Partner) -> Finding:
    """How much is asked of it at a time; what differs from the default comes first."""
    standard = msgspec.to_builtins(Limits())
    given = msgspec.to_builtins(partner.limits)
    own = [f"{name} {value}" for name, value in given.items() if value != standard[name]]
    rest = [f"{name} {value}" for name, value in given.items() if value == standard[name]]
    return Finding("limits", "ok", "; by default ".join(filter(None, [", ".join(own), ", ".join(rest)])))


def _listed(urls: Sequence[str], allowed: frozenset[str], connector: Connector, at: int) -> Finding:
    """The hosts that may be called, and whether what the connector would call first is among them."""
    calls = [each.ask(at).url for each in (connector.access, connector.probe) if each]
    strange = sorted({authority(url) for url in calls} - allowed)
    if strange:
        return Finding("hosts", "wrong", f"{', '.join(strange)}: would be called, and is in no address of the settings")
    plain = sorted(authority(url) for url in urls if url.startswith("http:"))
    text = ", ".join(sorted(allowed)) or "none: nobody is called"
    return (
        Finding("hosts", "note", f"{text}; without TLS: {', '.join(plain)}") if plain else Finding("hosts", "ok", text)
    )


async def reach(url: str, timeout_s: float) -> Finding:
    """Whether a connection to an address can be made, with TLS where it asks for that. Nothing is sent."""
    secure = url.startswith("https:")
    host, _, port = authority(url).rpartition(":")
    host = host.strip("[]")
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(
                host, int(port), ssl=ssl.create_default_context() if secure else None
            )
    except socket.gaierror:
        return Finding("reachable", "wrong", f"{host}: host-unknown; correct the address, or the resolver")
    except ssl.SSLError as error:
        return Finding("reachable", "wrong", f"{host}:{port}: tls ({error.reason or 'no certificate'})")
    except (TimeoutError, OSError):
        return Finding("reachable", "wrong", f"{host}:{port}: not-connected; open the way out, or correct the address")
    writer.close()
    return Finding("reachable", "ok", f"{host}:{port}")


async def credentials(exchange: Exchange, now: Callable[[], int]) -> Finding:
    """Whether the partner takes our credentials, by a call that changes nothing."""
    connector = exchange.connector
    if connector.reaches == Evidence.none:
        return Finding("credentials", "ok", "none needed: people tell this partner")
    if connector.probe is None and connector.access is None:
        return Finding("credentials", "unknown", "not tried: this interface has no call that changes nothing")
    try:
        if connector.probe:
            await exchange.probe(now)
            return Finding("credentials", "ok", "taken, and the settings with them, by a call that changes nothing")
        await exchange.enter(now)
    except (Rejected, Expired) as error:
        return Finding("credentials", "wrong", error.reason)
    except Misconfigured as error:
        return Finding("credentials", "wrong", str(error))
    except Retry as error:
        for_people = not error.perhaps and (error.after or 0) >= SOMEBODY_MUST_ACT_S
        return Finding("credentials", "wrong" if for_people else "unknown", error.reason)
    return Finding("credentials", "ok", "a token was given; this interface has no call that changes nothing")


def coverage(view: View, partners: Sequence[Partner], most: int) -> Coverage:
    """Of the people that the view knows, at most so many, who has an identifier that each partner takes.

    Who was merged into somebody, and who was shredded, is nobody to be told of. Raises `NotCurrent`.
    """
    people, refs = 0, set[str]()
    named: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {each.name: Counter() for each in partners}
    prefix = view.key("r", "")
    for key in view.client.scan_iter(f"{prefix}*", count=AT_ONCE):
        refs.add(key.decode().removeprefix(prefix))
        if len(refs) >= most:
            break
    pending = sorted(refs)
    for start in range(0, len(pending), AT_ONCE):
        for record in view.records.load([view.records.cell(ref) for ref in pending[start : start + AT_ONCE]]):
            if record is None or record.merged_into or _gone(record):
                continue
            people += 1
            for partner in partners:
                theirs = accepted(record, partner)
                named[partner.name] += bool(theirs)
                kinds[partner.name].update({each.kind for each in theirs})
    return Coverage(people, dict(named), {name: dict(each) for name, each in kinds.items()})


def covered(found: Coverage, partner: Partner) -> Finding:
    """What `coverage` found of one partner."""
    if not found.people:
        return Finding("identifiers", "unknown", f"takes {', '.join(partner.identifiers)}; nobody is known yet")
    named = found.named.get(partner.name, 0)
    kinds = found.kinds.get(partner.name, {})
    by = ", ".join(f"{kind} {kinds.get(kind, 0):,}" for kind in partner.identifiers)
    text = f"{named:,} of {found.people:,} people ({named * 100 // found.people}%) can be named: {by}"
    return Finding("identifiers", "ok" if named == found.people else "note", text)


def _gone(record: SubjectRecord) -> bool:
    return bool(record.shredded_through) and not record.identifiers


def _hours(milliseconds: int) -> str:
    return f"{milliseconds / HOUR_MS:g} h"
