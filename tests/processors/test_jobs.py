"""Jobs that a partner has taken in: asked about, not called again, given up in time, and undone by a late failure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.processors.test_reconcile import EFFECTS, RULES, SHOP, STOP, done, known, look, verbs
from tests.rules import LATE, NOW, admitted, apply, deletion, provision, receipt, with_identifiers, written
from todoke.processors.enrol import shred
from todoke.processors.jobs import FAILED_LATE, NO_RESULT, Ask, any_failed, asks, awaited_until, lost, own_until
from todoke.processors.reconcile import Known, Recipient, Work, reconcile
from todoke.schemas.obligations import Obligation, settle
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told, note, reported

(OWED,) = known(STOP).obligations
NAME = OWED.obligation_id[:8]
LASTS = 10_000


def job(started_at: int = NOW + 1, effect: str = "out", **changes: Any) -> Attempt:
    """A call that became a job, and is waited for."""
    fields: dict[str, Any] = {
        "ended_at": started_at + 1,
        "grade": Evidence.accepted,
        "obligation": NAME,
        "generation": 1,
        "reference": f"job-{started_at}",
        "awaited_until": started_at + LASTS,
    }
    return Attempt(effect, started_at, started_at + 10, **{**fields, **changes})


def told(*attempts: Attempt, alias: str = "x", partner: str = "shop") -> Told:
    found = Told(STOP.subject_ref, partner, "main", "research", alias)
    for number, each in enumerate(attempts):
        found = note(found, f"t{number}", each)
    return found


def at_work(*attempts: Attempt, at: int = NOW + 100, **changes: Any) -> Work:
    return look(known(STOP, told(*attempts), **changes), at=at)


def ended(grade: int, at: int) -> Obligation:
    return settle(OWED, receipt(OWED, "ended", grade=grade, at=at))


def test_what_was_taken_in_is_noted_once_asked_about_and_not_called_again() -> None:
    work = at_work(job())

    assert verbs(work) == done(settled=["withdraw research"])
    assert [grade for _, grade in work.settled] == [Evidence.accepted]
    assert work.asks == (Ask(f"job-{NOW + 1}", NOW + 1, NOW + 1 + LASTS),)
    again = reconcile(
        replace(known(STOP, told(job())), obligations=(ended(Evidence.accepted, NOW + 2),)),
        Recipient(SHOP, EFFECTS),
        RULES,
        NOW + 100,
    )
    assert (verbs(again), again.asks, again.given_up) == (done(), work.asks, ())


def test_what_has_been_carried_out_closes_and_is_asked_about_no_more() -> None:
    work = at_work(reported(job(), Evidence.processed, NOW + 50, failed=False))

    assert [grade for _, grade in work.settled] == [Evidence.processed]
    assert work.asks == ()


def test_what_failed_is_called_anew_in_a_later_generation() -> None:
    (call,) = at_work(reported(job(), Evidence.none, NOW + 50, failed=True)).calls

    assert call.obligation.generation == 2


@pytest.mark.parametrize(("at", "given_up"), [(NOW + LASTS, False), (NOW + 1 + LASTS, True), (LATE * 2, True)])
def test_whoever_has_waited_long_enough_gives_up_and_asks_once_more(at: int, given_up: bool) -> None:
    work = at_work(job(), at=at)

    assert [reason for _, reason in work.given_up] == [NO_RESULT] * given_up
    assert work.calls == ()
    assert len(work.asks) == 1


def test_every_identifier_needs_its_call_or_its_job() -> None:
    record = with_identifiers(STOP, "p", kind="phone")
    one, both = [told(job())], [told(job()), told(job(NOW + 5), alias="p")]

    assert len(look(known(record, *one), at=NOW + 100).calls) == 1
    assert look(known(record, *both), at=NOW + 100).calls == ()
    assert [each.reference for each in look(known(record, *both), at=NOW + 100).asks] == [
        f"job-{NOW + 1}",
        f"job-{NOW + 5}",
    ]
    sure = told(job(NOW + 5, awaited_until=0, grade=Evidence.processed), alias="p")
    assert look(known(record, told(job()), sure), at=NOW + 100).calls == ()


def test_a_job_that_began_before_what_is_owed_now_is_not_waited_for() -> None:
    assert at_work(job(NOW + 2), reopened_at=NOW + 1).calls == ()
    assert len(at_work(job(NOW + 1), reopened_at=NOW + 1).calls) == 1
    again = apply(STOP, admitted(provision("b", "shop", NOW + 5)))
    assert len(look(known(again, told(job(NOW + 5))), at=NOW + 100).calls) == 1
    assert look(known(again, told(job(NOW + 6))), at=NOW + 100).calls == ()


def test_a_job_of_the_opposite_is_a_rival_until_it_is_heard_of() -> None:
    granting = job(NOW + 1, "in", obligation="another1")

    first = at_work(granting)
    waiting = at_work(granting, job(NOW + 2))
    over = at_work(reported(granting, Evidence.processed, NOW + 50, failed=False), job(NOW + 2))

    assert len(first.calls) == 1  # said at once
    assert (waiting.calls, waiting.look_at) == ((), NOW + 2 + LASTS)
    assert [each.obligation.generation for each in over.calls] == [2]  # and once more when it can be the last word


def test_of_several_jobs_the_last_to_be_waited_for_counts_and_each_identifier_must_have_one() -> None:
    early, late = job(NOW + 1), job(NOW + 5)
    sure = job(NOW + 3, awaited_until=0, grade=Evidence.processed)

    assert awaited_until([told(early, late)], "out", 3, NOW) == NOW + 5 + LASTS
    assert awaited_until([told(early), told(late)], "out", 3, NOW) == NOW + 1 + LASTS
    assert awaited_until([told(early), told(sure)], "out", 3, NOW) == NOW + 1 + LASTS
    assert awaited_until([told(sure)], "out", 3, NOW) is None  # nothing is missing
    assert awaited_until([told(early), None], "out", 3, NOW) is None
    assert awaited_until([told(early)], "in", 3, NOW) is None
    assert awaited_until([told(early), told(late)], "out", 3, NOW + 1) is None
    assert awaited_until([], "out", 3, NOW) is None


def test_each_job_is_asked_about_once_by_its_own_partner_until_the_last_who_waits() -> None:
    shared, longer = job(), replace(job(), awaited_until=NOW + 2 * LASTS)
    heard = reported(job(NOW + 7), Evidence.processed, NOW + 50, failed=False)
    held = [told(shared), told(longer, alias="p"), told(heard, alias="q"), told(job(NOW + 9), partner="other")]

    assert asks(held, "shop") == (Ask(f"job-{NOW + 1}", NOW + 1, NOW + 2 * LASTS),)


def test_a_job_goes_on_for_whoever_was_forgotten_meanwhile_and_for_no_other_generation() -> None:
    record = with_identifiers(written(deletion("a")), "x")
    (owed,) = (each for each in known(record).obligations if each.partner == "shop")
    cell = replace(told(job(effect="gone", obligation=owed.obligation_id[:8])), scope="*")
    forgotten = shred(record, NOW)

    def work(one: Obligation, held: Told) -> Work:
        return reconcile(Known(forgotten, (one,), {held.key: held}), Recipient(SHOP, EFFECTS), RULES, NOW + 100)

    assert own_until(owed, [cell], "gone") == NOW + 1 + LASTS
    assert own_until(owed, [replace(cell, account="else")], "gone") is None
    assert own_until(owed, [cell], "out") is None
    assert own_until(replace(owed, generation=2), [cell], "gone") is None
    partial = note(replace(cell, attempts={}), "t", replace(cell.attempts["t0"], partial=True))
    assert own_until(owed, [partial], "gone") is None
    assert work(owed, cell).blocked == ()
    assert len(work(owed, cell).asks) == 1
    nothing = replace(cell, attempts={})
    assert [reason for _, reason in work(owed, nothing).blocked] == ["unreachable"]


@pytest.mark.parametrize(
    ("grade", "at", "more", "reopened"),
    [
        (Evidence.none, NOW + 50, (), [FAILED_LATE]),
        (Evidence.sent, NOW + 50, (), [FAILED_LATE]),
        (Evidence.none, NOW + 19, (), []),  # it had been known when the obligation ended
        (Evidence.none, NOW + 50, (job(NOW + 5, awaited_until=0, grade=Evidence.processed),), []),
    ],
)
def test_what_was_done_by_a_job_that_failed_afterwards_is_open_again(
    grade: int, at: int, more: tuple[Attempt, ...], reopened: list[str]
) -> None:
    failed = reported(job(), grade, at, failed=True)
    over = ended(Evidence.processed, NOW + 20)

    work = reconcile(
        replace(known(STOP, told(failed, *more)), obligations=(over,)), Recipient(SHOP, EFFECTS), RULES, NOW + 100
    )

    assert any_failed([told(failed)], "shop")
    assert [reason for _, reason in work.reopened] == reopened
    assert [each.obligation.generation for each in work.calls] == [2] * len(reopened)


def test_what_a_person_closed_is_not_opened_by_a_failure() -> None:
    failed = reported(job(), Evidence.none, NOW + 50, failed=True)
    closed = settle(OWED, receipt(OWED, "person", reason="closed", at=NOW + 20, by="office"))

    work = reconcile(
        replace(known(STOP, told(failed)), obligations=(closed,)), Recipient(SHOP, EFFECTS), RULES, NOW + 100
    )

    assert closed.state == "closed"
    assert (work.reopened, work.calls) == ((), ())


@given(st.permutations([0, 1, 2]), st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=3, max_size=3))
def test_an_obligation_is_lost_whatever_order_its_failures_came_in(
    order: list[int], news: list[tuple[int, bool]]
) -> None:
    jobs = [
        reported(job(NOW + number), Evidence.none if failed else Evidence.processed, NOW + 100 + at, failed=failed)
        for number, (at, failed) in enumerate(news)
    ]
    over = ended(Evidence.processed, NOW + 60)

    found = lost(over, [told(*(jobs[number] for number in order))], "out")

    assert found is all(failed for _, failed in news)
