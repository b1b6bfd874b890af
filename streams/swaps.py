"""Partners whose lists are swapped: a desk that calls nobody, and beside it, per audience, one swap at a time.

The desk looks at whoever is due and notes who waits. A swap is one call for all of them: every obligation that its cut
contains is attempted, durably, before the list is sent, and ends with the job that the list becomes (`polling`, `answers`).
See docs/decisions/0018.
"""

import asyncio
import logging
from collections.abc import Sequence

import redis

from todoke.processors.retry import GiveUp, after
from todoke.processors.swaps import Pace, begun_at, due_at, implausible, standing_rows, under_way
from todoke.schemas.errors import NotCurrent, Rejected, Retry, Split
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, Outcome
from todoke.sinks.swaps import HOUR_MS, MINUTE_MS, Swapped

from .audiences import Refusal
from .batches import Look
from .cutting import Cut, Cutter
from .desk import Desk, Place
from .due import Due, Entry
from .notes import Ending
from .swapnotes import Swap, SwapNotes
from .tools import Tools

log = logging.getLogger(__name__)
IDLE_S = 1.0
AGAIN_MS = 5_000
"""Until it is tried again what could not be begun, or had nothing to contain when it was looked at."""
MOST_FAILURES = 20
NOTES = 30
"""So often it is tried, once a second, to write down how an upload ended."""
UNSURE = (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError)
NO_RESULT = Outcome(grade=Evidence.sent, reason="no-result")
NEVER_ARRIVED = Outcome(grade=Evidence.none, reason="never-arrived")


class SwapDesk(Desk):
    """Works off the due-queues of one partner's lanes by noting who waits, and swaps the lists."""

    def __init__(self, place: Place, tools: Tools, due: Due) -> None:
        """The connector of `place` is a `Swapped` one."""
        super().__init__(place, tools, due)
        self.swaps = Swaps(self)

    async def run(self) -> None:
        """As any desk, with the swaps beside it."""
        await asyncio.gather(super().run(), self.swaps.run())

    def look(self, entries: Sequence[Entry], at: int) -> list[Look]:
        """What a current view says of each now."""
        return self._look(entries, at)

    async def _work(self, entries: Sequence[Entry]) -> None:
        """One round: everything that needs no call is done, the rest waits for a swap."""
        looks = await asyncio.to_thread(self.look, entries, self.tools.now())
        await asyncio.to_thread(self._close, looks)
        await asyncio.to_thread(self.swaps.audiences.want, [call for each in looks for call in each.work.calls])
        now = self.tools.now()
        again = {each.entry: now + each.wait_ms for each in looks if each.work.wait}
        for each in looks:
            if each.look_at:
                again[each.entry] = min(again.get(each.entry, each.look_at), each.look_at)
        await asyncio.to_thread(self.due.settle, [each for each in entries if each not in again])
        await asyncio.to_thread(self.due.defer, [(entry, at * 1000) for entry, at in again.items()])


