"""Quota: no window is ever exceeded, in whatever order calls begin, reach the partner and end."""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from todoke.processors.quota import Cost, Lease, Ledger, Limit, end, give_back, learn, left, take, tidy
from todoke.schemas.quota import Window

SECOND = Window(most=5, seconds=1)
MINUTE = Window(most=12, seconds=60)
ITEMS = Window(most=40, seconds=10, counted="items")
LIMIT = Limit((SECOND, MINUTE, ITEMS), 25)
DIES_MS = 3000
KNOWN = replace(tidy(Ledger(), LIMIT, 0), known_from=0)


class Step(NamedTuple):
    """Some time (ms) goes by, then one of the calls under way ends as drawn, or a new one is asked for."""

    passes: int
    does: str
    which: int
    items: int
    restrictive: bool


class Arrived(NamedTuple):
    """A call reaches the partner at any time between its beginning and its end (ms)."""

    began: int
    ended: float
    cost: Cost


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([0, 0, 0, 0, 1, 7, 20, 150, 400, 999, 1000, 5000, 30_000]),
        st.sampled_from(["take", "take", "take", "take", "end", "back", "die"]),
        st.integers(0, 9),
        st.integers(1, 9),
        st.booleans(),
    ),
    min_size=20,
    max_size=60,
)


def lease(at: int, items: int = 1, *, restrictive: bool = True) -> Lease:
    return Lease(Cost(1, items), at + DIES_MS, restrictive)


def play(steps: Sequence[Step], start: Ledger = KNOWN) -> tuple[list[Arrived], Ledger, int]:
    """What reached the partner, of calls by any processes that share the ledger."""
    ledger, at = start, 1_000_000
    running: dict[str, tuple[int, Cost]] = {}
    arrived: list[Arrived] = []
    for number, step in enumerate(steps):
        at += step.passes
        for name in [name for name, (began, _) in running.items() if began + DIES_MS <= at]:
            began, cost = running.pop(name)  # its process hung: the call was cut off when its time was over
            arrived.append(Arrived(began, began + DIES_MS, cost))
        names = sorted(running)
        name = names[step.which % len(names)] if names else ""
        if step.does == "take":
            taken, wait = take(ledger, LIMIT, f"c{number}", lease(at, step.items, restrictive=step.restrictive), at)
            assert wait == 0 or wait > at
            ledger = taken
            if not wait:
                running[f"c{number}"] = (at, Cost(1, step.items))
        elif step.does == "end" and name:
            began, cost = running.pop(name)
            arrived.append(Arrived(began, at, cost))
            ledger = end(ledger, LIMIT, name, cost, at)
        elif step.does == "back" and name:
            del running[name]
            ledger = give_back(ledger, name)
        elif step.does == "die" and name:
            began, cost = running.pop(name)
            arrived.append(Arrived(began, at, cost))  # it had reached the partner, and nobody says so
    return [*arrived, *(Arrived(began, inf, cost) for began, cost in running.values())], ledger, at


@given(STEPS, st.data())
def test_no_window_is_ever_exceeded_whenever_calls_reach_the_partner(steps: list[Step], data: st.DataObject) -> None:
    calls, _, last = play(steps)
    moments = [
        (data.draw(st.sampled_from(sorted({each.began, int(min(each.ended, last))}))), each.cost) for each in calls
    ]

    for window in LIMIT.windows:
        for moment, _ in moments:
            within = [cost for at, cost in moments if moment - window.seconds * 1000 < at <= moment]
            assert sum(each.calls if window.counted == "calls" else each.items for each in within) <= window.most


@given(STEPS, st.integers(1, 9))
def test_what_is_kept_for_restrictions_is_spent_by_nothing_else(steps: list[Step], items: int) -> None:
    _, before, at = play([each._replace(restrictive=False) for each in steps])

    _, wait = take(before, LIMIT, "stop", lease(at, items), at)

    assert wait == 0


@given(STEPS, st.booleans(), st.integers(1, 9))
def test_what_was_given_back_can_be_spent_again(steps: list[Step], restrictive: bool, items: int) -> None:
    _, before, at = play(steps)
    taken, wait = take(before, LIMIT, "one", lease(at, items, restrictive=restrictive), at)
    back = give_back(taken, "one")

    _, again = take(back, LIMIT, "two", lease(at, items, restrictive=restrictive), at)

    assert again == wait


