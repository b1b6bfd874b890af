"""What a partner may have been told: a set of possibilities, never one remembered value (correctness, 14).

Each call is an attempt. It counts as a possibility from before it starts (a receipt is durable first) until a later
call, started after it had ended, is known to have been accepted. Unknown, ambiguous or still running means: send.

What a partner has only taken in, as a job, is asked about until it says what became of it. The answer ends the same
attempt: with a higher grade, or as failed, after which nothing makes evidence of it again (correctness, 12).
"""

from collections.abc import Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from .receipts import Evidence


class Attempt(Struct, frozen=True):
    """One call: the effect that it asks for, when it started and ended (ms, 0 while running), and the grade reached.

    `ends_by` is when a call that nobody saw the end of has timed out, since the process that made it may have died.
    `refused` is true when the partner surely did not act on it, so that it leaves no possibility behind. `obligation` is
    the beginning of the id of the obligation that it was for, `generation` that obligation's: with it the partner saw it.
    `partial` is true when it named some of the identifiers only, and so ends nothing.

    `reference` is the partner's name of the job that an accepted call became. `awaited_until` (ms) is how long somebody
    waits to hear what became of it, 0 where nobody does; `reported_at` (ms) when we heard, and `failed` whether in vain.
    """

    effect: str
    started_at: int
    ends_by: int
    ended_at: int = 0
    grade: int = 0
    refused: bool = False
    obligation: str = ""
    generation: int = 0
    partial: bool = False
    reference: str = ""
    awaited_until: int = 0
    reported_at: int = 0
    failed: bool = False

    @property
    def over_at(self) -> int:
        """Until when (ms) the partner may still have acted on it.

        An answer says that it has; of a job, only that it will have when we hear of it, or wait no longer. Whatever else
        we saw, a time-out or a connection that broke, only says that we wait no longer. A call that was seen to end later
        than it should have is over then: its process had been stopped.
        """
        if self.reported_at:
            return self.reported_at
        answered = self.ended_at and (self.refused or self.grade >= Evidence.accepted)
        return max(self.ended_at, self.awaited_until) if answered else max(self.ended_at, self.ends_by)

    @property
    def awaited(self) -> bool:
        """Whether it is a job of which nothing has been heard, in time or not. What was refused has never become one."""
        return self.awaited_until > 0 and not self.reported_at and not self.refused

    @property
    def evidence(self) -> int:
        """The grade that still holds: what failed afterwards is no evidence, however far it had come."""
        return Evidence.none if self.failed else self.grade

    def bears(self, rung: int) -> bool:
        """Whether it is evidence of `rung`, or a job that may become that."""
        return self.evidence >= rung or self.awaited


def reported(attempt: Attempt, grade: int, at: int, *, failed: bool) -> Attempt:
    """The attempt after the partner said at `at` (ms) what became of its job; what says no more than is known adds nothing.

    A failure is the last word: who hears of a success afterwards tells it anew all the same, which is safe. With a
    `grade` of none, it failed surely without effect.
    """
    if attempt.failed or (not failed and grade <= attempt.grade):
        return attempt
    if failed:
        return replace(attempt, reported_at=at, failed=True, refused=grade == Evidence.none)
    return replace(attempt, reported_at=at, grade=grade)


class Told(Struct, frozen=True):
    """What one partner may hold for one account, scope and identifier. Key of `told`: all of those."""

    subject_ref: str
    partner: str
    account: str
    scope: str
    alias: str
    attempts: dict[str, Attempt] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key within one subject."""
        return f"{self.partner}|{self.account}|{self.scope}|{self.alias}"


def join(one: Told, other: Told) -> Told:
    """The least set that contains both. Raises ValueError when they are of two recipients."""
    if (one.subject_ref, one.key) != (other.subject_ref, other.key):
        raise ValueError("expected two copies of what one recipient was told, got two recipients")
    merged = dict(one.attempts)
    for name, theirs in other.attempts.items():
        ours = merged.get(name)
        merged[name] = theirs if ours is None else _further(ours, theirs)
    return Told(one.subject_ref, one.partner, one.account, one.scope, one.alias, _prune(merged))


def note(told: Told, name: str, attempt: Attempt) -> Told:
    """`told` with one attempt more, or with one that has come further."""
    return join(told, Told(told.subject_ref, told.partner, told.account, told.scope, told.alias, {name: attempt}))


def possibilities(told: Told | None) -> frozenset[str]:
    """Every effect that the partner may be left with; empty when nothing was ever sent."""
    return frozenset(each.effect for each in _standing(told)) if told else frozenset()


def surely(told: Iterable[Told | None], effect: str, rung: int) -> bool:
    """Whether each of `told` can only be `effect`, on evidence of `rung` or better from a call that came last."""
    seen = False
    for each in told:
        seen = True
        if each is None or possibilities(each) != {effect}:
            return False
        if max(attempt.evidence for attempt in _standing(each)) < rung:
            return False
    return seen


def _further(ours: Attempt, theirs: Attempt) -> Attempt:
    """The copy that has come further; and of a job, whatever either has heard, of failures the one that proves less."""
    further = max(ours, theirs, key=_reached)
    if not (ours.reference or theirs.reference):
        return further
    failed = [each for each in (ours, theirs) if each.failed]
    return replace(
        further,
        grade=max(ours.grade, theirs.grade),
        reference=max(ours.reference, theirs.reference),
        awaited_until=max(ours.awaited_until, theirs.awaited_until),
        reported_at=max(ours.reported_at, theirs.reported_at),
        failed=bool(failed),
        refused=all(each.refused for each in failed) if failed else further.refused,
    )


def _reached(each: Attempt) -> tuple[int, bool, int, int, bool]:
    return (each.started_at, each.ended_at > 0, each.grade, each.ended_at, each.refused)


def _standing(told: Told) -> list[Attempt]:
    """The attempts whose effect may be the last: neither refused, nor ended or timed out before a later accepted call.

    A job that is under way, or has failed, has overwritten nothing for certain. Within one millisecond the order is not
    known, so both stay possible.
    """
    held = told.attempts.values()
    floor = max(
        (each.started_at for each in held if each.evidence >= Evidence.accepted and not each.awaited), default=0
    )
    return [each for each in held if not each.refused and each.over_at >= floor]


def _prune(attempts: dict[str, Attempt]) -> dict[str, Attempt]:
    """Drop what would have timed out before a later accepted call began; it comes back if it turns out to have overrun.

    What had merely ended by then is kept, though it stands no more: dropped, a late copy that has not seen its end would
    bring it back as a call still running. A job counts as that later call from when its partner has carried it out.
    """
    floor = max((each.started_at for each in attempts.values() if _overwrote(each)), default=0)
    return {name: each for name, each in attempts.items() if _known_until(each) >= floor}


def _overwrote(each: Attempt) -> bool:
    """Whether it has ever been the last word; that only rises, so copies may come in any order."""
    return each.grade > Evidence.accepted or (each.grade == Evidence.accepted and not each.awaited_until)


def _known_until(each: Attempt) -> int:
    return max(each.ended_at, each.ends_by, each.awaited_until, each.reported_at)
