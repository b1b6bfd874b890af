"""Google Analytics 4: deletion of a user's data from a property: see docs/partners/ga4.md.

Sources: Google, Analytics Admin API v1alpha, `properties.submitUserDeletion`, read 2026-11-23 in a copy of 2026; AIP-193; the
older User Deletion API v3 and its siblings for quotas that come as 403, by excerpts.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry, Split
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks import google
from todoke.sinks.base import Access, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import json_object, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, account_problems, read, sound, unsaid, url_problems

SCOPE = "https://www.googleapis.com/auth/analytics.edit"

Data = Literal["member_id", "cookie_id", "email", "phone"]
FIELDS: dict[Data, str] = {
    "member_id": "userId",
    "cookie_id": "clientId",
    "email": "userProvidedData",
    "phone": "userProvidedData",
}

EVERYBODY = frozenset({"PERMISSION_DENIED", "NOT_FOUND", "SERVICE_DISABLED", "FAILED_PRECONDITION"})
"""Reasons that lie in the property, the project or the credentials."""
MINUTE = frozenset({"RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", "rateLimitExceeded", "userRateLimitExceeded"})
DAY = frozenset({"quotaExceeded", "dailyLimitExceeded"})
"""Reasons of a 403 that is a quota, in the new form of errors and in the old; how long it lasts."""
MINUTE_S = 60.0
DAY_S = 3600.0
"""A day's quota ends at a time that the answer doesn't say, so it is asked again every hour."""

_NUMBER = re.compile(r"\d{1,32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]{8,18}(Z|[+-]\d\d:\d\d)")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Google Analytics partner."""

    properties: Annotated[dict[str, str], Meta(description="The number of the property of each account")]
    data: Annotated[Data, Meta(description="What names people there: a call has one user, named in one way")] = (
        "member_id"
    )
    client_id: Annotated[str, Meta(description="OAuth client, where a refresh token is used")] = ""
    quota_project: Annotated[str, Meta(description="Cloud project that is charged, if not the credentials' own")] = ""
    api_version: Annotated[str, Meta(description="Version of the Admin API that has the method")] = "v1alpha"
    base_url: Url = "https://analyticsadmin.googleapis.com"
    token_url: Url = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(FIELDS)
EFFECTS: Mapping[Verb, str] = {"delete": "deleted"}


class AnalyticsDeletions(Plain):
    """The properties of one partner."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, access: Access) -> None:
        self._config = config
        self.access: Access | None = access
        self.probe: Property | None = Property(config)

    def group(self, item: Item) -> str:
        """Everybody alone: a call has one user."""
        return f"{item.account}|{item.request_id}"

    def weight(self, item: Item) -> int:  # noqa: ARG002  # the contract asks per item
        return 1

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        if len(items) > 1:
            raise Split("one-a-call", perhaps=False)
        number = self._config.properties.get(items[0].account)
        if number is None:
            raise Rejected("no-property")
        own = _names(items[0], self._config.data)
        if not own:
            raise Rejected("no-usable-identifier")
        body = msgspec.json.encode({FIELDS[self._config.data]: own[0]})
        headers = {**_headers(self._config), "content-type": "application/json"}
        url = f"{_property(self._config, number)}:submitUserDeletion"
        return HttpRequest(method="POST", url=url, headers=headers, body=body)

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """Of somebody with more identifiers than the one that was sent, a person must see to the others."""
        if response.status != 200:
            raise _raised(response)
        time = (json_object(response) or {}).get("deletionRequestTime")
        if not isinstance(time, str) or not _TIME.fullmatch(time):
            raise Retry("unreadable-answer")
        if len(_names(items[0], self._config.data)) > 1:
            return [Outcome(grade=Evidence.sent, reference=time, reason="identifiers-left-out")]
        return [Outcome(grade=Evidence.accepted, reference=time)]


class Property:
    """The first property, read: shows whether it is there and the credentials reach it."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def ask(self, at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        url = _property(self._config, next(iter(self._config.properties.values())))
        return HttpRequest(method="GET", url=url, headers=_headers(self._config), body=b"")

    def read(self, response: HttpResponse) -> None:
        if response.status != 200:
            raise _raised(response)


def build(partner: Partner, secrets: Mapping[str, Secret]) -> AnalyticsDeletions:
    config = read(Config, partner)
    return AnalyticsDeletions(config, google.access(partner, secrets, config.token_url, config.client_id, SCOPE))


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += url_problems("token_url", config.token_url, insecure=config.insecure_http)
    found += google.access_problems(config.client_id, partner)
    found += account_problems(partner, "properties", config.properties, give="its property's number", drop="property")
    for name, number in sorted(config.properties.items()):
        if not sound(_NUMBER, number):
            found.append(f"settings.properties.{name}: not a number; copy it from the property's settings, without G-")
    if not sound(r"v\d+[a-z]*\d*", config.api_version):
        found.append("settings.api_version: not a version; write one as in v1alpha")
    if partner.limits.items > 1:
        found.append(f"limits.items: {partner.limits.items}; Google Analytics takes one user a call")
    return found + unsaid(partner, {config.data}, f"data = {config.data}")


def _property(config: Config, number: str) -> str:
    return f"{config.base_url.rstrip('/')}/{config.api_version}/properties/{number}"


def _headers(config: Config) -> dict[str, str]:
    return {"x-goog-user-project": config.quota_project} if config.quota_project else {}


def _names(item: Item, data: Data) -> list[str]:
    """Each name of the person in the form of the method, once, in order."""
    found = [_name(each) for each in item.identifiers if each.kind == data]
    return list(dict.fromkeys(name for name in found if name))


def _name(identifier: Identifier) -> str:
    """Plain, as the method wants it; empty for what has no sound form."""
    try:
        if identifier.kind == "email":
            return identifiers.email_analytics(identifier.value)
        return identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""


def _raised(response: HttpResponse) -> Exception:
    """A 403 may be a quota, in the older interface above all: it is looked into before it is anything else."""
    if response.status == 403:
        reasons = _reasons(response)
        for known, name, wait in ((DAY, "quota-day", DAY_S), (MINUTE, "quota-minute", MINUTE_S)):
            if reasons & known:
                return Retry(name, max(retry_after(response.headers) or 0.0, wait), perhaps=False)
    return google.raised(response, EVERYBODY, several=False)


def _reasons(response: HttpResponse) -> set[str]:
    """Status and reasons of an error, of both forms. Messages may quote a person, so they are not read."""
    error = (json_object(response) or {}).get("error")
    if not isinstance(error, dict):
        return set()
    parts = [error.get("errors"), error.get("details")]
    each = [entry for part in parts if isinstance(part, list) for entry in part if isinstance(entry, dict)]
    return {str(reason) for reason in (error.get("status"), *(entry.get("reason") for entry in each))}


MAKER = Maker(
    config=Config,
    secrets=google.SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=AnalyticsDeletions.reaches,
    addresses=lambda config: (config.base_url, config.token_url),
    problems=problems,
    make=build,
)
