"""Amplitude's User Privacy API: the deletion of users from a project: see docs/partners/amplitude.md.

Sources: Amplitude, "User Privacy API" (version 1), amplitude/amplitude-docs at 02c8383, read 2026-11-23.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected, Retry, Split
from todoke.schemas.identity import IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import json_object, refuse, refused
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, sound, unsaid, url_problems
from todoke.sinks.users import UserId, ids

MOST_IDS = 100
MOST_QUESTIONS = 50
LONGEST_WINDOW = timedelta(days=180)
"""A question covers six months at most."""
HOUR_MS = 3_600_000
PATH = "/api/2/deletions/users"

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_REFERENCE = re.compile(r"(\d{4}-\d\d-\d\d):([0-9a-f]{32}):(\d{1,3})")
_REQUESTER = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of an Amplitude partner: one project, the one of its keys."""

    user_id: Annotated[UserId, Meta(description="The kind that was given to Amplitude as user id")]
    requester: Annotated[str, Meta(description="Who asks, as Amplitude's list of jobs shows it")] = "todoke"
    ignore_invalid_id: Annotated[
        bool, Meta(description="Who isn't known to the project is passed over, else one such refuses the whole call")
    ] = True
    unknown_user: Annotated[
        Literal["done", "look"], Meta(description="Who isn't known counts as deleted, or a person looks")
    ] = "done"
    delete_from_org: Annotated[bool, Meta(description="Delete from every project of the organisation")] = False
    processed_when: Annotated[
        Literal["done", "scrubbed"], Meta(description="Wait for the backups, or for the data in use alone")
    ] = "done"
    poll_first_hours: Annotated[int, Meta(ge=1, description="How long after a call to ask what became of it")] = 24
    poll_every_hours: Annotated[int, Meta(ge=1, description="How long between questions")] = 24
    poll_ends_days: Annotated[int, Meta(ge=1, description="How long until a person must look")] = 40
    base_url: Url = "https://amplitude.com"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


