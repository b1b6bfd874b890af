"""Which call came last, as far as can be known: permissions and restrictions told to one partner (correctness, 15).

Two calls are rivals when one gives a permission and the other takes it away. Evidence of a call proves something only if
the call began after every rival had ended, or had been given all the time that it may take: else the rival may have been
the last that the partner heard. Restrictions are no rivals of each other.
"""

from collections.abc import Iterable, Sequence

from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told

NAMED_BY = 8
"""How many characters of its obligation's id an attempt keeps: enough to tell it from others at the same place."""


def rivals(told: Told | None, effect: str, permissive: str | None) -> list[Attempt]:
    """The calls that may have left the partner with the opposite of `effect`; `permissive` is what a grant does there."""
    if told is None or permissive is None:
        return []
    return [
        each
        for each in told.attempts.values()
        if not each.refused and (each.effect == permissive) != (effect == permissive)
    ]


def clear_from(held: Iterable[Told | None], effect: str, permissive: str | None) -> int:
    """From when on (ms) a call for `effect` comes after every rival; 0 where there is none.

    Within one millisecond the order is not known, so it is the one after the last in which a rival may still act.
    """
    return max((each.over_at + 1 for told in held for each in rivals(told, effect, permissive)), default=0)


def generation(obligation: Obligation, held: Sequence[Told | None], effect: str, permissive: str | None) -> int:
    """The generation in which `obligation` is called next.

    It stays the same for as long as a call may be the repetition of an earlier one, so that the partner sees the same
    request id. Once a rival may have come after an earlier call, a repetition would be swallowed by a partner that
    knows the id, and leave the rival's word standing; so a new generation begins. So it does after a job that failed, of
    which a partner that knows the id would only say so again.
    """
    name = obligation.obligation_id[:NAMED_BY]
    mine = [
        (told, each)
        for told in held
        if told
        for each in told.attempts.values()
        if each.obligation == name and each.effect == effect and (each.failed or not each.refused)
    ]
    newest = max([obligation.round, *(each.generation for _, each in mine)])
    overtaken = any(
        each.failed or any(rival.over_at >= each.started_at for rival in rivals(told, effect, permissive))
        for told, each in mine
        if each.generation == newest
    )
    return newest + overtaken


def told_since(held: Sequence[Told | None], effect: str, permissive: str | None, rung: int) -> bool:
    """Whether `effect` has evidence of `rung`, or a job, everywhere from a call that began after every rival had begun.

    Until the rivals are over it can't be said again to any use.
    """
    return all(
        any(
            each.effect == effect and each.bears(rung) and not each.refused and each.started_at > begun
            for each in (told.attempts.values() if told else ())
        )
        for told in held
        for begun in [max((each.started_at for each in rivals(told, effect, permissive)), default=0)]
    )


def undone(obligation: Obligation, held: Iterable[Told | None], effect: str, permissive: str | None) -> bool:
    """Whether a rival may have come after what ended the obligation: evidence, or somebody's word that it was met.

    So it is when a process is stopped in the midst of a call, and goes on when the call counted as timed out.
    """
    words = [each.at for each in obligation.acts if each.act == "closed"]
    for told in held:
        began = [
            each.started_at
            for each in (told.attempts.values() if told else ())
            if each.effect == effect and each.evidence >= Evidence.accepted and not each.refused
        ]
        ended = max([*began, *words], default=obligation.ended_at)
        if any(each.over_at >= ended for each in rivals(told, effect, permissive)):
            return True
    return False
