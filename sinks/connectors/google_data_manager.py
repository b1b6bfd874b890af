"""Google Data Manager: people out of, or into, audiences of Google Ads and its siblings: docs/partners/google_data_manager.md.

Sources: Google, Data Manager API v1: audienceMembers.remove and .ingest, requestStatus.retrieve, ErrorReason, "Format user
data", "Limits and quotas", "Understand API errors", "Diagnostics", read 2026-11-23 in copies of 2026.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry, Split
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks import google
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, Access, HttpRequest, HttpResponse, Item, Outcome
from todoke.sinks.http import json_object
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, account_problems, read, sound, unsaid, url_problems

MOST_MEMBERS = 10_000
MOST_DESTINATIONS = 10
SCOPE = "https://www.googleapis.com/auth/datamanager"
HOUR_MS = 3_600_000

Data = Literal["contact", "idfa", "gaid", "member_id"]
KINDS: dict[Data, frozenset[IdentifierKind]] = {
    "contact": frozenset({"email", "phone"}),
    "idfa": frozenset({"idfa"}),
    "gaid": frozenset({"gaid"}),
    "member_id": frozenset({"member_id"}),
}

EVERYBODY = frozenset(
    {
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "INVALID_DESTINATION",
        "INVALID_USER_LIST_ID",
        "INVALID_USER_LIST_TYPE",
        "TOO_MANY_DESTINATIONS",
        "DATA_PARTNER_USER_LIST_MUTATE_NOT_ALLOWED",
        "DIFFERENT_LOGIN_ACCOUNTS_NOT_ALLOWED_FOR_DATA_PARTNER",
        "TERMS_AND_CONDITIONS_NOT_SIGNED",
        "MULTIPLE_DATA_TYPES_NOT_ALLOWED",
    }
)
"""Reasons that lie in the entry, the account or the audience."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.~+/=-]{1,128}")
_NUMBER = re.compile(r"\d{1,32}")


