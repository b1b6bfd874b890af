"""Writes each line down, on the disk, and then sends it, at the rate planned. Imports nothing of the product."""

import os
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from tests.faults.generator import Line

BEAT = 20
MOST = 200


def send(lines: Iterable[Line], truth: Path, bootstrap: str, topic: Callable[[str], str], rate: float) -> int:
    """Write and send all; how many. Raises `RuntimeError` when the broker did not acknowledge each within ten minutes."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": 600_000,
            "linger.ms": 2,
            "log_level": 0,  # a broker that is killed is no news here
        }
    )
    failed: list[str] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error.name())

    sent, began = 0, time.monotonic()
    with truth.open("a") as notes:
        left_over = iter(lines)
        while some := list(islice(left_over, BEAT)):
            notes.write("".join(f"{line.text()}\n" for line in some))
            notes.flush()
            os.fsync(notes.fileno())
            for line in some:
                producer.produce(topic(line.topic), line.value, line.key, on_delivery=report)
            sent += len(some)
            while len(producer) > MOST:  # a broker that is away is waited for, so that deeds fall among events
                producer.poll(0.2)
            while (early := began + sent / rate - time.monotonic()) > 0:
                producer.poll(early)
    left = producer.flush(600)
    producer.close()
    if failed or left:
        raise RuntimeError(f"{len(failed) + left} messages were not acknowledged: {sorted(set(failed))}")
    return sent
