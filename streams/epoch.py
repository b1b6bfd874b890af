"""The epoch: which life of the view an answer came from, and whether it can be trusted (correctness, 8).

A life is named by the server's run id and its replication id: a restart changes the one, a fail-over both, a primary
that was a replica for a while the other. For each partition of the compacted topics a shard says how far its keeper has
applied it, and in which life it was healed. Every read that decides takes the epoch from the server in one go with what
it reads, and every compare-and-set is refused in a view that isn't healed.
"""

from collections.abc import Mapping
from functools import lru_cache
from threading import Lock

from msgspec import Struct

from todoke.schemas.errors import NotCurrent

IDENTITY = """
local function identity()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '?'
  return run .. '.' .. (string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '?')
end
"""
HEALED = """
local function healed(shards)
  local found, life = 0, ' ' .. identity() .. ' '
  for _, shard in ipairs(redis.call('HVALS', shards)) do
    if not string.find(shard, life, 1, true) then return 0 end
    found = found + 1
  end
  return found
end
"""
READ = (
    IDENTITY
    + """
local answers = {identity(), redis.call('HGETALL', KEYS[1])}
local at = 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  answers[#answers + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return answers
"""
)
"""Any commands that read, with the epoch: nothing can come between them."""
SWAP = (
    IDENTITY
    + HEALED
    + """
if tonumber(ARGV[1]) > 0 and healed(KEYS[1]) < tonumber(ARGV[1]) then return false end
local won = {}
for place = 2, #KEYS do
  local at = 3 * place - 4
  local key, field, before, after = KEYS[place], ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local held
  if field == '' then held = redis.call('GET', key) else held = redis.call('HGET', key, field) end
  if (held or '') ~= before then
    won[place - 1] = 0
  else
    if field == '' then redis.call('SET', key, after) else redis.call('HSET', key, field, after) end
    won[place - 1] = 1
  end
end
return won
"""
)
"""Compare-and-set of many cells, one by one; refused as a whole with a shard that isn't healed, or fewer than the first
argument says."""
UNHEALED = "-"
WIPING = "wiping"
"""A shard of this name is never healed: it stands while a command empties the view."""


class Shard(Struct, frozen=True):
    """One partition in the view: who heals it, in which life it was healed, the offset applied, how new that is (ms)."""

    owner: str
    life: str = UNHEALED
    offset: int = 0
    fresh_at: int = 0

    def __str__(self) -> str:
        """As the view holds it."""
        return f"{self.owner} {self.life} {self.offset} {self.fresh_at}"


def parse(text: bytes) -> Shard:
    """The inverse of `str`."""
    owner, life, offset, fresh_at = text.decode().split(" ")
    return Shard(owner, life, int(offset), int(fresh_at))


class Epoch(Struct, frozen=True):
    """What came with a read: the life of the server, and the shards by topic and partition."""

    life: str
    shards: dict[str, Shard]

    @property
    def healed(self) -> int:
        """How many shards have been healed in this life."""
        return sum(each.life == self.life for each in self.shards.values())

    @property
    def fresh_at(self) -> int:
        """Up to when the view knows everything, in ms; 0 without shards."""
        return min((each.fresh_at for each in self.shards.values()), default=0)


def epoch(answers: list[bytes | list[bytes]]) -> Epoch:
    """The epoch from the first two answers of `READ`."""
    life, flat = answers[0], answers[1]
    assert isinstance(life, bytes)
    assert isinstance(flat, list)
    return _epoch(life, *flat)


@lru_cache(64)  # it comes with every read, and is the same until the keeper has moved on
def _epoch(life: bytes, *flat: bytes) -> Epoch:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return Epoch(life.decode(), {name.decode(): parse(text) for name, text in pairs})


class Watch:
    """Judges the epochs that one process sees, and remembers how far the keeper had come."""

    def __init__(self, partitions: int, stale_after_ms: int) -> None:
        """`partitions` of compacted topics must be healed, and the oldest news at most `stale_after_ms` old."""
        self.partitions = partitions
        self.stale_after_ms = stale_after_ms
        self._lock = Lock()
        self._seen: Mapping[str, int] = {}
        self._sound: Epoch | None = None

    def before(self) -> Mapping[str, int]:
        """How far the keeper had come, for `require` to be given: taken before a read is sent."""
        return self._seen

    def require(self, found: Epoch, at: int, before: Mapping[str, int]) -> int:
        """The age (ms) of what the view knows. Raises `NotCurrent` when it is lost, rebuilding, rolled back or stale.

        A shard steps back when it stands before where it had been seen already when the read was sent: of two threads that
        read at once, the one that was answered first may be judged last.
        """
        with self._lock:
            if found is not self._sound:  # else it has been looked at, and no other since
                self._look(found, before)
                newest = all(shard.offset == self._seen[name] for name, shard in found.shards.items())
                self._sound = found if newest else None
        age = at - found.fresh_at
        if age > self.stale_after_ms:
            raise NotCurrent(f"view: the keeper has been silent for {age // 1000} s: start `todoke worker`")
        return max(age, 0)

    def _look(self, found: Epoch, before: Mapping[str, int]) -> None:
        if WIPING in found.shards:
            raise NotCurrent("view: it is being emptied: wait, or run `todoke view rebuild --wipe --execute` again")
        if found.healed < max(self.partitions, len(found.shards)):
            raise NotCurrent(f"view: {found.healed} of {self.partitions} partitions are healed: the keeper is at work")
        for name, shard in found.shards.items():
            seen = before.get(name, 0)
            if shard.offset < seen:
                raise NotCurrent(
                    f"view: {name} stepped back from {seen} to {shard.offset}: the keeper will read it again"
                )
        # never changed in place: who is about to read holds the one of before
        self._seen = {name: max(shard.offset, self._seen.get(name, 0)) for name, shard in found.shards.items()}
