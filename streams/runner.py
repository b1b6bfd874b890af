"""One thread, one consumer: read a batch, hand it over, store its offsets. Nothing is committed that is not done.

The thread that owns the consumer also runs the work, so at every call to the consumer nothing is in flight: a
rebalance, a stop or a crash can only fall between batches, and costs at most one batch done twice. librdkafka fetches
ahead meanwhile. While the work can't go on (the view is being healed, say) the batch is kept, the partitions are
paused, and polling goes on, so that the group keeps its member.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from todoke.schemas.errors import NotCurrent, Retry, TodokeError

log = logging.getLogger(__name__)

Work = Callable[[list[Message]], Sequence[Message] | None]
Rebalance = Callable[[list[TopicPartition]], None]
Assign = Callable[[Consumer, list[TopicPartition]], None]
Ends = Callable[[dict[tuple[str, int], int]], None]
POLL_S = 0.2
AGAIN_S = 0.2
UNASSIGNED = frozenset({KafkaError._STATE, KafkaError._NO_OFFSET, KafkaError._UNKNOWN_PARTITION})


def consumer_config(bootstrap: str, group: str, session_timeout_ms: int, client: dict[str, Any]) -> dict[str, Any]:
    """What every consumer of Todoke is made with. The offsets stored are those of finished batches only."""
    return {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.offset.store": False,
        "enable.auto.commit": True,
        "auto.commit.interval.ms": 1000,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session_timeout_ms,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "topic.metadata.refresh.interval.ms": 10_000,
        "enable.partition.eof": True,
        **client,
    }


class Hooks(Struct, frozen=True):
    """What else a consumer's owner may hear, always on its thread.

    `idle`: there was nothing to read. `moved`: the partitions held after a rebalance. `assign` chooses where new
    partitions start, in place of the group's offsets. `ends`: the partitions that have been worked off to their end, and
    that offset. `fixed`: the partitions to read, from these offsets on and for good, where there is no group to share them.
    """

    idle: Callable[[], None] | None = None
    moved: Rebalance | None = None
    assign: Assign | None = None
    ends: Ends | None = None
    fixed: Sequence[TopicPartition] = ()


class Runner:
    """A consumer in a thread of its own."""

    def __init__(  # six by name, the last two seldom given
        self,
        name: str,
        config: dict[str, Any],
        topics: Sequence[str],
        work: Work,
        batch: int = 1000,
        hooks: Hooks | None = None,
    ) -> None:
        """`work` gets each batch and returns when all its effects are durable.

        Messages that it returns have to wait: it gets them again before the next ones, and no offset moves past them. It
        raises `NotCurrent` or `Retry` when it can't go on now: it gets the batch again. Anything else that it raises ends
        the thread and shows in `failure`.
        """
        self.name = name
        self.topics = list(topics)
        self.work = work
        self.batch = batch
        self.hooks = hooks or Hooks()
        self.config = config
        self.failure: BaseException | None = None
        self.waiting = ""
        self.assigned: set[tuple[str, int]] = set()
        self.progress_at = time.monotonic()
        self._ended: dict[tuple[str, int], int] = {}
        self._left: list[Message] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin. Returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float = 30) -> None:
        """Finish the batch in hand, commit, leave the group. Raises what ended the thread, if anything did."""
        self._stopping.set()
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def rewind(self, consumer: Consumer, places: Sequence[TopicPartition]) -> None:
        """Read partitions again from the offsets given. Called by the work, on its thread."""
        for each in places:
            self._ended.pop((each.topic, each.partition), None)  # that end was of the first time
            consumer.seek(each)

    def _run(self) -> None:
        consumer = Consumer(self.config)
        try:
            if self.hooks.fixed:
                consumer.assign(list(self.hooks.fixed))
                self.assigned = {(each.topic, each.partition) for each in self.hooks.fixed}
            else:
                heard = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_lost}
                consumer.subscribe(self.topics, **heard)
            while not self._stopping.is_set():
                self._once(consumer)
        except BaseException as error:  # noqa: BLE001  # the one boundary: whoever supervises decides what to do
            # where, but not what: a foreign error's message may quote what it was given
            where = "".join(traceback.format_tb(error.__traceback__))
            log.critical("%s ended: %s: %s\n%s", self.name, type(error).__name__, _safe(error), where)
            self.failure = error
        finally:
            consumer.close()  # commits the offsets stored

    def _once(self, consumer: Consumer) -> None:
        if len(self._left) >= self.batch:  # no more of what can't be worked off now
            self._work(consumer, self._hold(consumer, []))
            return
        first = consumer.poll(POLL_S)
        self.progress_at = time.monotonic()
        if first is not None:
            # poll first, then drain what is there: consume(n, timeout) would wait its whole time for a full batch
            self._work(consumer, [each for each in [first, *consumer.consume(self.batch - 1, 0)] if self._usable(each)])
        elif self._left:
            self._work(consumer, [])
        elif self.hooks.idle:
            self._attempt(self.hooks.idle)
        self._tell_ends()

    def _work(self, consumer: Consumer, messages: list[Message]) -> None:
        messages = self._mine([*self._left, *messages])
        while messages and not self._stopping.is_set():
            batch = messages
            if self._attempt(lambda: self._do(batch)):  # noqa: B023  # called before it is bound anew
                self._store(consumer, batch)
                return
            messages = self._hold(consumer, batch)

    def _do(self, batch: list[Message]) -> None:
        left = list(self.work(batch) or ())
        if left and not self._left:
            log.warning("%s: messages have to wait for what they speak of; others go on", self.name)
        self._left = left

    def _tell_ends(self) -> None:
        """Say which partitions have been read to their end: only now, when all that stood before it is worked off."""
        # what was taken away is not ours to tell, nor when it comes back: then it is read from where another got to
        ended = {place: offset for place, offset in self._ended.items() if place in self.assigned}
        waiting = {_place(each) for each in self._left}
        found = {place: offset for place, offset in ended.items() if place not in waiting}
        self._ended = {place: offset for place, offset in ended.items() if place in waiting}
        hook = self.hooks.ends
        if hook and found and (self._stopping.is_set() or not self._attempt(lambda: hook(found))):
            self._ended = found | self._ended

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Whether a step was done; False, with the reason in `waiting`, when it can't be done now."""
        try:
            step()
        except (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError) as error:
            if not self.waiting:
                log.warning("%s waits: %s: %s", self.name, type(error).__name__, _safe(error))
            self.waiting = _safe(error) or type(error).__name__
            return False
        self.waiting = f"{len(self._left)} messages have to wait" if self._left else ""
        return True

    def _hold(self, consumer: Consumer, messages: list[Message]) -> list[Message]:
        """Stay in the group while the work can't go on; what is revoked meanwhile is somebody else's now."""
        held = [TopicPartition(topic, partition) for topic, partition in self.assigned]
        consumer.pause(held)
        try:
            stray = consumer.poll(AGAIN_S)
        finally:
            consumer.resume([TopicPartition(topic, partition) for topic, partition in self.assigned])
        self.progress_at = time.monotonic()
        if stray is not None and self._usable(stray):
            messages = [*messages, stray]
        return self._mine(messages)

    def _mine(self, messages: Sequence[Message]) -> list[Message]:
        return [each for each in messages if (each.topic(), each.partition()) in self.assigned]

    def _store(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        """What comes next is what follows the batch, or the first message that has to wait."""
        last: dict[tuple[str, int], int] = {}
        for each in messages:
            last[_place(each)] = (each.offset() or 0) + 1
        for each in reversed(self._left):  # in the order in which they were read
            last[_place(each)] = each.offset() or 0
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in last.items()]
        try:
            consumer.store_offsets(offsets=offsets)
        except KafkaException as error:
            if error.args[0].code() not in UNASSIGNED:
                raise

    def _usable(self, message: Message) -> bool:
        """Whether it is a message; raises what can't be waited out. Errors that pass by themselves are logged."""
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # librdkafka's own names begin so
            self._ended[_place(message)] = message.offset() or 0
            return False
        if error.fatal():
            raise KafkaException(error)
        log.warning("%s: %s", self.name, error.name())
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self.hooks.assign:
            self.hooks.assign(consumer, partitions)
        self.assigned |= {(each.topic, each.partition) for each in partitions}
        self._tell()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # nothing is in flight here, so what is stored is all that is done
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in UNASSIGNED:
                log.warning("%s: commit at revocation failed: %s", self.name, error.args[0].name())
        self._on_lost(consumer, partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned -= {(each.topic, each.partition) for each in partitions}
        self._left = self._mine(self._left)
        self._tell()

    def _tell(self) -> None:
        if self.hooks.moved:
            self.hooks.moved([TopicPartition(topic, partition) for topic, partition in sorted(self.assigned)])


def _place(message: Message) -> tuple[str, int]:
    topic, partition = message.topic(), message.partition()
    assert topic is not None and partition is not None  # noqa: PT018  # true of every message that was read
    return topic, partition


def _safe(error: BaseException) -> str:
    """Only our own errors are known to hold no identifiers."""
    return str(error) if isinstance(error, TodokeError) else ""
