"""How much a partner may still be asked: several windows at once, and a share kept for restrictions (correctness, 17).

Pure functions of a ledger to a ledger; whoever holds it writes it by compare-and-set. What is counted is never less than
what the partner can have counted: a call counts from its reservation until a whole window after its end. Were calls
counted by their beginnings, two that took differently long could reach the partner closer together than they began.
"""

from collections.abc import Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from todoke.schemas.quota import Window

SOON_MS = 50


class Cost(Struct, frozen=True):
    """What one call takes out of windows."""

    calls: int = 1
    items: int = 0


class Lease(Struct, frozen=True):
    """A call that may be under way until `until` (ms), and what it takes."""

    cost: Cost
    until: int
    restrictive: bool


class Ledger(Struct, frozen=True):
    """What was spent, by window and part (its number, as text), and who is under way, by lease.

    `windows` are those that were counted. While `known_from` (ms) is not 0, what was spent before that moment is unknown.
    """

    windows: tuple[str, ...] = ()
    spent: dict[str, dict[str, int]] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    known_from: int = 0


class Limit(Struct, frozen=True):
    """The windows of one partner or account, and how many of a hundred only restrictions may spend."""

    windows: tuple[Window, ...]
    kept_percent: int

    @property
    def longest_ms(self) -> int:
        """How far back the past counts."""
        return max((each.seconds for each in self.windows), default=0) * 1000


def take(ledger: Ledger, limit: Limit, name: str, lease: Lease, at: int) -> tuple[Ledger, int]:
    """The ledger with a lease under `name`, and 0; or the same without, and when (ms) to ask again."""
    ledger = tidy(ledger, limit, at)
    wait = max((_wait(ledger, limit, each, lease, at) for each in limit.windows), default=0)
    return (ledger, wait) if wait else (replace(ledger, leases={**ledger.leases, name: lease}), 0)


def end(ledger: Ledger, limit: Limit, name: str, cost: Cost, at: int) -> Ledger:
    """The call has ended: from now on it counts for the length of each window.

    Without a lease it was given up for dead and counted then, or the ledger was lost while it ran. Nobody knows which, so
    what it `cost` is counted now: once too often at worst.
    """
    return give_back(_spend(ledger, limit, cost, at), name)


def give_back(ledger: Ledger, name: str) -> Ledger:
    """The call was never made: nothing is counted."""
    return replace(ledger, leases={key: each for key, each in ledger.leases.items() if key != name})


def learn(ledger: Ledger, limit: Limit, past: Iterable[tuple[int, Cost]], lasts_ms: int = 0) -> Ledger:
    """The ledger with the past that was unknown: when (ms) calls began, and what they took.

    A call may have reached the partner up to `lasts_ms` after it began, so that is where it is counted.
    """
    if not ledger.known_from:
        return ledger
    for at, cost in past:
        if at < ledger.known_from:
            ledger = _spend(ledger, limit, cost, min(at + lasts_ms, ledger.known_from))
    return replace(ledger, known_from=0)


def tidy(ledger: Ledger, limit: Limit, at: int) -> Ledger:
    """Count whoever died on the way as if the call ended now, and forget what no window reaches back to.

    Of a window that is new here the past is unknown: it counts as spent, but for what is kept for restrictions.
    """
    keys = tuple(sorted(each.key for each in limit.windows))
    if not set(keys) <= set(ledger.windows):
        ledger = replace(ledger, known_from=at)
    for name, lease in [(name, each) for name, each in ledger.leases.items() if each.until <= at]:
        ledger = end(ledger, limit, name, lease.cost, at)
    spent = {}
    for each in limit.windows:
        first = _part(each, at - each.seconds * 1000)
        if parts := {part: count for part, count in ledger.spent.get(each.key, {}).items() if int(part) >= first}:
            spent[each.key] = parts
    over = ledger.known_from + limit.longest_ms <= at
    return replace(ledger, windows=keys, spent=spent, known_from=0 if over else ledger.known_from)


def left(ledger: Ledger, limit: Limit, at: int) -> dict[str, int]:
    """How much of each window, by its key, a restriction may still spend now."""
    ledger = tidy(ledger, limit, at)
    return {
        each.key: max(_room(ledger, limit, each, at, restrictive=True) - _used(ledger, each), 0)
        for each in limit.windows
    }


def _room(ledger: Ledger, limit: Limit, window: Window, at: int, *, restrictive: bool) -> int:
    """How much of a window such a call may see spent."""
    reserve = window.kept(limit.kept_percent)
    if ledger.known_from and ledger.known_from > at - window.seconds * 1000:
        return reserve if restrictive else 0
    return window.most if restrictive else window.most - reserve


def _used(ledger: Ledger, window: Window) -> int:
    running = sum(_of(each.cost, window) for each in ledger.leases.values())
    return running + sum(ledger.spent.get(window.key, {}).values())


def _wait(ledger: Ledger, limit: Limit, window: Window, lease: Lease, at: int) -> int:
    """When to ask this window again; 0 when it has room."""
    over = (
        _used(ledger, window)
        + _of(lease.cost, window)
        - _room(ledger, limit, window, at, restrictive=lease.restrictive)
    )
    if over <= 0:
        return 0
    for part, count in sorted((int(part), count) for part, count in ledger.spent.get(window.key, {}).items()):
        over -= count
        if over <= 0:
            return (part + 1) * window.part_ms + window.seconds * 1000
    return at + max(window.part_ms, SOON_MS)  # it hangs on calls under way, or on a past that somebody is looking up


def _spend(ledger: Ledger, limit: Limit, cost: Cost, at: int) -> Ledger:
    spent = dict(ledger.spent)
    for each in limit.windows:
        if amount := _of(cost, each):
            parts, part = spent.get(each.key, {}), str(_part(each, at))
            spent[each.key] = {**parts, part: parts.get(part, 0) + amount}
    return replace(ledger, spent=spent)


def _part(window: Window, at: int) -> int:
    return at // window.part_ms


def _of(cost: Cost, window: Window) -> int:
    return cost.calls if window.counted == "calls" else cost.items
