"""What was told: a partner is simulated, with answers lost and calls overlapping, and must never surprise the set."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from tests.rules import REF, bracketed
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told, join, note, possibilities, surely

BLANK = Told(REF, "meta", "main", "ads", "a1ia5")


class Exchange(Struct, frozen=True):
    """One real call: what we did and saw, and what the partner really did.

    It runs from `started_at` for `took` ms; our patience ends after `patience` ms, and nothing of the call happens after
    that, unless our process was stopped: such a call is seen to end, but `took` longer. `applied_after` is when the partner took it in, None for never. `seen` is what we learn of the end: its grade,
    or that it was refused, or nothing at all since the answer, or our own process, was lost.
    """

    name: str
    effect: str
    started_at: int
    took: int
    patience: int
    applied_after: int | None
    seen: str

    @property
    def applied_at(self) -> int | None:
        return None if self.applied_after is None else self.started_at + self.applied_after

    @property
    def begun(self) -> Attempt:
        return Attempt(self.effect, self.started_at, self.started_at + self.patience)

    @property
    def known(self) -> Attempt:
        """All that we ever learn."""
        grades = {"lost": 0, "unknown": 1, "refused": 0, "accepted": 2, "processed": 3}
        if self.seen == "lost":
            return self.begun
        return replace(
            self.begun, ended_at=self.started_at + self.took, grade=grades[self.seen], refused=self.seen == "refused"
        )


@st.composite
def exchanges(draw: st.DrawFn, *, stopped: bool = False) -> list[Exchange]:
    """Calls in any interleaving: overlapping, in one ms, accepted, refused, ambiguous, lost, or stopped on the way."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        patience = draw(st.integers(0, 6))
        seen = draw(st.sampled_from(["lost", "unknown", "refused", "accepted", "processed"]))
        took = draw(st.integers(0, patience + (9 if stopped and seen != "lost" else 0)))
        inside = st.integers(0, took)
        late = st.integers(0, patience if seen == "lost" else max(took, patience))
        applied = {"refused": st.none(), "accepted": inside, "processed": inside}.get(seen, st.none() | late)
        found.append(
            Exchange(
                name=f"t{number}",
                effect=draw(st.sampled_from(["granted", "withdrawn"])),
                started_at=draw(st.integers(1, 12)),
                took=took,
                patience=patience,
                applied_after=draw(applied),
                seen=seen,
            )
        )
    return found


def real_ends(calls: list[Exchange]) -> set[str]:
    """The effects that the partner may have been left with: within one ms, any order is possible."""
    times = [each.applied_at for each in calls if each.applied_at is not None]
    return {each.effect for each in calls if each.applied_at is not None and each.applied_at == max(times)}


def told(attempts: dict[str, Attempt]) -> Told:
    found = BLANK
    for name, attempt in attempts.items():
        found = note(found, name, attempt)
    return found


@given(exchanges(stopped=True))
@settings(max_examples=300)
def test_what_the_partner_was_left_with_is_always_among_the_possibilities(calls: list[Exchange]) -> None:
    known = told({each.name: each.begun for each in calls} | {each.name: each.known for each in calls})

    assert real_ends(calls) <= possibilities(known)


@given(exchanges(), st.integers(1, 20))
@settings(max_examples=300)
def test_at_every_moment_what_calls_under_way_may_still_do_is_among_the_possibilities(
    calls: list[Exchange], now: int
) -> None:
    begun = [each for each in calls if each.started_at <= now]
    known = BLANK
    for each in begun:
        known = note(known, each.name, each.begun)
        if each.started_at + each.took <= now:
            known = note(known, each.name, each.known)

    assert real_ends(begun) <= possibilities(known)


@given(exchanges(stopped=True), st.sampled_from(["granted", "withdrawn"]), st.integers(1, 3))
@settings(max_examples=300)
def test_what_is_surely_told_is_what_the_partner_was_left_with(calls: list[Exchange], effect: str, rung: int) -> None:
    known = told({each.name: each.known for each in calls})

    assert not surely([known], effect, rung) or real_ends(calls) <= {effect}


@given(exchanges(), st.integers(1, 20))
@settings(max_examples=300)
def test_who_calls_again_after_everything_has_ended_and_is_accepted_can_be_sure(
    calls: list[Exchange], pause: int
) -> None:
    ended = max(each.started_at + each.patience for each in calls)
    last = Attempt("withdrawn", ended + pause, ended + pause + 9, ended_at=ended + pause + 1, grade=Evidence.accepted)

    known = note(told({each.name: each.known for each in calls}), "last", last)

    assert surely([known], "withdrawn", Evidence.accepted)
    assert known.attempts == {"last": last}


