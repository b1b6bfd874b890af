"""A cluster's topics brought in line with `topics`: what is missing is created, what differs is reported."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from msgspec.structs import replace

from todoke.schemas.errors import Misconfigured, Retry

from .topics import Change, Found, Wanted, plan

TIMEOUT_S = 30.0

PASSING = {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "REQUEST_TIMED_OUT", "NOT_CONTROLLER"}
FIXES = {
    "INVALID_REPLICATION_FACTOR": "set kafka.replication to no more than the brokers there are",
    "TOPIC_AUTHORIZATION_FAILED": "allow kafka.client's user to create, describe and alter it",
    "CLUSTER_AUTHORIZATION_FAILED": "allow kafka.client's user to create topics",
    "_AUTHENTICATION": "correct user, password or mechanism in kafka.client",
    "_SSL": "correct the certificates in kafka.client",
    "POLICY_VIOLATION": "the cluster's own policy forbids it: have it allowed",
}
"""What to do about a code by which the cluster refuses for good."""


def observe(admin: AdminClient, names: Iterable[str]) -> dict[str, Found]:
    """Which of `names` the cluster has, and how. Raises `Retry` while it doesn't answer, else `Misconfigured`."""
    try:
        there = admin.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise _fault("cluster", error) from None
    resources = {name: ConfigResource(ConfigResource.Type.TOPIC, name) for name in names if name in there}
    if not resources:
        return {}
    answers = admin.describe_configs(list(resources.values()), request_timeout=TIMEOUT_S)
    found = {}
    for name, resource in resources.items():
        entries = _result(name, answers[resource])
        partitions = there[name].partitions
        found[name] = Found(
            partitions=len(partitions),
            replication=min((len(each.replicas) for each in partitions.values()), default=0),
            config={key: str(entry.value) for key, entry in entries.items()},
        )
    return found


def apply(admin: AdminClient, wanted: Sequence[Wanted], *, fix: bool = False) -> list[Change]:
    """Create the topics that are missing; report what differs, and mend it with `fix` where that can be done in place.

    Returns every difference there was, `done` where there is none now. May be called again, and by two at once.
    Raises `Retry` while the cluster doesn't answer, `Misconfigured` when it refuses.
    """
    changes = plan(observe(admin, (each.name for each in wanted)), wanted)
    missing = {each.topic for each in changes if not each.field}
    _create(admin, [each for each in wanted if each.name in missing])
    drift = [each for each in changes if fix and each.field and each.fixable]
    _alter(admin, drift)
    return [replace(each, done=True) if each in drift or not each.field else each for each in changes]


def _create(admin: AdminClient, wanted: Sequence[Wanted]) -> None:
    if not wanted:
        return
    topics = [
        NewTopic(each.name, num_partitions=each.partitions, replication_factor=each.replication, config=each.config)
        for each in wanted
    ]
    for name, future in admin.create_topics(topics, request_timeout=TIMEOUT_S).items():
        _result(name, future)


def _alter(admin: AdminClient, changes: Sequence[Change]) -> None:
    if not changes:
        return
    by_topic: dict[str, list[ConfigEntry]] = {}
    for each in changes:
        entry = ConfigEntry(each.field, each.wanted, incremental_operation=AlterConfigOpType.SET)
        by_topic.setdefault(each.topic, []).append(entry)
    resources = [
        ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        for name, entries in by_topic.items()
    ]
    for resource, future in admin.incremental_alter_configs(resources, request_timeout=TIMEOUT_S).items():
        _result(resource.name, future)


def _result(name: str, future: Future[Any]) -> Any:
    try:
        return future.result(TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return None  # somebody else was quicker, with the same table
        raise _fault(name, error) from None


def _fault(name: str, error: KafkaException) -> Misconfigured | Retry:
    reason = error.args[0]
    if reason.name() in PASSING:
        return Retry(f"{name}: {reason.str()}: start Kafka, or correct kafka.bootstrap", perhaps=False)
    return Misconfigured(f"{name}: {reason.str()}: {FIXES.get(reason.name(), 'correct what it names')}")
