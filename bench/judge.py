"""The judge: reads what a system produces, committed messages only, and notes when. It knows topics and times, no system.

An event is done when its outcome and every directive that names one of its writes have been read. Values are kept as
they come and decoded afterwards, so that judging takes little from the machine that is measured.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from todoke.schemas.codec import Codec
from todoke.schemas.directives import Directive
from todoke.schemas.events import Outcome


def end(consumer: Consumer, topic: str, partition: int) -> int:
    """Where a partition ends now. A broker that is busy takes a while to lead what was made just before."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1])
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


class Judge:
    """Opened as a context, it reads from where the topics end then."""

    def __init__(self, servers: str, namespace: str, lanes: Iterable[str], *, keep: bool = True) -> None:
        """`lanes` are the names of partners. Without `keep`, outcomes are counted and nothing is kept."""
        self.read: list[tuple[float, bytes]] = []
        self.events = 0
        self.keep = keep
        self._outcomes = f"{namespace}outcomes"
        self._topics = [self._outcomes, *(f"{namespace}directives.{name}" for name in lanes)]
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"judge-{secrets.token_hex(4)}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
                "queued.min.messages": 1_000_000,
                "log_level": 0,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 30
        there = self._consumer.list_topics(timeout=10).topics
        while not set(self._topics) <= set(there) and time.monotonic() < deadline:
            time.sleep(0.2)  # made just now, and not yet known to all of the broker
            there = self._consumer.list_topics(timeout=10).topics
        places = [
            TopicPartition(name, partition, end(self._consumer, name, partition))
            for name in self._topics
            for partition in there[name].partitions
        ]
        self._consumer.assign(places)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            first = self._consumer.poll(0.1)
            if first is not None:
                self._note([first, *self._consumer.consume(10_000, 0)], time.monotonic())

    def _note(self, messages: list[Message], at: float) -> None:
        for each in messages:
            value = each.value()
            if each.error() is None and value is not None:
                if self.keep:
                    self.read.append((at, value))
                self.events += each.topic() == self._outcomes

    def until(self, events: int, patience_s: float, check: Callable[[], None]) -> None:
        """Wait until so many events have an outcome, or the time is up. `check` raises when the system has ended."""
        deadline = time.monotonic() + patience_s
        while self.events < events and time.monotonic() < deadline:
            check()
            time.sleep(0.02)

    def done(self, codec: Codec) -> dict[str, float]:
        """When (monotonic, in s) each event was done; events without an outcome, or without a directive, are not."""
        decided: dict[str, float] = {}
        directed: dict[str, float] = {}
        for at, value in self.read:
            said: Any = codec.decode(value, Outcome, Directive)
            if isinstance(said, Outcome):
                decided[said.event_id] = at
            else:
                for stamp in said.stamps:
                    directed[stamp.event_id] = at
        return {name: max(at, directed[name]) for name, at in decided.items() if name in directed}
