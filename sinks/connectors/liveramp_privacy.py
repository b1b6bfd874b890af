"""LiveRamp's Privacy API: deletions and opt-outs, one person a call: see docs/partners/liveramp_privacy.md.

Sources: LiveRamp, Privacy API 1.0.0, in api-evangelist/liveramp `openapi/_original/liveramp-privacy-api-openapi.yml` at e06670b;
its "Error Handling and Retries" and service-account tokens, as summed up there in `conventions` and `authentication` at 1dd3c90.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Expired, Refused, Rejected, Retry
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import json_object, refuse
from todoke.sinks.maker import Maker
from todoke.sinks.oauth import Grant
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, sound, unsaid, url_problems

Data = Literal["email", "idfa", "gaid"]

DAY_MS = 86_400_000
CLIENT = "liveramp-api"
SCOPE = "openid"
REQUESTS: Mapping[Verb, str] = {"withdraw": "OPT_OUT", "suspend": "OPT_OUT", "delete": "DELETION"}
UNDER_WAY = frozenset({"ACCEPTED", "PROCESSING"})

_VISIBLE = re.compile(r"[!-~]{1,128}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a partner at LiveRamp."""

    organization: Annotated[str, Meta(description="The id of the organization, sent as LR-Org-ID")]
    account_id: Annotated[str, Meta(description="The service account's id, its name for a token")]
    data: Annotated[Data, Meta(description="The one kind of identifier that this entry names people by")] = "email"
    old_deletions_count: Annotated[
        bool, Meta(description="Whether a deletion that was finished before we asked is done; else a person looks")
    ] = False
    base_url: Url = "https://privacy-api.liveramp.com"
    token_url: Url = "https://serviceaccounts.liveramp.com/authn/v1/oauth2/token"  # noqa: S105  # an address
    poll_every_s: Annotated[int, Meta(ge=1, description="How long between questions about a request")] = 21_600
    ends_after_days: Annotated[int, Meta(ge=1, description="After how long a person must look")] = 35
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {"secret_key": ("The service account's secret key", True)}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset({"email", "idfa", "gaid"})
EFFECTS: Mapping[Verb, str] = {"withdraw": "opted-out", "suspend": "opted-out", "delete": "deleted"}


class Password(Grant):
    """RFC 6749, 4.3, as LiveRamp has it: a service account's id and key are name and password of a public client."""

    def __init__(self, token_url: str, account_id: str, secret: Secret) -> None:
        super().__init__(token_url, SCOPE)
        self._account_id = account_id
        self._secret = secret

    def form(self, at: int) -> Mapping[str, str]:  # noqa: ARG002  # no time in it
        return {
            "grant_type": "password",
            "client_id": CLIENT,
            "scope": SCOPE,
            "username": self._account_id,
            "password": self._secret.reveal(),
        }


class LiveRampPrivacy(Plain):
    """Requests of one organization."""

    effects = EFFECTS
    reaches = Evidence.processed

    def __init__(self, config: Config, secret: Secret) -> None:
        self._config = config
        self.access = Password(config.token_url, config.account_id, secret)
        self.polls = Status(self, config)

    def group(self, item: Item) -> str:
        """A group of its own: a request is one person's."""
        return item.request_id

    def weight(self, item: Item) -> int:  # noqa: ARG002  # the contract asks per item
        return 1

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # a repeat is the same to the byte
        [item] = items
        named = self._named(item)
        if not named:
            raise Rejected("no-usable-identifier")
        field = "email" if self._config.data == "email" else "maid"
        return self.call("POST", "", {"request_type": REQUESTS[item.verb], field: named[0]})

    def call(self, method: str, query: str, body: Mapping[str, Any] | None = None) -> HttpRequest:
        """One call to `/v1/requests`."""
        headers = {"lr-org-id": self._config.organization, "accept": "application/json"}
        if body:
            headers["content-type"] = "application/json"
        url = f"{self._config.base_url.rstrip('/')}/v1/requests{query}"
        return HttpRequest(method=method, url=url, headers=headers, body=msgspec.json.encode(body) if body else b"")

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """A repeat is answered with 200, `is_duplicate` and the uuid of the request that is there: an earlier call of ours."""
        [item] = items
        raise_refusal(response)
        answer = json_object(response) or {}
        reference, status = answer.get("request_uuid"), answer.get("status")
        if not isinstance(reference, str) or not _uuid(reference):
            raise Retry("unreadable-answer")
        if status == "FAILED":
            return [Outcome(grade=Evidence.sent, reference=reference, reason="request-failed")]
        if status not in {*UNDER_WAY, "COMPLETED"}:
            raise Retry("unreadable-answer")
        if len(self._named(item)) > 1:
            return [Outcome(grade=Evidence.sent, reference=reference, reason="identifiers-left-out")]
        old = answer.get("is_duplicate") is True and status == "COMPLETED" and item.verb == "delete"
        if old and not self._config.old_deletions_count:
            return [Outcome(grade=Evidence.sent, reference=reference, reason="deleted-before")]
        return [Outcome(grade=Evidence.accepted, reference=reference)]

    def _named(self, item: Item) -> list[str]:
        """Each once, in the order given; a request takes one."""
        forms = [_form(each) for each in item.identifiers if each.kind == self._config.data]
        return list(dict.fromkeys(form for form in forms if form))


class Status:
    """`GET /v1/requests?uuid=…`."""

    most = 1

    def __init__(self, connector: LiveRampPrivacy, config: Config) -> None:
        self._connector = connector
        self.first_ms = self.every_ms = config.poll_every_s * 1000
        self.ends_ms = config.ends_after_days * DAY_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # no time in it
        [reference] = references
        return self._connector.call("GET", "?" + urlencode({"uuid": reference}))

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        """`error_message` may quote a person, so it is not read."""
        [reference] = references
        if response.status == 404:
            return [Outcome(grade=Evidence.none, reference=reference, reason="request-unknown")]
        raise_refusal(response)
        found = (json_object(response) or {}).get("privacy_request")
        if not isinstance(found, dict) or found.get("request_uuid") != reference:
            raise Retry("answer-of-something-else")
        match found.get("status"):
            case "ACCEPTED" | "PROCESSING":
                return [None]
            case "COMPLETED":
                return [Outcome(grade=Evidence.processed, reference=reference)]
            case "FAILED":
                return [Outcome(grade=Evidence.sent, reference=reference, reason="request-failed")]
        raise Retry("unreadable-answer")


def raise_refusal(response: HttpResponse) -> None:
    """A dead token is answered with 403 by LiveRamp's page, and with 401 by its specification: either gets another."""
    if response.status in {401, 403}:
        raise Expired("auth", SOMEBODY_MUST_ACT_S)
    if refusal := refuse(response):
        raise refusal


def _form(identifier: Identifier) -> str:
    """The plain address; a device id in lower case, as the examples have it."""
    try:
        form = identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""
    return form if identifier.kind == "email" else form.lower()


def _uuid(value: str) -> bool:
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False


def build(partner: Partner, secrets: Mapping[str, Secret]) -> LiveRampPrivacy:
    return LiveRampPrivacy(read(Config, partner), secrets["secret_key"])


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += url_problems("token_url", config.token_url, insecure=config.insecure_http)
    for key, value in (("organization", config.organization), ("account_id", config.account_id)):
        if not sound(_VISIBLE, value):
            found.append(f"settings.{key}: not an id; copy it from the file that LiveRamp gave you")
    return found + unsaid(partner, {config.data}, f"data = {config.data}")


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=LiveRampPrivacy.reaches,
    addresses=lambda config: (config.base_url, config.token_url),
    problems=problems,
    make=build,
)