MUST_ACT = {401: "auth", 403: "forbidden", 404: "http-404"}
SECRETS: dict[str, tuple[str, bool]] = {
    "api_key": ("The project's API key", True),
    "secret_key": ("The project's secret key", True),
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset({"member_id", "email", "cookie_id"})
EFFECTS: Mapping[Verb, str] = {"delete": "deleted"}


class AmplitudeDeletions(Plain):
    """The users of one project."""

    effects = EFFECTS

    def __init__(self, config: Config, secrets: Mapping[str, Secret], most_bytes: int) -> None:
        self._config = config
        self._headers = _headers(secrets)
        self._most_bytes = most_bytes
        self.reaches = reaches(config)
        self.polls: Jobs | None = None if config.delete_from_org else Jobs(config, self._headers)
        self.probe: Listing | None = Listing(config, self._headers)

    def group(self, item: Item) -> str:
        """Account. An item that has no id stands alone, so that its refusal touches nobody else."""
        return item.account if ids(item, self._config.user_id) else f"{item.account}|{item.request_id}"

    def weight(self, item: Item) -> int:
        return max(len(ids(item, self._config.user_id)), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        users = self._users(items)
        body: dict[str, Any] = {"user_ids": users, "requester": f"{self._config.requester}-{_trace(items)}"}
        if self._config.ignore_invalid_id or self._config.delete_from_org:
            # the page has both spellings: the table the one, the text and most examples the other
            body |= {"ignore_invalid_id": True, "ignore_invalid_ids": True}
        if self._config.delete_from_org:
            body["delete_from_org"] = True
        raw = msgspec.json.encode(body)
        if len(users) > MOST_IDS or len(raw) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        headers = {**self._headers, "content-type": "application/json"}
        return HttpRequest(method="POST", url=self._config.base_url.rstrip("/") + PATH, headers=headers, body=raw)

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """Taken in as a whole or not at all; then those who aren't known are named, and the others await the job."""
        several = len(items) > 1
        if response.status != 200:
            raise _raised(response, several=several)
        jobs = _jobs(response)
        if jobs is None:
            raise Retry("unreadable-answer")
        unknown = {str(each) for job in jobs for each in _list(job, "invalid_ids")}
        if not unknown <= set(self._users(items)):
            if several:
                raise Split("invalid-id")
            return [Outcome(grade=Evidence.sent, reason="invalid-id-partial")]
        reference = self._reference(jobs, _trace(items))
        if not reference and not set(self._users(items)) <= unknown:
            raise Retry("unreadable-answer")
        return [self._outcome(item, unknown, reference) for item in items]

    def _outcome(self, item: Item, unknown: set[str], reference: str) -> Outcome:
        if not set(ids(item, self._config.user_id)) <= unknown:
            return Outcome(grade=Evidence.accepted, reference=reference)
        if self._config.unknown_user == "look":
            return Outcome(grade=Evidence.none, reason="unknown-user")
        return Outcome(grade=self.reaches)

    def _reference(self, jobs: Sequence[Mapping[str, Any]], trace: str) -> str:
        """The last day of a job, the call's trace, and how many of the job are ours; empty without a day."""
        days = [day for job in jobs if isinstance(day := job.get("day"), str) and _DAY.fullmatch(day)]
        ours = sum(_ours(job, f"{self._config.requester}-{trace}") for job in jobs)
        return f"{max(days)}:{trace}:{min(ours, 999)}" if days else ""

    def _users(self, items: Sequence[Item]) -> list[str]:
        """Every user id, each once, in order. Raises `Rejected` when an item has none: it would be taken for told."""
        found: dict[str, None] = {}
        for item in items:
            own = ids(item, self._config.user_id)
            if not own:
                raise Rejected("no-usable-identifier")
            found |= dict.fromkeys(own)
        return list(found)


class Jobs:
    """The calendar of jobs: what was scheduled for which day, and how far it is."""

    most = MOST_QUESTIONS

    def __init__(self, config: Config, headers: Mapping[str, str]) -> None:
        self._config = config
        self._headers = headers
        self.first_ms = config.poll_first_hours * HOUR_MS
        self.every_ms = config.poll_every_hours * HOUR_MS
        self.ends_ms = config.poll_ends_days * 24 * HOUR_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # the days are in the references
        days = [day for day, _, _ in map(_parts, references)]
        return _listing(self._config, self._headers, min(days), max(days))

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        """A job that isn't listed, or has a status that nobody knows, is awaited."""
        if response.status != 200:
            error = _raised(response, several=False)
            raise error if isinstance(error, Retry) else Retry("status-not-told", SOMEBODY_MUST_ACT_S)
        jobs = _jobs(response)
        if jobs is None:
            raise Retry("unreadable-answer")
        return [self._told(reference, jobs) for reference in references]

    def _told(self, reference: str, jobs: Sequence[Mapping[str, Any]]) -> Outcome | None:
        day, trace, wanted = _parts(reference)
        own = [job for job in jobs if job.get("day") == day]
        listed = sum(len(_list(job, "amplitude_ids")) for job in own)
        if own and listed and sum(_ours(job, f"{self._config.requester}-{trace}") for job in own) < wanted:
            return Outcome(grade=Evidence.sent, reference=reference, reason="removed-from-job")
        if own and all(self._over(job) for job in own):
            return Outcome(grade=Evidence.processed, reference=reference)
        return None

    def _over(self, job: Mapping[str, Any]) -> bool:
        scrubbed = self._config.processed_when == "scrubbed" and bool(job.get("active_scrub_done_date"))
        return scrubbed or str(job.get("status", "")).lower() == "done"


class Listing:
    """The jobs of a day, which shows whether the keys are good."""

    def __init__(self, config: Config, headers: Mapping[str, str]) -> None:
        self._config = config
        self._headers = headers

    def ask(self, at: int) -> HttpRequest:
        day = (date(1970, 1, 1) + timedelta(milliseconds=at)).isoformat()
        return _listing(self._config, self._headers, day, day)

    def read(self, response: HttpResponse) -> None:
        if response.status != 200:
            raise _raised(response, several=False)


def reaches(config: Config) -> Evidence:
    """Jobs of other projects are listed with their keys alone, so of an organisation's nobody learns the end."""
    return Evidence.accepted if config.delete_from_org else Evidence.processed


def build(partner: Partner, secrets: Mapping[str, Secret]) -> AmplitudeDeletions:
    return AmplitudeDeletions(read(Config, partner), secrets, partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    if urlsplit(config.base_url).hostname == "analytics.amplitude.com":
        found.append(
            "settings.base_url: the web app's; give https://amplitude.com or https://analytics.eu.amplitude.com"
        )
    found += unsaid(partner, {config.user_id}, f"user_id = {config.user_id}")
    if len(partner.accounts) != 1:
        found.append(f"accounts: {len(partner.accounts)}; keys belong to one project, so make a partner of each")
    if not sound(_REQUESTER, config.requester):
        found.append("settings.requester: expected 1 to 64 letters, digits and . _ @ -; name a team, not a person")
    if partner.limits.items > MOST_IDS:
        found.append(f"limits.items: {partner.limits.items}; Amplitude takes {MOST_IDS} ids a call")
    return found


def _headers(secrets: Mapping[str, Secret]) -> dict[str, str]:
    """RFC 7617: the pair as it is, unlike an OAuth client's."""
    pair = f"{secrets['api_key'].reveal()}:{secrets['secret_key'].reveal()}"
    return {"authorization": f"Basic {b64encode(pair.encode()).decode()}", "accept": "application/json"}


def _listing(config: Config, headers: Mapping[str, str], first: str, last: str) -> HttpRequest:
    """The jobs from `first` to `last`; of more than six months only the first part, so the rest is asked again."""
    end = min(date.fromisoformat(last), date.fromisoformat(first) + LONGEST_WINDOW).isoformat()
    query = urlencode({"start_day": first, "end_day": end})
    return HttpRequest(
        method="GET", url=f"{config.base_url.rstrip('/')}{PATH}?{query}", headers=dict(headers), body=b""
    )


def _parts(reference: str) -> tuple[str, str, int]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise Rejected("no-reference")
    return match[1], match[2], int(match[3])


def _trace(items: Sequence[Item]) -> str:
    """The same for the same items, so that a call that is sent again is the same call."""
    return sha256("|".join(item.request_id for item in items).encode()).hexdigest()[:32]


def _jobs(response: HttpResponse) -> list[dict[str, Any]] | None:
    """A job, or a list of jobs: the page shows both. None for anything else."""
    one = json_object(response)
    if one is not None:
        return [one] if "day" in one or "invalid_ids" in one else None
    try:
        return msgspec.json.decode(response.body, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ours(job: Mapping[str, Any], requester: str) -> int:
    named = Counter(each.get("requester") for each in _list(job, "amplitude_ids") if isinstance(each, dict))
    return named[requester]


def _list(job: Mapping[str, Any], name: str) -> list[Any]:
    value = job.get(name)
    return value if isinstance(value, list) else []


def _raised(response: HttpResponse, *, several: bool) -> Exception:
    """By status: the page names 400 and 401 alone, and says nothing of bodies."""
    if response.status == 400 and several:
        return Split("http-400", perhaps=False)
    return refused(response, MUST_ACT, several=several) or refuse(response) or Retry("unreadable-answer")


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
)