class Destination(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One audience in one account of a Google product; `login_id` is the account that has access to it, if another."""

    account_id: str
    audience: str
    account_type: str = "GOOGLE_ADS"
    login_id: str = ""
    login_type: str = "GOOGLE_ADS"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Data Manager partner."""

    audiences: Annotated[dict[str, tuple[Destination, ...]], Meta(description="The destinations of each account")]
    data: Annotated[Data, Meta(description="What the audiences hold: a call and an audience have one kind of data")] = (
        "contact"
    )
    client_id: Annotated[str, Meta(description="OAuth client, where a refresh token is used")] = ""
    quota_project: Annotated[str, Meta(description="Cloud project that is charged, if not the credentials' own")] = ""
    older_email_forms: Annotated[
        bool,
        Meta(description="Take Gmail addresses out in the forms of earlier rules too, which names them more often"),
    ] = False
    terms_accepted: Annotated[
        bool, Meta(description="The Customer Match terms are accepted; Google asks it of every grant")
    ] = False
    dma_consent: Annotated[
        bool, Meta(description="Grants state consent to ad user data and personalisation (Digital Markets Act)")
    ] = False
    poll_first_minutes: Annotated[int, Meta(ge=1, description="How long after a call to ask what became of it")] = 30
    poll_every_minutes: Annotated[int, Meta(ge=1, description="How long between questions")] = 60
    poll_ends_hours: Annotated[int, Meta(ge=1, description="How long until a person must look")] = 72
    base_url: Url = "https://datamanager.googleapis.com"
    token_url: Url = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset().union(*KINDS.values())
EFFECTS: Mapping[Verb, str] = {"grant": "present", "withdraw": "absent", "suspend": "absent", "delete": "absent"}


class GoogleAudiences:
    """The audiences of one partner."""

    effects = EFFECTS
    reaches = Evidence.processed
    callbacks = None

    def __init__(self, config: Config, access: Access, most_bytes: int) -> None:
        self._config = config
        self._most_bytes = most_bytes
        self.access: Access | None = access
        self.polls: Statuses | None = Statuses(config)
        self.probe: Validation | None = Validation(config)

    def group(self, item: Item) -> str:
        """Account and effect. An item that has no member stands alone, so that its refusal touches nobody else."""
        alone = "" if self._members(item) else f"|{item.request_id}"
        return f"{item.account}|{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        """No fewer than its members: what turns out to be unsound takes a place too."""
        kinds = KINDS[self._config.data]
        forms = 3 if self._config.older_email_forms else 1
        return max(sum(forms if each.kind == "email" else 1 for each in item.identifiers if each.kind in kinds), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        destinations = self._config.audiences.get(items[0].account)
        if destinations is None:
            raise Rejected("no-audience")
        found: dict[str, dict[str, Any]] = {}
        for item in items:
            own = self._members(item)
            if not own:
                raise Rejected("no-usable-identifier")
            found |= own
        members = list(found.values())
        present = EFFECTS[items[0].verb] == "present"
        body = _body(destinations, members)
        if present:
            body |= {"termsOfService": {"customerMatchTermsOfServiceStatus": "ACCEPTED"}}
            if self._config.dma_consent:
                body["consent"] = {"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_GRANTED"}
        raw = msgspec.json.encode(body)
        if len(members) > MOST_MEMBERS or len(raw) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        return _post(self._config, "ingest" if present else "remove", raw)

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """Taken in as a whole or not at all: one bad member refuses the request ("fast fail")."""
        if response.status != 200:
            raise google.raised(response, EVERYBODY, several=len(items) > 1)
        identity = (json_object(response) or {}).get("requestId")
        if not isinstance(identity, str) or not _REQUEST_ID.fullmatch(identity):
            raise Retry("unreadable-answer")
        destinations = len(self._config.audiences[items[0].account])
        return [Outcome(grade=Evidence.accepted, reference=f"{destinations}:{identity}") for _ in items]

    def _members(self, item: Item) -> dict[str, dict[str, Any]]:
        """One member for each identifier, each once: a member of two might be found only by both."""
        older = self._config.older_email_forms and EFFECTS[item.verb] == "absent"
        kinds = KINDS[self._config.data]
        named = [member for each in item.identifiers if each.kind in kinds for member in _named(each, older=older)]
        return {str(member): member for member in named}


class Statuses:
    """Diagnostics: what became of a request at each of its destinations, in the order of the request."""

    most = 1

    def __init__(self, config: Config) -> None:
        self._config = config
        self.first_ms = config.poll_first_minutes * 60_000
        self.every_ms = config.poll_every_minutes * 60_000
        self.ends_ms = config.poll_ends_hours * HOUR_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        _, _, identity = references[0].partition(":")
        path = f"/v1/requestStatus:retrieve?requestId={quote(identity, safe='')}"
        headers = _headers(self._config)
        return HttpRequest(method="GET", url=self._config.base_url.rstrip("/") + path, headers=headers, body=b"")

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        """One request may stand for many items, and the answer counts records without naming them.

        So what failed in part is `sent` for all of them. A status that is missing, or that nobody knows, is awaited.
        """
        if response.status != 200:
            error = google.raised(response, EVERYBODY, several=False)
            raise error if isinstance(error, Retry) else Retry("status-not-told", SOMEBODY_MUST_ACT_S)
        told = (json_object(response) or {}).get("requestStatusPerDestination")
        wanted, _, _ = references[0].partition(":")
        if not isinstance(told, list) or str(len(told)) != wanted:
            raise Retry("unreadable-answer")
        statuses = [each.get("requestStatus") if isinstance(each, dict) else None for each in told]
        if any(status not in {"SUCCESS", "PARTIAL_SUCCESS", "FAILED"} for status in statuses):
            return [None]
        if set(statuses) == {"SUCCESS"}:
            return [Outcome(grade=Evidence.processed, reference=references[0])]
        some = set(statuses) != {"FAILED"}
        reason = _failure(told) or ("partial-success" if some else "failed")
        grade = Evidence.sent if some else Evidence.none
        return [Outcome(grade=grade, reference=references[0], reason=reason)]


class Validation:
    """`validateOnly`: the removal of nobody from the first ten destinations, judged and not done."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def ask(self, at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        destinations = [each for audience in self._config.audiences.values() for each in audience]
        body = _body(destinations[:MOST_DESTINATIONS], [_NOBODY[self._config.data]])
        return _post(self._config, "remove", msgspec.json.encode(body | {"validateOnly": True}))

    def read(self, response: HttpResponse) -> None:
        if response.status != 200:
            raise google.raised(response, EVERYBODY, several=False)


def build(partner: Partner, secrets: Mapping[str, Secret]) -> GoogleAudiences:
    config = read(Config, partner)
    access = google.access(partner, secrets, config.token_url, config.client_id, SCOPE)
    return GoogleAudiences(config, access, partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += url_problems("token_url", config.token_url, insecure=config.insecure_http)
    found += google.access_problems(config.client_id, partner)
    found += account_problems(partner, "audiences", config.audiences, give="its destinations", drop="audience")
    for name, audience in sorted(config.audiences.items()):
        found += _audience_problems(f"settings.audiences.{name}", audience)
    found += unsaid(partner, KINDS[config.data], f"data = {config.data}")
    if partner.grants and not config.terms_accepted:
        found.append("settings.terms_accepted: false; accept the Customer Match terms, or take grants = false")
    if partner.limits.items > MOST_MEMBERS:
        found.append(f"limits.items: {partner.limits.items}; Google takes {MOST_MEMBERS} members a call")
    return found


def _audience_problems(where: str, audience: Sequence[Destination]) -> list[str]:
    found = []
    if not 1 <= len(audience) <= MOST_DESTINATIONS:
        found.append(f"{where}: {len(audience)} destinations; give 1 to {MOST_DESTINATIONS}")
    for index, each in enumerate(audience):
        place = f"{where}[{index}]"
        optional = {"login_id": each.login_id} if each.login_id else {}
        for key, value in {"account_id": each.account_id, "audience": each.audience, **optional}.items():
            if not sound(_NUMBER, value):
                found.append(f"{place}.{key}: not a number; copy it without hyphens")
        for key, value in {"account_type": each.account_type, "login_type": each.login_type}.items():
            if not sound(google.NAME, value):
                found.append(f"{place}.{key}: not a type of account; write one as in GOOGLE_ADS")
    return found


def _body(destinations: Sequence[Destination], members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "destinations": [_destination(each) for each in destinations],
        "audienceMembers": list(members),
        "encoding": "HEX",
    }


def _destination(each: Destination) -> dict[str, Any]:
    login = {"loginAccount": {"accountId": each.login_id, "accountType": each.login_type}} if each.login_id else {}
    operating = {"operatingAccount": {"accountId": each.account_id, "accountType": each.account_type}}
    return {**login, **operating, "productDestinationId": each.audience}


def _post(config: Config, method: str, body: bytes) -> HttpRequest:
    headers = {**_headers(config), "content-type": "application/json"}
    url = f"{config.base_url.rstrip('/')}/v1/audienceMembers:{method}"
    return HttpRequest(method="POST", url=url, headers=headers, body=body)


def _headers(config: Config) -> dict[str, str]:
    return {"x-goog-user-project": config.quota_project} if config.quota_project else {}


def _named(identifier: Identifier, *, older: bool) -> list[dict[str, Any]]:
    """The members that name an identifier; none when it has no sound form."""
    value = identifier.value
    try:
        match identifier.kind:
            case "email":
                forms = [identifiers.email_google(value)]
                if older:
                    plain = identifiers.email(value)
                    local, _, domain = plain.partition("@")
                    dotless = f"{local.replace('.', '')}@{domain}" if forms[0] != plain else plain
                    forms += [dotless, plain]
                return [_contact("emailAddress", identifiers.digest(form)) for form in dict.fromkeys(forms)]
            case "phone":
                return [_contact("phoneNumber", identifiers.digest(identifiers.phone_e164(value)))]
            case "idfa" | "gaid":
                return [{"mobileData": {"mobileIds": [identifiers.canonical(identifier.kind, value)]}}]
            case _:
                return [{"userIdData": {"userId": identifiers.canonical(identifier.kind, value)}}]
    except Refused:
        return []


def _contact(key: str, value: str) -> dict[str, Any]:
    return {"userData": {"userIdentifiers": [{key: value}]}}


_NOBODY: dict[Data, dict[str, Any]] = {
    "contact": _contact("emailAddress", sha256(b"nobody@todoke.invalid").hexdigest()),
    "idfa": {"mobileData": {"mobileIds": ["7D0DE000-0000-4000-8000-000000000000"]}},
    "gaid": {"mobileData": {"mobileIds": ["7d0de000-0000-4000-8000-000000000000"]}},
    "member_id": {"userIdData": {"userId": "todoke-nobody"}},
}


def _failure(told: Sequence[Any]) -> str:
    """The first reason counted among the errors."""
    for status in told:
        counts = (status.get("errorInfo") or {}).get("errorCounts") if isinstance(status, dict) else None
        for count in counts if isinstance(counts, list) else []:
            reason = count.get("reason") if isinstance(count, dict) else None
            if isinstance(reason, str) and google.NAME.fullmatch(reason):
                return google.code(reason.removeprefix("PROCESSING_ERROR_REASON_"))
    return ""


MAKER = Maker(
    config=Config,
    secrets=google.SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=GoogleAudiences.reaches,
    addresses=lambda config: (config.base_url, config.token_url),
    problems=problems,
    make=build,
)
