"""One partner's desk: takes subjects that are due, decides afresh, calls, and writes down what came of it.

Each partner has a desk of its own, so a slow one slows nobody else (law 8). Nothing is remembered here: a desk that
dies leaves its subjects in the due-queue and its attempts in the told-state.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

import redis
from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.reconcile import Call, Recipient, reconcile, without_permissions
from todoke.processors.retry import GiveUp, after
from todoke.schemas.errors import NotCurrent, Rejected, Retry, Split
from todoke.schemas.lanes import LaneState
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import Outcome
from todoke.sinks.exchange import Exchange

from .answers import Answers
from .batches import STARTS_WITHIN_MS, Ended, Look, Opened, cut, opened
from .creating import created
from .due import URGENCIES, Due, Entry, Lane
from .gate import Gate, Pass
from .knowing import freed_by, known_of
from .notes import Ending, Notes, Try
from .outbox import Letter
from .polling import Polling
from .quota import Past
from .said import Said
from .tools import Tools

log = logging.getLogger(__name__)
IDLE_S = 0.1
PAUSED_MS = 1000
SOON_MS = 1000
GATHER_S = 0.02
HELD = frozenset({"intake", "rival"})
# no fault of the partner: not counted, and tried again at once
OWN_REASONS = frozenset({"held", "overdue", "paused", "quota"})

Again = dict[Entry, int]


class Place(Struct, frozen=True):
    """What a desk is about: the partner and its effects, the way to it, its past, and how many partitions its lane has."""

    recipient: Recipient
    exchange: Exchange
    past: Past
    lane_partitions: int


class Desk:
    """Works off the due-queues of one partner's lanes."""

    def __init__(self, place: Place, tools: Tools, due: Due) -> None:
        """The lanes are given, and taken away, by whoever consumes the partner's topic."""
        self.place = place
        self.partner = place.recipient.partner
        self.tools = tools
        self.due = due
        self.said = Said(tools)
        self.notes = Notes(place.recipient, tools.view, tools.codec, tools.keyring, tools.topic)
        self.lanes: tuple[Lane, ...] = ()
        self.woken = asyncio.Event()
        self.stopping = False
        self.progress_at = time.monotonic()
        self.waiting = ""
        self.ordered: LaneState = "open"
        self.failure: BaseException | None = None
        self._busy: set[str] = set()
        self._rounds: set[asyncio.Task[None]] = set()
        self.gate = Gate(place.exchange, tools, self.partner.name, place.past)
        answers = Answers(self.notes, self.said, tools, due, place.lane_partitions)
        self.polling = Polling(place.exchange, answers, self.gate.calls)

    async def run(self) -> None:
        """Until `stopping`; then what is under way is finished. Raises what no round may end in: a bug, a lost key."""
        while not self.stopping:
            self.progress_at = time.monotonic()
            if self.failure:
                raise self.failure
            entries = await self._take()
            if entries:
                self._busy |= {each.subject_ref for each in entries}
                task = asyncio.create_task(self._round(entries))
                self._rounds.add(task)
                task.add_done_callback(self._finished)
            else:
                await self._nap()
        await asyncio.gather(*self._rounds)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._rounds.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failure = self.failure or error
            self.woken.set()

    async def _take(self) -> list[Entry]:
        """What is due and not in hand already, once there is enough of it or it has waited long enough for company."""
        now = self.tools.now()
        limits = self.partner.limits
        most = self.gate.round
        if not self.lanes or self.ordered == "paused" or len(self._busy) >= 2 * most:
            return []
        if not await self.gate.opens(idle=not self._rounds):
            return []
        most = limits.items if self.gate.half_open else most
        urgencies = (True,) if self.gate.restrictions_only else URGENCIES
        try:
            found = await asyncio.to_thread(self.due.pull, self.lanes, most + len(self._busy), now * 1000, urgencies)
        except (redis.ConnectionError, redis.TimeoutError):
            self.waiting = "view"
            return []
        fresh, seen = [], set(self._busy)
        for each in found:
            if each.subject_ref not in seen:
                seen.add(each.subject_ref)
                fresh.append(each)
        company = len(fresh) >= limits.items or any(each.due_at <= (now - limits.age_ms) * 1000 for each in fresh)
        return fresh[:most] if company or limits.items == 1 else []

    async def _nap(self) -> None:
        self.woken.clear()
        wait = min(IDLE_S, max(self.partner.limits.age_ms, 5) / 1000)
        try:
            await asyncio.wait_for(self.woken.wait(), wait)
        except TimeoutError:
            return
        if self.partner.limits.items > 1:  # woken, but what came may still want company
            await asyncio.sleep(wait)

    async def _round(self, entries: Sequence[Entry]) -> None:
        try:
            await self._work(entries)
            self.waiting, self.gate.breaker.unsure = "", 0
        except (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError) as error:
            # what was due stays due; whatever a call left open stands in the told-state
            if self.waiting != type(error).__name__:
                log.warning("%s waits: %s", self.partner.name, type(error).__name__)
            self.waiting = type(error).__name__
            self.gate.breaker.wait(self.tools.now())
        finally:
            self._busy -= {each.subject_ref for each in entries}

    async def _work(self, entries: Sequence[Entry]) -> None:
        """One round: everything that is due for `entries`, to its end."""
        looks = await asyncio.to_thread(self._look, entries, self.tools.now())
        await asyncio.to_thread(self._close, looks)
        wanted = opened(looks, self.tools)
        batches = list(cut(filter(self._may, wanted), self.place.exchange.connector, self.partner.limits))
        passed, short = await self.gate.admit(batches)
        tries = await self._begun(passed)
        self.gate.paced(len(entries), self.tools.now() - looks[0].decided_at)
        again: Again = {each.entry: self.tools.now() + each.wait_ms for each in looks if each.work.wait}
        again |= {each.entry: at for batch, at in short for each in batch}
        again |= {each.entry: self.tools.now() + PAUSED_MS for each in wanted if not self._may(each)}
        for each in looks:
            if each.look_at:
                again[each.entry] = min(again.get(each.entry, each.look_at), each.look_at)
        turns = {asyncio.create_task(self._turn(*each, theirs)) for each, theirs in zip(passed, tries, strict=True)}
        while turns:
            # what has ended is written down together, but never waits for a call that takes its time
            ended, turns = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
            if turns:
                more, turns = await asyncio.wait(turns, timeout=GATHER_S)
                ended |= more
            answer = await asyncio.to_thread(self._end, [end for task in ended for end in task.result()])
            for entry, at in answer.items():
                again[entry] = min(again.get(entry, at), at)
        done = [entry for entry in entries if entry not in again]
        await asyncio.to_thread(self.due.settle, done)
        await asyncio.to_thread(self.due.defer, [(entry, at * 1000) for entry, at in again.items()])

    def _may(self, wanted: Opened) -> bool:
        """Whether people let such a call go out now."""
        return self.ordered == "open" or (self.ordered == "restrictions" and wanted.call.obligation.restrictive)

    def _look(self, entries: Sequence[Entry], at: int) -> list[Look]:
        """Load what a current view knows of each subject, and decide."""
        tools = self.tools
        seen_at = tools.marks.oldest()  # before the records: whatever it speaks of is in them
        looks = []
        found = known_of(tools.view, [each.subject_ref for each in entries], self.partner.name)
        for entry, known in zip(entries, found, strict=True):
            seen = replace(known, obligations=self.said.over(known.obligations))
            work = reconcile(seen, self.place.recipient, tools.rules, at)
            if at + STARTS_WITHIN_MS > seen_at + tools.permission_bound_ms:
                work = without_permissions(work, "intake")
            for reason in {work.wait, "rival" if work.look_at else ""} & HELD:
                tools.metrics.count("todoke_obligations_held_total", self.partner.name, reason)
            looks.append(Look(entry, known.record, work, at, seen_at))
        return looks

    def _close(self, looks: Sequence[Look]) -> None:
        """Write what needs no call: settled, superseded, blocked; and make obligations that nobody else has made."""
        at = self.tools.now()
        letters: list[Letter] = []
        self.polling.expect(looks)
        for look in looks:
            work = look.work
            letters += [self.notes.receipt(owed, "reopened", at, reason) for owed, reason in work.reopened]
            letters += [self.notes.settled(owed, grade, at) for owed, grade in work.settled]
            letters += [self.notes.receipt(owed, "superseded", at, by=by) for owed, by in work.superseded]
            letters += [
                self.notes.receipt(owed, "blocked", at, reason=reason)
                for owed, reason in work.blocked
                if owed.blocked != reason
            ]
            for owed, reason in work.given_up:
                if owed.blocked != reason:
                    letters += self.notes.given_up(owed, reason, at)
                    self.tools.metrics.count("todoke_letters_total", "delivery", reason)
            if work.create:
                letters += created(self.tools, self.partner, look)
        self.said.send(letters)

    async def _begun(self, passed: Sequence[tuple[Sequence[Opened], Pass]]) -> list[list[Try]]:
        try:
            return await asyncio.to_thread(self._begin, passed)
        except BaseException:
            for _, leave in passed:
                await self.gate.over(leave)
            raise

    def _begin(self, passed: Sequence[tuple[Sequence[Opened], Pass]]) -> list[list[Try]]:
        """Make every attempt of the round durable before the first call starts. Those of one call begin with its name."""
        started_at, limits = self.tools.now(), self.partner.limits
        ends_by = started_at + STARTS_WITHIN_MS + limits.timeout_ms + limits.lingers_ms
        tries = [
            [
                Try(each.call, f"{leave.ask.name}{place:04x}", started_at, ends_by + self.polling.lingers_ms(each.call))
                for place, each in enumerate(batch)
            ]
            for batch, leave in passed
        ]
        begun = [each for theirs in tries for each in theirs]
        letters = self.notes.begun(begun, self.tools.random)
        # whoever shares an identifier, and said stop just then, looks again though we die in the midst of the call
        letters += _freed(self.tools, (each.call for each in begun))
        self.said.send(letters)
        return tries

    async def _turn(self, batch: Sequence[Opened], leave: Pass, tries: Sequence[Try]) -> list[Ended]:
        """Call when it is this batch's turn, and say how it ended for each of its obligations."""
        async with self.gate.turn(leave.ask.account):
            return await self._call(batch, leave, tries)

    async def _call(self, batch: Sequence[Opened], leave: Pass, tries: Sequence[Try]) -> list[Ended]:
        began = time.perf_counter()
        try:
            try:
                outcomes = await self._exchange(batch, leave)
            finally:
                await self.gate.over(leave)
        except Split as error:
            return await self._split(batch, tries, error)
        except Rejected as error:
            outcomes = [Outcome(grade=Evidence.none, reason=error.reason) for _ in batch]
        except Retry as error:
            self.gate.measure(len(batch), began, error.reason)
            return self._postponed(batch, tries, error)
        self.gate.breaker.answered()
        self.gate.measure(len(batch), began, "answered")
        at = self.tools.now()
        return [
            Ended(opened, each, self.polling.ending(outcome, each, at), final=bool(outcome.reason))
            for opened, each, outcome in zip(batch, tries, outcomes, strict=True)
        ]

    async def _exchange(self, batch: Sequence[Opened], leave: Pass) -> Sequence[Outcome]:
        if self.tools.now() < self.gate.breaker.held_until:
            raise Retry("held", 0, perhaps=False)
        self._guard(batch)
        if not all(map(self._may, batch)):
            raise Retry("paused", 0, perhaps=False)
        moments: list[int] = []
        try:
            return await self.place.exchange.call(
                [each.item for each in batch], self.tools.now, lambda: moments.append(self._guard(batch))
            )
        finally:
            leave.made = bool(moments)
            permitted = [each.seen_at for each in batch if not each.call.obligation.restrictive]
            if moments and permitted:
                seen = (moments[-1] - min(permitted)) / 1000
                self.tools.metrics.observe("todoke_permission_seen_seconds", seen, self.partner.name)

    def _guard(self, batch: Sequence[Opened]) -> int:
        """The time; raises when it is too late to start: the turn came late, or the connection, or this process slept.

        What was decided then may no longer hold, so it is decided again.
        """
        now = self.tools.now()
        if now > min(each.start_by for each in batch):
            raise Retry("overdue", 0, perhaps=False)
        return now

    def _postponed(self, batch: Sequence[Opened], tries: Sequence[Try], error: Retry) -> list[Ended]:
        """Not now: the whole desk waits a little, the entries longer, each by its own count of failures."""
        at = self.tools.now()
        if error.reason not in OWN_REASONS:
            self.gate.breaker.failed(error, at, self.gate.jitter())
        grade = Evidence.sent if error.perhaps else Evidence.none
        ending = Ending(at, grade, "", error.reason, refused=not error.perhaps)
        return [Ended(opened, each, ending, retry=error) for opened, each in zip(batch, tries, strict=True)]

    async def _split(self, batch: Sequence[Opened], tries: Sequence[Try], error: Split) -> list[Ended]:
        """One row spoils the batch: halves, until the row stands alone and is given up."""
        at = self.tools.now()
        ending = Ending(at, Evidence.none, "", error.reason, refused=not error.perhaps)
        if len(batch) == 1:
            return [Ended(batch[0], tries[0], ending, final=True)]
        ended = [Ended(opened, each, ending, noted=True) for opened, each in zip(batch, tries, strict=True)]
        await asyncio.to_thread(self._end, ended)
        middle = len(batch) // 2
        found: list[Ended] = []
        for half, tried in ((batch[:middle], tries[:middle]), (batch[middle:], tries[middle:])):
            # the first call has taken its time, so each half is decided afresh
            still = await asyncio.to_thread(self._still, half)
            passed, _ = await self.gate.admit([still] if still else [])
            left = {each.call.obligation.obligation_id for batch, _ in passed for each in batch}
            for (calls, leave), again in zip(passed, await self._begun(passed), strict=True):
                found += await self._call(calls, leave, again)
            late = Retry("overdue", 0, perhaps=False)
            pairs = [each for each in zip(half, tried, strict=True) if each[0].item.obligation_id not in left]
            found += [Ended(opened, each, ending, retry=late) for opened, each in pairs]
        return found

    def _still(self, batch: Sequence[Opened]) -> list[Opened]:
        """What is still to be called of a batch, decided now."""
        names = {each.item.obligation_id for each in batch}
        try:
            looks = self._look(list(dict.fromkeys(each.entry for each in batch)), self.tools.now())
        except NotCurrent:
            return []
        return [each for each in opened(looks, self.tools) if each.item.obligation_id in names]

    def _end(self, ended: Sequence[Ended]) -> Again:
        """Write down how calls ended; a final no is given up, for a person to look at. When to look at which again."""
        at = self.tools.now()
        # one that overran its time is a possibility again: somebody looks at it, though we die before the wake below
        late = [each for each in ended if each.ending.ended_at > each.tried.ends_by]
        self._hasten(late)
        self.polling.begun(ended)
        letters, overtaken = self.notes.ended([(each.tried, each.ending) for each in ended], self.tools.random)
        self.said.send(letters)
        letters = _freed(self.tools, (each.opened.call for each in ended))
        # after a permission the record is read again, and after whatever a rival may have followed
        self._hasten(each for each in ended if not each.opened.call.obligation.restrictive)
        self.due.wake(_urgent(late, at))
        again: Again = {}
        for each in ended:
            clear = overtaken.get(each.tried.attempt)
            if until := min(filter(None, [each.ending.awaited_until, clear]), default=0):
                again[each.opened.entry] = min(again.get(each.opened.entry, until), max(at, until))
        failed = [each for each in ended if self._failed(each)]
        counts = dict(zip(map(id, failed), self.due.failed([each.opened.entry for each in failed]), strict=True))
        for each in ended:
            owed, reason = each.opened.call.obligation, each.ending.reason
            if each.retry or self._failed(each):
                wait = each.retry.after if each.retry else None
                later = after(reason or "evidence-too-weak", wait, counts.get(id(each), 0), at, self.gate.jitter())
                if isinstance(later, GiveUp):
                    reason = later.reason
                else:
                    again[each.opened.entry] = min(later.at, again.get(each.opened.entry, later.at))
                    continue
            if each.opened.call.partial and not each.final:
                again[each.opened.entry] = at + SOON_MS  # to note that the rest of it waits for somebody else
            if each.final or each.retry or self._failed(each):
                letters += self.notes.given_up(owed, reason, at)
                self.tools.metrics.count("todoke_letters_total", "delivery", reason)
        self.said.send(letters)
        return again

    def _hasten(self, ended: Iterable[Ended]) -> None:
        """Have the subjects looked at again soon, whoever has their lane now."""
        self.due.hasten(_urgent(ended, self.tools.now() + SOON_MS))

    def _failed(self, each: Ended) -> bool:
        """Whether to come back: the partner could not, or gave weaker evidence than counts as done."""
        if each.retry:
            return each.retry.reason not in OWN_REASONS
        waits = each.final or each.noted or each.ending.awaited_until > 0
        return not waits and each.ending.grade < Evidence[self.partner.done]


def _urgent(ended: Iterable[Ended], at: int) -> list[Entry]:
    return [replace(each.opened.entry, restrictive=True, due_at=at * 1000) for each in ended]


def _freed(tools: Tools, calls: Iterable[Call]) -> list[Letter]:
    """Wake-ups for those who share an identifier that a permission was told of."""
    return freed_by(tools, [each.obligation for each in calls if each.shared and not each.obligation.restrictive])
