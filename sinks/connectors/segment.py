"""Segment's regulations: suppression of users, its end, and deletion: see docs/partners/segment.md.

Sources: Segment, "User Deletion and Suppression", segmentio/segment-docs at 0091055; Public API, Deletion and Suppression,
segmentio/public-api-sdk-python at 061e400 (fields, statuses, headers); read 2026-11-23.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected, Retry, Split
from todoke.schemas.identity import IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import LONGEST_WAIT_S, json_object, refuse, refused, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, unsaid, url_problems
from todoke.sinks.users import UserId, ids

MOST_IDS = 5_000
HOUR_MS = 3_600_000
MEDIA = "application/vnd.segment.v1+json"

UNDER_WAY = frozenset({"INITIALIZED", "RUNNING"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Segment partner: one workspace, the one of its token."""

    user_id: Annotated[UserId, Meta(description="The kind that Segment was given as userId")]
    deletion: Annotated[
        Literal["SUPPRESS_WITH_DELETE", "SUPPRESS_WITH_DELETE_INTERNAL"],
        Meta(description="Delete at destinations too, which they may charge for, or within Segment alone"),
    ] = "SUPPRESS_WITH_DELETE"
    unsupported_destinations: Annotated[
        Literal["look", "told-otherwise"],
        Meta(description="A destination that can't delete: a person looks, or it is a partner of its own here"),
    ] = "look"
    poll_first_minutes: Annotated[int, Meta(ge=1, description="How long after a call to ask what became of it")] = 60
    poll_every_minutes: Annotated[int, Meta(ge=1, description="How long between questions")] = 360
    poll_ends_days: Annotated[int, Meta(ge=1, description="How long until a person must look")] = 35
    base_url: Url = "https://api.segmentapis.com"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


MUST_ACT = {401: "auth", 403: "forbidden", 404: "http-404"}
SECRETS: dict[str, tuple[str, bool]] = {"token": ("A Public API token of the workspace", True)}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset({"member_id", "email", "cookie_id"})
EFFECTS: Mapping[Verb, str] = {
    "grant": "unsuppressed",
    "withdraw": "suppressed",
    "suspend": "suppressed",
    "delete": "suppressed-deleted",
}


class SegmentRegulations(Plain):
    """The users of one workspace."""

    effects = EFFECTS
    reaches = Evidence.processed

    def __init__(self, config: Config, token: Secret, most_bytes: int) -> None:
        self._config = config
        self._token = token
        self._most_bytes = most_bytes
        self.polls: Regulations | None = Regulations(config, token)
        self.probe: Listing | None = Listing(config, token)

    def group(self, item: Item) -> str:
        """Account and effect. An item that has no id stands alone, so that its refusal touches nobody else."""
        alone = "" if ids(item, self._config.user_id) else f"|{item.request_id}"
        return f"{item.account}|{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        return max(len(ids(item, self._config.user_id)), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        subjects: dict[str, None] = {}
        for item in items:
            own = ids(item, self._config.user_id)
            if not own:
                raise Rejected("no-usable-identifier")
            subjects |= dict.fromkeys(own)
        kind = self._kinds()[EFFECTS[items[0].verb]]
        body = msgspec.json.encode({"regulationType": kind, "subjectType": "USER_ID", "subjectIds": list(subjects)})
        if len(subjects) > MOST_IDS or len(body) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        headers = {**_headers(self._token), "content-type": MEDIA}
        return HttpRequest(
            method="POST", url=f"{self._config.base_url.rstrip('/')}/regulations", headers=headers, body=body
        )

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """A regulation is taken in as a whole, under an id."""
        if response.status not in {200, 201}:
            raise _raised(response, several=len(items) > 1)
        identity = _data(response).get("regulateId")
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            raise Retry("unreadable-answer")
        return [Outcome(grade=Evidence.accepted, reference=identity) for _ in items]

    def _kinds(self) -> Mapping[str, str]:
        return {
            "suppressed": "SUPPRESS_ONLY",
            "unsuppressed": "UNSUPPRESS",
            "suppressed-deleted": self._config.deletion,
        }


