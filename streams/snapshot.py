"""Reading whole topics, once, from their beginning to where they end now: for the balance, and for people's questions."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from todoke.processors.balance import Snapshot
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured, Refused, Retry
from todoke.schemas.events import INTAKE, DeadLetter, Outcome
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import SubjectRecord

from . import registry
from .settings import Settings
from .topics import partition_of

Value = TypeVar("Value", bound=Struct)
TIMEOUT_S = 10.0
PATIENCE = 100


class Topics:
    """Whole topics of one installation."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        """Reads with a consumer of no group: nothing is committed, nobody is disturbed."""
        self.codec = codec
        self.schemas = registry.SchemaRegistry(settings.registry) if settings.registry.url else None
        self.namespace = settings.namespace
        self.largest_event = settings.worker.largest_event
        self.config: dict[str, Any] = {
            "bootstrap.servers": settings.kafka.bootstrap,
            "group.id": f"{settings.namespace}todoke.reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # the end of a partition shows in an empty answer
            "isolation.level": "read_committed",
            **settings.kafka.client,
        }

    def partitions(self, name: str) -> list[int]:
        """The partitions of a topic."""
        consumer = Consumer(self.config)
        try:
            return sorted(self._there(consumer, self.namespace + name))
        finally:
            consumer.close()

    def _there(self, consumer: Consumer, topic: str) -> set[int]:
        found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise Misconfigured(f"topic {topic} is not there: run `todoke topics apply`")
        return set(found.partitions)

    def read(self, name: str, partition: int | None = None, since: int = 0) -> Iterator[Message]:
        """Every message of a topic, or of one partition of it, up to its end as of now; from the time `since` (ms) on."""
        topic = self.namespace + name
        consumer = Consumer(self.config)
        try:
            open_places = self._there(consumer, topic) if partition is None else {partition}
            places = [TopicPartition(topic, number, since or OFFSET_BEGINNING) for number in sorted(open_places)]
            if since:  # where nothing is as young, that is the end
                places = consumer.offsets_for_times(places, timeout=TIMEOUT_S)
            consumer.assign(places)
            silent = 0
            while open_places:
                messages = consumer.consume(1000, 0.2)
                silent = 0 if messages else silent + 1
                if silent > PATIENCE:
                    raise Retry(f"topic {topic}: the broker has been silent for {PATIENCE // 5} s")
                for message in messages:
                    error = message.error()
                    if error is None:
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:
                        open_places.discard(message.partition() or 0)
                    else:
                        raise KafkaException(error)
        finally:
            consumer.close()

    def values(self, name: str, kind: type[Value]) -> Iterator[Value]:
        """Every value of a topic, in order within partitions."""
        for message in self.read(name):
            raw = message.value()
            if raw is not None:
                yield self.codec.decode(raw, kind)

    def latest(self, name: str, kind: type[Value]) -> dict[str, Value]:
        """The last value of every key of a compacted topic, in the partition where it belongs.

        Elsewhere lies what was written before the topic grew, until compaction has removed it.
        """
        found: dict[str, Value] = {}
        count = len(self.partitions(name))
        for message in self.read(name):
            if partition_of(message.key() or b"", count) != message.partition():
                continue
            key, raw = (message.key() or b"").decode(), message.value()
            if raw is None:
                found.pop(key, None)
            else:
                found[key] = self.codec.decode(raw, kind)
        return found

    def events(self) -> Iterator[str]:
        """The id of every message ever taken in; its place, for those that have none that can be read."""
        for name, kind in INTAKE.items():
            for message in self.read(name):
                place = f"{name}/{message.partition()}/{message.offset()}"
                yield self._event_id(message, kind) or place

    def snapshot(self) -> Snapshot:
        """What the balance is computed from."""
        return Snapshot(
            events=tuple(self.events()),
            outcomes=self.latest("outcomes", Outcome),
            records=self.latest("consent-state", SubjectRecord),
            obligations=self.latest("obligations", Obligation),
            receipts=tuple(self.values("receipts", Receipt)),
        )

    def letters(self, wanted: Callable[[DeadLetter], bool] = lambda _: True) -> list[DeadLetter]:
        """The dead letters that are wanted, each as it was last written."""
        return [letter for letter in self.latest("dead-letters", DeadLetter).values() if wanted(letter)]

    def _event_id(self, message: Message, kind: type[Any]) -> str:
        raw = message.value() or b""
        if len(raw) > self.largest_event:
            return ""  # refused unread, so known by its place alone
        try:
            return str(registry.decode(self.codec, self.schemas, raw, kind).event_id)
        except Refused:
            return ""
