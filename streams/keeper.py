"""The keeper: replays the compacted topics into the view, joining, never overwriting (correctness, 8 and 9).

Its checkpoints live in the view itself, so a view that lost writes has lost them too, and the keeper starts from well
before the loss. Each server run of the view must be healed anew; until every partition is, the view is not current and
processors, sinks and look-ups stop. When the last message of a key says less than the view does, because a worker woke
late, the keeper produces the join again.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from msgspec import Struct

from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.obligations import join as join_obligations
from todoke.schemas.record import SubjectRecord
from todoke.schemas.record import join as join_records
from todoke.schemas.told import Told
from todoke.schemas.told import join as join_told

from .due import Due, entries
from .outbox import Letter, header
from .tools import Tools
from .view import Cell, Cells, View, join_with

log = logging.getLogger(__name__)
Value = TypeVar("Value", bound=Struct)
MARGIN = 10_000
LOOK_MS = 1_000
KEPT = ("consent-state", "obligations", "told")
SUBJECT_HEADER = "todoke-subject"
MOVED = "todoke-moved"
Place = tuple[str, int]


class Kept(Generic[Value]):
    """One compacted topic: where its values live in the view, and how two of them join."""

    def __init__(
        self,
        cells: Cells[Value],
        cell: Callable[[Value], Cell],
        key: Callable[[Value], str],
        join: Callable[[Value, Value], Value],
    ) -> None:
        """`cell` is a value's address in the view, `key` its key in the topic."""
        self.cells = cells
        self.cell = cell
        self.key = key
        self.join = join

    def heal(self, values: Sequence[Value]) -> tuple[list[Value], list[tuple[Value, Value]], int]:
        """Join the values into the view.

        Returns what the view holds then, the pairs (read, held) in which the topic said less, and how many cells of the
        view were changed.
        """
        incoming: dict[Cell, Value] = {}
        for value in values:
            cell = self.cell(value)
            incoming[cell] = self.join(incoming[cell], value) if cell in incoming else value
        changed: set[Cell] = set()
        joined = join_with(incoming, self.join)

        def change(cell: Cell, held: Value | None) -> Value | None:
            after = joined(cell, held)
            (changed.discard if after == held else changed.add)(cell)
            return after

        held = self.cells.update(incoming, change)
        last = {self.cell(value): value for value in values}
        behind = [(value, held[cell]) for cell, value in last.items() if held[cell] != value]
        return list(held.values()), behind, len(changed)


def kept(view: View) -> dict[str, Kept[Any]]:
    """What the keeper keeps, by topic."""
    return {
        "consent-state": Kept[SubjectRecord](
            view.records,
            lambda each: view.records.cell(each.subject_ref),
            lambda each: each.subject_ref,
            join_records,
        ),
        "obligations": Kept[Obligation](
            view.obligations,
            lambda each: view.obligations.cell(each.subject_ref, each.obligation_id),
            lambda each: each.obligation_id,
            join_obligations,
        ),
        "told": Kept[Told](
            view.told,
            lambda each: view.told.cell(each.subject_ref, each.key),
            lambda each: f"{each.subject_ref}|{each.key}",
            join_told,
        ),
    }


