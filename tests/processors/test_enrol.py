"""Enrolling: identifiers sealed under keys of their era, rows numbered once, and what a shredding leaves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import ADS, NOW, REF, admitted, born, consent, deletion, grant, provision, random_bytes
from tests.rules import keyring as ring
from todoke.processors import keys
from todoke.processors.admit import Change
from todoke.processors.enrol import Named, enrol, shred, stamps, take_up, won
from todoke.processors.plan import identifier_generation
from todoke.schemas.errors import Unopened
from todoke.schemas.events import Age, Event
from todoke.schemas.record import AGE, HELD, Stamp, SubjectRecord, contains, join

RING = ring()
RANDOM = random_bytes()
BLANK = SubjectRecord(REF)


def email(name: str) -> Named:
    return Named("email", name.encode().hex(), name)


def taken(record: SubjectRecord, event: Event, *names: str) -> SubjectRecord:
    """The record after one event with addresses."""
    return enrol(record, event, admitted(event), [email(each) for each in names], RING, RANDOM)


def opened(record: SubjectRecord) -> list[str]:
    """Every identifier that still opens."""
    found = []
    for each in record.identifiers.values():
        key = keys.open_key(RING, record.subject_ref, each.generation, record.keys[each.generation])
        found.append(keys.open_identifier(key, record.subject_ref, each.kind, each.sealed))
    return sorted(found)


def test_what_an_event_brings_is_in_the_record_and_opens() -> None:
    record = taken(BLANK, grant("e", "ads"), "a@x", "b@x")

    assert opened(record) == ["a@x", "b@x"]
    assert [*record.registers] == ["purpose/appi/ads"]
    assert (record.rows, record.row_count, len(record.keys)) == ({"e": 1}, 1, 1)


def test_nothing_sealed_shows_its_value() -> None:
    record = taken(BLANK, grant("e", "ads"), "a@x")

    assert "a@x" not in repr(record) + repr(email("a@x"))
    assert b"a@x" not in next(iter(record.identifiers.values())).sealed


def test_the_same_event_again_adds_nothing() -> None:
    once = taken(BLANK, grant("e", "ads"), "a@x")

    assert taken(once, grant("e", "ads"), "a@x") == once


def test_a_new_address_is_sealed_under_the_key_at_hand_and_a_known_one_not_again() -> None:
    first = taken(BLANK, grant("e", "ads"), "a@x")

    second = taken(first, grant("f", "ads", NOW + 5), "a@x", "b@x")

    assert (opened(second), second.keys) == (["a@x", "b@x"], first.keys)


def test_an_event_without_addresses_makes_no_key() -> None:
    assert taken(BLANK, grant("e", "ads")).keys == {}


def test_two_workers_at_once_keep_both_keys_and_every_address_opens() -> None:
    one = taken(BLANK, grant("e", "ads"), "a@x")
    other = taken(BLANK, grant("f", "ads", NOW + 1), "a@x", "b@x")

    both = join(one, other)

    assert both == join(other, one)
    assert (opened(both), len(both.keys)) == (["a@x", "a@x", "b@x"], 2)
    assert identifier_generation(both, ADS) == 2


HISTORY = [
    (grant("a", "ads", NOW), "before@x"),
    (grant("b", "ads", NOW + 20), "after@x"),
    (deletion("c", NOW + 10), "with@x"),
]


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1), (2, 1, 0)])
def test_what_came_before_a_deletion_is_shredded_apart_from_what_followed(order: tuple[int, ...]) -> None:
    record = BLANK
    for place in order:
        event, name = HISTORY[place]
        record = taken(record, event, name)

    shredded = shred(record, record.erased_through)

    assert opened(record) == ["after@x", "before@x", "with@x"]
    assert opened(shredded) == ["after@x"]


@given(st.permutations([(tick, f"{tick}@x") for tick in (1, 3, 5, 7, 9)]), st.integers(0, 10), st.booleans())
def test_whatever_the_order_of_arrival_nothing_from_before_a_deletion_survives_its_shredding(
    told: list[tuple[int, str]], erased: int, early: bool
) -> None:
    record = BLANK
    if early:
        record = taken(record, deletion("d", NOW + erased))
    for tick, name in told:
        record = taken(record, consent(name, "ads", at=NOW + tick), name)
    record = taken(record, deletion("d", NOW + erased))

    left = opened(shred(record, record.erased_through))

    assert [name for tick, name in told if tick <= erased and name in left] == []
    assert not early or left == sorted(name for tick, name in told if tick > erased)


def test_what_a_fast_clock_brings_before_a_deletion_is_shredded_with_it() -> None:
    hasty = replace(admitted(grant("a", "ads", NOW + 100)), at=NOW - 1)
    record = enrol(BLANK, grant("a", "ads", NOW + 100), hasty, [email("a@x")], RING, RANDOM)

    assert opened(shred(taken(record, deletion("b", NOW)), NOW)) == []


def test_shredded_keys_are_gone_for_good_and_open_nothing_that_was_copied() -> None:
    record = taken(BLANK, grant("a", "ads"), "a@x")
    shredded = shred(record, NOW)

    again = join(shredded, record)

    assert again == shredded == shred(shredded, NOW)
    assert (again.keys, again.identifiers, again.identifiers_shredded) == ({}, {}, {"email": 1})
    sealed = next(iter(record.identifiers.values()))
    with pytest.raises(Unopened):
        keys.open_identifier(b"x" * 32, REF, "email", sealed.sealed)


def test_what_comes_late_from_before_a_shredding_is_not_sealed_again() -> None:
    shredded = shred(taken(BLANK, deletion("a"), "a@x"), NOW)

    late = taken(shredded, consent("b", "ads", at=NOW - 5), "a@x", "b@x")

    assert (late.identifiers, late.keys) == ({}, {})
    assert "purpose/appi/ads" in late.registers


def test_a_shredding_counts_each_address_that_is_left_nowhere() -> None:
    record = taken(taken(BLANK, grant("a", "ads"), "a@x", "b@x"), deletion("b", NOW + 5))
    record = taken(record, grant("c", "ads", NOW + 9), "a@x", "c@x")

    shredded = shred(record, NOW + 5)

    assert opened(shredded) == ["a@x", "c@x"]
    assert shredded.identifiers_shredded == {"email": 1}
    assert identifier_generation(shredded, ADS) == identifier_generation(record, ADS) == 3


def test_a_shredding_takes_the_age_and_the_holdings_of_its_time() -> None:
    early = taken(taken(BLANK, born("a", "1990-01-01")), provision("b", "meta"))
    later = taken(early, provision("c", "kura", NOW + 9))

    shredded = shred(later, NOW)

    assert (AGE in shredded.registers, [*shredded.holdings]) == (False, ["kura"])
    assert contains(shredded, [Stamp(AGE, NOW, False, "a"), Stamp(f"{HELD}meta", NOW, True, "")])


def test_an_earlier_shredding_after_a_later_one_changes_nothing() -> None:
    record = shred(taken(BLANK, grant("a", "ads"), "a@x"), NOW + 9)

    assert shred(record, NOW) == record


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=3))
def test_rows_are_numbered_once_in_the_order_of_enrolment(order: list[int], again: list[int]) -> None:
    record = BLANK
    for place in [*order, *again]:
        record = taken(record, grant(f"e{place}", "ads", NOW + place))

    assert record.rows == {f"e{place}": number for number, place in enumerate(order, 1)}
    assert record.row_count == 4


def test_stamps_name_every_write_of_a_change() -> None:
    change = admitted(born("e", "1990-01-01"))

    assert stamps(change) == (Stamp(AGE, NOW, False, "e"), Stamp("channel/notices/*", NOW, True, "e"))
    assert contains(taken(BLANK, born("e", "1990-01-01")), stamps(change))


@pytest.mark.parametrize(
    ("later", "wanted"),
    [
        (grant("f", "ads", NOW - 1), True),
        (grant("f", "ads", NOW + 1), False),
        (consent("f", "ads", at=NOW), False),
        (grant("f", "research", NOW + 1), True),
    ],
)
def test_a_change_has_won_while_nothing_later_or_as_late_and_stricter_was_said(later: Event, wanted: bool) -> None:
    change: Change = admitted(grant("e", "ads"))
    record: Any = taken(taken(BLANK, grant("e", "ads")), later)

    assert (won(record, change), won(BLANK, change)) == (wanted, False)


def test_a_change_that_writes_nothing_has_always_won() -> None:
    assert won(BLANK, admitted(provision("e", "meta")))


def test_a_change_has_won_although_the_age_that_came_along_was_said_again_since() -> None:
    first, again = grant("e", "ads", age=Age(birth_date="1980-01-31")), born("f", "1980-01-31", NOW + 1000)

    record = taken(taken(BLANK, first), again)

    assert won(record, admitted(first))
    assert won(record, admitted(again))
    assert not won(taken(BLANK, first), admitted(again))


def test_what_is_taken_up_is_found_by_all_its_names_and_by_those_that_the_survivor_lacked() -> None:
    change = Change("link", NOW, {}, {})
    event = grant("one", "research")
    old = Named("email", "old", "taro@example.jp", {"a1": "old"})
    both = Named("email", "old", "taro@example.jp", {"a1": "old", "a2": "new"})
    merged = enrol(SubjectRecord("b", merged_into="a"), event, change, [both], RING, RANDOM)
    knows = enrol(SubjectRecord("a"), event, change, [old], RING, RANDOM)

    fresh = take_up(SubjectRecord("a"), merged, RING, RANDOM)
    found = take_up(knows, merged, RING, RANDOM)

    for record in (fresh, found):
        (each,) = record.identifiers.values()
        assert each.names == {"old", "new"}
        assert take_up(record, merged, RING, RANDOM) == record
