"""(b) Quix Streams, exactly once, with its RocksDB state and its changelog: one stateful step, and its letters produced."""

import os
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import SerializationContext, Serializer, Topic

from bench.load import TOPIC
from bench.rules import Kernel
from todoke.streams.outbox import Letter

NAMESPACE = "quix."
kernel = Kernel(NAMESPACE)
app = Application(
    broker_address=os.environ["TODOKE_KAFKA"],
    consumer_group="bench-quix",
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    state_dir=Path(os.environ["BENCH_STATE"]) / "quix",
    commit_interval=float(os.environ["BENCH_COMMIT_S"]),
    auto_create_topics=True,
    producer_extra_config={
        "partitioner": "murmur2_random",
        "linger.ms": float(os.environ["BENCH_LINGER"]) * 1000,
        "compression.type": "lz4",
    },
    consumer_poll_timeout=0.05,
    loglevel="WARNING",
)


class LetterValue(Serializer):  # type: ignore[misc]  # a library without types here
    """A letter's value, which is bytes already."""

    def __call__(self, value: Letter, ctx: SerializationContext) -> bytes:
        return value.value or b""


source = app.topic(TOPIC, key_deserializer="str", value_deserializer="bytes")
topics: dict[str, Topic] = {
    name: app.topic(name, key_serializer="str", value_serializer=LetterValue()) for name in kernel.names
}


def step(value: bytes, _: Any, timestamp: int, __: Any, state: State) -> list[Letter]:
    at = message_context()
    record, letters = kernel.step(value, state.get_bytes("record"), (at.partition, at.offset), timestamp)
    state.set_bytes("record", record)
    return letters


if __name__ == "__main__":
    frame = app.dataframe(source).apply(step, stateful=True, expand=True, metadata=True)
    frame.to_topic(lambda letter, *_: topics[letter.topic], key=lambda letter: letter.key)
    app.run()
