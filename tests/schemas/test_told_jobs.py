"""Jobs in what was told: a partner is simulated that carries out later what it takes in, and says so late, twice or never."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from tests.rules import REF, bracketed
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told, join, note, possibilities, reported, surely

BLANK = Told(REF, "eraser", "main", "ads", "a1ia5")
LASTS = 12


class Job(Struct, frozen=True):
    """One call that became a job: answered after `took` ms, waited for until `LASTS` ms after it began.

    `applied_after` is when the partner carried it out, None for never. `heard_after` is when it said so, None for never;
    `end` is what it said. `lost` when our process died before it saw the answer.
    """

    name: str
    effect: str
    started_at: int
    took: int
    applied_after: int | None
    heard_after: int | None
    end: str
    lost: bool

    @property
    def applied_at(self) -> int | None:
        return None if self.applied_after is None else self.started_at + self.applied_after

    @property
    def begun(self) -> Attempt:
        return Attempt(self.effect, self.started_at, self.started_at + LASTS)

    @property
    def taken(self) -> Attempt:
        """What we know once it was answered."""
        return replace(
            self.begun,
            ended_at=self.started_at + self.took,
            grade=Evidence.accepted,
            reference=self.name,
            awaited_until=self.started_at + LASTS,
        )

    @property
    def known(self) -> Attempt:
        """All that we ever learn."""
        if self.lost:
            return self.begun
        if self.heard_after is None:
            return self.taken
        grade, failed = {"done": (Evidence.processed, False), "partly": (Evidence.sent, True)}.get(
            self.end, (Evidence.none, True)
        )
        return reported(self.taken, grade, self.started_at + self.heard_after, failed=failed)


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """Jobs in any interleaving: done, failed without effect, failed with some perhaps, never heard of, begun and lost."""
    found = []
    for number in range(draw(st.integers(1, 5))):
        end = draw(st.sampled_from(["done", "failed", "partly", "never"]))
        took = draw(st.integers(1, 4))
        heard = None if end == "never" else draw(st.integers(took + 1, LASTS + 4))
        late = st.integers(0, LASTS if heard is None else heard)
        lost = draw(st.booleans()) and (heard is None or heard <= LASTS)
        applied = {"done": late, "failed": st.none()}.get(end, st.none() | late)
        found.append(
            Job(
                name=f"t{number}",
                effect=draw(st.sampled_from(["granted", "withdrawn"])),
                started_at=draw(st.integers(1, 20)),
                took=took,
                applied_after=draw(applied),
                heard_after=heard,
                end=end,
                lost=lost,
            )
        )
    return found


def real_ends(many: list[Job]) -> set[str]:
    """The effects that the partner may have been left with: within one ms, any order is possible."""
    times = [each.applied_at for each in many if each.applied_at is not None]
    return {each.effect for each in many if each.applied_at is not None and each.applied_at == max(times)}


def told(attempts: dict[str, Attempt]) -> Told:
    found = BLANK
    for name, attempt in attempts.items():
        found = note(found, name, attempt)
    return found


@given(jobs())
@settings(max_examples=500)
def test_what_the_partner_was_left_with_is_always_among_the_possibilities(many: list[Job]) -> None:
    assert real_ends(many) <= possibilities(told({each.name: each.known for each in many}))


@given(jobs(), st.integers(1, 40))
@settings(max_examples=500)
def test_at_every_moment_what_jobs_under_way_may_still_do_is_among_the_possibilities(many: list[Job], now: int) -> None:
    begun = [each for each in many if each.started_at <= now]
    known = BLANK
    for each in begun:
        known = note(known, each.name, each.begun)
        if not each.lost and each.started_at + each.took <= now:
            known = note(known, each.name, each.taken)
        if not each.lost and each.heard_after is not None and each.started_at + each.heard_after <= now:
            known = note(known, each.name, each.known)

    assert real_ends(begun) <= possibilities(known)


@given(jobs(), st.sampled_from(["granted", "withdrawn"]), st.integers(1, 3))
@settings(max_examples=500)
def test_what_is_surely_told_is_what_the_partner_was_left_with(many: list[Job], effect: str, rung: int) -> None:
    known = told({each.name: each.known for each in many})

    assert not surely([known], effect, rung) or real_ends(many) <= {effect}


@given(jobs(), st.data())
@settings(max_examples=300)
def test_replicas_and_late_news_join_whatever_the_order_the_copies_and_the_brackets(
    many: list[Job], data: st.DataObject
) -> None:
    stages = [(each, [each.begun] if each.lost else [each.begun, each.taken, each.known]) for each in many]
    copies = [note(BLANK, each.name, attempt) for each, attempts in stages for attempt in attempts]
    shuffled = data.draw(st.permutations([*copies, data.draw(st.sampled_from(copies))]))

    merged = bracketed(shuffled, join, data)

    assert merged == told({each.name: each.known for each in many})
    assert join(merged, merged) == merged


@given(
    st.permutations(
        [(Evidence.processed, False), (Evidence.sent, True), (Evidence.none, True), (Evidence.confirmed, False)]
    ),
    st.data(),
)
@settings(max_examples=200)
def test_whatever_else_is_heard_and_in_whatever_copies_a_failure_is_never_lost(
    news: list[tuple[int, bool]], data: st.DataObject
) -> None:
    began = Job("t", "withdrawn", 1, 2, None, None, "never", lost=False).taken
    copies = [note(BLANK, "t", began)]
    for at, (grade, failed) in enumerate(news, 10):
        base = data.draw(st.sampled_from(copies)).attempts["t"]  # whoever wrote it had seen this much
        copies.append(note(BLANK, "t", reported(base, grade, at, failed=failed)))

    (merged,) = bracketed(copies, join, data).attempts.values()
    (again,) = bracketed(copies[::-1], join, data).attempts.values()

    assert (merged.failed, merged.evidence, merged.awaited) == (True, Evidence.none, False)
    assert merged == again
    assert merged.refused is all(each.attempts["t"].refused for each in copies if each.attempts["t"].failed)
    assert not surely([note(BLANK, "t", merged)], "withdrawn", Evidence.sent)


def taken(effect: str, started_at: int, **changes: Any) -> Attempt:
    """A call that became a job, of which nothing has been heard."""
    fields: dict[str, Any] = {
        "ended_at": started_at + 1,
        "grade": Evidence.accepted,
        "reference": "j1",
        "awaited_until": started_at + LASTS,
    }
    return Attempt(effect, started_at, started_at + 5, **{**fields, **changes})


def test_a_job_is_a_call_that_runs_until_it_is_heard_of_or_nobody_waits_any_more() -> None:
    job = taken("withdrawn", 1)

    assert (job.over_at, job.awaited, job.evidence, job.bears(Evidence.processed)) == (13, True, 2, True)
    done = reported(job, Evidence.processed, 40, failed=False)
    assert (done.over_at, done.awaited, done.evidence) == (40, False, 3)
    failed = reported(job, Evidence.none, 40, failed=True)
    assert (failed.over_at, failed.refused, failed.evidence, failed.bears(Evidence.sent)) == (40, True, 0, False)
    assert not reported(job, Evidence.sent, 40, failed=True).refused


@pytest.mark.parametrize("grade", [Evidence.sent, Evidence.accepted])
def test_what_says_no_more_than_is_known_adds_nothing(grade: int) -> None:
    job = taken("withdrawn", 1)

    assert reported(job, grade, 40, failed=False) is job


def test_the_first_report_stands_and_a_failure_is_the_last_word() -> None:
    done = reported(taken("withdrawn", 1), Evidence.processed, 40, failed=False)
    failed = reported(done, Evidence.sent, 50, failed=True)

    assert reported(done, Evidence.processed, 60, failed=False) is done
    assert (failed.failed, failed.reported_at, failed.evidence) == (True, 50, 0)
    assert reported(failed, Evidence.confirmed, 60, failed=False) is failed
    assert reported(failed, Evidence.none, 60, failed=True) is failed


def test_a_job_under_way_has_overwritten_nothing_and_one_that_is_done_has() -> None:
    granted = Attempt("granted", 1, 5, ended_at=2, grade=Evidence.accepted)
    job = taken("withdrawn", 20)

    assert possibilities(told({"a": granted, "b": job})) == {"granted", "withdrawn"}
    assert possibilities(told({"a": granted, "b": reported(job, 3, 25, failed=False)})) == {"withdrawn"}
    assert possibilities(told({"a": granted, "b": reported(job, 0, 25, failed=True)})) == {"granted"}
    assert possibilities(told({"a": granted, "b": reported(job, 1, 25, failed=True)})) == {"granted", "withdrawn"}


def test_what_a_job_that_runs_may_still_do_is_not_forgotten_for_a_later_call() -> None:
    job = taken("granted", 1)
    later = Attempt("withdrawn", 10, 15, ended_at=11, grade=Evidence.accepted)

    assert possibilities(told({"a": job, "b": later})) == {"granted", "withdrawn"}
    assert possibilities(told({"a": job, "b": replace(later, started_at=14, ended_at=15)})) == {"withdrawn"}
