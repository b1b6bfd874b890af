"""The heart, whatever was said, in whatever order, at whatever time: what must always hold of a decision."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rules import (
    ADS,
    CRM,
    LATE,
    NOW,
    admitted,
    apply,
    consent,
    deletion,
    events,
    jst,
    policy,
    suspension,
    unsubscribe,
    written,
)
from todoke.processors.decide import REASONS, judge
from todoke.processors.decide import deletion as to_delete
from todoke.schemas.events import ConsentChange, DeletionRequest, Event
from todoke.schemas.partners import Partner

POLICY = policy()
PURPOSES = ("service", "research", "site", "ads", "profiling", "cookies")
SCOPES = (*PURPOSES, "email-magazine", "email-magazine/weekly", "notices", "ad-mail")
HISTORY = st.lists(events(), max_size=7)


@given(HISTORY, st.sampled_from(SCOPES), st.integers(0, 30))
def test_every_reason_is_explained(history: list[Event], scope: str, tick: int) -> None:
    record, at = written(*history), NOW + tick * 1000
    verdicts = [judge(record, scope, POLICY, at, third_party=flag) for flag in (False, True)]
    verdicts += [each for one in (ADS, CRM) if (each := to_delete(record, one, POLICY, at))]

    reasons = {reason.partition(":")[0] for each in verdicts for reason in each.reasons}
    assert reasons <= REASONS.keys()
    assert all(each.reasons for each in verdicts)


def moments(history: list[Event], draw: st.DataObject) -> list[int]:
    """Two times: soon, or around the years in which birthdays and versions fall."""
    soon = st.integers(-1, 30).map(lambda tick: NOW + tick * 1000)
    someday = st.integers(2019, 2034).map(lambda year: jst(f"{year}-06-02"))
    return sorted(draw.draw(st.one_of(soon, someday)) for _ in range(2))


@given(HISTORY, st.sampled_from(SCOPES), st.booleans(), st.data())
@settings(max_examples=300)
def test_between_boundary_and_valid_until_nothing_of_a_verdict_changes(
    history: list[Event], scope: str, third_party: bool, data: st.DataObject
) -> None:
    early, late = moments(history, data)
    record = written(*history)

    one = judge(record, scope, POLICY, early, third_party=third_party)
    other = judge(record, scope, POLICY, late, third_party=third_party)

    assert one == other or 0 < one.valid_until <= late
    assert one == other or early < other.boundary <= late


@given(HISTORY, st.sampled_from([ADS, CRM]), st.data())
def test_until_valid_until_a_deletion_stays_what_it_is(history: list[Event], one: Partner, data: st.DataObject) -> None:
    early, late = moments(history, data)
    record = written(*history)

    before, after = (to_delete(record, one, POLICY, at) for at in (early, late))

    assert before == after or (before is not None and 0 < before.valid_until <= late)


RESTRICTIONS = [
    consent("z", "*", at=LATE),
    consent("z", "*", at=LATE, regime="gdpr"),
    *[consent("z", name, at=LATE) for name in PURPOSES[1:]],
    deletion("z", LATE),
    suspension("z", at=LATE),
    suspension("z", "provision", at=LATE),
    unsubscribe("z", "email-magazine", at=LATE),
    unsubscribe("z", "email-magazine", "weekly", at=LATE),
]


@given(HISTORY, st.sampled_from(RESTRICTIONS), st.sampled_from(SCOPES), st.booleans())
def test_a_restriction_never_allows_anything(
    history: list[Event], restriction: Event, scope: str, third_party: bool
) -> None:
    record = written(*history)
    after = apply(record, admitted(restriction))

    before_allowed, after_allowed = (
        judge(each, scope, POLICY, LATE, third_party=third_party).allowed for each in (record, after)
    )

    # a deletion forgets the age, and with it why somebody was denied even what is required
    forgotten = isinstance(restriction, DeletionRequest) and scope in ("service", "notices")
    assert before_allowed or not after_allowed or forgotten


@given(HISTORY, st.sampled_from(PURPOSES[1:]), st.permutations(range(7)))
def test_no_grant_comes_back_from_the_dead(history: list[Event], name: str, order: list[int]) -> None:
    record = written(*[history[place] for place in order if place < len(history)])

    spoken = [each for each in history if isinstance(each, ConsentChange)]
    grants = [each for each in spoken if each.decision == "granted" and each.purpose == name]
    stops = [each for each in spoken if each.decision == "withdrawn" and each.purpose in (name, "*")]
    dead = any(
        all(each.occurred_at <= stop.occurred_at for each in grants if each.regime == stop.regime) for stop in stops
    )
    erased = max((each.occurred_at for each in history if isinstance(each, DeletionRequest)), default=0)
    void = erased > 0 and all(each.occurred_at <= erased for each in grants)
    assert not (dead or void) or not judge(record, name, POLICY, LATE).allowed
