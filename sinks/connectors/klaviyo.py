"""Klaviyo: suppression of e-mail addresses, its end, and deletion of profiles: see docs/partners/klaviyo.md.

Sources: klaviyo/openapi, `bulk_suppress_profiles`, `get_bulk_suppress_profiles_job` (revision 2026-04-15),
`bulk_unsuppress_profiles` and `request_profile_deletion` (2026-07-15), read 2026-11-23; developers.klaviyo.com, "Data Privacy API overview", by excerpt.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected, Retry, Split
from todoke.schemas.identity import IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import count, json_object, refuse, refused
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, sound, unsaid, url_problems
from todoke.sinks.users import ids

MOST_ADDRESSES = 100
HOUR_MS = 3_600_000
MEDIA = "application/vnd.api+json"
DELETIONS = "data-privacy-deletion-job"

By = Literal["email", "phone"]
FIELDS: dict[By, str] = {"email": "email", "phone": "phone_number"}

_JOB = re.compile(r"[A-Za-z0-9_.=+/-]{1,128}")
_CODE = re.compile(r"[a-z][a-z_]{1,39}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Klaviyo partner: one account, the one of its key."""

    create_profiles: Annotated[
        bool, Meta(description="Suppress addresses even though Klaviyo makes a profile of one that it doesn't know")
    ] = False
    delete_by: Annotated[By, Meta(description="What names people to be deleted: a call has one")] = "email"
    revision: Annotated[str, Meta(description="Revision of the API that is spoken")] = "2026-04-15"
    poll_first_minutes: Annotated[int, Meta(ge=1, description="How long after a call to ask what became of it")] = 5
    poll_every_minutes: Annotated[int, Meta(ge=1, description="How long between questions")] = 30
    poll_ends_hours: Annotated[int, Meta(ge=1, description="How long until a person must look")] = 48
    base_url: Url = "https://a.klaviyo.com"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


MUST_ACT = {401: "auth", 403: "forbidden", 404: "http-404", 410: "api-version"}
SECRETS: dict[str, tuple[str, bool]] = {"api_key": ("A private API key with the scopes that the page lists", True)}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(FIELDS)
EFFECTS: Mapping[Verb, str] = {
    "grant": "unsuppressed",
    "withdraw": "suppressed",
    "suspend": "suppressed",
    "delete": "deleted",
}


class Bulk(NamedTuple):
    """A kind of job over many addresses: its type, whose plural is its path, and its mark in references."""

    type: str
    mark: str


BULK: dict[str, Bulk] = {
    "suppressed": Bulk("profile-suppression-bulk-create-job", "suppress"),
    "unsuppressed": Bulk("profile-suppression-bulk-delete-job", "unsuppress"),
}
MARKS = {bulk.mark: bulk for bulk in BULK.values()}


class KlaviyoProfiles(Plain):
    """The profiles of one account."""

    effects = EFFECTS
    reaches = Evidence.processed

    def __init__(self, config: Config, key: Secret, most_bytes: int) -> None:
        self._config = config
        self._key = key
        self._most_bytes = most_bytes
        self.polls: Jobs | None = Jobs(config, key)
        self.probe: Listing | None = Listing(config, key)

    def group(self, item: Item) -> str:
        """Account and effect. A deletion has one person a call; what is refused touches nobody else."""
        effect = EFFECTS[item.verb]
        alone = effect not in BULK or self._barred(effect) or not ids(item, "email")
        return f"{item.account}|{effect}" + (f"|{item.request_id}" if alone else "")

    def weight(self, item: Item) -> int:
        return max(len(ids(item, "email")), 1) if EFFECTS[item.verb] in BULK else 1

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        bulk = BULK.get(EFFECTS[items[0].verb])
        if bulk is None:
            return self._deletion(items)
        if self._barred(EFFECTS[items[0].verb]):
            raise Rejected("profiles-not-to-be-created")
        addresses: dict[str, None] = {}
        for item in items:
            addresses |= dict.fromkeys(_some(item, "email"))
        if len(addresses) > MOST_ADDRESSES:
            raise Split("too-large", perhaps=False)
        people = [{"type": "profile", "attributes": {"email": each}} for each in addresses]
        return self._post(bulk.type, {"profiles": {"data": people}})

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """202 has a job for a suppression, and nothing at all for a deletion."""
        bulk = BULK.get(EFFECTS[items[0].verb])
        if response.status != 202:
            raise _raised(response, several=len(items) > 1)
        if "errors" in (json_object(response) or {}):
            raise Retry("unreadable-answer")
        if bulk is None:
            if len(ids(items[0], self._config.delete_by)) > 1:
                return [Outcome(grade=Evidence.sent, reason="identifiers-left-out")]
            return [Outcome(grade=Evidence.accepted)]
        job = _data(response).get("id")
        if not isinstance(job, str) or not _JOB.fullmatch(job):
            raise Retry("unreadable-answer")
        return [Outcome(grade=Evidence.accepted, reference=f"{bulk.mark}:{job}") for _ in items]

    def _barred(self, effect: str) -> bool:
        """A suppression makes profiles; the end of one doesn't ("no action will be taken")."""
        return effect == "suppressed" and not self._config.create_profiles

    def _deletion(self, items: Sequence[Item]) -> HttpRequest:
        if len(items) > 1:
            raise Split("one-a-call", perhaps=False)
        by = self._config.delete_by
        person = {"type": "profile", "attributes": {FIELDS[by]: _some(items[0], by)[0]}}
        return self._post(DELETIONS, {"profile": {"data": person}})

    def _post(self, kind: str, attributes: Mapping[str, Any]) -> HttpRequest:
        raw = msgspec.json.encode({"data": {"type": kind, "attributes": attributes}})
        if len(raw) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        headers = {**_headers(self._config, self._key), "content-type": MEDIA}
        url = f"{self._config.base_url.rstrip('/')}/api/{kind}s"
        return HttpRequest(method="POST", url=url, headers=headers, body=raw)