class Regulations:
    """What became of a regulation, at Segment and at each destination."""

    most = 1

    def __init__(self, config: Config, token: Secret) -> None:
        self._config = config
        self._token = token
        self.first_ms = config.poll_first_minutes * 60_000
        self.every_ms = config.poll_every_minutes * 60_000
        self.ends_ms = config.poll_ends_days * 24 * HOUR_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        url = f"{self._config.base_url.rstrip('/')}/regulations/{quote(references[0], safe='')}"
        return HttpRequest(method="GET", url=url, headers=_headers(self._token), body=b"")

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        """The answer names no user: what failed in part is `sent` for all of them. An unknown status is awaited."""
        if response.status != 200:
            error = _raised(response, several=False)
            raise error if isinstance(error, Retry) else Retry("status-not-told", SOMEBODY_MUST_ACT_S)
        regulation = _data(response).get("regulation")
        if not isinstance(regulation, dict) or regulation.get("id") != references[0]:
            raise Retry("unreadable-answer")
        status, places = regulation.get("overallStatus"), _places(regulation)
        if status == "INVALID":
            return [Outcome(grade=Evidence.none, reference=references[0], reason="invalid-regulation")]
        if status == "FINISHED" and set(places) <= {"FINISHED"}:
            return [Outcome(grade=Evidence.processed, reference=references[0])]
        if status not in {"FINISHED", "FAILED", "PARTIAL_SUCCESS", "NOT_SUPPORTED"} or UNDER_WAY & set(places):
            return [None]
        reason = self._short(places)
        if not reason:
            return [Outcome(grade=Evidence.processed, reference=references[0])]
        return [Outcome(grade=Evidence.sent, reference=references[0], reason=reason)]

    def _short(self, places: Sequence[str]) -> str:
        """What is missing where the whole is no plain success; empty when nothing is.

        The whole is FAILED "because of a failure on an unsupported destination" too, with all else done. So the places
        decide, and without one that finished nothing shows that anything was done.
        """
        failed = set(places) - {"FINISHED", "NOT_SUPPORTED"}
        if failed or "FINISHED" not in places:
            return "partial-success" if "FINISHED" in places else "failed"
        return "" if self._config.unsupported_destinations == "told-otherwise" else "destination-not-supported"


class Listing:
    """One regulation of the workspace's list, which shows whether the token is good."""

    def __init__(self, config: Config, token: Secret) -> None:
        self._config = config
        self._token = token

    def ask(self, at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        url = f"{self._config.base_url.rstrip('/')}/regulations?pagination%5Bcount%5D=1"
        return HttpRequest(method="GET", url=url, headers=_headers(self._token), body=b"")

    def read(self, response: HttpResponse) -> None:
        if response.status != 200:
            raise _raised(response, several=False)


def build(partner: Partner, secrets: Mapping[str, Secret]) -> SegmentRegulations:
    return SegmentRegulations(read(Config, partner), secrets["token"], partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += unsaid(partner, {config.user_id}, f"user_id = {config.user_id}")
    if len(partner.accounts) != 1:
        found.append(f"accounts: {len(partner.accounts)}; a token belongs to one workspace, so make a partner of each")
    if partner.limits.items > MOST_IDS:
        found.append(f"limits.items: {partner.limits.items}; Segment takes {MOST_IDS} ids a call")
    return found


def _headers(token: Secret) -> dict[str, str]:
    return {"authorization": f"Bearer {token.reveal()}", "accept": MEDIA}


def _data(response: HttpResponse) -> dict[str, Any]:
    data = (json_object(response) or {}).get("data")
    return data if isinstance(data, dict) else {}


def _places(regulation: Mapping[str, Any]) -> list[str]:
    """The status of every destination of every stream. Error texts beside them may quote a person, so they are not read."""
    found = []
    streams = regulation.get("streamStatus")
    for stream in streams if isinstance(streams, list) else []:
        places = stream.get("destinationStatus") if isinstance(stream, dict) else None
        found += [str(each.get("status")) for each in places or [] if isinstance(each, dict)]
    return found


def _raised(response: HttpResponse, *, several: bool) -> Exception:
    """By status: messages may quote an id, so bodies are not read."""
    match response.status:
        case 400 | 422:
            name = f"http-{response.status}"
            return Split(name, perhaps=False) if several else Rejected(name)
        case 429:
            return Retry("throttled", _reset(response.headers), perhaps=False)
    return refused(response, MUST_ACT, several=several) or refuse(response) or Retry("unreadable-answer")


def _reset(headers: Mapping[str, str]) -> float | None:
    """The longer of `Retry-After` and the reset of the regulations' quota, read against the answer's own `Date`."""
    waits = [wait for wait in [retry_after(headers)] if wait]
    try:
        reset = datetime.fromisoformat(headers.get("x-regulation-ratelimit-quota-reset", ""))
        left = (reset - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
        # the header comes with every answer: only a quota that is used up is waited for
        if headers.get("x-regulation-ratelimit-remaining") == "0":
            waits.append(min(max(left, 1.0), LONGEST_WAIT_S))
    except (ValueError, TypeError):
        pass
    return max(waits, default=None)


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=SegmentRegulations.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
)
