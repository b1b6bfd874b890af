"""What a partner may have been told: a set of possibilities, never one remembered value (correctness, 14).

Each call is an attempt. It counts as a possibility from before it starts (a receipt is durable first) until a later
call, started after it had ended, is known to have been accepted. Unknown, ambiguous or still running means: send.
"""

from collections.abc import Iterable

from msgspec import Struct, field

from .receipts import Evidence


class Attempt(Struct, frozen=True):
    """One call: the effect that it asks for, when it started and ended (ms, 0 while running), and the grade reached.

    `ends_by` is when a call that nobody saw the end of has timed out, since the process that made it may have died.
    `refused` is true when the partner surely did not act on it, so that it leaves no possibility behind. `obligation` is
    the beginning of the id of the obligation that it was for, `generation` that obligation's: with it the partner saw it.
    """

    effect: str
    started_at: int
    ends_by: int
    ended_at: int = 0
    grade: int = 0
    refused: bool = False
    obligation: str = ""
    generation: int = 0

    @property
    def over_at(self) -> int:
        """Until when (ms) the partner may still have acted on it.

        An answer says that it has. Whatever else we saw, a time-out or a connection that broke, only says that we wait
        no longer. A call that was seen to end later than it should have is over then: its process had been stopped.
        """
        answered = self.ended_at and (self.refused or self.grade >= Evidence.accepted)
        return self.ended_at if answered else max(self.ended_at, self.ends_by)


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
        if max(attempt.grade for attempt in _standing(each)) < rung:
            return False
    return seen


def _further(ours: Attempt, theirs: Attempt) -> Attempt:
    return max(
        ours, theirs, key=lambda each: (each.started_at, each.ended_at > 0, each.grade, each.ended_at, each.refused)
    )


def _floor(attempts: Iterable[Attempt]) -> int:
    """When the last call began that is known to have been accepted."""
    return max((each.started_at for each in attempts if each.grade >= Evidence.accepted), default=0)


def _standing(told: Told) -> list[Attempt]:
    """The attempts whose effect may be the last: neither refused, nor ended or timed out before a later accepted call.

    Within one millisecond the order is not known, so both stay possible.
    """
    floor = _floor(told.attempts.values())
    return [each for each in told.attempts.values() if not each.refused and each.over_at >= floor]


def _prune(attempts: dict[str, Attempt]) -> dict[str, Attempt]:
    """Drop what would have timed out before a later accepted call began; it comes back if it turns out to have overrun.

    What had merely ended by then is kept, though it stands no more: dropped, a late copy that has not seen its end would
    bring it back as a call still running.
    """
    floor = _floor(attempts.values())
    return {name: each for name, each in attempts.items() if max(each.ended_at, each.ends_by) >= floor}
