"""The ground on which all are measured: a stack of its own, topics for everybody, the load published."""

import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from todoke.schemas.codec import Codec
from todoke.schemas.events import ConsentChange
from todoke.streams import build, cluster, keyfile, topics
from todoke.streams.embedded.stack import Plan, Stack
from todoke.streams.settings import Kafka, Redis, Settings

from .judge import end
from .load import TOPIC
from .systems import SYSTEMS, System

PARTITIONS, LANES = Kafka().partitions, Kafka().lane_partitions
CONFIG = """\
host = "127.0.0.1"
port = 0
[kafka]
partitions = {partitions}
lane_partitions = {lanes}
replication = 1
in_sync = 1
"""


class Ground:
    """Everything around the systems."""

    def __init__(self, directory: Path) -> None:
        """`directory` keeps the stack and the state of those measured; what was there is forgotten."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.stack = Stack.start(directory / "stack", Plan(fresh=True))
        self.servers = self.stack.addresses.bootstrap
        state = directory / f"state-{secrets.token_hex(4)}"
        state.mkdir()
        self.state = state
        self.keys = state / "keys.toml"
        keyfile.create(self.keys)
        (state / "todoke.toml").write_text(CONFIG.format(partitions=PARTITIONS, lanes=LANES))
        self.codec = Codec()
        self.lanes = [each.name for each in build.rules(Settings()).registry.partners]
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        for system in SYSTEMS:
            kafka = Kafka(bootstrap=self.servers, replication=1, in_sync=1)
            settings = Settings(
                namespace=system.namespace, kafka=kafka, redis=Redis(url=self.stack.addresses.redis_url)
            )
            cluster.apply(self.admin, topics.wanted(settings, self.lanes))
        self.producer = Producer(
            {
                "bootstrap.servers": self.servers,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "acks": "all",
                "log_level": 0,
            }
        )

    def environ(self, linger_s: float, commit_s: float) -> dict[str, str]:
        """What every system is started with."""
        return {
            **self.stack.addresses.environ(),
            "TODOKE_CONFIG": str(self.state / "todoke.toml"),
            "TODOKE_KEYS": f"file:{self.keys}",
            "BENCH_KEYS": str(self.keys),
            "BENCH_STATE": str(self.state),
            "BENCH_PARTITIONS": str(PARTITIONS),
            "BENCH_LINGER": str(linger_s),
            "BENCH_COMMIT_S": str(commit_s),
        }

    def publish(self, events: Iterable[ConsentChange]) -> int:
        """Put events on the topic that all read; how many."""
        count = 0
        for count, each in enumerate(events, 1):  # noqa: B007  # counted
            self.send(each.subject or "", self.codec.encode(each))
        self.producer.flush()
        return count

    def send(self, key: str, value: bytes) -> None:
        """One message, without waiting for it."""
        while True:
            try:
                self.producer.produce(TOPIC, value, key)
            except BufferError:
                self.producer.poll(0.05)
            else:
                self.producer.poll(0)
                return

    def skip(self, system: System) -> None:
        """Have a system go on from the end of the topic, whatever it had yet to do."""
        ends = [TopicPartition(TOPIC, partition, self._end(partition)) for partition in range(PARTITIONS)]
        deadline = time.monotonic() + 30
        while True:
            try:
                wanted = [ConsumerGroupTopicPartitions(system.group, ends)]
                for each in self.admin.alter_consumer_group_offsets(wanted).values():
                    each.result()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)  # while its members have yet to leave
            else:
                return

    def _end(self, partition: int) -> int:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "bench-ends"})
        try:
            return end(consumer, TOPIC, partition)
        finally:
            consumer.close()

    def stop(self) -> None:
        """End the stack."""
        self.stack.stop()


__all__: Sequence[str] = ("LANES", "PARTITIONS", "Ground")