class Jobs:
    """What became of a job. Deletions have none that could be asked for."""

    most = 1

    def __init__(self, config: Config, key: Secret) -> None:
        self._config = config
        self._key = key
        self.first_ms = config.poll_first_minutes * 60_000
        self.every_ms = config.poll_every_minutes * 60_000
        self.ends_ms = config.poll_ends_hours * HOUR_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        mark, _, job = references[0].partition(":")
        if mark not in MARKS:
            raise Rejected("no-reference")
        url = f"{self._config.base_url.rstrip('/')}/api/{MARKS[mark].type}s/{quote(job, safe='')}"
        return HttpRequest(method="GET", url=url, headers=_headers(self._config, self._key), body=b"")

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        """The answer counts and names nobody: what was skipped, or not completed, is `sent` for all of the call."""
        if response.status != 200:
            error = _raised(response, several=False)
            raise error if isinstance(error, Retry) else Retry("status-not-told", SOMEBODY_MUST_ACT_S)
        data = _data(response)
        told = data.get("attributes")
        if data.get("id") != references[0].partition(":")[2] or not isinstance(told, dict):
            raise Retry("unreadable-answer")
        match told.get("status"):
            case "complete":
                return [_completed(told, references[0])]
            case "cancelled":
                return [Outcome(grade=Evidence.sent, reference=references[0], reason="cancelled")]
        return [None]


class Listing:
    """The jobs of the account, which shows whether the key is good."""

    def __init__(self, config: Config, key: Secret) -> None:
        self._config = config
        self._key = key

    def ask(self, at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        url = f"{self._config.base_url.rstrip('/')}/api/{BULK['suppressed'].type}s"
        return HttpRequest(method="GET", url=url, headers=_headers(self._config, self._key), body=b"")

    def read(self, response: HttpResponse) -> None:
        if response.status != 200:
            raise _raised(response, several=False)


def build(partner: Partner, secrets: Mapping[str, Secret]) -> KlaviyoProfiles:
    return KlaviyoProfiles(read(Config, partner), secrets["api_key"], partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += unsaid(partner, {config.delete_by}, f"delete_by = {config.delete_by}")
    asked = {*partner.deadline_hours, *(["grant"] if partner.grants else [])}
    bulk = sorted(verb for verb, effect in EFFECTS.items() if verb in asked and effect in BULK)
    if bulk and config.delete_by != "email":
        found.append(f"deadline_hours.{bulk[0]}: suppression takes e-mail alone; leave it to an entry of its own")
    elif {"withdraw", "suspend"} & asked and not config.create_profiles:
        fix = "say true, or leave withdraw and suspend out"
        found.append(f"settings.create_profiles: false; Klaviyo makes a profile of an unknown address: {fix}")
    if "delete" in asked and partner.done not in {"sent", "accepted"}:
        found.append(f"done: {partner.done} can't be had of a deletion; say accepted, or make it an entry of its own")
    if len(partner.accounts) != 1:
        found.append(f"accounts: {len(partner.accounts)}; a key belongs to one account, so make a partner of each")
    if not sound(r"\d{4}-\d\d-\d\d(\.\w+)?", config.revision):
        found.append("settings.revision: not a revision; write one as in 2026-04-15")
    if partner.limits.items > MOST_ADDRESSES:
        found.append(f"limits.items: {partner.limits.items}; Klaviyo takes {MOST_ADDRESSES} addresses a call")
    return found


def _headers(config: Config, key: Secret) -> dict[str, str]:
    authorization = f"Klaviyo-API-Key {key.reveal()}"
    return {"authorization": authorization, "revision": config.revision, "accept": MEDIA}


def _some(item: Item, kind: By) -> list[str]:
    """The plain addresses or E.164 numbers of the item. Raises `Rejected` when it has none: within others it would be taken for told."""
    found = ids(item, kind)
    if not found:
        raise Rejected("no-usable-identifier")
    return found


def _completed(told: Mapping[str, Any], reference: str) -> Outcome:
    total, completed, skipped = (count(told, name) or 0 for name in ("total_count", "completed_count", "skipped_count"))
    if skipped:
        return Outcome(grade=Evidence.sent, reference=reference, reason="skipped")
    if not total or completed < total:
        return Outcome(grade=Evidence.sent, reference=reference, reason="not-completed")
    return Outcome(grade=Evidence.processed, reference=reference)


def _data(response: HttpResponse) -> dict[str, Any]:
    data = (json_object(response) or {}).get("data")
    return data if isinstance(data, dict) else {}


def _raised(response: HttpResponse, *, several: bool) -> Exception:
    """By status, with the code of the first error. Titles and details may quote an address, so they are not read."""
    if known := refused(response, MUST_ACT, several=several):
        return known
    error = refuse(response)
    if isinstance(error, Rejected) and response.status >= 400:
        errors = (json_object(response) or {}).get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        code = first.get("code") if isinstance(first, dict) else None
        sound = isinstance(code, str) and _CODE.fullmatch(code)
        name = f"klaviyo-{str(code).replace('_', '-')}" if sound else f"http-{response.status}"
        return Split(name, perhaps=False) if several else Rejected(name)
    return error or Retry("unreadable-answer")


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=KlaviyoProfiles.reaches,  # of suppressions; `problems` judges an entry with deletions
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
    parts=True,
)