class Keeper:
    """The work and the idling of the keeper's consumer."""

    def __init__(self, tools: Tools, due: Due, lane_partitions: int) -> None:
        """`lane_partitions` is how many partitions a lane has, to find the due-queue of a subject."""
        self.view = tools.view
        self.index = tools.index
        self.outbox = tools.outbox
        self.metrics = tools.metrics
        self.now = tools.now
        self.due = due
        self.lane_partitions = lane_partitions
        self.kept = {tools.topic(name): each for name, each in kept(tools.view).items()}
        self.consumer: Consumer | None = None
        self.position: dict[Place, int] = {}
        self.target: dict[Place, int] = {}
        self.fresh: dict[Place, int] = {}
        self.ended: set[Place] = set()
        self.marked: set[Place] = set()
        self.behind: dict[Place, dict[str, Any]] = {}
        self.run_id = ""
        self.looked_at = 0

    def assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Start new partitions where the view's own checkpoints say; without an answer, where they begin."""
        self.consumer = consumer
        try:
            starts = self._start(partitions)
        except redis.RedisError:
            self.run_id = ""  # so that the next look finds another run, and all is started again
            starts = [TopicPartition(each.topic, each.partition, OFFSET_BEGINNING) for each in partitions]
            self.position |= {(each.topic, each.partition): 0 for each in partitions}
        consumer.incremental_assign(starts)

    def moved(self, partitions: list[TopicPartition]) -> None:
        """Forget partitions that another keeper has now."""
        mine = {(each.topic, each.partition) for each in partitions}
        for held in (self.position, self.target, self.fresh, self.behind):
            for place in held.keys() - mine:
                held.pop(place)
        self.ended &= mine
        self.marked &= mine

    def end(self, topic: str, partition: int, offset: int) -> None:
        """A partition has been read to its end: what it lacks can be told from what is still on its way."""
        place = (topic, partition)
        self._aim()
        self.ended.add(place)
        self.position[place] = max(self.position.get(place, 0), offset)
        self._repair(place)
        self._mark([place])

    def __call__(self, messages: Sequence[Message]) -> None:
        """Join one batch into the view; note what the topic lacks; move the checkpoints."""
        if self._lost():
            return
        self._aim()
        by_topic: dict[str, list[Message]] = {}
        for each in messages:
            by_topic.setdefault(each.topic() or "", []).append(each)
        for topic, theirs in by_topic.items():
            self._heal(topic, theirs)
        for each in messages:
            place = (each.topic() or "", each.partition() or 0)
            self.position[place] = (each.offset() or 0) + 1
            self.fresh[place] = each.timestamp()[1]
            self.ended.discard(place)
        self._mark({(each.topic() or "", each.partition() or 0) for each in messages})
        self.metrics.batch("keeper", len(messages))
        self.idle()

    def idle(self) -> None:
        """Now and then ask the broker whether what was read to its end still is, and then say that it is fresh."""
        if self.now() - self.looked_at < LOOK_MS or self.consumer is None or self._lost():
            return
        self.looked_at = self.now()
        self._aim()
        self._mark([place for place in sorted(self.ended) if self._high(place) == self.position[place]])

    def _aim(self) -> None:
        """Note up to where each partition must be read before it counts as healed."""
        for place in self.position.keys() - self.target.keys():
            high = self._high(place)
            if high is not None:
                self.target[place] = high

    def _high(self, place: Place) -> int | None:
        assert self.consumer is not None
        try:
            _, high = self.consumer.get_watermark_offsets(TopicPartition(*place), timeout=5)
        except KafkaException:
            return None
        return int(high)

    def _start(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Where to read each partition from: its checkpoint, less a margin when the view's server is a new run."""
        assert self.consumer is not None  # called by those who set it
        self.run_id = self.view.gate().run_id
        marks: Any = self.view.client.hgetall(self.view.key("epoch"))
        points: Any = self.view.client.hgetall(self.view.key("checkpoints"))
        starts = []
        for each in partitions:
            place = (each.topic, each.partition)
            name = _field(place).encode()
            point = int(points.get(name, 0))
            if marks.get(name) != self.run_id.encode():
                point -= MARGIN
            self.target.pop(place, None)
            self.position[place] = 0
            self.behind[place] = {}
            self.ended.discard(place)
            self.marked.discard(place)
            starts.append(TopicPartition(each.topic, each.partition, point if point > 0 else OFFSET_BEGINNING))
        return starts

    def _lost(self) -> bool:
        """Whether the view has lost what it held, or its server has started anew; then all is read again."""
        if self.consumer is None or not self.position:
            return False
        marks: Any = self.view.client.hgetall(self.view.key("epoch"))
        same = self.view.gate().run_id == self.run_id
        if same and all(marks.get(_field(place).encode()) == self.run_id.encode() for place in self.marked):
            return False
        log.warning("keeper: the view is another run, or has lost what it held: reading its topics again")
        for start in self._start([TopicPartition(*place) for place in sorted(self.position)]):
            self.consumer.seek(start)
        return True

    def _heal(self, topic: str, messages: Sequence[Message]) -> None:
        keeps = self.kept[topic]
        values: list[Any] = []
        places: dict[str, Place] = {}
        gone: list[tuple[str, str]] = []
        for message in messages:
            raw = message.value()
            if raw is None and header(message, MOVED):
                continue  # its value has another partition since the topic grew
            if raw is None:
                gone.append((header(message, SUBJECT_HEADER).decode(), (message.key() or b"").decode()))
            else:
                value = self.view.codec.decode(raw, keeps.cells.kind)
                values.append(value)
                places[keeps.key(value)] = (topic, message.partition() or 0)
        held, behind, changed = keeps.heal(values)
        suspects = {keeps.key(ours): ours for _, ours in behind}
        for key, place in places.items():
            self.behind.setdefault(place, {}).pop(key, None)
            if key in suspects:
                self.behind[place][key] = suspects[key]
        if changed:
            self.metrics.count("todoke_keeper_repairs_total", keeps.cells.kind.__name__, "view", by=changed)
        self._index(held)
        for ref, name in gone:
            self.index.forget(ref, name)

    def _index(self, held: Sequence[Any]) -> None:
        records = [each for each in held if isinstance(each, SubjectRecord)]
        self.index.enlist(records)
        obligations = [each for each in held if isinstance(each, Obligation)]
        self.index.track(obligations)
        standing = [each for each in obligations if each.state not in ENDED]
        if standing and self._healing():
            self.due.wake(entries(standing, self.lane_partitions, self.now() * 1000))

    def _healing(self) -> bool:
        return any(position < self.target.get(place, position + 1) for place, position in self.position.items())

    def _repair(self, place: Place) -> None:
        """Produce again what the partition's last word lacks, as the view holds it now."""
        suspects = self.behind.get(place)
        if not suspects:
            return
        keeps = self.kept[place[0]]
        held = keeps.cells.load([keeps.cell(value) for value in suspects.values()])
        codec = self.view.codec
        self.outbox.send([Letter(place[0], keeps.key(each), codec.encode(each)) for each in held if each is not None])
        self.metrics.count("todoke_keeper_repairs_total", keeps.cells.kind.__name__, "topic", by=len(suspects))
        suspects.clear()

    def _mark(self, places: Iterable[Place]) -> None:
        """Move checkpoints and freshness; a partition read up to its target is healed for this run of the server."""
        pipeline = self.view.client.pipeline(transaction=False)
        for place in places:
            name, position = _field(place), self.position.get(place, 0)
            fresh_at = self.now() if place in self.ended else self.fresh.get(place, 0)
            pipeline.hset(self.view.key("checkpoints"), name, str(position))
            pipeline.hset(self.view.key("fresh"), name, str(fresh_at))
            if place in self.target and position >= self.target[place]:
                pipeline.hset(self.view.key("epoch"), name, self.run_id)
                self.marked.add(place)
        pipeline.execute()
        self.metrics.set("todoke_view_fresh_timestamp_seconds", min(self.fresh.values(), default=0) / 1000)


def _field(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
