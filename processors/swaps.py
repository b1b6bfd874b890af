"""Partners that can't take a person out, only take another list: who is on it, when to swap it, what that closes.

An audience is one account of such a partner. What it may hold is told-state like any other, under `AUDIENCES` in place of
a subject: each attempt is a list, and its effect the number of rows. See docs/decisions/0018 and correctness, 18.
"""

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.partners import Rules
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import SealedIdentifier, SubjectRecord
from todoke.schemas.told import Attempt, Told, note, possibilities

from .plan import identify, of_partner
from .reconcile import ANSWERED, Call, Known, Recipient, groups_of, told_of
from .sharing import Sharing

AUDIENCES = "audiences"
"""Stands where told-state names a subject. No subject is called so: their references are hashes."""

Entering = Mapping[str, frozenset[str]]
"""The aliases that each grant may bring onto the list, by the obligation's id."""


class Pace(Struct, frozen=True):
    """How often a list is swapped (ms): every so often for permissions, sooner for a withdrawal.

    A withdrawal waits `gather_ms` for company, and until `least_ms` after the last swap: the partner takes no more.
    """

    every_ms: int
    least_ms: int
    gather_ms: int


class Waiting(Struct, frozen=True):
    """Since when (ms) the oldest withdrawal and the oldest grant wait for a swap, 0 for none."""

    restricted_at: int = 0
    granted_at: int = 0


class Listed(Struct, frozen=True):
    """Which identifiers of one subject stand on a list, and the grant in `Entering` by which they do, if it is new."""

    identifiers: tuple[SealedIdentifier, ...] = ()
    by: str = ""


NOBODY = Listed()


def due_at(pace: Pace, last_at: int, waiting: Waiting) -> int | None:
    """When (ms) the next swap is due, after one that began at `last_at` (0: never); None when nothing waits for it."""
    times = []
    if waiting.granted_at:
        times.append(last_at + pace.every_ms if last_at else waiting.granted_at)
    if waiting.restricted_at:
        times.append(max(last_at + pace.least_ms if last_at else 0, waiting.restricted_at + pace.gather_ms))
    return min(times, default=None)


def begun_at(audience: Told | None) -> int:
    """When (ms) the last swap began that the partner may have heard of, 0 for none."""
    return max((each.started_at for each in _swaps(audience).values() if not each.refused), default=0)


def under_way(audience: Told | None, at: int) -> dict[str, Attempt]:
    """The swaps that may still take effect at `at` (ms), by name: while there is one, nothing else may begin."""
    return {name: each for name, each in _swaps(audience).items() if not each.refused and each.over_at >= at}


def begin(audience: Told, known: Collection[str], name: str, attempt: Attempt) -> Told | None:
    """The audience with one swap more; None when its list, cut when `known` swaps were noted, comes too late.

    Whoever has begun since may have closed what this list contradicts. So this is the fence: by compare-and-set on the
    told-state, of two lists cut at the same time only one is ever sent.
    """
    news = _swaps(audience).keys() - set(known)
    return None if news or under_way(audience, attempt.started_at) else note(audience, name, attempt)


def standing_rows(audience: Told | None) -> int | None:
    """How many rows the list has that the partner took last, None when it is not known to have taken any."""
    taken = [each for each in _swaps(audience).values() if each.evidence >= Evidence.accepted]
    return int(max(taken, key=lambda each: each.started_at).effect) if taken else None


def implausible(rows: int, before: int | None, shrink_percent: int, allowed: int | None) -> str:
    """Why a person must look at a list of so many rows before it takes the place of another, if they must.

    `before` is the number of rows of the list that stands, None when there is none of ours; `allowed` the least number
    that somebody has agreed to.
    """
    if allowed is not None and rows >= allowed:
        return ""
    if before is None:
        return "first-list"
    if rows == 0:
        return "empty-list"
    return "shrunken-list" if rows * 100 < before * (100 - shrink_percent) else ""


def listed(known: Known, recipient: Recipient, account: str, entering: Entering, rules: Rules, at: int) -> Listed:
    """What of one subject stands on the list of `account`, by what a current view knows of it at `at` (ms).

    Those stand on it whom the record permits now, by a grant that was told before, or that enters with this list; and of
    them the identifiers that no sharer's word withholds. Whoever has left the list comes back only by entering: so what
    was told stays true of every later list.
    """
    record, partner = known.record, recipient.partner
    if record is None or record.merged_into:  # the survivor speaks for both
        return NOBODY
    mine = {each.obligation_id: each for each in known.obligations if each.partner == partner.name}
    demands = [each for each in of_partner(record, partner, rules, at) if each.account == account]
    for each in demands:  # a deletion is demanded for ever; once it has been carried out, one may come back
        carried_out = mine.get(identify(record.subject_ref, each))
        if each.verb != "grant" and (each.verb != "delete" or carried_out is None or carried_out.state not in ENDED):
            return NOBODY
    granted = [identify(record.subject_ref, each) for each in demands if each.verb == "grant"]
    owed = mine.get(granted[0]) if granted else None
    if owed is None:
        return NOBODY
    groups = groups_of(record, partner)
    left_out = _left_out(known, recipient, owed, rules, at)
    if owed.obligation_id in entering:
        names = entering[owed.obligation_id]
        new = tuple(one[0] for one in groups if one[0].alias in names and one[0].alias not in left_out)
        return Listed(new, owed.obligation_id if new else "")
    if owed.state not in ANSWERED:
        return NOBODY
    where = f"{partner.name}|{account}|{owed.scope}"
    return Listed(
        tuple(
            one[0]
            for one in groups
            if one[0].alias not in left_out and recipient.permissive in possibilities(told_of(known.told, where, one))
        )
    )


def contained(calls: Iterable[Call], entered: Collection[str]) -> list[Call]:
    """What a cut contains, and a finished swap of it so closes: every stop that stood when it was begun, and the grants
    (by obligation id) whose identifiers did get onto the list.
    """
    return [each for each in calls if each.obligation.restrictive or each.obligation.obligation_id in entered]


def entering(calls: Iterable[Call]) -> dict[str, frozenset[str]]:
    """What the grants among `calls` may bring onto the list."""
    return {
        each.obligation.obligation_id: frozenset(one.alias for one in each.identifiers)
        for each in calls
        if not each.obligation.restrictive
    }


def _left_out(known: Known, recipient: Recipient, owed: Obligation, rules: Rules, at: int) -> Collection[str]:
    record = known.record
    assert isinstance(record, SubjectRecord)
    sharing = Sharing(record, known.sharers, known.crowded, known.carried_out, recipient.partner, rules, at)
    return sharing.withheld(owed, groups_of(record, recipient.partner)) if sharing.matters else ()


def _swaps(audience: Told | None) -> Mapping[str, Attempt]:
    return audience.attempts if audience else {}