class Swaps:
    """The audiences of one partner, from the first that waits to the job that has finished."""

    def __init__(self, desk: SwapDesk) -> None:
        """What the desk has is used: its looks, its notes, its way to the partner."""
        connector = desk.place.exchange.connector
        assert isinstance(connector, Swapped)
        assert connector.polls is not None
        self.desk = desk
        self.connector = connector
        self.polls = connector.polls
        self.partner = desk.partner
        self.tools = desk.tools
        self.cutter = Cutter(desk.tools, desk.place.recipient, connector, desk.look, desk.place.lane_partitions)
        self.audiences = self.cutter.audiences
        pacing = connector.pacing
        self.pace = Pace(
            pacing.swap_every_hours * HOUR_MS,
            pacing.swap_least_minutes * MINUTE_MS,
            pacing.swap_gather_minutes * MINUTE_MS,
        )
        self.accounts = [each.name for each in self.partner.accounts]
        self.job_ms = pacing.job_hours * HOUR_MS
        self.notes = SwapNotes(desk, self.audiences, self.job_ms, self.polls.first_ms)
        self._token = desk.tools.random(8).hex()
        self._held_until: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._tidied_at: dict[str, int] = {}
        self._asked_at: dict[str, int] = {}

    async def run(self) -> None:
        """Until the desk stops. Raises what no swap may end in: a bug, a lost key."""
        while not self.desk.stopping:
            for account in self.accounts:
                try:
                    await self.step(account)
                except UNSURE as error:  # nothing was sent, or what was sent stands in the told-state
                    why = str(error) if isinstance(error, NotCurrent | Retry) else type(error).__name__
                    log.warning("%s %s: its swap waits: %s", self.partner.name, account, why)
                    self._hold(account, self.tools.now() + AGAIN_MS)
            await self._nap()

    async def _nap(self) -> None:
        for _ in range(10):
            if not self.desk.stopping:
                await asyncio.sleep(IDLE_S / 10)

    async def step(self, account: str) -> None:
        """Swap the list of `account` if that is due; judge the swap that is under way."""
        told, *_ = await asyncio.to_thread(self.audiences.told, [account])
        await asyncio.to_thread(self._show, account, told)
        if told and self.desk.lanes:
            await self._judge(account, told)
        if under_way(told, self.tools.now()) or not await asyncio.to_thread(self._due, account, told):
            return
        if not await asyncio.to_thread(self.audiences.take_turn, self._token):
            return
        try:
            await self._swap(account)
        finally:
            await asyncio.to_thread(self.audiences.end_turn, self._token)

    def _due(self, account: str, told: Told | None) -> bool:
        """Whether a swap is to be begun now, as far as pace, orders, quota and people let it."""
        now, desk = self.tools.now(), self.desk
        if not desk.lanes or desk.ordered == "paused":
            return False
        held = self._held_until.get(account, 0)
        if now < held and not (self.audiences.refused(account) is None and self.audiences.allowed(account) is not None):
            return False
        reported = max((each.reported_at for each in told.attempts.values()), default=0) if told else 0
        if reported > self._tidied_at.get(account, 0):  # whoever was in the last list waits no more
            self.cutter.asked(account, grants=True)
            self._tidied_at[account] = reported
        waiting = self.audiences.waiting(account, grants=desk.ordered == "open")
        at = due_at(self.pace, begun_at(told), waiting)
        if at is None or at > now:
            return False
        others = self.audiences.told(self.accounts)
        return sum(bool(under_way(each, now)) for each in others) < self.connector.at_once

    async def _swap(self, account: str) -> None:
        # before the cut: whatever is begun after this look makes the list void
        (told,) = await asyncio.to_thread(self.audiences.told, [account])
        if under_way(told, self.tools.now()):
            return
        known = frozenset(told.attempts) if told else frozenset[str]()
        grants = self.desk.ordered == "open"
        cut = await asyncio.to_thread(self.cutter.cut, account, grants=grants, keep=self._keep)
        if cut is None:
            self._hold(account, self.tools.now() + AGAIN_MS)
            return
        try:
            await self._send(cut, told, known)
        finally:
            cut.spool.close()

    async def _send(self, cut: Cut, told: Told | None, known: frozenset[str]) -> None:
        account, rows = cut.account, cut.spool.rows
        allowed = await asyncio.to_thread(self.audiences.allowed, account)
        shrink = self.connector.pacing.shrink_percent
        if reason := implausible(rows, standing_rows(told), shrink, allowed):
            await asyncio.to_thread(self._refuse, account, Refusal(reason, rows))
            return
        try:
            reference = await self._reference(account)
            swap = await asyncio.to_thread(self.notes.begun, cut, known, reference)
        except (Rejected, Split) as error:
            self._postpone(account, Retry(error.reason, SOMEBODY_MUST_ACT_S, perhaps=False))
            return
        except Retry as error:
            self._postpone(account, error)
            return
        if swap is None:
            self._count("overtaken")
            return
        ending, failure = await self._upload(swap)
        await self._note(swap, ending)
        self._count("accepted" if ending.grade >= Evidence.accepted else ending.reason)
        if failure:
            self._postpone(account, failure)
        else:
            self._failures.pop(account, None)

    async def _note(self, swap: Swap, ending: Ending) -> None:
        """Write down how the upload ended, with some patience: who doesn't know has to wait until the job is asked about."""
        for _ in range(NOTES):
            try:
                await asyncio.to_thread(self.notes.ended, swap, ending)
            except UNSURE:
                await asyncio.sleep(IDLE_S)
            else:
                return
        await asyncio.to_thread(self.notes.ended, swap, ending)

    async def _reference(self, account: str) -> str:
        """By what name the job will be asked about, known before it is begun."""
        connector, now = self.connector, self.tools.now
        if connector.before(account, now()) is None:
            return connector.reference(account, None)

        def question() -> HttpRequest:
            asked = connector.before(account, now())
            assert asked is not None
            return asked

        put = self.desk.place.exchange.put
        return await put(question, lambda answer: connector.reference(account, answer), now, None)

    async def _upload(self, swap: Swap) -> tuple[Ending, Retry | None]:
        """Send the list, at most once."""
        account, spool, now = swap.cut.account, swap.cut.spool, self.tools.now

        def guard() -> None:
            if now() > swap.start_by:
                raise Retry("overdue", 0, perhaps=False)
            if self.desk.ordered == "paused":
                raise Retry("paused", 0, perhaps=False)

        try:
            guard()
            outcome = await self.desk.place.exchange.put(
                lambda: self.connector.upload(account, spool, now()),
                lambda answer: self.connector.taken(account, swap.reference, answer),
                now,
                guard,
            )
        except Retry as error:
            grade = Evidence.sent if error.perhaps else Evidence.none
            return Ending(now(), grade, "", error.reason, refused=not error.perhaps), error
        except (Rejected, Split) as error:
            failure = Retry(error.reason, SOMEBODY_MUST_ACT_S, perhaps=False)
            return Ending(now(), Evidence.none, "", error.reason, refused=True), failure
        return Ending(now(), outcome.grade, outcome.reference), None

    async def _judge(self, account: str, told: Told) -> None:
        """Say of swaps whose time is over, or that never reached the partner, what can be said of them.

        Who waits for them is told the same way as by an answer of the partner's, and so are swapped again.
        """
        now = self.tools.now()
        for each in told.attempts.values():
            if not each.awaited:
                continue
            if now >= each.started_at + self.job_ms:
                await self._answer(each, NO_RESULT)
            elif each.grade < Evidence.accepted and now >= max(
                each.started_at + self.notes.call_ms, self._asked_at.get(account, 0)
            ):
                self._asked_at[account] = now + self.polls.every_ms
                if await self._arrived(each.reference) is False:
                    await self._answer(each, NEVER_ARRIVED)

    async def _arrived(self, reference: str) -> bool | None:
        now = self.tools.now
        return await self.desk.place.exchange.put(
            lambda: self.polls.ask([reference], now()),
            lambda answer: self.connector.arrived(reference, answer),
            now,
            None,
        )

    async def _answer(self, swap: Attempt, outcome: Outcome) -> None:
        log.warning("%s: a swap that was sent: %s", self.partner.name, outcome.reason)
        self._count(outcome.reason)
        await asyncio.to_thread(self.desk.polling.answers.take, {swap.reference: outcome})

    def _refuse(self, account: str, refusal: Refusal) -> None:
        """A list that would empty an audience by mistake waits for a person, who sees how long it is."""
        if self.audiences.refused(account) != refusal:
            where, rows = f"{self.partner.name} {account}", refusal.rows
            log.warning("%s: %s of %d rows waits for a person: see `todoke swaps list`", where, refusal.reason, rows)
        self.audiences.refuse(account, refusal)
        self._count(refusal.reason)
        self._hold(account, self.tools.now() + self.pace.least_ms)

    def _postpone(self, account: str, error: Retry) -> None:
        self._failures[account] = self._failures.get(account, 0) + 1
        at = self.tools.now()
        later = after(
            error.reason, error.after, min(self._failures[account], MOST_FAILURES), at, self.tools.random(1)[0] / 255
        )
        self._hold(account, at + self.pace.least_ms if isinstance(later, GiveUp) else later.at)
        log.warning("%s %s: its swap waits: %s", self.partner.name, account, error.reason)

    def _hold(self, account: str, until: int) -> None:
        self._held_until[account] = max(self._held_until.get(account, 0), until)

    def _keep(self) -> None:
        """Go on making a list: while it is our turn, and nobody has us stop."""
        if self.desk.stopping or not self.audiences.take_turn(self._token):
            raise Retry("held", 0, perhaps=False)

    def _show(self, account: str, told: Told | None) -> None:
        metrics, name = self.tools.metrics, self.partner.name
        oldest = self.audiences.waiting(account).restricted_at
        metrics.set("todoke_swap_oldest_timestamp_seconds", oldest / 1000, name, account)
        metrics.set("todoke_swap_refused", self.audiences.refused(account) is not None, name, account)
        rows = standing_rows(told)
        if rows is not None:
            metrics.set("todoke_swap_rows", rows, name, account)

    def _count(self, outcome: str) -> None:
        self.tools.metrics.count("todoke_swaps_total", self.partner.name, outcome)
