"""Criteo: identifiers out of, or into, a contact list audience segment: see docs/partners/criteo.md.

Sources: Criteo, Marketing Solutions API 2026-01: "Contact List", its reference and OpenAPI text, "Rate Limits", "Client
Credentials", read 2026-11-23 in copies of 2026.
"""

import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Expired, Refused, Rejected, Retry, Split
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, Access, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import LONGEST_WAIT_S, count, json_object, refuse, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.oauth import ClientCredentials
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, account_problems, read, sound, unsaid, url_problems

MOST_IDENTIFIERS = 50_000

Type = Literal["email", "madid"]
KINDS: dict[Type, frozenset[IdentifierKind]] = {"email": frozenset({"email"}), "madid": frozenset({"idfa", "gaid"})}
EmailForm = Literal["sha256", "md5", "sha256-of-md5", "plain"]

_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_VERSION = re.compile(r"\d{4}-\d{2}|preview")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Criteo partner."""

    segments: Annotated[dict[str, str], Meta(description="The id of the contact list segment of each account")]
    client_id: Annotated[str, Meta(description="The app's client id")]
    identifier_type: Annotated[Type, Meta(description="What is sent: a call has one type of identifier")] = "email"
    email_form: Annotated[EmailForm, Meta(description="How addresses are sent; Criteo takes all four")] = "sha256"
    api_version: Annotated[str, Meta(description="Version in the path; a new one comes twice to four times a year")] = (
        "2026-01"
    )
    base_url: Url = "https://api.criteo.com"
    token_url: Url = "https://api.criteo.com/oauth2/token"  # noqa: S105  # an address
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {"client_secret": ("The app's client secret", True)}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset().union(*KINDS.values())
EFFECTS: Mapping[Verb, str] = {"grant": "present", "withdraw": "absent", "suspend": "absent", "delete": "absent"}


class CriteoSegments(Plain):
    """The segments of one partner."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, access: Access, most_bytes: int) -> None:
        self._config = config
        self._most_bytes = most_bytes
        self.access = access
        self.probe = Statistics(config)

    def group(self, item: Item) -> str:
        """Account and effect. An item that Criteo can't be told of stands alone, so that its refusal touches nobody else."""
        alone = "" if self._named(item) else f"|{item.request_id}"
        return f"{item.account}|{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        """No fewer than its identifiers: what turns out to be unsound takes a place too."""
        return max(self._most([item]), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        segment = self._config.segments.get(items[0].account)
        if segment is None:
            raise Rejected("no-segment")
        named = self._all(items)
        attributes = {
            "operation": _operation(items),
            "identifierType": self._config.identifier_type,
            "identifiers": named,
        }
        body = msgspec.json.encode({"data": {"type": "ContactlistAmendment", "attributes": attributes}})
        if len(named) > MOST_IDENTIFIERS or len(body) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        headers = {"content-type": "application/json", "accept": "application/json"}
        return HttpRequest(method="PATCH", url=_address(self._config, segment), headers=headers, body=body)

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """Errors first: an answer of 200 may hold some, and identifiers that were not taken."""
        answer = json_object(response)
        if response.status != 200 or (answer and answer.get("errors")):
            raise _raised(response, answer, several=len(items) > 1)
        data = (answer or {}).get("data")
        given = data.get("attributes") if isinstance(data, dict) else None
        attributes: dict[str, Any] = given if isinstance(given, dict) else {}
        valid, invalid = (count(attributes, name) for name in ("nbValidIdentifiers", "nbInvalidIdentifiers"))
        if valid is None or invalid is None or attributes.get("operation") != _operation(items):
            raise Retry("unreadable-answer")
        if invalid > 0:
            return self._invalid(items)
        if valid < self._most(items) and valid < len(self._all(items)):
            raise Retry("fewer-received")
        return [Outcome(grade=Evidence.accepted) for _ in items]

    def _invalid(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """Criteo counts the identifiers that it could not read, and names some; names are not read, so the batch is halved.

        Of a single item with several, some may have been taken: that is `sent`, never "surely not applied".
        """
        if len(items) > 1:
            raise Split("invalid-identifier")
        if len(self._all(items)) > 1:
            return [Outcome(grade=Evidence.sent, reason="invalid-identifier-partial")]
        return [Outcome(grade=Evidence.none, reason="invalid-identifier")]

    def _all(self, items: Sequence[Item]) -> list[str]:
        """Every identifier, each once. Raises `Rejected` when an item has none: within others it would be taken for told."""
        found: dict[str, None] = {}
        for item in items:
            own = self._named(item)
            if not own:
                raise Rejected("no-usable-identifier")
            found |= dict.fromkeys(own)
        return list(found)

    def _most(self, items: Sequence[Item]) -> int:
        """The most identifiers that the items can have, without computing one."""
        kinds = KINDS[self._config.identifier_type]
        return sum(each.kind in kinds for item in items for each in item.identifiers)

    def _named(self, item: Item) -> list[str]:
        kinds = KINDS[self._config.identifier_type]
        own = [_form(each, self._config.email_form) for each in item.identifiers if each.kind in kinds]
        return [form for form in own if form]


class Statistics:
    """The counts of the first segment: shows that credentials, version and segment are right, and changes nothing."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def ask(self, at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        segment = next(iter(self._config.segments.values()))
        url = f"{_address(self._config, segment)}/statistics"
        return HttpRequest(method="GET", url=url, headers={"accept": "application/json"}, body=b"")

    def read(self, response: HttpResponse) -> None:
        answer = json_object(response)
        if response.status != 200 or (answer and answer.get("errors")):
            raise _raised(response, answer, several=False)
        if answer is None or not isinstance(answer.get("data"), dict):
            raise Retry("unreadable-answer")


