"""What stands between a desk and its partner: the order of calls, quota, how many run at once, and the breaker.

A dead partner must cost next to nothing, and must not be met by everybody who waited when it comes back: after some
failures in a row one call at a time goes out, or the call that tells of nobody, until one is answered.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import redis
from msgspec import Struct

from todoke.processors.quota import Cost
from todoke.processors.retry import GiveUp, after
from todoke.schemas.errors import NotCurrent, Rejected, Retry
from todoke.sinks.exchange import Exchange

from .batches import STARTS_WITHIN_MS, Opened
from .quota import CALL, Ask, Past, Quota
from .tools import Tools

log = logging.getLogger(__name__)
OPENS_AFTER = 5
AHEAD = 4
ROUND = 500
"""So many people are looked at in a first round; then as many as can be made ready in time."""
LONGEST_HOLD_MS = 30_000
THROTTLED = frozenset({"throttled", "quota-minute", "quota-day", "http-429"})
"""Reasons with which a partner says when it may be called again: that is waited for, however long."""
LONGEST_PAUSE_MS = 4_000
FIRST = {"suspend": 0, "withdraw": 1, "delete": 2, "grant": 3}
"""The order of calls: whoever waits longest for a deletion waits by law for weeks, for a stop not at all."""
STATES = {"closed": 0, "half-open": 1, "open": 2}


class Pass(Struct):
    """The leave to make one call. `made`: it may have reached the partner."""

    ask: Ask
    made: bool = False


class Breaker:
    """Counts the failures of a partner in a row, and holds its calls back for longer after each."""

    def __init__(self, *, alone: bool) -> None:
        """`alone`: what the partner says of its limits, it says of all its accounts."""
        self.alone = alone
        self.failures = 0
        self.unsure = 0
        self.held_until = 0

    def hold(self, until: int) -> None:
        """No call before `until` (ms)."""
        self.held_until = max(self.held_until, until)

    def wait(self, at: int) -> None:
        """Nothing can be decided at `at` (ms): ever longer pauses leave the machine to who mends the view."""
        self.unsure += 1
        self.hold(at + min(250 * 2 ** min(self.unsure, 5), LONGEST_PAUSE_MS))

    def failed(self, error: Retry, at: int, jitter: float) -> None:
        """The partner could not, at `at` (ms)."""
        self.failures += 1
        later = after(error.reason, error.after, min(self.failures, 20), at, jitter)
        if error.reason in THROTTLED and error.after is not None and self.alone and not isinstance(later, GiveUp):
            self.hold(later.at)  # until then every call would be refused, and may count against us
            return
        longest = at + LONGEST_HOLD_MS
        self.hold(longest if isinstance(later, GiveUp) else min(later.at, longest))

    def answered(self) -> None:
        """The partner is there."""
        self.failures = 0

    def state(self, at: int) -> str:
        """Closed: all may go; half-open: one; open: none."""
        if self.failures < OPENS_AFTER:
            return "closed"
        return "open" if at < self.held_until else "half-open"


class Gate:
    """The gate of one desk."""

    def __init__(self, exchange: Exchange, tools: Tools, name: str, past: Past) -> None:
        """`name` is the partner's."""
        partner = tools.rules.registry.partner(name)
        assert partner is not None  # a desk is made of the registry
        self.exchange = exchange
        self.tools = tools
        self.partner = partner
        self.breaker = Breaker(alone=partner.limits.quota_per == "partner")
        self.calls = asyncio.Semaphore(partner.limits.concurrency)
        self.short_until = {True: 0, False: 0}
        self._most = partner.limits.items * partner.limits.concurrency * AHEAD
        self.round = min(self._most, ROUND)
        most = partner.limits.account_concurrency or partner.limits.concurrency
        self._accounts: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(most))
        lasts_ms = (
            STARTS_WITHIN_MS + 3 * partner.limits.timeout_ms
        )  # a token, the call, and the call with another token
        self.quota = Quota(tools.view, partner, lasts_ms, past) if partner.limits.quota else None

    async def opens(self, *, idle: bool) -> bool:
        """Whether anything may go now; half-open only while the desk is `idle`, and by the partner's probe if it has one."""
        now, breaker = self.tools.now(), self.breaker
        state = breaker.state(now)
        self.tools.metrics.set("todoke_breaker_state", STATES[state], self.partner.name)
        if state == "closed":
            return now >= max(breaker.held_until, min(self.short_until.values()))
        if state == "open" or not idle:
            return False
        if self.exchange.connector.probe is None:
            return True
        try:
            await self.exchange.probe(self.tools.now)
        except (Retry, Rejected) as error:
            retry = error if isinstance(error, Retry) else Retry(error.reason, None, perhaps=False)
            breaker.failed(retry, self.tools.now(), self.jitter())
            return False
        breaker.answered()
        return True

    def paced(self, people: int, took_ms: int) -> None:
        """A round of so many was ready to be called after so long: make the next one smaller, or larger.

        A call starts within a second of its decision or not at all, so a round that takes longer to make ready is never
        called, however often it is tried.
        """
        if took_ms > STARTS_WITHIN_MS // 2:
            self.round = max(min(self.round, people) // 2, 1)
        elif took_ms < STARTS_WITHIN_MS // 4 and people >= self.round:
            self.round = min(self.round * 2, self._most)

    @property
    def restrictions_only(self) -> bool:
        """Whether the quota has nothing left for permissions now."""
        return self.tools.now() < self.short_until[False]

    @property
    def half_open(self) -> bool:
        """Whether one call has to show that the partner is back."""
        return self.breaker.failures >= OPENS_AFTER

    async def admit(
        self, batches: Sequence[list[Opened]]
    ) -> tuple[list[tuple[list[Opened], Pass]], list[tuple[list[Opened], int]]]:
        """The batches that may be called now, the most urgent first; and those that may not, with when (ms) to ask again."""
        ordered = sorted(batches, key=_urgency)
        asks = [self._ask(each) for each in ordered]
        waits = [0 for _ in asks]
        if self.half_open:
            waits[1:] = [LONGEST_HOLD_MS // 10 for _ in waits[1:]]
        if self.quota and asks:
            may = [place for place, wait in enumerate(waits) if not wait]
            found = await asyncio.to_thread(self.quota.reserve, [asks[place] for place in may])
            for place, wait in zip(may, found, strict=True):
                waits[place] = wait
                self._short(asks[place], wait)
        now = self.tools.now()
        passed = [(batch, Pass(ask)) for batch, ask, wait in zip(ordered, asks, waits, strict=True) if not wait]
        return passed, [(batch, now + wait) for batch, wait in zip(ordered, waits, strict=True) if wait]

    @asynccontextmanager
    async def turn(self, account: str) -> AsyncIterator[None]:
        """The place of one call among those that run at once."""
        async with self._accounts[account], self.calls:
            yield

    async def over(self, passed: Pass) -> None:
        """The call has ended; what was never made is given back."""
        if self.quota:
            try:
                await asyncio.to_thread(self.quota.over, passed.ask, made=passed.made)
            except (NotCurrent, redis.ConnectionError, redis.TimeoutError):
                log.warning(
                    "%s: a call's end was not counted: its place comes free when its time is over", self.partner.name
                )

    async def counting(self) -> None:
        """Keep what is left of the quota known: one step, now and then."""
        if self.quota:
            if self.quota.unsure:
                await asyncio.to_thread(self.quota.look_up)
            for (account, window), room in (await asyncio.to_thread(self.quota.left)).items():
                self.tools.metrics.set("todoke_quota_left", room, self.partner.name, account, window)

    def measure(self, items: int, began: float, outcome: str) -> None:
        """Count a call that began at `began`, by the performance counter."""
        metrics, name = self.tools.metrics, self.partner.name
        metrics.count("todoke_calls_total", name, outcome)
        metrics.observe("todoke_call_seconds", time.perf_counter() - began, name)
        metrics.observe("todoke_call_items", items, name)

    def jitter(self) -> float:
        """From 0 to 1."""
        return self.tools.random(1)[0] / 255

    def _ask(self, batch: Sequence[Opened]) -> Ask:
        restrictive = all(each.call.obligation.restrictive for each in batch)
        name = self.tools.random(CALL // 2).hex()
        return Ask(name, batch[0].item.account, Cost(1, len(batch)), restrictive)

    def _short(self, ask: Ask, wait: int) -> None:
        if wait:
            kind = "restrictive" if ask.restrictive else "permissive"
            self.tools.metrics.count("todoke_quota_waits_total", self.partner.name, kind)
            if self.partner.limits.quota_per == "partner":  # another account may have room
                self.short_until[ask.restrictive] = max(self.short_until[ask.restrictive], self.tools.now() + wait)


def _urgency(batch: Sequence[Opened]) -> tuple[int, bool, int]:
    owed = [each.call.obligation for each in batch]
    return (
        min(FIRST[each.verb] for each in owed),
        all(each.cause == "policy" for each in owed),  # what a change of rules brought up
        min(each.deadline_at or each.appended_at for each in owed),
    )
