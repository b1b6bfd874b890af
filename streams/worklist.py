"""The work list of a partner that people tell: what is owed there, on the terminal, and sealed in a file for who tells it."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec import Struct
from rich.table import Table

from todoke.processors.reconcile import BY_HAND, Call, accepted, reconcile
from todoke.schemas.errors import Misconfigured
from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import SubjectRecord
from todoke.sinks import connectors, secrets
from todoke.sinks.base import Connector, ListRequest

from . import build
from .batches import item_of
from .knowing import known_of
from .people import EVERY, noted
from .story import clock
from .terminal import console, opened
from .tools import Tools

SOME = 500
LISTED = "listed"


class Task(Struct, frozen=True):
    """Something owed that a person must tell the partner, and of whom."""

    owed: Obligation
    record: SubjectRecord


class Worklist(Struct, frozen=True):
    """The tasks by deadline, and how many people are still being decided on."""

    tasks: tuple[Task, ...]
    undecided: int


@click.command("worklist")
@click.argument("partner")
@click.option(
    "--write", "path", type=click.Path(dir_okay=False, path_type=Path), help="Seal the list into this new file."
)
@click.option("--by", default="", help="Who takes it; noted with every obligation on it.")
def partners_worklist(partner: str, path: Path | None, by: str) -> None:
    """What people must tell PARTNER, by deadline. Identifiers stand in the sealed file alone."""
    with opened() as made:
        entry, connector, how = _of(made.tools, partner)
        found = gather(made.tools, entry, connector)
        console.print(page(found, made.tools.now(), entry.owner, f"{partner}: {how}"))
        if found.undecided:
            console.print(f"{found.undecided} people are being decided on: ask again in a moment")
        if path is None:
            return
        if not by:
            raise Misconfigured("--by: missing; say who takes the list")
        count = write(made.tools, (entry, connector), found, path, by)
        click.echo(f"{count} obligations written to {path}, sealed; noted in receipts and in the provision log")


def gather(tools: Tools, partner: Partner, connector: Connector) -> Worklist:
    """Decide afresh what stands at the partner: who changed their mind meanwhile is on no list."""
    recipient, at = build.recipient(partner, connector), tools.now()
    tasks: list[Task] = []
    undecided = 0
    for refs in _some(list(dict.fromkeys(ref for ref, _ in tools.index.oldest(partner.name, EVERY)))):
        for known in known_of(tools.view, refs, partner.name):
            work = reconcile(known, recipient, tools.rules, at)
            undecided += bool(work.wait and work.wait != "deletion")
            owed = [each for each, reason in work.blocked if reason == BY_HAND]
            tasks += [Task(each, known.record) for each in owed if known.record]
    tasks.sort(key=lambda each: (each.owed.deadline_at, each.owed.obligation_id))
    return Worklist(tuple(tasks), undecided)


def write(tools: Tools, made: tuple[Partner, Connector], found: Worklist, path: Path, by: str) -> int:
    """Seal the list for its recipients, into a file that is not there yet. That it was taken is durable before it appears.

    Raises `Misconfigured` when the file is there, or the extra is missing.
    """
    partner, connector = made
    calls = [(each.record, Call(each.owed, "", accepted(each.record, partner))) for each in found.tasks]
    items = [item_of(record, call, tools) for record, call in calls]
    request = connector.request(items, tools.now())
    assert isinstance(request, ListRequest)
    data = sealed(request)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(f"{path}: is there already; name a new file") from None
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}; name a file that can be written") from None
    ground = f"work list {path.name}"
    try:
        with os.fdopen(handle, "wb") as file:
            tools.outbox.send(
                [one for each in found.tasks for one in noted(tools, each.owed, LISTED, by=by, ground=ground)]
            )
            file.write(data)
            file.flush()
            os.fsync(handle)
    except BaseException:
        path.unlink()
        raise
    return len(items)


def sealed(request: ListRequest) -> bytes:
    """The list as an age file that its recipients can open, and nobody here. Raises `Misconfigured`."""
    try:
        import pyrage
    except ImportError:
        raise Misconfigured("a sealed list needs more: pip install 'todoke[worklist]'") from None
    try:
        keys = [pyrage.x25519.Recipient.from_str(each) for each in request.recipients]
    except pyrage.RecipientError:
        raise Misconfigured("settings.recipients: not public keys of age; give what age-keygen prints") from None
    return bytes(pyrage.encrypt(request.file.body, keys))


def page(found: Worklist, now: int, owner: str, title: str) -> Table:
    """The tasks without anybody's identifiers. What nobody took yet is the `owner`'s of the partner."""
    table = Table("deadline (UTC)", "verb", "account", "scope", "identifiers", "owner", "obligation", box=None)
    table.title, table.title_justify = title, "left"
    for each in found.tasks:
        owed = each.owed
        deadline = clock(owed.deadline_at) + (" overdue" if owed.deadline_at < now else "")
        kinds = ", ".join(sorted({one.kind for one in each.record.identifiers.values()}))
        table.add_row(deadline, owed.verb, owed.account, owed.scope, kinds, owed.owner or owner, owed.obligation_id)
    return table


def _of(tools: Tools, name: str) -> tuple[Partner, Connector, str]:
    entry = tools.rules.registry.partner(name)
    if entry is None:
        raise Misconfigured(f"no partner is called {name}: see `todoke partners list`")
    resolved, revealed = secrets.resolve(entry, os.environ)
    connector = connectors.build(resolved, revealed)
    if connector.reaches != Evidence.none:
        raise Misconfigured(
            f"{name}: is told by its connector {entry.connector}: see `todoke obligations --partner {name}`"
        )
    return entry, connector, str(resolved.settings.get("how", ""))


def _some(refs: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(refs), SOME):
        yield refs[start : start + SOME]
