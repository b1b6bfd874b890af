"""The demo's shop: the same for the same seed, untidy in every way that it claims, and read alike by two readers.

`Played` is the product's own core (codec, admission, merge, judgement); the oracle is the demo's second opinion.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from todoke.processors.admit import Change, admit
from todoke.processors.decide import judge
from todoke.processors.identifiers import canonical
from todoke.schemas import policy as policies
from todoke.schemas import toml
from todoke.schemas.codec import Codec
from todoke.schemas.errors import REASONS, Refused
from todoke.schemas.events import INTAKE, ConsentChange, Event, Provision, Unsubscribe
from todoke.schemas.policy import Policy
from todoke.schemas.record import ERASED, SubjectRecord, join
from todoke.streams.demo import oracle
from todoke.streams.demo.mistakes import MISTAKES
from todoke.streams.demo.people import person
from todoke.streams.demo.plots import DECK
from todoke.streams.demo.shop import ALONE, MEMBERS, PROTAGONIST, Message, messages
from todoke.streams.settings import Worker

EVENTS = Path(__file__).parents[3] / "docs" / "examples" / "events.jsonl"
NOW = 1_795_399_927_000
MINUTE = 60_000
SEED = 20_240_701
FEW = 200
SKEW = 300_000


class Played:
    """What the product makes of messages, were they all appended at one time: refusals, events, records by subject."""

    def __init__(self, found: Sequence[Message], policy: Policy, codec: Codec, appended_at: int) -> None:
        self.reasons: list[str] = []
        self.events: list[Event] = []
        changes: list[tuple[Event, Change]] = []
        for message in found:
            try:
                event = decode(message, codec)
                change = admit(event, policy, appended_at)
                names(event)
            except Refused as error:
                self.reasons.append(error.reason)
            else:
                self.reasons.append("")
                self.events.append(event)
                changes.append((event, change))
        self.records = records(changes)


def decode(message: Message, codec: Codec) -> Event:
    if len(message.value) > Worker().largest_event:
        raise Refused("too-large", "value", "")
    return codec.decode(message.value, INTAKE[message.topic])


def names(event: Event) -> set[tuple[str, str]]:
    return {(each.kind, canonical(each.kind, each.value)) for each in event.identifiers}


def records(changes: Sequence[tuple[Event, Change]]) -> dict[str, SubjectRecord]:
    """The merged record of every subject; who is named by an identifier alone is everybody known by it."""
    known: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event, _ in changes:
        for name in names(event) if event.subject else ():
            known[name].add(event.subject or "")
    merged: dict[str, SubjectRecord] = {}
    for event, change in changes:
        found = {subject for name in names(event) for subject in known[name]}
        for subject in {event.subject} if event.subject else found:
            record = SubjectRecord("one", registers=change.writes)
            merged[subject] = join(merged.get(subject, SubjectRecord("one")), record)
    return merged


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return toml.default_policy()


@pytest.fixture(scope="module")
def found(codec: Codec) -> list[Message]:
    return list(messages(SEED, FEW, NOW, codec))


@pytest.fixture(scope="module")
def played(found: list[Message], policy: Policy, codec: Codec) -> Played:
    return Played(found, policy, codec, NOW)


@pytest.fixture(scope="module")
def told(found: list[Message], policy: Policy, codec: Codec) -> dict[str, str]:
    return oracle.expected(found, policy, NOW, codec)


def test_the_same_seed_makes_the_same_bytes(found: list[Message], codec: Codec) -> None:
    again = list(messages(SEED, FEW, NOW, codec))

    assert found == again


def test_another_seed_and_another_time_make_others(found: list[Message], codec: Codec) -> None:
    def ids(of: Iterable[Message]) -> set[str]:
        return {decode(each, codec).event_id for each in of if not each.about.startswith("bad:")}

    assert ids(found).isdisjoint(ids(messages(SEED + 1, FEW, NOW, codec)))
    assert ids(found).isdisjoint(ids(messages(SEED, FEW, NOW + 1, codec)))


def test_a_demo_of_the_usual_size_is_made_in_a_second_or_two(codec: Codec) -> None:
    began = time.perf_counter()
    count = sum(1 for _ in messages(SEED, MEMBERS, NOW, codec))

    assert 4_000 <= count <= 6_000
    assert time.perf_counter() - began < 5


def test_few_members_make_a_small_shop(codec: Codec) -> None:
    found = list(messages(SEED, 1, NOW, codec))

    assert {f"bad:{reason}" for reason in MISTAKES} <= {each.about for each in found}
    assert any(each.about == "story:withdraws" for each in found)


def test_every_intake_topic_has_its_share(found: list[Message]) -> None:
    counts = Counter(each.topic for each in found)

    assert set(counts) == set(INTAKE)
    assert min(counts.values()) >= 5


def test_every_plot_is_played(codec: Codec) -> None:
    abouts = {each.about for each in messages(SEED, MEMBERS, NOW, codec)}

    assert sum(DECK.values()) == 100
    assert {"registration", "unsubscribe", "resubscribe", "withdrawal", "late-withdrawal", "late-grant"} <= abouts
    assert {"tie", "withdraw-everything", "regrant", "fast-clock", "suspension", "lifting", "deletion"} <= abouts
    assert {"cancellation", "re-registration", "rights-request", "link", "old-text", "other-regime"} <= abouts
    assert {"campaign", "received", "joined", "found-minor", "unknown-recipient", "visitor", "burst"} <= abouts
    assert {"provision", "provision-after-withdrawal", "cookie-choice", *ALONE} <= abouts


def test_every_reason_for_a_refusal_is_there_and_given(found: list[Message], played: Played) -> None:
    meant = [each.about.removeprefix("bad:") if each.about.startswith("bad:") else "" for each in found]

    assert meant == played.reasons
    assert set(meant) == {"", *REASONS}


def test_each_way_to_make_a_mistake_is_refused_for_its_reason(policy: Policy, codec: Codec) -> None:
    found = [each for each in messages(SEED, MEMBERS, NOW, codec) if each.about.startswith("bad:")]

    assert Counter(Played(found, policy, codec, NOW).reasons) == Counter(each.about[4:] for each in found)
    assert min(Counter(each.about for each in found if each.about != "bad:too-large").values()) >= max(
        len(ways) for ways in MISTAKES.values()
    )


def test_a_mistake_stays_one_however_slow_the_publishing(found: list[Message], policy: Policy, codec: Codec) -> None:
    bad = [each for each in found if each.about.startswith("bad:")]

    assert "" not in Played(bad, policy, codec, NOW + 10 * MINUTE).reasons


def test_a_duplicate_has_the_bytes_of_what_it_repeats(found: list[Message]) -> None:
    firsts: dict[bytes, Message] = {}
    repeated = []
    for each in found:
        if each.about.startswith("duplicate:"):
            repeated.append((firsts[each.value], each))
        else:
            firsts.setdefault(each.value, each)

    assert 0.02 < len(repeated) / len(found) < 0.06
    assert all((one.topic, one.key) == (two.topic, two.key) for one, two in repeated)
    assert all(two.about == f"duplicate:{one.about}" for one, two in repeated)


def test_an_event_id_is_of_one_event(played: Played) -> None:
    contents = defaultdict(set)
    for event in played.events:
        contents[event.event_id].add(msgspec.json.encode(event))

    assert {name for name, seen in contents.items() if len(seen) > 1} == set()


def test_the_key_is_the_subject(found: list[Message], codec: Codec) -> None:
    sound = [each for each in found if not each.about.startswith("bad:")]

    assert [each.key for each in sound] == [
        event.subject.encode() if (event := decode(each, codec)).subject else None for each in sound
    ]


def test_nothing_occurs_later_than_now_but_for_fast_clocks(found: list[Message], codec: Codec) -> None:
    ahead = {
        (each.about.removeprefix("duplicate:"), 0 < decode(each, codec).occurred_at - NOW < SKEW)
        for each in found
        if not each.about.startswith("bad:") and decode(each, codec).occurred_at > NOW
    }

    assert ahead == {("fast-clock", True)}


def test_most_events_are_of_the_last_hour_and_arrive_out_of_order(played: Played) -> None:
    times = [each.occurred_at for each in played.events]
    inversions = sum(one > two for one, two in pairwise(times))

    assert sum(NOW - at <= 60 * MINUTE for at in times) / len(times) > 0.6
    assert any(NOW - at > 24 * 60 * MINUTE for at in times)
    assert inversions / len(times) > 0.1


def test_who_is_named_alone_was_known_by_that_before(found: list[Message], codec: Codec) -> None:
    sound = [each for each in found if not each.about.startswith("bad:")]
    first = next(place for place, each in enumerate(sound) if each.about in ALONE)
    known = {name for each in sound[:first] if each.key for name in names(decode(each, codec))}

    alone = [decode(each, codec) for each in sound if each.about in ALONE]
    assert all(event.subject is None and names(event) <= known for event in alone)
    assert {each.about for each in sound[:first] if each.key is None} <= {"visitor", "duplicate:visitor"}


def test_people_are_of_all_ages_and_some_never_said() -> None:
    ages: Counter[str] = Counter()
    for number in range(1, MEMBERS):
        age = person(number, NOW).age
        ages["unknown" if age is None else age.band or "date"] += 1

    assert {"date", "18_and_over", "13_to_17", "unknown"} <= set(ages)
    assert ages["date"] > MEMBERS * 0.7


def test_no_two_members_share_an_identifier_by_accident() -> None:
    seen = Counter(
        (kind, canonical(kind, value))
        for number in range(1, MEMBERS)
        for kind, value in person(number, NOW).values.items()
    )

    assert {name for name, times in seen.items() if times > 1} == set()


def test_the_policy_and_the_registry_know_every_name_used(policy: Policy, codec: Codec) -> None:
    played = Played(list(messages(SEED, MEMBERS, NOW, codec)), policy, codec, NOW)
    consents = [each for each in played.events if isinstance(each, ConsentChange)]
    given = [each for each in played.events if isinstance(each, Provision)]
    partners = {each.name for each in toml.default_registry().partners}

    assert {each.purpose for each in consents} <= {each.name for each in policy.purposes} | {"*"}
    assert {each.purpose for each in consents if each.policy_version} > {"marketing-communications"}
    assert {each.regime for each in consents} == {each.name for each in policy.regimes}
    assert {each.policy_version for each in consents} == {each.name for each in policy.versions} | {""}
    assert {each.channel for each in played.events if isinstance(each, Unsubscribe)} == {
        each.name for each in policy.channels
    }
    assert {each.counterpart for each in given} == partners | {"fukuro-research", "mihon-list"}
    assert {name for each in given for name in each.purposes} <= {each.name for each in policy.purposes}
    assert {name for each in given for name in each.items} <= {each.name for each in policy.items}


def test_the_protagonist_has_a_whole_story(found: list[Message], told: dict[str, str], codec: Codec) -> None:
    story = [each for each in found if "story:" in each.about]
    said = [decode(each, codec) for each in story if each.about.startswith("story:")]
    steps = [
        each.about for each in story if each.about.startswith("story:") or each.about == "duplicate:story:withdraws"
    ]

    assert steps[:3] == ["story:registers"] * 3
    assert steps[3:6] == ["story:given"] * 3
    assert steps[6:8] == ["story:one-click", "story:withdraws"]
    assert "duplicate:story:withdraws" in steps[8:]
    assert {each.subject for each in said} == {PROTAGONIST, None}
    late, stop = said[-1], said[-2]
    assert [each.about for each in story if each.about.startswith("story:")][-1] == "story:late-grant"
    assert isinstance(late, ConsentChange)
    assert isinstance(stop, ConsentChange)
    assert (late.purpose, late.decision, stop.decision) == (stop.purpose, "granted", "withdrawn")
    assert late.occurred_at < stop.occurred_at
    mine = oracle.of(told, PROTAGONIST)
    assert mine["purpose/appi/targeted-advertising"] == "withdrawn"
    assert mine["channel/email-magazine/*"] == "unsubscribed"
    assert (mine["may/direct-mail"], mine["may/email-magazine"]) == ("allow", "deny")
    assert "erased" not in mine


def test_nobody_else_speaks_for_the_protagonist(found: list[Message]) -> None:
    others = [each.about for each in found if each.key == PROTAGONIST.encode() and "story:" not in each.about]

    assert others == []


def test_the_oracle_counts_what_admission_counts(played: Played, told: dict[str, str], found: list[Message]) -> None:
    refused = Counter(reason for reason in played.reasons if reason)

    assert told["messages"] == str(len(found))
    assert told["admitted"] == str(len({each.event_id for each in played.events}))
    assert told["refused"] == str(refused.total())
    assert {reason: told[f"refused/{reason}"] for reason in refused} == {
        reason: str(times) for reason, times in refused.items()
    }


def test_the_oracle_and_the_merge_end_with_the_same_words(played: Played, told: dict[str, str]) -> None:
    differing = []
    for subject, record in played.records.items():
        mine = oracle.of(told, subject)
        for name, register in record.registers.items():
            if name == ERASED:
                same = mine["erased"] == str(register.at)
            elif name.startswith("purpose/"):
                same = (mine[name] == "withdrawn") or (register.value == "granted")
            elif name != "age":
                same = mine[name] in (register.value, "ended")
            else:
                continue
            differing += [] if same else [(subject, name, register.value, mine[name])]
        assert {name for name in mine if not name.startswith("may/")} == set(record.registers) - {"age"}

    assert differing == []
    assert len(played.records) > FEW


def test_the_oracle_and_the_judgement_agree_on_everything(played: Played, told: dict[str, str], policy: Policy) -> None:
    differing = []
    for subject, record in played.records.items():
        for name, answer in oracle.of(told, subject).items():
            scope = name.removeprefix("may/")
            if scope != name:
                verdict = judge(record, scope, policy, NOW)
                if verdict.allowed != (answer == "allow"):
                    differing.append((subject, scope, answer, verdict.reasons))

    assert differing == []


@pytest.mark.parametrize("later", [0, 30_000, 4 * MINUTE])
def test_order_and_speed_of_arrival_change_nothing(
    found: list[Message], policy: Policy, codec: Codec, later: int
) -> None:
    shuffled = [each for each in found if not each.about.startswith("bad:")]
    random.Random(later).shuffle(shuffled)
    soon = Played(shuffled, policy, codec, NOW)
    late = Played(shuffled[::-1], policy, codec, NOW + later)

    def answers(made: Played) -> dict[tuple[str, str], bool]:
        scopes = [*policies.names(policy.purposes), *policies.names(policy.channels)]
        return {
            (subject, scope): judge(record, scope, policy, NOW).allowed
            for subject, record in made.records.items()
            for scope in scopes
        }

    assert answers(soon) == answers(late)


def test_the_oracle_does_not_lean_on_what_it_checks() -> None:
    source = Path(oracle.__file__).read_text("utf-8")

    assert "processors" not in source


def test_no_message_prints_a_person(found: list[Message]) -> None:
    assert {repr(each) for each in found if each.key} <= {f"Message({each.topic!r}, {each.about!r})" for each in found}
    assert repr(person(42, NOW)) == f"Person({PROTAGONIST!r})"


def test_the_example_lines_are_events_of_which_one_is_refused(policy: Policy) -> None:
    reasons = []
    for line in EVENTS.read_text("utf-8").splitlines():
        each = msgspec.json.decode(line)
        event = msgspec.convert(each["event"], INTAKE[each["topic"]])
        try:
            admit(event, policy, NOW)
            names(event)
        except Refused as error:
            reasons.append(error.reason)
        else:
            reasons.append("")

    assert reasons == [""] * 11 + ["unknown-purpose"]
