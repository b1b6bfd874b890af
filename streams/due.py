"""The due-queue of each lane partition: which subjects to look at for a partner, and when (correctness, 16).

A lane is a wake-up, never the only copy: its messages go straight into a sorted set of the view, one entry per subject,
restrictive ones apart and first. Retries and waits live here. Lost with the view, rebuilt from `obligations`.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from todoke.schemas.obligations import Obligation

from .topics import partition_of
from .view import View

TAKE_OUT = "if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) ~= tonumber(ARGV[2]) then return 0 end "
SETTLE = TAKE_OUT + "redis.call('HDEL', KEYS[2], ARGV[1]) return redis.call('ZREM', KEYS[1], ARGV[1])"
DEFER = TAKE_OUT + "redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) return 1"
ROUSE = """
local held, wanted = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1])), tonumber(ARGV[2])
if held and held <= wanted then wanted = held + 1 end
return redis.call('ZADD', KEYS[1], wanted, ARGV[1])
"""
"""Due earlier than asked for, it may be in hand: a microsecond later it is another entry, which nobody settles or defers."""
URGENCIES = (True, False)


class Lane(Struct, frozen=True):
    """One partition of one partner's lane."""

    partner: str
    partition: int


class Entry(Struct, frozen=True):
    """A subject that was due at `due_at` (µs). Whoever wakes it again meanwhile changes that, and it is not settled."""

    lane: Lane
    restrictive: bool
    subject_ref: str
    due_at: int


def entries(obligations: Iterable[Obligation], partitions: int, at: int) -> list[Entry]:
    """The wake-ups, due at `at` (µs), that have each obligation's subject looked at again by whoever owns its lane."""
    return [
        Entry(
            Lane(each.partner, partition_of(each.subject_ref.encode(), partitions)),
            each.restrictive,
            each.subject_ref,
            at,
        )
        for each in obligations
    ]


class Due:
    """The due-queues of one installation."""

    def __init__(self, view: View) -> None:
        """Queues live beside the view that they belong to."""
        self.view = view
        self._settle = view.client.register_script(SETTLE)
        self._defer = view.client.register_script(DEFER)
        self._rouse = view.client.register_script(ROUSE)

    def queue(self, lane: Lane, *, restrictive: bool) -> str:
        """The key of one queue."""
        return self.view.key("due", lane.partner, str(lane.partition), "restrictive" if restrictive else "permissive")

    def _tries(self, lane: Lane) -> str:
        return self.view.key("tries", lane.partner, str(lane.partition))

    def wake(self, entries: Iterable[Entry]) -> None:
        """Make subjects due at the entries' times, whatever time they had before."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            pipeline.zadd(self.queue(each.lane, restrictive=each.restrictive), {each.subject_ref: each.due_at})
        pipeline.execute()

    def hasten(self, entries: Iterable[Entry]) -> None:
        """Make subjects due at the entries' times at the latest: who is due earlier stays so."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            key = self.queue(each.lane, restrictive=each.restrictive)
            pipeline.zadd(key, {each.subject_ref: each.due_at}, lt=True)
        pipeline.execute()

    def rouse(self, entries: Iterable[Entry]) -> None:
        """As `hasten`, and who is in hand just now is looked at once more after that: it may have been seen too early."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            key = self.queue(each.lane, restrictive=each.restrictive)
            self._rouse(keys=[key], args=[each.subject_ref, each.due_at], client=pipeline)
        pipeline.execute()

    def pull(self, lanes: Sequence[Lane], limit: int, now: int, urgencies: Sequence[bool] = URGENCIES) -> list[Entry]:
        """Up to `limit` entries due at `now` (µs), the restrictive ones of all lanes before any other."""
        found: list[Entry] = []
        for restrictive in urgencies:
            if len(found) >= limit or not lanes:
                break
            pipeline = self.view.client.pipeline(transaction=False)
            for lane in lanes:
                key = self.queue(lane, restrictive=restrictive)
                pipeline.zrangebyscore(key, "-inf", now, start=0, num=limit, withscores=True)
            for lane, rows in zip(lanes, pipeline.execute(), strict=True):
                found += [Entry(lane, restrictive, ref.decode(), int(due_at)) for ref, due_at in rows]
        return found[:limit]

    def settle(self, entries: Sequence[Entry]) -> None:
        """Take out what has been looked at, but for entries woken again since they were pulled."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            key = self.queue(each.lane, restrictive=each.restrictive)
            self._settle(keys=[key, self._tries(each.lane)], args=[each.subject_ref, each.due_at], client=pipeline)
        pipeline.execute()

    def failed(self, entries: Sequence[Entry]) -> list[int]:
        """Count a failed look at each subject; how many there have been since one was settled."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            pipeline.hincrby(self._tries(each.lane), each.subject_ref, 1)
        counts: list[int] = pipeline.execute()
        return counts

    def forgive(self, entries: Sequence[Entry]) -> None:
        """Set each subject's count of failed looks to naught: a person says that the cause was mended."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            pipeline.hdel(self._tries(each.lane), each.subject_ref)
        pipeline.execute()

    def remind(self, entries: Iterable[Entry]) -> None:
        """Make subjects due, but for those that are in the queue already."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in entries:
            key = self.queue(each.lane, restrictive=each.restrictive)
            pipeline.zadd(key, {each.subject_ref: each.due_at}, nx=True)
        pipeline.execute()

    def defer(self, entries: Sequence[tuple[Entry, int]]) -> None:
        """Look again at the time (µs) given with each entry, but for entries woken again since they were pulled."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each, at in entries:
            key = self.queue(each.lane, restrictive=each.restrictive)
            self._defer(keys=[key], args=[each.subject_ref, each.due_at, at], client=pipeline)
        pipeline.execute()

    def waiting(self, lanes: Sequence[Lane]) -> int:
        """How many entries the lanes hold, due or not."""
        pipeline = self.view.client.pipeline(transaction=False)
        for lane in lanes:
            for restrictive in URGENCIES:
                pipeline.zcard(self.queue(lane, restrictive=restrictive))
        return sum(pipeline.execute())
