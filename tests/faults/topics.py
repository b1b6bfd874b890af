"""Topics read from outside: whole, in order, decoded by the contracts as files. Imports nothing of the product."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from fastavro import parse_schema, schemaless_reader, schemaless_writer

SCHEMAS = Path(__file__).parents[2] / "schemas"
PATIENCE_S = 120.0

INTAKE = {
    "consent-changes": "ConsentChange",
    "unsubscribes": "Unsubscribe",
    "deletion-requests": "DeletionRequest",
    "suspension-requests": "SuspensionRequest",
    "rights-requests": "RightsRequest",
    "provisions": "Provision",
    "identity-links": "IdentityLink",
}
"""Which record each intake topic carries."""


class Seen(NamedTuple):
    """One message: where it stands, its append time (ms), key and value as bytes."""

    topic: str
    partition: int
    offset: int
    at: int
    key: bytes | None
    raw: bytes | None

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Contracts:
    """The records of `schemas/avro`, and the ids that `ids.lock.json` gives them."""

    def __init__(self, folder: Path = SCHEMAS) -> None:
        lock = json.loads((folder / "ids.lock.json").read_text())
        self._readers: dict[int, Any] = {}
        self._writers: dict[str, tuple[bytes, Any]] = {}
        for name, versions in lock.items():
            last = max(versions, key=int)
            for version, entry in versions.items():
                newest = folder / "avro" / f"{name}.avsc"
                older = folder / "avro" / "history" / f"{name}.{version}.avsc"
                schema = parse_schema(json.loads((newest if version == last else older).read_text()))
                self._readers[entry["id"]] = schema
                if version == last:
                    self._writers[name] = (b"\0" + int(entry["id"]).to_bytes(4, "big"), schema)

    def encode(self, name: str, fields: Mapping[str, Any]) -> bytes:
        """The message of a record, as a producer with a schema registry writes it."""
        header, schema = self._writers[name]
        out = BytesIO()
        out.write(header)
        schemaless_writer(out, schema, dict(fields))
        return out.getvalue()

    def decode(self, raw: bytes) -> dict[str, Any]:
        """The fields of a message."""
        found: Any = schemaless_reader(BytesIO(raw[5:]), self._readers[int.from_bytes(raw[1:5], "big")], None)
        return dict(found)


class Tail:
    """Topics of one installation, read on from where the last reading ended."""

    def __init__(self, bootstrap: str, namespace: str, names: Iterable[str]) -> None:
        self._namespace = namespace
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"checker-{uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "isolation.level": "read_committed",
                "log_level": 0,  # a broker that is killed is no news here
            }
        )
        self._next: dict[tuple[str, int], int] = {}
        wanted = {namespace + name for name in names}
        found = self._consumer.list_topics(timeout=30).topics
        places = [
            TopicPartition(name, number, 0) for name in wanted & found.keys() for number in found[name].partitions
        ]
        self._next = {(each.topic, each.partition): 0 for each in places}
        self._consumer.assign(places)

    def read(self) -> Iterator[Seen]:
        """Everything that stands in the topics now and was not read before. Raises `TimeoutError` when the broker is away."""
        deadline = time.monotonic() + PATIENCE_S
        ends = self._ends(deadline)
        while any(self._next[place] < end for place, end in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError("the topics could not be read to their ends")
            for message in self._consumer.consume(5000, 0.2):
                error, topic, partition = message.error(), message.topic(), message.partition()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF and topic is not None and partition is not None:
                        self._next[topic, partition] = max(self._next[topic, partition], message.offset() or 0)
                    continue
                assert topic is not None and partition is not None  # noqa: PT018  # true of every message
                offset = message.offset() or 0
                self._next[topic, partition] = offset + 1
                name = topic.removeprefix(self._namespace)
                yield Seen(name, partition, offset, message.timestamp()[1], message.key(), message.value())

    def close(self) -> None:
        self._consumer.close()

    def _ends(self, deadline: float) -> dict[tuple[str, int], int]:
        """Where each partition ends now."""
        last: Any = OffsetSpec
        asked = {TopicPartition(*place): last.latest() for place in self._next}
        while True:
            try:
                found = self._admin.list_offsets(asked, request_timeout=10)
                return {(each.topic, each.partition): int(future.result().offset) for each, future in found.items()}
            except KafkaException:
                if time.monotonic() > deadline:
                    raise TimeoutError("the broker does not say where topics end") from None
                time.sleep(0.5)
