"""Obligations: one state at a time, whatever the receipts, their order, their copies, and who saw which."""

from itertools import permutations
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import REF, bracketed, receipt
from todoke.schemas.obligations import ENDED, Act, Obligation, State, ask_again, join, settle
from todoke.schemas.receipts import Evidence, Receipt, Verb

OWED = Obligation(
    obligation_id="o",
    subject_ref=REF,
    partner="meta",
    account="main",
    scope="ads",
    verb="withdraw",
    stamps=(),
    registry_revision=1,
    boundary=0,
    identifier_generation=1,
    reasons=("withdrawn:appi",),
    cause="event",
    event_id="e",
    appended_at=10,
    opened_at=11,
    deadline_at=100,
    done_at_grade=Evidence.processed,
    updated_at=11,
)


def made(kind: str, at: int, **changes: Any) -> Receipt:
    return receipt(OWED, kind, at, **changes)


ATS = st.integers(20, 26)
GRADES = st.integers(0, 4)
RECEIPTS = st.one_of(
    st.builds(made, st.just("attempting"), ATS, generation=st.integers(1, 3)),
    st.builds(
        made, st.just("reopened"), ATS, generation=st.integers(1, 3), reason=st.sampled_from(["overtaken", "late"])
    ),
    st.builds(
        made,
        st.sampled_from(["ended", "settled"]),
        ATS,
        generation=st.integers(0, 3),
        grade=GRADES,
        reason=st.sampled_from(["", "refused"]),
    ),
    st.builds(made, st.just("superseded"), ATS, reference=st.sampled_from(["newer", "newest"])),
    st.builds(made, st.sampled_from(["blocked", "given-up"]), ATS, reason=st.sampled_from(["unreachable", "gone"])),
    st.builds(
        made,
        st.just("person"),
        ATS,
        reason=st.sampled_from(["assigned", "closed", "waived"]),
        by=st.sampled_from(["amy", "zoe"]),
        ground=st.sampled_from(["", "told by phone"]),
        reference=st.sampled_from(["", "letter 7"]),
    ),
)
SEEN = st.lists(RECEIPTS, max_size=6)
COPIES = st.builds(
    lambda opened_at, appended_at, cause, event_id, deadline_at: replace(
        OWED, opened_at=opened_at, appended_at=appended_at, cause=cause, event_id=event_id, deadline_at=deadline_at
    ),
    st.integers(11, 13),
    st.integers(9, 10),
    st.sampled_from(["event", "time"]),
    st.sampled_from("ef"),
    st.integers(99, 101),
)


def after(receipts: list[Receipt], owed: Obligation = OWED) -> Obligation:
    for each in receipts:
        owed = settle(owed, each)
    return owed


def expected_state(receipts: list[Receipt]) -> State:
    """The state, from the receipts as a set."""
    evidence = [each for each in receipts if each.kind in ("ended", "settled")]
    tried = [each for each in receipts if each.kind in ("attempting", "reopened")]
    last = max([1, *(each.generation for each in evidence + tried)])
    if any(each.grade >= Evidence.processed and max(each.generation, 1) == last for each in evidence):
        return "done"
    begun = max((each.at for each in tried if each.kind == "reopened" and each.generation == last), default=0)
    ends = [(each.at, each.reason) for each in receipts if each.kind == "person" and each.reason != "assigned"]
    if ends and max(ends)[1] == "waived":
        return "waived"
    if ends and max(ends)[0] >= begun:
        return "closed"
    if any(each.kind == "superseded" for each in receipts):
        return "superseded"
    blocks = [each.at for each in receipts if each.kind in ("blocked", "given-up")]
    ways_out = [each.at for each in receipts if each.kind in ("ended", "settled") and each.grade >= Evidence.accepted]
    return "blocked" if blocks and max(blocks) >= max(ways_out, default=0) else "open"


@given(SEEN, st.data())
def test_receipts_may_come_in_any_order_and_twice(receipts: list[Receipt], data: st.DataObject) -> None:
    twice = data.draw(st.lists(st.sampled_from(receipts), max_size=3)) if receipts else []
    shuffled = data.draw(st.permutations(receipts + twice))

    assert after(shuffled) == after(receipts)


@given(SEEN)
def test_an_obligation_is_in_exactly_the_state_that_its_receipts_say(receipts: list[Receipt]) -> None:
    settled = after(receipts)

    assert settled.state == expected_state(receipts)
    assert settled.state in get_args(State)
    assert (settled.ended_at > 0) == (settled.state in ENDED)


@given(SEEN, RECEIPTS)
def test_what_has_ended_stays_ended_until_another_generation_begins(receipts: list[Receipt], another: Receipt) -> None:
    before, settled = after(receipts), after([*receipts, another])

    assert (
        before.state not in ENDED
        or settled.state in ENDED
        or (settled.round, settled.reopened_at)
        > (
            before.round,
            before.reopened_at,
        )
    )


@given(SEEN, SEEN, SEEN)
def test_copies_that_saw_different_receipts_join_into_one_that_saw_them_all(
    ours: list[Receipt], theirs: list[Receipt], both: list[Receipt]
) -> None:
    assert join(after(ours + both), after(both + theirs)) == after(ours + theirs + both)


@given(st.lists(st.tuples(COPIES, SEEN), min_size=1, max_size=5), st.data())
def test_joining_is_commutative_associative_and_idempotent(
    copies: list[tuple[Obligation, list[Receipt]]], data: st.DataObject
) -> None:
    pieces = [after(receipts, owed) for owed, receipts in copies]
    again = data.draw(st.permutations([*pieces, data.draw(st.sampled_from(pieces))]))

    merged = bracketed(pieces, join, data)

    assert bracketed(again, join, data) == merged
    assert join(merged, merged) == merged


