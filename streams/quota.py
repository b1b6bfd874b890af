"""What a partner may still be asked, counted in the view by all of its processes together.

A ledger is one cell, written by compare-and-set, at the time of the server that keeps it: one clock for all. Lost with the
view, it is learnt again from the `attempting` receipts, which outlive the longest window; until then only restrictions
go, and only within what is kept for them (correctness, 17).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from todoke.processors.quota import Cost, Lease, Ledger, Limit, end, give_back, learn, left, take, tidy
from todoke.schemas.codec import Codec
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Receipt

from .snapshot import Topics
from .view import Cell, View

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Past = Callable[[str, int], Iterable[tuple[str, int, Cost]]]
"""The calls of a partner since a time (ms): to which account, when (ms), and what they took."""
CALL = 12
"""So many first characters of an attempt's name name its call."""
WHOLE = "*"


class Ask(Struct, frozen=True):
    """A call that somebody would like to make; `name` is its own."""

    name: str
    account: str
    cost: Cost
    restrictive: bool


class Quota:
    """The windows of one partner. Its methods block, and raise `NotCurrent` in a view that was lost."""

    def __init__(self, view: View, partner: Partner, lasts_ms: int, past: Past) -> None:
        """Who began a call and says nothing for `lasts_ms` has died, and the call counts as ended then."""
        limits = partner.limits
        self.view = view
        self.partner = partner
        self.limit = Limit(limits.quota, limits.kept_percent)
        self.lasts_ms = lasts_ms
        self.past = past
        self.unsure: set[str] = set()

    def reserve(self, asks: Sequence[Ask]) -> list[int]:
        """For each, 0 when it may go, and is counted; else in how many ms to ask again. The earlier come first."""
        waits: dict[str, int] = {}
        for account in dict.fromkeys(self._account(each.account) for each in asks):
            mine = [each for each in asks if self._account(each.account) == account]
            waits |= self._change(account, lambda ledger, at, mine=mine: self._take(ledger, at, mine))  # type: ignore[misc]  # bound at once
        return [waits[each.name] for each in asks]

    def over(self, ask: Ask, *, made: bool) -> None:
        """The call has ended, or was never made."""

        def change(ledger: Ledger, at: int) -> tuple[Ledger, None]:
            return (end(ledger, self.limit, ask.name, ask.cost, at) if made else give_back(ledger, ask.name)), None

        self._change(self._account(ask.account), change)

    def look_up(self) -> None:
        """Learn what was spent before the view was lost, where that isn't known."""
        for account in sorted(self.unsure):
            since = self._change(account, lambda ledger, at: (ledger, at)) - self.limit.longest_ms - self.lasts_ms
            calls = self.past(self.partner.name, since)
            found = [(at, cost) for name, at, cost in calls if self._account(name) == account]

            def learnt(ledger: Ledger, _: int, found: list[tuple[int, Cost]] = found) -> tuple[Ledger, None]:
                return learn(ledger, self.limit, found, self.lasts_ms), None

            self._change(account, learnt)
            self.unsure.discard(account)
            log.warning("%s: its quota was counted anew, from %d calls", self.partner.name, len(found))

    def left(self) -> dict[tuple[str, str], int]:
        """How much restrictions may still spend, by account (`*` for all together) and window."""
        accounts = (
            [each.name for each in self.partner.accounts] if self.partner.limits.quota_per == "account" else [WHOLE]
        )
        found: dict[tuple[str, str], int] = {}
        for account in accounts:
            rooms = self._change(account, lambda ledger, at: (ledger, left(ledger, self.limit, at)))
            found |= {(account, window): room for window, room in rooms.items()}
        return found

    def _take(self, ledger: Ledger, at: int, asks: Iterable[Ask]) -> tuple[Ledger, dict[str, int]]:
        waits = {}
        for each in asks:
            ledger, when = take(
                ledger, self.limit, each.name, Lease(each.cost, at + self.lasts_ms, each.restrictive), at
            )
            waits[each.name] = max(when - at, 1) if when else 0
        return ledger, waits

    def _account(self, name: str) -> str:
        return name if self.partner.limits.quota_per == "account" else WHOLE

    def _change(self, account: str, change: Callable[[Ledger, int], tuple[Ledger, Answer]]) -> Answer:
        cell = Cell(self.view.key("quota", self.partner.name), account)
        while True:
            raw, clock = self.view.read([("HGET", cell.key, cell.field), ("TIME",)])
            at = int(clock[0]) * 1000 + int(clock[1]) // 1000
            before = msgspec.json.decode(raw, type=Ledger) if raw else Ledger()
            after, answer = change(tidy(before, self.limit, at), at)
            if after.known_from:
                self.unsure.add(account)
            if after == before or self.view.swap([(cell, raw or b"", msgspec.json.encode(after))])[0]:
                return answer


def calls_since(topics: Topics, codec: Codec) -> Past:
    """The past as the receipts have it, of whatever partner: one attempt each, and those of one call by its name."""

    def past(partner: str, since: int) -> Iterable[tuple[str, int, Cost]]:
        calls: Counter[tuple[str, int, str]] = Counter()
        for message in topics.read("receipts", since=since):
            each: Any = codec.decode(message.value() or b"", Receipt)
            if each.kind == "attempting" and each.partner == partner and each.at >= since:
                calls[each.account, each.at, each.attempt[:CALL]] += 1
        return [(account, at, Cost(1, items)) for (account, at, _), items in calls.items()]

    return past
