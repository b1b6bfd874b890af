"""(a) A plain Faust agent with a table, as its documentation has it: read, change the table, send to topics.

Tuned by settings alone: C extensions on, a linger and larger batches for the producer, no standby, little logging. At
least once, as shipped; the table is in memory, which is its fastest, and durable by its changelog.
"""

import logging
import os
from pathlib import Path

import faust

from bench.load import TOPIC
from bench.rules import Kernel

NAMESPACE = "faust."
kernel = Kernel(NAMESPACE)
PARTITIONS = int(os.environ["BENCH_PARTITIONS"])
app = faust.App(
    "bench-faust",
    broker=f"kafka://{os.environ['TODOKE_KAFKA']}",
    store="memory://",
    datadir=Path(os.environ["BENCH_STATE"]) / "faust",
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    table_standby_replicas=0,
    topic_disable_leader=True,
    web_enabled=False,
    worker_redirect_stdouts=False,
    producer_linger=float(os.environ["BENCH_LINGER"]),
    producer_max_batch_size=131_072,
    broker_heartbeat_interval=3.0,
    broker_session_timeout=10.0,
    cython_optimizations=True,
)
source = app.topic(TOPIC, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw")
records = app.Table("records", key_type=bytes, value_type=bytes, partitions=PARTITIONS)
outputs: dict[str, faust.TopicT] = {}


def output(name: str) -> faust.TopicT:
    """The topic of that name, made once."""
    if name not in outputs:
        outputs[name] = app.topic(name, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw")
    return outputs[name]


async def consent(stream: faust.StreamT[bytes]) -> None:
    async for each in stream.events():
        message = each.message
        place, appended_at = (message.partition, message.offset), int(message.timestamp * 1000)
        records[each.key], letters = kernel.step(each.value, records.get(each.key), place, appended_at)
        for letter in letters:
            key = letter.key.encode() if isinstance(letter.key, str) else letter.key
            await output(letter.topic).send(key=key, value=letter.value)


app.agent(source, name="consent")(consent)

if __name__ == "__main__":
    for noisy in ("faust", "mode", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()
