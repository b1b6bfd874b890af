"""The index of turns: which subjects to look at again, and when, since time alone may change an answer by then.

One sorted set for each partition of subjects, so that each has one owner. A turn is set by whoever writes a record,
after the write, and only ever to an earlier time; it is moved on by its owner alone, and only while the record is still
the one that was looked at. So of a look and a write at once, either the write's turn stands or the look is repeated.
"""

from collections.abc import Iterable, Sequence

from .topics import partition_of
from .view import View

MOVE = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
"""


class Turns:
    """The turns of one installation. Times in ms."""

    def __init__(self, view: View, partitions: int) -> None:
        """`partitions` is into how many subjects fall, as those of intake topics do."""
        self.view = view
        self.partitions = partitions
        self._move = view.client.register_script(MOVE)

    def partition(self, ref: str) -> int:
        """The partition that a subject falls into."""
        return partition_of(ref.encode(), self.partitions)

    def set(self, turns: Iterable[tuple[str, int]]) -> None:
        """Have each subject looked at by the time given, or earlier if it was to be; 0 sets nothing."""
        pipeline = self.view.client.pipeline(transaction=False)
        for ref, at in turns:
            if at:
                pipeline.zadd(self.key(ref), {ref: at}, lt=True)
        pipeline.execute()

    def due(self, partitions: Sequence[int], now: int, limit: int) -> list[str]:
        """Up to `limit` subjects whose turn has come."""
        found = self.view.read(
            [("ZRANGEBYSCORE", self._key(each), "-inf", now, "LIMIT", 0, limit) for each in partitions]
        )
        return [ref.decode() for refs in found for ref in refs][:limit]

    def move(self, looked: Iterable[tuple[str, bytes, int]]) -> None:
        """Set the next turn (0 for none) of each subject looked at, whose record's bytes were those given."""
        pipeline = self.view.client.pipeline(transaction=False)
        for ref, raw, at in looked:
            keys = [self.key(ref), self.view.records.cell(ref).key]
            self._move(keys=keys, args=[ref, raw, at], client=pipeline)
        pipeline.execute()

    def key(self, ref: str) -> str:
        """Where a subject's turn stands."""
        return self._key(self.partition(ref))

    def _key(self, partition: int) -> str:
        return self.view.key("turns", str(partition))
