"""Which jobs are under way at one partner, when to ask about each next, and whom each concerns: sets of the view.

They are look-ups beside the truth, which is the told-state: every look at somebody who waits for a job puts it back here,
and the keeper puts back whom a job concerns. So a view that was lost asks too early at worst, never not at all.
"""

from collections.abc import Iterable, Mapping, Sequence

from todoke.processors.jobs import Ask

from .index import Standing, job_key
from .view import View

CLAIM = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, name in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], name) end
return due
"""
"""Take what is due, and have nobody else ask for the same until the second argument."""


class Jobs:
    """The jobs of one partner. `asks` are references by when to ask (ms), `begun` the same by when their calls began."""

    def __init__(self, view: View, partner: str) -> None:
        """Written by whoever calls the partner; asked by whichever of its dispatchers comes first."""
        self.view = view
        self.partner = partner
        self._asks = view.key("asks", partner)
        self._begun = view.key("jobs", partner)
        self._claim = view.client.register_script(CLAIM)

    def expect(self, jobs: Iterable[tuple[str, Ask]], due_at: Mapping[str, int]) -> None:
        """Note whose jobs (subject and job) are under way, and ask at `due_at` (ms), unless a time was set before.

        One that nobody waits for only becomes findable.
        """
        pipeline = self.view.client.pipeline(transaction=False)
        for ref, job in jobs:
            pipeline.sadd(job_key(self.view, self.partner, job.reference), ref)
            if job.until:
                pipeline.zadd(self._begun, {job.reference: job.began_at}, nx=True)
            if job.reference in due_at:
                pipeline.zadd(self._asks, {job.reference: due_at[job.reference]}, nx=True)
        pipeline.execute()

    def claim(self, most: int, now: int, until: int) -> list[str]:
        """References to ask about now, which nobody else asks about before `until` (ms), by when they are to be let go."""
        due: list[bytes] = self._claim(keys=[self._asks], args=[now, until, most])
        return [each.decode() for each in due]

    def later(self, due_at: Mapping[str, int]) -> None:
        """Ask again at these times (ms), of those that have not been let go meanwhile."""
        if due_at:
            self.view.client.zadd(self._asks, dict(due_at), xx=True)

    def began(self, references: Sequence[str]) -> list[int]:
        """When the call of each began (ms), 0 where that isn't known."""
        found = self.view.client.zmscore(self._begun, list(references)) if references else []
        return [int(each or 0) for each in found]

    def let_go(self, references: Sequence[str]) -> None:
        """Ask about them no more. Whom they concern stays known: a partner may have more to say."""
        if references:
            pipeline = self.view.client.pipeline(transaction=False)
            pipeline.zrem(self._asks, *references)
            pipeline.zrem(self._begun, *references)
            pipeline.execute()

    def forget_before(self, at: int) -> None:
        """Let go of those whose calls began before `at` (ms): nobody waits for them any more."""
        self.view.client.zremrangebyscore(self._begun, "-inf", at)

    def concerned(self, references: Sequence[str]) -> list[list[str]]:
        """The subjects whom each job concerns, sorted; none for a reference that nobody knows."""
        found = self.view.read([("SMEMBERS", job_key(self.view, self.partner, each)) for each in references])
        return [sorted(ref.decode() for ref in refs) for refs in found]

    def under_way(self) -> Standing:
        """How many there are, and when the call of the oldest began (ms)."""
        pipeline = self.view.client.pipeline(transaction=False)
        pipeline.zcard(self._begun)
        pipeline.zrange(self._begun, 0, 0, withscores=True)
        count, first = pipeline.execute()
        return Standing(count, int(first[0][1]) if first else 0)