def build(partner: Partner, secrets: Mapping[str, Secret]) -> CriteoSegments:
    config = read(Config, partner)
    access = ClientCredentials(config.token_url, config.client_id, secrets["client_secret"])
    return CriteoSegments(config, access, partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += url_problems("token_url", config.token_url, insecure=config.insecure_http)
    found += account_problems(partner, "segments", config.segments, give="its segment's id", drop="segment")
    for name, segment in sorted(config.segments.items()):
        if not sound(r"\d{1,32}", segment):
            found.append(f"settings.segments.{name}: not the number of a segment; copy it from Criteo")
    found += unsaid(partner, KINDS[config.identifier_type], f"identifier_type = {config.identifier_type}")
    if not sound(_VERSION, config.api_version):
        found.append("settings.api_version: not a version; write one as in 2026-01")
    if partner.limits.items > MOST_IDENTIFIERS:
        found.append(f"limits.items: {partner.limits.items}; Criteo takes {MOST_IDENTIFIERS} identifiers a call")
    return found


def _address(config: Config, segment: str) -> str:
    base, segment_id = config.base_url.rstrip("/"), quote(segment, safe="")
    return f"{base}/{config.api_version}/marketing-solutions/audience-segments/{segment_id}/contact-list"


def _operation(items: Sequence[Item]) -> str:
    return "add" if EFFECTS[items[0].verb] == "present" else "remove"


def _form(identifier: Identifier, email_form: EmailForm) -> str:
    """Empty when it has no sound form. Device ids go in lower case with hyphens, not hashed."""
    try:
        if identifier.kind != "email":
            return identifiers.canonical(identifier.kind, identifier.value).lower()
        address = identifiers.email(identifier.value)
    except Refused:
        return ""
    match email_form:
        case "plain":
            return address
        case "md5":
            return identifiers.digest(address, "md5")
        case "sha256-of-md5":
            return identifiers.digest(identifiers.digest(address, "md5"))
    return identifiers.digest(address)


def _raised(response: HttpResponse, answer: Mapping[str, Any] | None, *, several: bool) -> Exception:
    """What an error means, by status, type and code. Titles and details may quote a person, so they are not read.

    What lies in the app, the segment or the version is nobody's own: somebody must act, and no stop is given up.
    """
    kind, code = _error(answer)
    if response.status == 401:
        return Expired()
    if response.status == 429:
        return Retry("throttled", _reset(response), perhaps=False)
    if response.status == 200 and kind != "availability":
        return Split(code) if several else Rejected(code)
    if response.status in {200, 408} or response.status >= 500 or response.status < 400:
        return refuse(response) or Retry(code)
    name = code if kind else f"http-{response.status}"
    if response.status in {403, 404, 410}:
        return Retry(name, SOMEBODY_MUST_ACT_S, perhaps=False)
    return Split(name, perhaps=False) if several else Rejected(name)


def _error(answer: Mapping[str, Any] | None) -> tuple[str, str]:
    """Type and code of the first error."""
    errors = (answer or {}).get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    kind, code = first.get("type"), first.get("code")
    sound = isinstance(code, str) and _CODE.fullmatch(code)
    return (kind if isinstance(kind, str) else ""), (str(code) if sound else "unnamed-error")


def _reset(response: HttpResponse) -> float:
    """Until `x-ratelimit-reset` (seconds since 1970) by the answer's own clock, else what `Retry-After` says, else a minute."""
    reset = response.headers.get("x-ratelimit-reset", "")
    try:
        then, now = float(reset), parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        return retry_after(response.headers) or 60.0
    return min(max(then - now, 1.0), LONGEST_WAIT_S)


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=CriteoSegments.reaches,
    addresses=lambda config: (config.base_url, config.token_url),
    problems=problems,
    make=build,
)
