"""Topics brought in line on a real broker."""

import time
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from todoke.schemas.errors import Misconfigured, Retry
from todoke.streams import cluster
from todoke.streams.settings import Kafka, Settings
from todoke.streams.topics import Wanted, plan, wanted

PATIENCE_S = 20.0


@pytest.fixture
def settings() -> Settings:
    small = Kafka(replication=1, in_sync=1, partitions=2, lane_partitions=1)
    return Settings(namespace=f"{uuid4().hex[:8]}.", kafka=small)


@pytest.fixture
def admin(stack: Any) -> AdminClient:
    return AdminClient({"bootstrap.servers": stack.bootstrap})


def settled(admin: AdminClient, topics: list[Wanted]) -> None:
    """Wait until every broker knows of what was changed: metadata travels behind the answer."""
    deadline = time.monotonic() + PATIENCE_S
    while plan(cluster.observe(admin, [each.name for each in topics]), topics):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.stack
def test_a_cluster_gets_every_topic_once_and_is_then_as_wanted(admin: AdminClient, settings: Settings) -> None:
    topics = wanted(settings, ["meta"])

    first = cluster.apply(admin, topics)
    settled(admin, topics)

    assert [(each.topic, each.field, each.done) for each in first] == [(each.name, "", True) for each in topics]
    assert cluster.apply(admin, topics) == []


@pytest.mark.stack
def test_two_who_create_at_once_both_succeed(admin: AdminClient, settings: Settings) -> None:
    topics = wanted(settings, [])
    cluster.apply(admin, topics)

    cluster._create(admin, topics)

    settled(admin, topics)


@pytest.mark.stack
def test_drift_is_reported_and_mended_only_when_asked_and_partitions_never(
    admin: AdminClient, settings: Settings
) -> None:
    topics = [replace(wanted(settings, [])[0], grows=False)]
    cluster.apply(admin, topics)
    settled(admin, topics)
    other = [replace(topics[0], partitions=1, config={**topics[0].config, "retention.ms": "86400000"})]

    reported = cluster.apply(admin, other)
    untouched = cluster.apply(admin, topics)
    mended = cluster.apply(admin, other, fix=True)
    settled(admin, [replace(other[0], partitions=2)])

    assert [(each.field, each.done) for each in reported] == [("partitions", False), ("retention.ms", False)]
    assert untouched == []
    assert [(each.field, each.done) for each in mended] == [("partitions", False), ("retention.ms", True)]
    assert [each.field for each in cluster.apply(admin, other)] == ["partitions"]


@pytest.mark.stack
def test_what_the_cluster_refuses_names_topic_and_fix(admin: AdminClient, settings: Settings) -> None:
    one = wanted(settings, [])[0]

    with pytest.raises(Misconfigured, match=rf"{one.name}: .*set kafka\.replication"):
        cluster.apply(admin, [replace(one, replication=9)])
    with pytest.raises(Misconfigured, match=rf"{one.name}: .*segment\.ms"):
        cluster.apply(admin, [replace(one, config={"segment.ms": "-5"})])


@pytest.mark.stack
def test_a_message_has_the_brokers_time_whatever_the_producer_says(
    stack: Any, admin: AdminClient, settings: Settings
) -> None:
    topic = wanted(settings, [])[0]
    cluster.apply(admin, [topic])
    settled(admin, [topic])
    producer = Producer({"bootstrap.servers": stack.bootstrap})
    before = int(time.time() * 1000)
    consumer = Consumer({"bootstrap.servers": stack.bootstrap, "group.id": topic.name, "auto.offset.reset": "earliest"})

    producer.produce(topic.name, b"x", timestamp=before - 40 * 86_400_000)
    producer.flush(PATIENCE_S)
    consumer.subscribe([topic.name])
    message = consumer.poll(PATIENCE_S)
    consumer.close()

    assert message is not None
    assert message.timestamp()[1] >= before


def test_a_cluster_that_does_not_answer_is_asked_again_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT_S", 0.2)

    with pytest.raises(Retry, match=r"cluster: .*start Kafka, or correct kafka\.bootstrap"):
        cluster.observe(AdminClient({"bootstrap.servers": "127.0.0.1:9", "log_level": 0}), ["t"])
