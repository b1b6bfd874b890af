"""The keeper: replays the compacted topics into the view, joining, never overwriting (correctness, 8 and 9).

How far it has come stands in the view itself, one shard a partition, so a view that lost writes has lost them, too, and
the keeper starts from well before the loss. It moves a shard only by comparing it with what it wrote there last: a view
that was wiped, rolled back or taken over never looks healed for a batch that it has lost. Each life of the view must be
healed anew; until every shard is, the view is not current and processors, sinks and look-ups stop. When the last message
of a key says less than the view does, because a worker woke late, the keeper produces the join again.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

import redis
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Message, TopicPartition
from msgspec.structs import replace

from .due import Due
from .epoch import IDENTITY, UNHEALED, Shard, parse
from .healing import Healing
from .kept import KEPT, letter
from .tools import Tools
from .view import Cell

log = logging.getLogger(__name__)
MARGIN = 10_000
LOOK_MS = 1_000
BROKER_S = 5
Place = tuple[str, int]
Rewind = Callable[[Consumer, list[TopicPartition]], None]

CLAIM = (
    IDENTITY
    + """
local answers = {identity()}
for place = 3, #ARGV do
  local owner, life, offset, fresh = ARGV[2], '-', '0', '0'
  local held = redis.call('HGET', KEYS[1], ARGV[place])
  if held then
    local was
    was, offset, fresh = string.match(held, '^%S+ (%S+) (%S+) (%S+)$')
    if ARGV[1] == '0' and was == answers[1] then life = was end
  end
  local shard = owner .. ' ' .. life .. ' ' .. offset .. ' ' .. fresh
  redis.call('HSET', KEYS[1], ARGV[place], shard)
  answers[#answers + 1] = shard
end
return answers
"""
)
"""Take shards over: as they are, or, when the first argument is 1 or their life is over, as not healed."""
MOVE = (
    IDENTITY
    + """
if identity() ~= ARGV[1] then return 0 end
for place = 2, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[place]) ~= ARGV[place + 1] then return 0 end
end
for place = 2, #ARGV, 3 do
  if ARGV[place + 1] ~= ARGV[place + 2] then redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 2]) end
end
return 1
"""
)
"""Move shards on, all or none: none when any isn't what its keeper wrote last, or the server lives another life."""