@settings(max_examples=25)
@given(STEPS, st.booleans(), st.integers(1, 9))
def test_whoever_waits_as_long_as_told_comes_closer_and_gets_through(
    steps: list[Step], restrictive: bool, items: int
) -> None:
    _, ledger, at = play(steps)

    for _ in range(400):
        ledger, wait = take(ledger, LIMIT, "patient", lease(at, items, restrictive=restrictive), at)
        if not wait:
            break
        at = wait

    assert wait == 0


def test_a_call_counts_for_a_whole_window_after_its_end() -> None:
    ledger, at = KNOWN, 1_000_000
    for number in range(SECOND.most):
        ledger, _ = take(ledger, LIMIT, f"c{number}", lease(at), at)
    for number in range(SECOND.most):
        ledger = end(ledger, LIMIT, f"c{number}", Cost(1, 1), at + 7)

    waits = [take(ledger, LIMIT, "next", lease(at + later), at + later)[1] for later in (500, 1006, 1020)]

    assert waits == [at + 1020, at + 1020, 0]


def test_of_an_unknown_past_only_what_is_kept_for_restrictions_is_there_until_somebody_looks_it_up() -> None:
    ledger, at = Ledger(), 1_000_000
    stops = 0
    while not (found := take(ledger, LIMIT, f"s{stops}", lease(at), at))[1]:
        ledger, stops = found[0], stops + 1

    assert take(ledger, LIMIT, "grant", lease(at, restrictive=False), at)[1]
    assert stops == min(each.kept(LIMIT.kept_percent) for each in (SECOND, MINUTE))

    known = learn(ledger, LIMIT, [(at - 30_000, Cost(1, 3)), (at - 70_000, Cost(9, 9)), (at + 1, Cost(9, 9))])

    assert left(known, LIMIT, at) == {"calls/1": 5 - stops, "calls/60": 12 - stops - 1, "items/10": 40 - stops}
    assert learn(known, LIMIT, [(at - 1, Cost(9, 9))]) == known


def test_an_unknown_past_is_over_when_the_longest_window_is() -> None:
    at = 1_000_000
    ledger, _ = take(Ledger(), LIMIT, "a", lease(at), at)

    assert take(ledger, LIMIT, "b", lease(at, restrictive=False), at + 59_999)[1]
    assert not take(ledger, LIMIT, "b", lease(at, restrictive=False), at + 60_000)[1]


def test_a_window_that_comes_new_has_an_unknown_past_and_one_that_grows_keeps_its_own() -> None:
    ledger, _ = take(KNOWN, LIMIT, "a", lease(0), 0)
    wider = Limit((SECOND, replace(MINUTE, most=100), ITEMS), 25)
    other = Limit((SECOND, Window(most=9, seconds=3600)), 25)

    assert left(end(ledger, LIMIT, "a", Cost(1, 1), 5), wider, 10)["calls/60"] == 99
    assert take(ledger, other, "b", lease(10, restrictive=False), 10)[1]


@given(STEPS)
def test_a_ledger_forgets_what_no_window_reaches_back_to(steps: list[Step]) -> None:
    _, ledger, at = play(steps)

    assert tidy(ledger, LIMIT, at + DIES_MS + 120_000).leases == {}
    assert tidy(tidy(ledger, LIMIT, at + DIES_MS), LIMIT, at + 200_000).spent == {}


def test_a_call_whose_ledger_was_lost_while_it_ran_counts_from_its_end() -> None:
    at = 1_000_000

    ledger = end(KNOWN, LIMIT, "lost", Cost(1, 3), at)

    assert left(ledger, LIMIT, at) == {"calls/1": 4, "calls/60": 11, "items/10": 37}


def test_of_a_call_that_is_looked_up_only_its_beginning_is_known_so_it_counts_as_long_as_it_may_have_run() -> None:
    at = 1_000_000
    lost = tidy(Ledger(), LIMIT, at)

    known = learn(lost, LIMIT, [(at - 2000, Cost()), (at - 500, Cost())], DIES_MS)

    assert left(known, LIMIT, at + 500)["calls/1"] == 3
    assert left(known, LIMIT, at + 1100)["calls/1"] == 5


def test_a_share_is_counted_in_whole_numbers_wherever_it_is_asked_for() -> None:
    assert [Window(most=most, seconds=1).kept(20) for most in (1, 5, 11, 15, 35)] == [1, 1, 3, 3, 7]
