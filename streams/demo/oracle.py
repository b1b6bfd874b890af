"""What must come of the shop's messages, worked out once more by other means: sort, take the last word, compare.

It reads the messages and the policy, and knows nothing of how Todoke decides: whoever finds the same in Todoke's topics
has two witnesses. Order of arrival plays no part, duplicates count once, and whoever is named by an identifier alone is
everybody who ever came with that identifier.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

from msgspec import Struct

from todoke.schemas.codec import Codec
from todoke.schemas.errors import Refused
from todoke.schemas.events import (
    INTAKE,
    Age,
    ConsentChange,
    DeletionRequest,
    Event,
    IdentityLink,
    SuspensionRequest,
    Unsubscribe,
)
from todoke.schemas.identity import Identifier
from todoke.schemas.policy import Policy, Purpose

from .shop import Message

LARGEST = 262_144
YEAR_2000 = 946_684_800_000
EMAIL = re.compile(r"[^@\s]+@[\w-]+(\.[\w-]+)+")
PHONE = re.compile(r"0\d{9,10}")
DEVICE = re.compile(r"(?!0{8}-)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Word(Struct, frozen=True, order=True):
    """Something said of one thing: the greatest word is the last, and at the same time the restrictive one."""

    at: int
    no: bool
    value: str
    until: int = 0
    version: str = ""


Words = dict[str, Word]


def expected(messages: Iterable[Message], policy: Policy, now: int, codec: Codec) -> dict[str, str]:
    """What must be found at `now` (ms, that of the messages), by key.

    - `messages`, `admitted`, `refused`: counts, of all, of different events, of messages;
    - `refused/<reason>`: how many messages;
    - `<subject>/purpose/<regime>/<purpose>`: granted, withdrawn, erased, expired or reconsent-needed;
    - `<subject>/channel/<channel>/<list>`: unsubscribed or resubscribed;
    - `<subject>/suspension/<use or provision>`: suspended, lifted or ended;
    - `<subject>/erased`: the instant (ms) through which everything is erased;
    - `<subject>/may/<purpose or channel>`: allow or deny, within the house, for what the policy doesn't require.

    The subject of a person known by an identifier alone is its kind and a hash.
    """
    told: dict[str, str] = {}
    refused: Counter[str] = Counter()
    events: dict[str, Event] = {}
    count = 0
    for count, message in enumerate(messages, 1):  # noqa: B007
        try:
            event = _read(message, policy, now, codec)
        except Refused as error:
            refused[error.reason] += 1
        else:
            events[event.event_id] = event
    told |= {"messages": str(count), "admitted": str(len(events)), "refused": str(refused.total())}
    told |= {f"refused/{reason}": str(times) for reason, times in sorted(refused.items())}
    for subject, words in sorted(_heard(events.values(), policy, now).items()):
        told |= {f"{subject}/{key}": value for key, value in _person(words, policy, now)}
    return told


def of(told: dict[str, str], subject: str) -> dict[str, str]:
    """What was expected of one subject, without the subject."""
    start = f"{subject}/"
    return {key.removeprefix(start): value for key, value in told.items() if key.startswith(start)}


def _read(message: Message, policy: Policy, now: int, codec: Codec) -> Event:
    """The event, or `Refused` with the reason alone."""
    if len(message.value) > LARGEST:
        raise Refused("too-large", "", "")
    event = codec.decode(message.value, INTAKE[message.topic])
    for reason, wrong in (*_outside(event, policy, now), *_inside(event, policy)):
        if wrong:
            raise Refused(reason, "", "")
    return event


def _outside(event: Event, policy: Policy, now: int) -> Iterator[tuple[str, bool]]:
    """What can be wrong with any event."""
    yield "missing-event-id", not event.event_id
    yield "missing-subject", not event.subject and not event.identifiers
    yield "too-long", max(len(event.event_id), len(event.subject or ""), len(event.source)) > 256
    yield "not-a-time", event.occurred_at < YEAR_2000
    yield "future", event.occurred_at - now > 1000 * policy.skew_seconds
    yield "invalid-identifier", not all(_sound(each) for each in event.identifiers)
    born = event.age.birth_date if event.age else None
    yield "invalid-age", born is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", born)


def _inside(event: Event, policy: Policy) -> Iterator[tuple[str, bool]]:
    """What can be wrong with an event of its kind."""
    if isinstance(event, ConsentChange):
        purpose = policy.purpose(event.purpose)
        given = event.decision == "granted"
        yield "unknown-regime", all(event.regime != each.name for each in policy.regimes)
        versions = {"", *(each.name for each in policy.versions)}
        yield "unknown-policy-version", event.policy_version not in versions
        yield "grant-of-everything", event.purpose == "*" and given
        yield "unknown-purpose", event.purpose != "*" and purpose is None
        yield "purpose-required", purpose is not None and purpose.kind == "required" and not given
    elif isinstance(event, Unsubscribe):
        yield "unknown-channel", all(event.channel != each.name for each in policy.channels)
    elif isinstance(event, DeletionRequest | SuspensionRequest):
        checks = {event.identity_check, event.agent_check} - {"not_required"}
        yield "identity-unverified", checks != {"verified"} or event.identity_check == "not_required"
    elif isinstance(event, IdentityLink):
        yield "not-yet-supported", event.action != "merge" and event.other_subject is not None
        yield "missing-identifier", event.action == "unlink" and not event.identifiers


def _plain(each: Identifier) -> str:
    """An identifier so that its spellings are one."""
    text = unicodedata.normalize("NFKC", each.value).strip()
    if each.kind == "phone":
        return re.sub(r"^\+81", "0", re.sub(r"[\s-]", "", text))
    return (
        " ".join(text.split()) if each.kind in ("cookie_id", "line_id", "member_id") else " ".join(text.lower().split())
    )


def _sound(each: Identifier) -> bool:
    text = _plain(each)
    pattern = {"email": EMAIL, "phone": PHONE, "idfa": DEVICE, "gaid": DEVICE}.get(each.kind)
    return bool(pattern.fullmatch(text) if pattern else text)


def _heard(events: Iterable[Event], policy: Policy, now: int) -> dict[str, Words]:
    """The last word on everything, by subject."""
    events = list(events)
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in events:
        if event.subject:
            for each in event.identifiers:
                owners[each.kind, _plain(each)].add(event.subject)
    heard: dict[str, Words] = defaultdict(dict)
    for event in events:
        for subject in _whom(event, owners):
            for name, word in _words(event, policy, now):
                heard[subject][name] = max(word, heard[subject].get(name, word))
    return heard


def _whom(event: Event, owners: dict[tuple[str, str], set[str]]) -> set[str]:
    if event.subject:
        return {event.subject}
    known = {subject for each in event.identifiers for subject in owners.get((each.kind, _plain(each)), ())}
    first = event.identifiers[0]
    return known or {f"{first.kind}:{sha256(_plain(first).encode()).hexdigest()[:16]}"}


def _words(event: Event, policy: Policy, now: int) -> Iterator[tuple[str, Word]]:
    """What an event says of what. A yes from the future counts from now."""
    at, soon = event.occurred_at, min(event.occurred_at, now)
    if isinstance(event, ConsentChange):
        no = event.decision == "withdrawn"
        more = (event.expires_at or 0, event.policy_version)
        yield f"purpose/{event.regime}/{event.purpose}", Word(at if no else soon, no, event.decision, *more)
    elif isinstance(event, Unsubscribe):
        no = event.action == "unsubscribed"
        yield f"channel/{event.channel}/{event.scope or '*'}", Word(at if no else soon, no, event.action)
    elif isinstance(event, SuspensionRequest):
        no = event.action == "suspended"
        until = (event.until or 0) if no else 0
        yield f"suspension/{event.scope}", Word(at if no else soon, no, event.action, until)
    elif isinstance(event, DeletionRequest) and event.action == "requested":
        yield "erased", Word(at, no=True, value=str(at))
    if event.age:
        born = _born(event.age, at)
        young = _years(born, _day(at)) < policy.minors.marketing_below
        yield "age", Word(at if young else soon, young, born.isoformat())


def _person(words: Words, policy: Policy, now: int) -> Iterator[tuple[str, str]]:
    """Everything that is expected of one subject."""
    says = {name: _stands(name, word, words, policy, now) for name, word in words.items() if name != "age"}
    yield from sorted(says.items())
    may = {each.name: _may(each, says, words, policy, now) for each in policy.purposes if each.kind != "required"}
    for channel in policy.channels:
        stopped = says.get(f"channel/{channel.name}/*") == "unsubscribed"
        may[channel.name] = not stopped and all(may.get(name, True) for name in channel.purposes)
    yield from ((f"may/{name}", "allow" if yes else "deny") for name, yes in may.items())


def _stands(name: str, word: Word, words: Words, policy: Policy, now: int) -> str:
    """What has become of a word."""
    if word.value == "suspended" and 0 < word.until <= now:
        return "ended"
    if not name.startswith("purpose/"):
        return word.value
    _, regime, purpose = name.split("/")
    everything = words.get(f"purpose/{regime}/*")
    if word.no or (everything and everything.at >= word.at):
        return "withdrawn"
    if "erased" in words and word.at <= words["erased"].at:
        return "erased"
    if 0 < word.until <= now:
        return "expired"
    for version in policy.versions:
        begins = int(datetime.fromisoformat(f"{version.effective}T00:00+09:00").timestamp() * 1000)
        older = word.version < version.name if word.version else word.at < begins  # names of versions are in order
        if purpose in version.reconsent and older and begins <= now:
            return "reconsent-needed"
    return "granted"


def _may(purpose: Purpose, says: dict[str, str], words: Words, policy: Policy, now: int) -> bool:
    """Whether the house may use a person's data for a purpose that is not required."""
    answers = {
        says.get(f"purpose/{regime.name}/{purpose.name}") or says.get(f"purpose/{regime.name}/*")
        for regime in policy.regimes
    }
    spoken = answers - {None, "erased"}
    yes = spoken == {"granted"} or (not spoken and purpose.kind == "opt-out" and "erased" not in words)
    age = words.get("age")
    if age and "erased" in words and age.at <= words["erased"].at:
        age = None
    return yes and says.get("suspension/use") != "suspended" and _old_enough(purpose, age, policy, now)


def _old_enough(purpose: Purpose, age: Word | None, policy: Policy, now: int) -> bool:
    if age is None:
        return not purpose.bars_minors or purpose.age_unknown == "allow"
    years = _years(date.fromisoformat(age.value), _day(now))
    return years >= (policy.minors.marketing_below if purpose.bars_minors else policy.minors.dealing_below)


def _day(at: int) -> date:
    """The date in Japan."""
    return (datetime.fromtimestamp(at / 1000, UTC) + timedelta(hours=9)).date()


def _years(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def _born(age: Age, at: int) -> date:
    """The birth date, or that of the youngest who is of the age told."""
    if age.birth_date:
        return date.fromisoformat(age.birth_date)
    day = _day(at)
    years = {"under_13": 0, "13_to_17": 13}.get(age.band or "", 18)
    leap = (day.month, day.day) == (2, 29) and years % 4
    return date(day.year - years, 3, 1) if leap else day.replace(year=day.year - years)
