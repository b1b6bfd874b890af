from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import NOW, born, deletion, events, grant, jst, policy, rules, suspension, written
from todoke.processors.instants import next_instant
from todoke.processors.merges import moved, pair
from todoke.processors.plan import demands
from todoke.schemas.events import Event
from todoke.schemas.record import Merge, SubjectRecord, join

POLICY = policy()
RULES = rules()
MOMENTS = st.one_of(
    st.integers(-1, 30).map(lambda tick: NOW + tick * 1000),
    st.integers(2019, 2034).map(lambda year: jst(f"{year}-06-02")),
)


@given(st.lists(events(), max_size=7), MOMENTS, MOMENTS)
def test_what_is_demanded_stays_until_the_next_instant(history: list[Event], one: int, other: int) -> None:
    early, late = sorted((one, other))
    record = written(*history)

    turn = next_instant(record, POLICY, early)

    same = demands(record, RULES, early) == demands(record, RULES, late)
    assert same or early < turn <= late
    assert turn == 0 or turn > early


@given(st.lists(events(), max_size=4), st.lists(events(), max_size=4), MOMENTS, MOMENTS, MOMENTS)
def test_so_it_does_for_two_who_are_one_person(
    mine: list[Event], theirs: list[Event], merged_at: int, one: int, other: int
) -> None:
    early, late = sorted((one, other))
    own = written(*mine)
    merges = {pair(own.subject_ref, "z"): Merge(merged_at, "m")}
    gone = replace(written(*theirs), subject_ref="z", merges=merges)
    record = join(replace(own, merges=merges), moved(gone, own.subject_ref))

    turn = next_instant(record, POLICY, early)

    assert demands(record, RULES, early) == demands(record, RULES, late) or early < turn <= late


def test_nobody_of_whom_nothing_turns_has_an_instant() -> None:
    assert next_instant(SubjectRecord("s"), POLICY, NOW) == 0
    assert next_instant(written(deletion("a")), POLICY, NOW) == 0


def test_each_kind_of_instant_is_found() -> None:
    of_age = jst("2028-03-01")  # who was born on 29 February comes of age on 1 March of other years
    at = jst("2026-06-01")

    assert next_instant(written(grant("a", "ads", expires_at=at + 5)), POLICY, at) == at + 5
    assert next_instant(written(suspension("a", until=at + 7)), POLICY, at) == at + 7
    assert next_instant(written(born("a", "2010-02-28")), POLICY, at) == jst("2028-02-28")
    assert next_instant(written(born("a", "2008-02-29")), POLICY, jst("2021-01-01")) == jst("2021-03-01")
    assert next_instant(written(born("a", "2012-02-29")), policy(), jst("2029-12-31")) == jst("2030-03-01")
    assert next_instant(written(born("a", "2010-03-01")), POLICY, at) == of_age
    assert next_instant(written(grant("a", "research")), POLICY, NOW) == jst("2026-01-01")


def test_what_a_merged_subject_said_turns_too() -> None:
    gone = replace(written(grant("a", "research")), subject_ref="z")

    assert next_instant(moved(gone, "a"), POLICY, NOW) == jst("2026-01-01")


def test_an_age_that_a_deletion_has_voided_turns_no_more() -> None:
    assert next_instant(written(born("a", "2010-03-01"), deletion("b", NOW + 1)), POLICY, NOW) == 0
