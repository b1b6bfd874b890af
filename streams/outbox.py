"""Producing, with every message's delivery report in hand before anything is called done."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from msgspec import Struct

from todoke.schemas.errors import Retry, Stop

from .topics import LARGEST_LETTER

log = logging.getLogger(__name__)
TIMEOUT_S = 30.0
PARTITION_UA = -1  # librdkafka's name for: the partitioner chooses


class Letter(Struct, frozen=True):
    """One message to produce; a value of None is a tombstone, a key of None lets the producer choose a partition.

    `partition` is for what is about a partition itself; else the key decides.
    """

    topic: str
    key: str | bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = PARTITION_UA


def producer_config(bootstrap: str, client: dict[str, Any]) -> dict[str, Any]:
    """What every producer of Todoke is made with: idempotent, all replicas, and Java's partitioner.

    librdkafka's own default is CRC32, which agrees with Java clients on hardly any key.
    """
    return {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 1,
        "compression.type": "lz4",
        "delivery.timeout.ms": int(TIMEOUT_S * 1000),
        "message.max.bytes": LARGEST_LETTER,
        "queue.buffering.max.messages": 500_000,
        **client,
    }


class _Reports:
    """Counts the reports of one call to `send`."""

    def __init__(self, expected: int) -> None:
        self.missing = expected
        self.error: KafkaError | None = None
        self._lock = threading.Lock()

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        with self._lock:
            self.missing -= 1
            self.error = self.error or error


class Outbox:
    """One producer, shared by the threads of a process."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config` as `producer_config` makes it."""
        self._producer = Producer(config)
        self._closed = False

    def send(self, letters: Sequence[Letter]) -> None:
        """Produce all, and return when the broker has all of them.

        Raises `Retry` when one was not delivered, which leaves it open whether it was: every effect of Todoke can be
        produced twice. Raises `Stop` when the producer itself is beyond repair.
        """
        if not letters:
            return
        reports = _Reports(len(letters))
        for each in letters:
            self._produce(each, reports)
        deadline = time.monotonic() + TIMEOUT_S + 5
        while reports.missing and time.monotonic() < deadline:
            self._producer.poll(0.05)
        if reports.missing:
            raise Retry("produce: no report from the broker")
        if reports.error is not None:
            if reports.error.fatal():
                raise Stop(f"produce: {reports.error.name()}")
            raise Retry(f"produce: {reports.error.name()}")

    def close(self) -> None:
        """Wait for what is still in the queue, and let go of the broker. Nothing can be sent afterwards. May be called twice."""
        if not self._closed:
            self._closed = True
            self._producer.flush(TIMEOUT_S)
            self._producer.close()

    def _produce(self, letter: Letter, reports: _Reports) -> None:
        while True:
            try:
                self._producer.produce(
                    letter.topic,
                    letter.value,
                    letter.key,
                    partition=letter.partition,
                    headers=list(letter.headers),
                    on_delivery=reports,
                )
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                raise Stop(f"produce to {letter.topic}: {error.args[0].name()}") from None
            else:
                return


def header(message: Message, wanted: str) -> bytes:
    """The value of one header of a message, empty when it has none of that name."""
    found: Any = message.headers() or []
    return next((value for name, value in found if name == wanted and isinstance(value, bytes)), b"")