def test_a_late_and_weaker_receipt_changes_nothing_that_a_stronger_one_has_settled() -> None:
    confirmed = after([made("attempting", 20, generation=1), made("ended", 25, grade=Evidence.confirmed)])

    late = settle(confirmed, made("ended", 30, grade=Evidence.accepted))

    assert (late.state, late.grade, late.grades, late.blocked) == ("done", Evidence.confirmed, confirmed.grades, "")
    assert late.ended_at == confirmed.ended_at == 25


def test_an_early_receipt_that_comes_late_dates_its_rungs_back() -> None:
    owed = after([made("ended", 25, grade=Evidence.processed), made("ended", 22, grade=Evidence.accepted)])

    assert owed.grades == {"sent": 22, "accepted": 22, "processed": 25}
    assert owed.ended_at == 25


@pytest.mark.parametrize("grade", Evidence)
def test_only_the_rung_that_the_partner_must_reach_is_done(grade: Evidence) -> None:
    for needed in [rung for rung in Evidence if rung]:
        owed = settle(replace(OWED, done_at_grade=needed), made("ended", 20, grade=grade))

        assert owed.state == ("done" if grade >= needed else "open")


@pytest.mark.parametrize("order", list(permutations(["closed", "waived", "superseded", "blocked"])))
def test_the_newest_act_of_a_person_beats_supersession_and_blocking(order: tuple[str, ...]) -> None:
    receipts = {
        "closed": made("person", 21, reason="closed", by="amy", ground="told by phone", reference="letter 7"),
        "waived": made("person", 20, reason="waived", by="zoe"),
        "superseded": made("superseded", 22, reference="newer"),
        "blocked": made("blocked", 23, reason="unreachable"),
    }

    owed = after([receipts[name] for name in order])

    assert (owed.state, owed.owner, owed.ended_at) == ("closed", "amy", 23)
    assert owed.acts[-1] == Act(21, "closed", "amy", "told by phone", "letter 7")


def test_a_block_ends_with_acceptance_and_not_with_an_attempt() -> None:
    blocked = after([made("given-up", 20, reason="gave-up")])

    assert (blocked.state, blocked.ended_at) == ("blocked", 0)
    assert after([made("attempting", 21), made("ended", 22, grade=Evidence.sent)], blocked).state == "blocked"
    assert settle(blocked, made("ended", 21, grade=Evidence.accepted)).state == "open"


@pytest.mark.parametrize(
    ("verb", "restrictive"), [("grant", False), ("withdraw", True), ("suspend", True), ("delete", True)]
)
def test_all_verbs_but_grant_take_a_permission_away(verb: Verb, restrictive: bool) -> None:
    assert replace(OWED, verb=verb).restrictive == restrictive


def test_a_failure_after_it_was_done_begins_a_generation_that_needs_evidence_of_its_own() -> None:
    done = after([made("attempting", 20, generation=1), made("ended", 21, generation=1, grade=Evidence.processed)])

    again = settle(done, made("reopened", 30, generation=2, reason="failed-late"))

    assert (again.state, again.grade, again.reopened, again.reopened_at) == ("open", Evidence.none, "failed-late", 30)
    assert settle(again, made("ended", 31, generation=1, grade=Evidence.confirmed)).state == "open"
    assert settle(again, made("ended", 32, generation=2, grade=Evidence.processed)).state == "done"


def test_evidence_that_was_overtaken_closes_nothing_though_it_comes_before_the_word_of_that() -> None:
    overtaken, evidence = made("reopened", 25, generation=2), made("ended", 25, generation=1, grade=Evidence.confirmed)

    assert after([overtaken, evidence]) == after([evidence, overtaken])
    assert after([overtaken, evidence]).state == "open"


def test_a_late_attempt_of_an_earlier_generation_brings_nothing_back() -> None:
    owed = after([made("reopened", 25, generation=3), made("attempting", 26, generation=2)])

    assert (owed.generation, owed.reopened_at) == (3, 25)


@pytest.mark.parametrize(("act", "state"), [("closed", "open"), ("waived", "waived")])
def test_what_was_closed_outside_is_opened_again_and_what_was_waived_is_not(act: str, state: State) -> None:
    ended = after([made("person", 20, reason=act, by="amy")])

    assert settle(ended, made("reopened", 21, generation=2)).state == state
    assert settle(settle(ended, made("reopened", 21, generation=2)), made("person", 22, reason=act)).state == act


def test_a_waiver_does_not_come_back_by_opening_what_was_closed_after_it() -> None:
    receipts = [made("person", 20, reason="waived"), made("person", 21, reason="closed")]

    assert after([*receipts, made("reopened", 22, generation=2)]).state == "open"


def test_two_obligations_do_not_join() -> None:
    with pytest.raises(ValueError, match="two obligations"):
        join(OWED, replace(OWED, obligation_id="p"))


@given(asked=COPIES, receipts=SEEN)
def test_asking_again_ends_where_joining_does_and_is_no_news(asked: Obligation, receipts: list[Receipt]) -> None:
    standing = OWED
    for each in receipts:
        standing = settle(standing, each)

    after = ask_again(standing, asked)

    assert replace(after, updated_at=0) == replace(join(standing, asked), updated_at=0)
