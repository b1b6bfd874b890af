"""OpenDSR: requests for erasure, in the dialects of the specification 2.0, of mParticle and of AppsFlyer: see docs/partners/opendsr.md.

Sources: opengdpr/opengdpr specification.md 2.0 at 6c080e2 (2020-06-29); mParticle, "Data Subject Request API Version 3"
(mParticle/docs at 27fe863); AppsFlyer, "OpenDSR Requests API" (copy of 2026 in api-evangelist/appsflyer at dbd4762). Read 2026-11-23.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.certificates import Pinned
from todoke.sinks.http import json_object, refuse, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import ENVIRONMENT, Secret
from todoke.sinks.settings import Url, read, unsaid, url_problems

Dialect = Literal["2.0", "mparticle", "appsflyer"]
Form = Literal["raw", "sha256"]
Regulation = Literal["gdpr", "ccpa"]

DAY_MS = 86_400_000
MOST_CALLBACKS = 3
EXTENSION = "opendsr.mparticle.com"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of an OpenDSR partner."""

    base_url: Url
    dialect: Annotated[Dialect, Meta(description="Which form requests have")] = "2.0"
    regulation: Annotated[Regulation, Meta(description="The law that a request names; the protocol knows no other")] = (
        "gdpr"
    )
    identity_format: Annotated[
        Form, Meta(description="raw, or SHA-256 in hex where the processor's discovery names it; dialect 2.0 alone")
    ] = "raw"
    property_ids: Annotated[
        dict[str, str], Meta(description="AppsFlyer: the app's id for each account, id… for iOS")
    ] = {}
    skip_waiting_period: Annotated[bool, Meta(description="mParticle: erase in 1 to 14 days, not 7 to 21")] = False
    callback_urls: Annotated[tuple[str, ...], Meta(description="Where the processor reports to us, 3 at most")] = ()
    processor_domains: Annotated[tuple[str, ...], Meta(description="The domains whose reports count")] = ()
    poll_every_s: Annotated[int, Meta(ge=1, description="How long between questions about a request")] = 21_600
    ends_after_days: Annotated[int, Meta(ge=1, description="After how long a person must look")] = 35
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "api_key": ("The bearer token, or the name in Basic authentication", True),
    "api_secret": ("The password in Basic authentication; without it the key is sent as a bearer token", False),
    "certificate": ("The processor's certificate, PEM, pinned; needed to believe its reports", False),
}
TYPES: Mapping[Dialect, Mapping[IdentifierKind, str]] = {
    "2.0": {
        "email": "email",
        "member_id": "controller_customer_id",
        "idfa": "ios_advertising_id",
        "gaid": "android_advertising_id",
    },
    "mparticle": {
        "email": "email",
        "member_id": "controller_customer_id",
        "idfa": "ios_advertising_id",
        "gaid": "android_advertising_id",
    },
    "appsflyer": {
        "member_id": "customer_user_id",
        "idfa": "ios_advertising_id",
        "gaid": "android_advertising_id",
    },
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(TYPES["2.0"])
EFFECTS: Mapping[Verb, str] = {"delete": "deleted"}

PATHS: Mapping[Dialect, tuple[str, str]] = {
    "2.0": ("/requests", "/requests/"),
    "mparticle": ("/requests/", "/requests/"),
    "appsflyer": ("/opendsr_requests", "/opendsr_requests/"),
}
"""Where a request is made, and where it is asked for, before its id."""
VERSIONS: Mapping[Dialect, str] = {"2.0": "2.0", "mparticle": "3.0", "appsflyer": "0.1"}

OURS = ("already exists", "in progress")
"""Words of mParticle's 400 ("Subject request already exists") and 409 (one with the same identities is in progress)."""
OURS_CODES = frozenset({"e213", "e215"})
WAITS_CODES = frozenset({"e511"})  # "Internal problem. Wait 60 mins and try again"
UNKNOWN_CODES = frozenset({"e214"})
WAIT_S = 3600.0


class OpenDsr(Plain):
    """One processor. Erasure alone: the protocol knows no withdrawal and no suspension."""

    effects = EFFECTS
    reaches = Evidence.processed

    def __init__(self, config: Config, secrets: Mapping[str, Secret], pinned: Pinned | None) -> None:
        self._config = config
        self._dialect = config.dialect
        self._secrets = secrets
        self.polls = Status(self, config)
        self.callbacks = Reports(config, pinned) if pinned else None

    def group(self, item: Item) -> str:
        """A group of its own: a request is one person's."""
        return item.request_id

    def weight(self, item: Item) -> int:  # noqa: ARG002  # the contract asks per item
        return 1

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # a repeat is the same to the byte
        [item] = items
        chosen, _ = self._chosen(item)
        if not chosen:
            raise Rejected("no-usable-identifier")
        body: dict[str, Any] = {
            "subject_request_id": subject_request_id(item),
            "subject_request_type": "erasure",
            "submitted_time": _rfc3339(item.at),
            "subject_identities": self._identities(chosen),
            "api_version": VERSIONS[self._dialect],
        }
        if self._dialect == "appsflyer":
            if item.account not in self._config.property_ids:
                raise Rejected("no-property")
            body["property_id"] = self._config.property_ids[item.account]
        else:
            body["regulation"] = self._config.regulation
        if self._config.callback_urls:
            body["status_callback_urls"] = self._config.callback_urls
        if self._config.skip_waiting_period:
            body["extensions"] = {EXTENSION: {"skip_waiting_period": True}}
        return self.call("POST", PATHS[self._dialect][0], msgspec.json.encode(body))

    def call(self, method: str, path: str, body: bytes = b"") -> HttpRequest:
        """One call to the processor."""
        key, secret = self._secrets["api_key"].reveal(), self._secrets.get("api_secret")
        basic = b64encode(f"{key}:{secret.reveal()}".encode()).decode() if secret else ""
        headers = {"authorization": f"Basic {basic}" if basic else f"Bearer {key}", "accept": "application/json"}
        if body:
            headers["content-type"] = "application/json"
        return HttpRequest(method=method, url=self._config.base_url.rstrip("/") + path, headers=headers, body=body)

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """Of the answer only ids are read: `encoded_request` repeats the person, and must be neither logged nor kept."""
        [item] = items
        answer = json_object(response)
        ours = subject_request_id(item)
        if response.status not in {400, 409} or not _exists(answer):
            raise_refusal(response, answer)
            named = (answer or {}).get("original_request_id") or (answer or {}).get("subject_request_id")
            if not _uuid(named):
                raise Retry("unreadable-answer")
            if named != ours and not (self._dialect == "appsflyer" and (answer or {}).get("original_request_id")):
                raise Retry("answer-of-something-else")
            ours = str(named)
        if self._chosen(item)[1]:
            return [Outcome(grade=Evidence.sent, reference=ours, reason="identifiers-left-out")]
        return [Outcome(grade=Evidence.accepted, reference=ours)]

    def _identities(self, chosen: Sequence[tuple[str, str]]) -> Any:
        if self._dialect == "mparticle":
            return {name: {"value": value, "encoding": "raw"} for name, value in chosen}
        form = self._config.identity_format
        return [
            {
                "identity_type": name,
                "identity_value": identifiers.digest(value) if form == "sha256" else value,
                "identity_format": form,
            }
            for name, value in chosen
        ]

    def _chosen(self, item: Item) -> tuple[list[tuple[str, str]], bool]:
        """Types and values that go along, and whether any had to stay: mParticle takes one of each type."""
        known = self._types(item)
        found: dict[tuple[str, str], None] = {}
        for each in item.identifiers:
            if each.kind in known and (value := _form(each)):
                found[known[each.kind], value] = None
        if self._dialect != "mparticle":
            return list(found), False
        firsts = dict(reversed(found))
        return [pair for pair in found if firsts[pair[0]] == pair[1]], len(firsts) < len(found)

    def _types(self, item: Item) -> Mapping[IdentifierKind, str]:
        return types(self._dialect, self._config.property_ids.get(item.account, ""))


class Status:
    """`GET /requests/{id}`."""

    most = 1

    def __init__(self, connector: OpenDsr, config: Config) -> None:
        self._connector = connector
        self._path = PATHS[config.dialect][1]
        self.first_ms = self.every_ms = config.poll_every_s * 1000
        self.ends_ms = config.ends_after_days * DAY_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # no time in it
        [reference] = references
        return self._connector.call("GET", self._path + quote(reference, safe=""))

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        [reference] = references
        answer = json_object(response)
        if response.status == 404 or (response.status == 400 and _code(answer) in UNKNOWN_CODES):
            return [Outcome(grade=Evidence.none, reference=reference, reason="request-unknown")]
        raise_refusal(response, answer)
        if answer is None or answer.get("subject_request_id") != reference:
            raise Retry("answer-of-something-else")
        return [outcome(reference, answer)]


class Reports:
    """Signed callbacks. The domain must be on our list, the signature good over the raw body, the address ours."""

    def __init__(self, config: Config, pinned: Pinned) -> None:
        self._config = config
        self._pinned = pinned

    def read(self, headers: Mapping[str, str], body: bytes, at: int) -> Sequence[tuple[str, Outcome]]:
        """Specification, 8.8: nothing is parsed before the signature has been found good."""
        given = {name.lower(): value for name, value in headers.items()}
        if given.get("x-opendsr-processor-domain", "").lower() not in self._config.processor_domains:
            raise Rejected("callback-domain")
        if not self._pinned.valid(at):
            raise Rejected("callback-certificate")
        if not self._pinned.signed(given.get("x-opendsr-signature", ""), body):
            raise Rejected("callback-signature")
        report = json_object(HttpResponse(status=200, headers={}, body=body))
        if report is None or not _uuid(report.get("subject_request_id")):
            raise Rejected("callback-unreadable")
        if report.get("status_callback_url", self._config.callback_urls[0]) not in self._config.callback_urls:
            raise Rejected("callback-address")  # mParticle's reports have no such field
        reference = str(report["subject_request_id"])
        try:
            found = outcome(reference, report)
        except Retry:
            raise Rejected("callback-unreadable") from None
        return [(reference, found)] if found else []


def outcome(reference: str, answer: Mapping[str, Any]) -> Outcome | None:
    """What `request_status` says; None while it is under way. Raises `Retry` for a word that nobody wrote down."""
    match answer.get("request_status"):
        case "pending" | "in_progress" | "in-progress":
            return None
        case "completed":
            return Outcome(grade=Evidence.processed, reference=reference)
        case "cancelled" | "canceled":
            return Outcome(grade=Evidence.none, reference=reference, reason="request-cancelled")
    raise Retry("unreadable-answer")


def types(dialect: Dialect, property_id: str) -> Mapping[IdentifierKind, str]:
    """The type of each kind. AppsFlyer refuses ids of the other platform (e319): iOS apps have `id…`, no other has."""
    other = "" if dialect != "appsflyer" else "gaid" if re.fullmatch(r"id\d+", property_id) else "idfa"
    return {kind: name for kind, name in TYPES[dialect].items() if kind != other}


def subject_request_id(item: Item) -> str:
    """A UUID v4, as the specification demands, which is the same whenever the same request is sent again."""
    return str(UUID(bytes=sha256(item.request_id.encode()).digest()[:16], version=4))


def raise_refusal(response: HttpResponse, answer: Mapping[str, Any] | None) -> None:
    """Raises what a status that is no success means. Texts may quote a person, so AppsFlyer's code alone is repeated."""
    if response.status in {401, 403}:
        raise Retry("auth", SOMEBODY_MUST_ACT_S, perhaps=False)
    code = _code(answer)
    if code in WAITS_CODES:
        raise Retry(f"appsflyer-{code}", retry_after(response.headers) or WAIT_S)
    if response.status == 400 and code:
        raise Rejected(f"appsflyer-{code}")
    if refusal := refuse(response):
        raise refusal


def _exists(answer: Mapping[str, Any] | None) -> bool:
    """Whether a refusal says that the request is there already: an earlier call of ours got through."""
    error = _error(answer)
    message = error.get("message")
    words = message.lower() if isinstance(message, str) else ""
    return _code(answer) in OURS_CODES or any(each in words for each in OURS)


def _code(answer: Mapping[str, Any] | None) -> str:
    code = _error(answer).get("af_gdpr_code")
    return code if isinstance(code, str) and len(code) == 4 and code[0] == "e" and code[1:].isdecimal() else ""


def _error(answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The error object: the specification wraps it, mParticle does not."""
    error = (answer or {}).get("error", answer)
    return error if isinstance(error, dict) else {}


def _form(identifier: Identifier) -> str:
    try:
        return identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""


def _uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value
    except ValueError:
        return False


def _rfc3339(at: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at):%Y-%m-%dT%H:%M:%SZ}"


def build(partner: Partner, secrets: Mapping[str, Secret]) -> OpenDsr:
    where = f"partner {partner.name}: secrets.certificate"
    pinned = Pinned(secrets["certificate"].reveal(), where) if "certificate" in secrets else None
    return OpenDsr(read(Config, partner), secrets, pinned)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    for url in config.callback_urls:
        found += url_problems("callback_urls", url, insecure=config.insecure_http)
    if len(config.callback_urls) > MOST_CALLBACKS:
        found.append(f"settings.callback_urls: {len(config.callback_urls)}; give {MOST_CALLBACKS} at most")
    if ("certificate" in partner.secrets) != bool(config.callback_urls and config.processor_domains):
        found.append(
            "settings.callback_urls: reports need processor_domains and secrets.certificate too; give all three"
        )
    if any(domain != domain.lower() or not domain for domain in config.processor_domains):
        found.append("settings.processor_domains: write each domain in lower case")
    if config.dialect != "2.0" and config.identity_format != "raw":
        found.append(f"settings.identity_format: {config.dialect} takes raw identities alone; drop it")
    if config.dialect != "mparticle" and config.skip_waiting_period:
        found.append("settings.skip_waiting_period: mParticle's alone; drop it")
    if config.dialect == "mparticle" and "api_secret" not in partner.secrets:
        found.append("secrets.api_secret: missing; mParticle takes Basic authentication, so give key and secret")
    for name in config.property_ids.values() or [""]:
        found += unsaid(partner, frozenset(types(config.dialect, name)), f"{config.dialect} {name}".strip())
    return found + _property_problems(config, partner)


def _property_problems(config: Config, partner: Partner) -> list[str]:
    if config.dialect != "appsflyer":
        return ["settings.property_ids: AppsFlyer's alone; drop it"] if config.property_ids else []
    accounts = {account.name for account in partner.accounts}
    found = [
        f"settings.property_ids: account {name} has none; give its app's id"
        for name in sorted(accounts - set(config.property_ids))
    ]
    return found + [
        f"settings.property_ids.{name}: no app's id; copy it from AppsFlyer"
        for name, value in sorted(config.property_ids.items())
        if not value.strip() and not value.startswith(ENVIRONMENT)
    ]


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=OpenDsr.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
)
