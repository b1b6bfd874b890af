"""Asking a partner what became of jobs, over restarts: a loop of its own for each partner, beside its desk.

What to ask, and when, stands in the view (`jobs`); what was answered goes the way of `answers`. Nothing is remembered here.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import redis

from todoke.processors.jobs import Ask
from todoke.processors.reconcile import Call
from todoke.processors.retry import GiveUp, after
from todoke.schemas.errors import NotCurrent, Rejected, Retry, Split
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import Outcome
from todoke.sinks.exchange import Exchange

from .answers import Answers, final
from .batches import Ended, Look
from .notes import Ending, Try

log = logging.getLogger(__name__)
IDLE_S = 0.5
LOST_MS = 60_000
"""For how long, besides the time that two calls may take, nobody else asks what somebody has begun to ask."""
SPREAD_MS = 60_000
"""Within this time questions are put that were due already: after a rebuilding of the view, there may be many."""
AGAIN_MS = 5_000
"""Until what was answered is asked for again, if the view could not take the answer."""
UNASKED_MS = 7 * 86_400_000
"""How long a job is waited for where the partner reports by itself, and can't be asked."""
UNSURE = (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError)


class Polling:
    """The jobs of one partner, from the call that began one to the answer. Without polls it only waits for reports."""

    def __init__(self, exchange: Exchange, answers: Answers, calls: asyncio.Semaphore) -> None:
        """`calls` is the partner's limit of calls at a time, shared with its desk."""
        self.exchange = exchange
        self.answers = answers
        self.jobs = answers.jobs
        self.tools = answers.tools
        self.partner = answers.partner
        self.polls = exchange.connector.polls
        self.reports = exchange.connector.callbacks is not None
        self.lasts_ms = self.polls.ends_ms if self.polls else UNASKED_MS
        self._calls = calls
        self._held_until = 0
        self._failures = 0

    def ending(self, outcome: Outcome, tried: Try, at: int) -> Ending:
        """How a call ended at `at` (ms): perhaps with a job, which is waited for where it is less than counts as done."""
        hears = self.polls is not None or self.reports
        taken = outcome.grade >= Evidence.accepted and not outcome.reason
        job = outcome.reference if hears and taken else ""
        waits = bool(job) and outcome.grade < Evidence[self.partner.done]
        return Ending(
            at,
            outcome.grade,
            outcome.reference,
            outcome.reason,
            refused=not outcome.grade,
            job=job,
            awaited_until=tried.started_at + self.lasts_ms if waits else 0,
        )

    def lingers_ms(self, call: Call) -> int:
        """How long after its time-out a call may still take effect, besides what the limits say: as a job that we never hear of.

        Only of a permission is it feared: what takes one away may come late, but comes in the right direction.
        """
        waits = self.partner.done not in {"sent", "accepted"} and (self.polls is not None or self.reports)
        return self.lasts_ms if waits and not call.obligation.restrictive else 0

    def begun(self, ended: Iterable[Ended]) -> None:
        """Note the jobs that calls became, before the calls' ends are: who dies in between has noted too much at worst."""
        self._expect((each.opened.entry.subject_ref, _ask(each)) for each in ended if each.ending.job)

    def expect(self, looks: Iterable[Look]) -> None:
        """Note the jobs that somebody waits for, once more: the view may have lost them."""
        self._expect((look.entry.subject_ref, ask) for look in looks for ask in look.work.asks)

    def _expect(self, jobs: Iterable[tuple[str, Ask]]) -> None:
        wanted, now = list(jobs), self.tools.now()
        due_at = {}
        for _, ask in wanted:
            if self.polls and ask.until:
                first = ask.began_at + self._about(self.polls.first_ms)
                late = now + min(self.polls.every_ms, SPREAD_MS) * self._jitter() / 2
                due_at[ask.reference] = first if first > now else int(late)
        if wanted:
            self.jobs.expect(wanted, due_at)

    async def run(self, may: Callable[[], bool], stopping: Callable[[], bool]) -> None:
        """Ask until `stopping`, whenever one `may`. Raises what no question may end in: a bug."""
        while not stopping():
            asked = 0
            try:
                asked = await self.step() if may() else 0
            except UNSURE as error:  # whatever was claimed is due again when its time is over
                log.warning("%s: questions wait: %s", self.partner.name, type(error).__name__)
            if not asked:
                await asyncio.sleep(IDLE_S)

    async def step(self) -> int:
        """Ask what is due, as much as may be asked at a time. How many references that was."""
        now = self.tools.now()
        if now < self._held_until:
            return 0
        if self.polls is None:
            await asyncio.to_thread(self.jobs.forget_before, now - self.lasts_ms)
            return 0
        limits, most = self.partner.limits, self.polls.most
        until = now + LOST_MS + 4 * limits.timeout_ms
        due = await asyncio.to_thread(self.jobs.claim, most * limits.concurrency, now, until)
        questions = [due[start : start + most] for start in range(0, len(due), most)]
        await asyncio.gather(*(self._ask(each) for each in questions))
        return len(due)

    async def _ask(self, references: Sequence[str]) -> None:
        try:
            async with self._calls:
                outcomes = await self.exchange.ask(references, self.tools.now)
        except Retry as error:
            await asyncio.to_thread(self._postpone, references, error)
            return
        except (Split, Rejected) as error:
            if len(references) > 1:
                middle = len(references) // 2
                await self._ask(references[:middle])
                await self._ask(references[middle:])
                return
            self._count(error.reason)
            outcomes = [None]  # a question that is refused tells nothing of the job
        else:
            self._failures = 0
            for each in outcomes:
                self._count(_named(each))
        try:
            await asyncio.to_thread(self._hear, dict(zip(references, outcomes, strict=True)))
        except NotCurrent:
            await asyncio.to_thread(self.jobs.later, dict.fromkeys(references, self.tools.now() + AGAIN_MS))
            raise

    def _hear(self, heard: dict[str, Outcome | None]) -> None:
        answers = {name: each for name, each in heard.items() if each is not None and final(each)}
        unknown = sorted(answers.keys() - self.answers.take(answers)) if answers else []
        if unknown:
            log.warning("%s: %d jobs concern nobody any more", self.partner.name, len(unknown))
        self.jobs.let_go(unknown)
        assert self.polls is not None
        now = self.tools.now()
        waiting = sorted(heard.keys() - answers.keys())
        began = dict(zip(waiting, self.jobs.began(waiting), strict=True))
        over = [name for name in waiting if began[name] + self.lasts_ms <= now]
        self.jobs.let_go(over)  # whoever waits for it is looked at when its time is over, and gives it up
        every = self.polls.every_ms
        self.jobs.later({name: now + self._about(every) for name in waiting if name not in over})

    def _postpone(self, references: Sequence[str], error: Retry) -> None:
        """Not now: no question is put for a while, these after that."""
        assert self.polls is not None
        self._failures += 1
        now = self.tools.now()
        later = after(error.reason, error.after, min(self._failures, 20), now, self._jitter())
        at = now + self.polls.every_ms if isinstance(later, GiveUp) else later.at
        self._held_until = max(self._held_until, min(at, now + max(self.polls.every_ms, SPREAD_MS)))
        self._count(error.reason, by=len(references))
        self.jobs.later(dict.fromkeys(references, at))

    def _about(self, wait_ms: int) -> int:
        """The wait, or up to a tenth longer, so that what was begun together is not asked for together."""
        return int(wait_ms * (1 + self._jitter() / 10))

    def _jitter(self) -> float:
        return self.tools.random(1)[0] / 255

    def _count(self, outcome: str, by: int = 1) -> None:
        self.tools.metrics.count("todoke_polls_total", self.partner.name, outcome, by=by)


def _ask(each: Ended) -> Ask:
    return Ask(each.ending.job, each.tried.started_at, each.ending.awaited_until)


def _named(outcome: Outcome | None) -> str:
    if outcome is None or not final(outcome):
        return "under-way"
    return "failed" if outcome.reason or outcome.grade < Evidence.accepted else Evidence(outcome.grade).name