class Keeper:
    """The work and the idling of the keeper's consumer."""

    def __init__(self, tools: Tools, due: Due, lane_partitions: int) -> None:
        """`lane_partitions` is how many partitions a lane has. `rewind` is to be its runner's, before that starts."""
        self.view = tools.view.unwatched()
        self.tools = tools
        self.healing = Healing(tools, due, lane_partitions)
        self.rewind: Rewind = _seek
        self.names = {tools.topic(name): name for name in KEPT}
        self.consumer: Consumer | None = None
        self.life = ""
        self.shards: dict[Place, Shard] = {}
        self.position: dict[Place, int] = {}
        self.target: dict[Place, int] = {}
        self.fresh: dict[Place, int] = {}
        self.appended: dict[Place, int] = {}
        self.ended: set[Place] = set()
        self.behind: dict[Place, dict[bytes, Cell]] = {}
        self.looked_at = 0
        self._claim = self.view.client.register_script(CLAIM)
        self._move = self.view.client.register_script(MOVE)

    def assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Start new partitions where the view's own shards say; without an answer, where they begin."""
        self.consumer = consumer
        try:
            starts = self._start(partitions, lost=False)
        except redis.RedisError:
            self.life = ""  # so that the next move is refused, and all is started again
            starts = [TopicPartition(each.topic, each.partition, OFFSET_BEGINNING) for each in partitions]
            for each in partitions:
                self._reset((each.topic, each.partition), Shard("?"), 0)
        consumer.incremental_assign(starts)

    def moved(self, partitions: list[TopicPartition]) -> None:
        """Forget partitions that another keeper has now."""
        mine = {(each.topic, each.partition) for each in partitions}
        for held in (self.shards, self.position, self.target, self.fresh, self.appended, self.behind):
            for place in held.keys() - mine:
                held.pop(place)
        self.ended &= mine

    def ends(self, found: Mapping[Place, int]) -> None:
        """Partitions have been read to their end: what they lack can be told from what is still on its way."""
        for place, offset in found.items():
            self.ended.add(place)
            self.position[place] = max(self.position.get(place, 0), offset)
            self._repair(place)
        self._advance(found)

    def __call__(self, messages: Sequence[Message]) -> None:
        """Join one batch into the view; note what the topic lacks; move the shards."""
        by_topic: dict[str, list[Message]] = {}
        for each in messages:
            by_topic.setdefault(each.topic() or "", []).append(each)
        for topic, theirs in by_topic.items():
            self._heal(topic, theirs)
        last = {(each.topic() or "", each.partition() or 0): each for each in messages}
        touched = last.keys() & self.shards.keys()  # others have been taken away since
        for place in touched:
            self.position[place] = (last[place].offset() or 0) + 1
            self.appended[place] = self.fresh[place] = last[place].timestamp()[1]
        self.ended -= touched
        self.tools.metrics.batch("keeper", len(messages))
        if self._advance(touched):
            self.idle()

    def idle(self) -> None:
        """Now and then ask the broker whether what was read to its end still is, and then say that it is fresh."""
        if self.tools.now() - self.looked_at < LOOK_MS or self.consumer is None or not self.shards:
            return
        self.looked_at = self.tools.now()
        ends = self._ends(self.ended)
        self._advance([place for place in sorted(self.ended) if ends.get(place) == self.position[place]])

    def _heal(self, topic: str, messages: Sequence[Message]) -> None:
        rebuilding = any(shard.life == UNHEALED for shard in self.shards.values())
        name = self.names[topic]
        done = self.healing(name, messages, rebuilding=rebuilding)
        if any(self.behind.values()):
            for each in messages:
                self.behind.get((topic, each.partition() or 0), {}).pop(each.key() or b"", None)
        for cell, each in done.behind.items():
            self.behind.setdefault((topic, each.partition() or 0), {})[each.key() or b""] = cell
        if done.changed:
            kind = self.healing.kept[name].cells.kind.__name__
            self.tools.metrics.count("todoke_keeper_repairs_total", kind, "view", by=done.changed)

    def _repair(self, place: Place) -> None:
        """Produce again what the partition's last word lacks, as the view holds it now."""
        suspects = self.behind.get(place)
        if not suspects:
            return
        cells = self.healing.kept[self.names[place[0]]].cells
        held = [each for each in cells.load(list(suspects.values())) if each is not None]
        self.tools.outbox.send([letter(self.tools, each) for each in held])
        self.tools.metrics.count("todoke_keeper_repairs_total", cells.kind.__name__, "topic", by=len(held))
        suspects.clear()

    def _start(self, partitions: Sequence[TopicPartition], *, lost: bool) -> list[TopicPartition]:
        """Take partitions over: from where their shards stand, less a margin where they must be healed anew."""
        owner = secrets.token_hex(4)
        names = [_field((each.topic, each.partition)) for each in partitions]
        answers: list[bytes] = self._claim(keys=[self.view.key("shards")], args=[int(lost), owner, *names])
        self.life = answers[0].decode()
        starts = []
        for each, text in zip(partitions, answers[1:], strict=True):
            shard = parse(text)
            point = shard.offset - MARGIN if shard.life == UNHEALED else shard.offset
            self._reset((each.topic, each.partition), shard, max(point, 0))
            starts.append(TopicPartition(each.topic, each.partition, point if point > 0 else OFFSET_BEGINNING))
        return starts

    def _reset(self, place: Place, shard: Shard, position: int) -> None:
        self.shards[place] = shard
        self.position[place] = position
        self.fresh[place] = shard.fresh_at
        self.behind[place] = {}
        self.target.pop(place, None)
        self.ended.discard(place)

    def _advance(self, places: Iterable[Place]) -> bool:
        """Move shards to where their partitions were read; one that was read up to its target is healed in this life.

        False when the view has lost what it held, or its server has started anew: then all is read again.
        """
        self._aim()
        moved = dict(self.shards)
        for place in places:
            shard, position = self.shards[place], self.position[place]
            healed = shard.life != UNHEALED or position >= self.target.get(place, position + 1)
            moved[place] = replace(
                shard,
                life=self.life if healed else UNHEALED,
                offset=position,
                fresh_at=self.tools.now() if place in self.ended else self.fresh[place],
            )
        words = [
            part for place, shard in moved.items() for part in (_field(place), str(self.shards[place]), str(shard))
        ]
        if not self._move(keys=[self.view.key("shards")], args=[self.life, *words]):
            log.warning("keeper: the view is another run, or has lost what it held: reading its topics again")
            assert self.consumer is not None  # shards are claimed by those who set it
            self.rewind(
                self.consumer, self._start([TopicPartition(*place) for place in sorted(self.shards)], lost=True)
            )
            return False
        self.shards = moved
        fresh = min((each.fresh_at for each in moved.values()), default=0)
        self.tools.metrics.set("todoke_view_fresh_timestamp_seconds", fresh / 1000)
        return True

    def _aim(self) -> None:
        """Note up to where each partition must be read before it counts as healed."""
        self.target |= self._ends(self.position.keys() - self.target.keys())

    def _ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Where partitions end now, of those for which the broker answers."""
        wanted = [TopicPartition(*place, OFFSET_END) for place in places]
        if not wanted or self.consumer is None:
            return {}
        try:
            found = self.consumer.offsets_for_times(wanted, timeout=BROKER_S)
        except KafkaException:
            return {}
        return {(each.topic, each.partition): each.offset for each in found if not each.error and each.offset >= 0}


def _seek(consumer: Consumer, places: list[TopicPartition]) -> None:
    for each in places:
        consumer.seek(each)


def _field(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
