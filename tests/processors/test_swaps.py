"""Whole lists: who is on one, when it is swapped, what a finished swap closes, and what nothing may pass."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import (
    LATE,
    NOW,
    consent,
    deletion,
    events,
    grant,
    owed,
    partner,
    receipt,
    rules,
    suspension,
    with_identifiers,
    written,
)
from todoke.processors.plan import of_partner
from todoke.processors.reconcile import Call, Known, Recipient, reconcile
from todoke.processors.swaps import (
    AUDIENCES,
    Listed,
    Pace,
    Waiting,
    begin,
    begun_at,
    contained,
    due_at,
    entering,
    implausible,
    listed,
    standing_rows,
    under_way,
)
from todoke.schemas.events import Event
from todoke.schemas.obligations import settle
from todoke.schemas.receipts import Evidence, Verb
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Attempt, Told, join, note, reported

EFFECTS: dict[Verb, str] = {"grant": "present", "withdraw": "absent", "suspend": "absent", "delete": "absent"}
LINE = partner("line", "research", grants=True, done="processed", basis="entrustment")
RULES = rules(LINE)
LIST = Recipient(LINE, EFFECTS)
PACE = Pace(every_ms=24_000, least_ms=1000, gather_ms=100)
HOUR = 3_600_000


def known(record: SubjectRecord, *told: Told, done: bool = False, **changes: Any) -> Known:
    made = list(owed(record, RULES).values())
    if done:
        made = [settle(each, receipt(each, "ended", LATE, grade=Evidence.processed)) for each in made]
    return Known(record, tuple(replace(each, **changes) for each in made), {each.key: each for each in told})


def told(effect: str, at: int, *, alias: str = "x", owner: str = "5ub7ec7", **changes: Any) -> Told:
    fields = {"ended_at": at + 1, "grade": 3, "reported_at": at + 2, "awaited_until": at + 9, **changes}
    return Told(owner, "line", "main", "research", alias, {f"{effect}@{at}": Attempt(effect, at, at + 9, **fields)})


def on(what: Known, by: Iterable[Call] = (), at: int = LATE) -> Listed:
    return listed(what, LIST, "main", entering(by), RULES, at)


def aliases(found: Listed) -> list[str]:
    return [each.alias for each in found.identifiers]


GRANTED = with_identifiers(written(grant("a", "research")), "x")
STOPPED = with_identifiers(written(grant("a", "research"), consent("b", "research", at=NOW + 1)), "x")


def test_a_grant_that_was_told_stays_on_the_list_and_one_that_was_not_enters_with_it() -> None:
    told_before = known(GRANTED, told("present", NOW), done=True)
    new = known(GRANTED)
    [call] = reconcile(new, LIST, RULES, LATE).calls

    assert aliases(on(told_before)) == ["x"]
    assert on(new) == Listed()
    assert on(replace(told_before, obligations=new.obligations)) == Listed()  # opened again, or waived
    assert (aliases(on(new, [call])), on(new, [call]).by) == (["x"], call.obligation.obligation_id)


def test_a_grant_that_counts_as_told_but_whose_identifier_was_taken_off_since_comes_back_only_by_entering() -> None:
    assert on(known(GRANTED, done=True)) == Listed()
    assert on(known(GRANTED, told("absent", NOW + 5), done=True)) == Listed()
    both = join(told("present", NOW), told("absent", NOW + 20))
    assert on(known(GRANTED, both, done=True)) == Listed()


@pytest.mark.parametrize(
    "stop", [consent("b", "research", at=NOW + 1), suspension("b", at=NOW + 1), deletion("b", NOW + 1)]
)
def test_whoever_says_stop_is_on_no_list_though_nobody_has_made_an_obligation_of_it(stop: Event) -> None:
    before = known(GRANTED, told("present", NOW), done=True)
    record = with_identifiers(written(grant("a", "research"), stop), "x")

    assert on(replace(before, record=record)) == Listed()


def test_who_comes_back_after_a_deletion_waits_until_it_was_carried_out() -> None:
    record = with_identifiers(written(deletion("d"), grant("a", "research", at=NOW + 5)), "x")
    both = known(record)
    carried_out = [
        settle(each, receipt(each, "ended", LATE, grade=Evidence.processed)) if each.verb == "delete" else each
        for each in both.obligations
    ]
    after = replace(both, obligations=tuple(carried_out))
    [call] = [each for each in reconcile(after, LIST, RULES, LATE).calls if each.obligation.verb == "grant"]

    assert on(both, [call]) == Listed()
    assert aliases(on(after, [call])) == ["x"]
    forgotten = replace(after, obligations=tuple(each for each in carried_out if each.verb != "delete"))
    assert on(forgotten, [call]) == Listed()


def test_a_sharer_who_says_stop_keeps_the_identifier_off_the_list() -> None:
    sharer = replace(STOPPED, subject_ref="another")
    mine = known(with_identifiers(GRANTED, "y"), told("present", NOW), told("present", NOW, alias="y"), done=True)

    assert aliases(on(mine)) == ["x", "y"]
    assert aliases(on(replace(mine, sharers=(sharer,)))) == ["y"]


def test_who_was_merged_is_spoken_for_by_the_survivor() -> None:
    assert on(known(replace(GRANTED, merged_into="x"), told("present", NOW), done=True)) == Listed()
    assert on(Known(None, (), {})) == Listed()


def test_a_finished_swap_closes_every_stop_of_the_cut_and_the_grants_that_got_onto_the_list() -> None:
    [stop] = reconcile(known(STOPPED), LIST, RULES, LATE).calls
    [yes] = reconcile(known(GRANTED), LIST, RULES, LATE).calls

    assert contained([stop, yes], ()) == [stop]
    assert contained([stop, yes], {yes.obligation.obligation_id}) == [stop, yes]


# -- when


def test_a_list_with_permissions_alone_is_swapped_every_so_often_and_a_withdrawal_pulls_that_forward() -> None:
    assert due_at(PACE, 0, Waiting()) is None
    assert due_at(PACE, 5000, Waiting()) is None
    assert due_at(PACE, 0, Waiting(granted_at=7)) == 7
    assert due_at(PACE, 5000, Waiting(granted_at=7)) == 29_000
    assert due_at(PACE, 5000, Waiting(restricted_at=4000, granted_at=7)) == 6000  # not before `least`
    assert due_at(PACE, 5000, Waiting(restricted_at=9000)) == 9100  # nor alone
    assert due_at(PACE, 0, Waiting(restricted_at=9000)) == 9100


@given(last=st.integers(1, 100_000), stop=st.integers(1, 200_000), yes=st.integers(0, 200_000))
def test_a_withdrawal_waits_no_longer_than_the_bound_and_no_swap_comes_sooner_than_the_least(
    last: int, stop: int, yes: int
) -> None:
    found = due_at(PACE, last, Waiting(stop, yes))

    assert found is not None
    assert last + PACE.least_ms <= found <= max(last + PACE.least_ms, stop + PACE.gather_ms)


# -- how long


def test_a_list_that_is_the_first_empty_or_sharply_shorter_needs_a_person() -> None:
    assert implausible(100, None, 20, None) == "first-list"
    assert implausible(0, 100, 20, None) == "empty-list"
    assert implausible(79, 100, 20, None) == "shrunken-list"
    assert implausible(80, 100, 20, None) == implausible(500, 100, 20, None) == ""
    assert implausible(10, 100, 20, 10) == implausible(0, 100, 20, 0) == implausible(5, None, 20, 0) == ""
    assert implausible(9, 100, 20, 10) == "shrunken-list"  # shorter than what the person saw


# -- one at a time


def swap(at: int, **changes: Any) -> Attempt:
    return Attempt("10", at, at + HOUR, **{"reference": "7001:1", "awaited_until": at + HOUR, **changes})


BLANK = Told(AUDIENCES, "line", "main", "", "")


def test_nothing_begins_while_a_swap_may_still_take_effect() -> None:
    first = begin(BLANK, (), "one", swap(NOW))
    assert first is not None

    for out in (
        first,  # whoever began it may have died
        note(first, "one", swap(NOW, ended_at=NOW + 5, grade=1)),  # ambiguous
        note(first, "one", swap(NOW, ended_at=NOW + 5, grade=2)),  # taken, and not heard of
    ):
        assert list(under_way(out, NOW + HOUR)) == ["one"]
        assert begin(out, ["one"], "two", swap(NOW + HOUR)) is None
        assert begin(out, ["one"], "two", swap(NOW + HOUR + 1)) is not None


def test_a_swap_that_was_refused_or_heard_of_stands_in_nobodys_way() -> None:
    refused = note(BLANK, "one", swap(NOW, ended_at=NOW + 5, refused=True))
    done = note(BLANK, "one", reported(swap(NOW, ended_at=NOW + 5, grade=2), 3, NOW + 60, failed=False))
    failed = note(BLANK, "one", reported(swap(NOW, ended_at=NOW + 5, grade=2), 1, NOW + 60, failed=True))

    for over in (refused, done, failed):
        assert under_way(over, NOW + 61) == {}
        assert begin(over, ["one"], "two", swap(NOW + 61)) is not None
    assert (begun_at(refused), begun_at(done)) == (0, NOW)
    assert (standing_rows(refused), standing_rows(failed), standing_rows(done)) == (None, None, 10)


def test_a_list_that_was_cut_before_another_swap_began_is_never_sent() -> None:
    done = note(BLANK, "one", reported(swap(NOW, ended_at=NOW + 5, grade=2), 3, NOW + 60, failed=False))

    assert begin(done, [], "two", swap(NOW + 100)) is None
    assert begin(done, ["one"], "two", swap(NOW + 100)) is not None


@given(said=st.lists(events(), max_size=6), late=st.integers(0, 1))
def test_only_whom_the_record_permits_is_on_a_list(said: list[Event], late: int) -> None:
    record = with_identifiers(written(*said), "x")
    what = known(record, told("present", NOW), done=bool(late))
    calls = reconcile(what, LIST, RULES, LATE).calls

    found = on(what, calls)

    verbs = {each.verb for each in of_partner(record, LINE, RULES, LATE) if each.scope == "research"}
    assert not found.identifiers or verbs == {"grant"}
