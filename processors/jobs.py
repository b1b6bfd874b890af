"""Jobs: what a partner has taken in, and will carry out later. Whoever waits for one doesn't call again, but asks.

A job is an attempt with a reference and a time until which it is awaited. Until something is heard of it, it may still
take effect at any moment: to what it contradicts, it is a call that runs (`Attempt.over_at`).
"""

from collections.abc import Iterable
from math import inf

from msgspec import Struct

from todoke.schemas.obligations import Obligation
from todoke.schemas.told import Attempt, Told

from .fence import NAMED_BY

NO_RESULT = "no-result"
"""Why an obligation is given up whose job was not heard of in time."""
FAILED_LATE = "failed-late"
"""Why an obligation is open again whose evidence was a job that has failed since."""


class Ask(Struct, frozen=True, order=True):
    """A question to be put: the partner's name of the job, when its call began, and until when to ask (ms)."""

    reference: str
    began_at: int
    until: int


def asks(told: Iterable[Told], partner: str) -> tuple[Ask, ...]:
    """Every job at `partner` of which nothing has been heard, each once; those that nobody waits for any more, too."""
    found: dict[str, Ask] = {}
    for each in told:
        for job in each.attempts.values() if each.partner == partner else ():
            if job.awaited:
                ask = Ask(job.reference, job.started_at, job.awaited_until)
                found[job.reference] = max(found.get(job.reference, ask), ask)
    return tuple(sorted(found.values()))


def awaited_until(held: Iterable[Told | None], effect: str, rung: int, since: int) -> int | None:
    """Until when (ms) jobs may bring what is missing of `rung`; None where they can't, or nothing is missing.

    They can where each of `held` has evidence for `effect`, or a job, from a call that began after `since`.
    """
    waits: list[float] = []
    for told in held:
        calls = [each for each in _calls(told, effect) if each.bears(rung) and each.started_at > since]
        if not calls:
            return None
        waits.append(max(inf if each.evidence >= rung else each.awaited_until for each in calls))
    soonest = min(waits, default=inf)
    return None if soonest == inf else int(soonest)


def own_until(obligation: Obligation, told: Iterable[Told], effect: str) -> int | None:
    """Until when (ms) jobs that `obligation` itself was called for may end it, whatever they named; None without any."""
    name = obligation.obligation_id[:NAMED_BY]
    mine = [
        job.awaited_until
        for each in told
        if (each.partner, each.account) == (obligation.partner, obligation.account)
        for job in _calls(each, effect)
        if job.awaited and job.obligation == name and job.generation >= obligation.round and not job.partial
    ]
    return max(mine, default=None)


def lost(obligation: Obligation, held: Iterable[Told | None], effect: str) -> bool:
    """Whether a job failed after `obligation` had ended, and nothing is left that proves it for one of `held`."""
    for told in held:
        calls = _calls(told, effect)
        failed = any(each.failed and each.reported_at >= obligation.ended_at for each in calls)
        if failed and not any(each.evidence >= obligation.done_at_grade for each in calls):
            return True
    return False


def any_failed(told: Iterable[Told], partner: str) -> bool:
    """Whether any job at `partner` has failed: a cheap first look."""
    return any(job.failed for each in told if each.partner == partner for job in each.attempts.values())


def _calls(told: Told | None, effect: str) -> list[Attempt]:
    """The calls for `effect`; those that surely did nothing only if they have failed after they were accepted."""
    attempts = told.attempts.values() if told else ()
    return [each for each in attempts if each.effect == effect and (each.failed or not each.refused)]