@given(exchanges(stopped=True), st.data())
def test_replicas_and_late_news_join_whatever_the_order_the_copies_and_the_brackets(
    calls: list[Exchange], data: st.DataObject
) -> None:
    news = [(each.name, attempt) for each in calls for attempt in (each.begun, each.known)]
    copies = [note(BLANK, name, attempt) for name, attempt in news]
    shuffled = data.draw(st.permutations([*copies, data.draw(st.sampled_from(copies))]))

    merged = bracketed(shuffled, join, data)

    assert merged == told({each.name: each.known for each in calls})
    assert join(merged, merged) == merged


def attempt(effect: str, started_at: int, **changes: Any) -> Attempt:
    return Attempt(effect, started_at, ends_by=started_at + 10, **changes)


def test_a_call_is_a_possibility_before_anybody_knows_how_it_ended() -> None:
    granted = attempt("granted", 1, ended_at=2, grade=Evidence.confirmed)
    known = told({"a": granted, "b": attempt("withdrawn", 20)})

    assert possibilities(known) == {"granted", "withdrawn"}
    assert not surely([known], "withdrawn", Evidence.sent)


def test_a_refused_call_leaves_no_possibility_and_proves_nothing() -> None:
    refused = told({"a": attempt("granted", 1, ended_at=2, refused=True)})

    assert possibilities(refused) == frozenset()
    assert not surely([refused], "granted", Evidence.none)


def test_a_refused_call_may_be_tried_again_under_its_name() -> None:
    refused = told({"a": attempt("granted", 1, ended_at=2, refused=True)})

    again = note(refused, "a", attempt("granted", 5, ended_at=6, grade=Evidence.accepted))

    assert surely([again], "granted", Evidence.accepted)
    assert join(refused, again) == join(again, refused) == again


@pytest.mark.parametrize(
    ("ended_at", "left"), [(19, {"withdrawn"}), (20, {"granted", "withdrawn"}), (0, {"granted", "withdrawn"})]
)
def test_within_one_millisecond_and_while_running_both_stay_possible(ended_at: int, left: set[str]) -> None:
    granted = attempt("granted", 12, ended_at=ended_at, grade=Evidence.accepted if ended_at else Evidence.none)
    withdrawn = attempt("withdrawn", 20, ended_at=21, grade=Evidence.accepted)

    assert possibilities(told({"a": granted, "b": withdrawn})) == left


@pytest.mark.parametrize(("started_at", "left"), [(22, {"granted", "withdrawn"}), (23, {"withdrawn"})])
def test_an_answer_that_never_came_leaves_the_partner_all_the_time_that_it_may_take(
    started_at: int, left: set[str]
) -> None:
    granted = attempt("granted", 12, ended_at=15, grade=Evidence.sent)
    withdrawn = attempt("withdrawn", started_at, ended_at=started_at + 1, grade=Evidence.accepted)

    assert possibilities(told({"a": granted, "b": withdrawn})) == left


def test_a_call_that_was_stopped_and_went_on_is_a_possibility_again() -> None:
    stopped, withdrawn = attempt("granted", 1), attempt("withdrawn", 20, ended_at=21, grade=Evidence.accepted)
    known = told({"a": stopped, "b": withdrawn})
    assert possibilities(known) == {"withdrawn"}

    woken = note(known, "a", replace(stopped, ended_at=40, grade=Evidence.accepted))

    assert possibilities(woken) == {"granted", "withdrawn"}


def test_a_call_of_unknown_end_has_timed_out_before_a_later_one_may_replace_it() -> None:
    lost = Attempt("granted", 1, ends_by=19)
    withdrawn = attempt("withdrawn", 20, ended_at=21, grade=Evidence.accepted)

    assert possibilities(told({"a": lost, "b": withdrawn})) == {"withdrawn"}


def test_an_answer_that_only_says_sent_replaces_nothing() -> None:
    granted = attempt("granted", 1, ended_at=2, grade=Evidence.confirmed)
    sent = attempt("withdrawn", 20, ended_at=21, grade=Evidence.sent)

    assert possibilities(told({"a": granted, "b": sent})) == {"granted", "withdrawn"}


def test_the_rung_required_must_be_reached_for_every_identifier() -> None:
    accepted = told({"a": attempt("withdrawn", 1, ended_at=2, grade=Evidence.accepted)})
    processed = told({"a": attempt("withdrawn", 1, ended_at=2, grade=Evidence.processed)})

    assert surely([accepted, processed], "withdrawn", Evidence.accepted)
    assert not surely([accepted, processed], "withdrawn", Evidence.processed)
    assert not surely([accepted, None], "withdrawn", Evidence.accepted)
    assert not surely([accepted], "granted", Evidence.accepted)
    assert not surely([], "withdrawn", Evidence.none)


def test_of_whom_nothing_was_ever_told_nothing_is_possible() -> None:
    assert possibilities(None) == possibilities(BLANK) == frozenset()


def test_two_recipients_do_not_join() -> None:
    with pytest.raises(ValueError, match="two recipients"):
        join(BLANK, replace(BLANK, alias="another"))
