"""Meta Custom Audiences: rows out of, or into, one customer file audience: see docs/partners/meta.md.

Sources: Meta, "Customer File Custom Audiences" and reference "Custom Audience Users" (v25.0), read 2026-11-23 in copies
of 2026; "Login Security" for the proof of the app secret; "Rate Limits" for the usage header.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry, Split
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import LONGEST_WAIT_S, count, json_object, refuse, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, account_problems, read, sound, url_problems

MOST_ROWS = 10_000

SCHEMA = ("EMAIL", "PHONE", "MADID")
COLUMNS: dict[IdentifierKind, int] = {"email": 0, "phone": 1, "idfa": 2, "gaid": 2}

PASSING = frozenset({1, 2, 341, 368, 5000, 21009})
THROTTLED = frozenset({4, 17, 613, 80003})
ACT = {190: "auth", 2635: "api-version"}
"""Codes of a token or a version that ran out: every call fails until somebody acts, so nobody's stop is given up."""
FLAGGED = (100, 1713230)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Meta partner."""

    audiences: Annotated[dict[str, str], Meta(description="The id of the custom audience of each account")]
    api_version: Annotated[str, Meta(description="Version of the Marketing API")] = "v25.0"
    base_url: Url = "https://graph.facebook.com"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "access_token": ("A system user's token with ads_management", True),
    "app_secret": ("The app's secret, to prove every call; needed where the app demands the proof", False),
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(COLUMNS)
EFFECTS: Mapping[Verb, str] = {"grant": "present", "withdraw": "absent", "suspend": "absent", "delete": "absent"}


class MetaAudiences(Plain):
    """The audiences of one partner."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, secrets: Mapping[str, Secret], most_bytes: int) -> None:
        self._config = config
        self._token = secrets["access_token"]
        self._app_secret = secrets.get("app_secret")
        self._most_bytes = most_bytes

    def group(self, item: Item) -> str:
        """Account and effect. An item that has no row stands alone, so that its refusal touches nobody else."""
        alone = "" if any(map(_row, item.identifiers)) else f"|{item.request_id}"
        return f"{item.account}|{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        """No fewer than its rows: what turns out to be unsound takes a row's place too."""
        return max(_most([item]), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:
        rows = _rows(items)
        audience = self._config.audiences.get(items[0].account)
        if audience is None:
            raise Rejected("no-audience")
        present = EFFECTS[items[0].verb] == "present"
        body = urlencode(self._parameters(items, rows, at, session=present)).encode()
        if len(rows) > MOST_ROWS or len(body) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        return HttpRequest(
            method="POST" if present else "DELETE",
            url=f"{self._config.base_url.rstrip('/')}/{self._config.api_version}/{audience}/users",
            headers={
                "authorization": f"Bearer {self._token.reveal()}",
                "content-type": "application/x-www-form-urlencoded",
            },
            body=body,
        )

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """The body first: an error's code says more than the status, and a 200 may hold rows that were not taken."""
        answer = json_object(response)
        error = answer.get("error") if answer else None
        if isinstance(error, dict):
            raise _raised(error, response)
        if refusal := refuse(response):
            raise refusal
        received, invalid = (count(answer, name) for name in ("num_received", "num_invalid_entries"))
        if answer is None or received is None or invalid is None:
            raise Retry("unreadable-answer")
        if invalid > 0:
            return _invalid(items)
        if received < _most(items) and received < len(_rows(items)):
            raise Retry("fewer-received")
        session = str(answer.get("session_id", ""))
        reference = session if re.fullmatch(r"\d{1,32}", session) else ""
        return [Outcome(grade=Evidence.accepted, reference=reference) for _ in items]

    def _parameters(self, items: Sequence[Item], rows: Sequence[Any], at: int, *, session: bool) -> dict[str, str]:
        """Form fields. The guide calls `session` required for adding, and shows removal without one."""
        fields = {"payload": _json({"schema": SCHEMA, "data": rows})}
        if session:
            seed = "|".join([str(at), *(item.request_id for item in items)])
            number = int.from_bytes(sha256(seed.encode()).digest()[:8]) >> 1 or 1
            whole = {"session_id": number, "batch_seq": 1, "last_batch_flag": True, "estimated_num_total": len(rows)}
            fields["session"] = _json(whole)
        if self._app_secret:
            stamp = str(at // 1000)
            text = f"{self._token.reveal()}|{stamp}".encode()
            fields["appsecret_time"] = stamp
            fields["appsecret_proof"] = hmac.digest(self._app_secret.reveal().encode(), text, "sha256").hex()
        return fields


def build(partner: Partner, secrets: Mapping[str, Secret]) -> MetaAudiences:
    return MetaAudiences(read(Config, partner), secrets, partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += account_problems(partner, "audiences", config.audiences, give="its audience's id", drop="audience")
    for name, audience in sorted(config.audiences.items()):
        if not sound(r"\d{1,32}", audience):
            found.append(f"settings.audiences.{name}: not the number of an audience; copy it from Audience Manager")
    if not sound(r"v\d+\.\d+", config.api_version):
        found.append("settings.api_version: not a version; write one as in v25.0")
    if partner.limits.items > MOST_ROWS:
        found.append(f"limits.items: {partner.limits.items}; Meta takes {MOST_ROWS} rows a call")
    return found


def _rows(items: Sequence[Item]) -> list[list[str]]:
    """One row for each identifier, each once: a row of two keys might match only who has both.

    Raises `Rejected` when an item has none: within others it would be taken for told.
    """
    rows: dict[tuple[str, ...], None] = {}
    for item in items:
        own = [row for each in item.identifiers if (row := _row(each))]
        if not own:
            raise Rejected("no-usable-identifier")
        rows.update(dict.fromkeys(own))
    return [list(row) for row in rows]


def _most(items: Sequence[Item]) -> int:
    """The most rows that the items can have, without computing one."""
    return sum(each.kind in COLUMNS for item in items for each in item.identifiers)


def _row(identifier: Identifier) -> tuple[str, ...]:
    """Guide, "Hashing and normalization for multi-key": missing cells are blank, MADID is lower-case and not hashed."""
    try:
        match identifier.kind:
            case "email":
                cell = identifiers.digest(identifiers.email(identifier.value))
            case "phone":
                cell = identifiers.digest(identifiers.phone_digits(identifier.value))
            case "idfa" | "gaid":
                cell = identifiers.canonical(identifier.kind, identifier.value).lower()
            case _:
                return ()
    except Refused:
        return ()
    return tuple(cell if column == COLUMNS[identifier.kind] else "" for column in range(len(SCHEMA)))


def _invalid(items: Sequence[Item]) -> Sequence[Outcome]:
    """Rows that Meta could not read. The answer doesn't say which, and the guide calls the count inexact.

    Of a single item with several rows some may have been taken: that is `sent`, never "surely not applied".
    """
    if len(items) > 1:
        raise Split("invalid-entry")
    if len(_rows(items)) > 1:
        return [Outcome(grade=Evidence.sent, reason="invalid-entry-partial")]
    return [Outcome(grade=Evidence.none, reason="invalid-entry")]


def _raised(error: Mapping[str, Any], response: HttpResponse) -> Exception:
    """What an error in the body means, by code and subcode. The message may quote a person, so it is not read."""
    code, subcode = count(error, "code"), count(error, "error_subcode")
    if (code, subcode) == FLAGGED:
        return Rejected("audience-flagged")
    if code in THROTTLED:
        return Retry("throttled", _regained(response), perhaps=False)
    if code in ACT:
        return Retry(ACT[code], SOMEBODY_MUST_ACT_S, perhaps=False)
    name = f"meta-{code or 'unknown'}" + (f"-{subcode}" if subcode else "")
    if code in PASSING or code is None or error.get("is_transient") is True or response.status >= 500:
        return Retry(name, retry_after(response.headers))
    return Rejected(name)


def _regained(response: HttpResponse) -> float | None:
    """The longest wait that `X-Business-Use-Case-Usage` or `Retry-After` names; the former counts in minutes."""
    waits = [wait for wait in [retry_after(response.headers)] if wait]
    try:
        usage = msgspec.json.decode(response.headers.get("x-business-use-case-usage", ""), type=dict[str, list[Any]])
    except msgspec.DecodeError:
        usage = {}
    for entry in (entry for entries in usage.values() for entry in entries if isinstance(entry, dict)):
        minutes = count(entry, "estimated_time_to_regain_access")
        waits += [min(minutes * 60.0, LONGEST_WAIT_S)] if minutes else []
    return max(waits, default=None)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=MetaAudiences.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
)
