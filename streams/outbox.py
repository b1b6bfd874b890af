"""Producing, with every message's delivery report in hand before anything is called done."""

import logging
import time
from collections.abc import Callable, Sequence
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
        reports: list[KafkaError | None] = []

        def report(error: KafkaError | None, _: Message) -> None:
            reports.append(error)  # by whichever thread polls: appending takes no lock

        for each in letters:
            self._produce(each, report)
        deadline = time.monotonic() + TIMEOUT_S + 5
        while len(reports) < len(letters) and time.monotonic() < deadline:
            self._producer.poll(0.05)
        if len(reports) < len(letters):
            raise Retry("produce: no report from the broker")
        error = next((each for each in reports if each is not None), None)
        if error is not None:
            if error.fatal():
                raise Stop(f"produce: {error.name()}")
            raise Retry(f"produce: {error.name()}")

    def close(self) -> None:
        """Wait for what is still in the queue, and let go of the broker. Nothing can be sent afterwards. May be called twice."""
        if not self._closed:
            self._closed = True
            self._producer.flush(TIMEOUT_S)
            self._producer.close()

    def _produce(self, letter: Letter, report: Callable[[KafkaError | None, Message], None]) -> None:
        headers: dict[str, Any] = {"headers": list(letter.headers)} if letter.headers else {}
        while True:
            try:
                self._producer.produce(
                    letter.topic, letter.value, letter.key, letter.partition, on_delivery=report, **headers
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
