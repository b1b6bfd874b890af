"""A cluster: reached, or refused with the setting at fault; its topics brought in line with `topics`, or found unfit."""

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from msgspec.structs import replace

from todoke.schemas.errors import Misconfigured, Retry

from .settings import Kafka
from .topics import Change, Found, Wanted, plan

TIMEOUT_S = 30.0
ASK_S = 1.0
HEARD_S = 10.0
START_S = 60.0  # a worker that starts together with its broker gives it so long
QUIET = logging.getLogger(f"{__name__}.librdkafka")
QUIET.setLevel(logging.CRITICAL + 1)  # what it would say is said here once, as an error with a fix

PASSING = {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "REQUEST_TIMED_OUT", "NOT_CONTROLLER"}
FIXES = {
    "INVALID_REPLICATION_FACTOR": "set kafka.replication to no more than the brokers there are",
    "TOPIC_AUTHORIZATION_FAILED": "allow kafka.client's user to create, describe and alter it",
    "CLUSTER_AUTHORIZATION_FAILED": "allow kafka.client's user to create topics",
    "_AUTHENTICATION": "correct sasl.username, sasl.password or sasl.mechanism in kafka.client",
    "SASL_AUTHENTICATION_FAILED": "correct sasl.username, sasl.password or sasl.mechanism in kafka.client",
    "_SSL": "have ssl.ca.location in kafka.client name the CA that signed the brokers' certificates",
    "POLICY_VIOLATION": "the cluster's own policy forbids it: have it allowed",
}
"""What to do about a code by which the cluster refuses for good."""


def connect(kafka: Kafka, patience_s: float | None = None) -> AdminClient:
    """A client of a cluster that answers, and knows us.

    Raises `Misconfigured` that names the setting at fault when the cluster refuses us, `Retry` when nobody has answered
    within `patience_s`, or `HEARD_S`.
    What librdkafka says of its own is not passed on: it may quote what it was given.
    """
    heard: list[KafkaError] = []
    try:
        config: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap, **kafka.client, "error_cb": heard.append}
        admin = AdminClient(config, logger=QUIET)
    except KafkaException as error:
        raise Misconfigured(f"kafka.client: {_unsaid(error.args[0].str(), kafka)}: correct it") from None
    deadline = time.monotonic() + (HEARD_S if patience_s is None else patience_s)
    while True:
        try:
            admin.list_topics(timeout=ASK_S)
        except KafkaException as error:
            admin.poll(0)  # which serves the callback
            names = [each.name() for each in [*heard, error.args[0]]]
            refused = next((each for each in names if each in FIXES), None)
            if refused:
                raise Misconfigured(f"kafka: {kafka.bootstrap} refuses us ({refused}): {FIXES[refused]}") from None
            if time.monotonic() > deadline:
                where = "start Kafka, or correct kafka.bootstrap, or security.protocol in kafka.client"
                raise Retry(f"kafka: no answer from {kafka.bootstrap}: {where}", perhaps=False) from None
        else:
            return admin


def _unsaid(text: str, kafka: Kafka) -> str:
    """The text without any value of a setting that may be a secret."""
    for key, value in kafka.client.items():
        if any(word in key for word in ("password", "secret", "pem", "token")) and len(str(value)) > 0:
            text = text.replace(str(value), "…")
    return text


def require(admin: AdminClient, wanted: Sequence[Wanted]) -> None:
    """See that every topic is there, with a number of partitions that the settings and the records in it agree with.

    Raises `Misconfigured` that names topic, setting and fix. Other differences are for `todoke topics apply` to report.
    """
    try:
        there = admin.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise fault("cluster", error) from None
    missing = [each.name for each in wanted if each.name not in there]
    if missing:
        raise Misconfigured(f"topics: {', '.join(missing)}: not there, or not ours to see: run `todoke topics apply`")
    for each in wanted:
        count = len(there[each.name].partitions)
        if count != each.partitions and not (each.grows and count > each.partitions):
            raise Misconfigured(
                f"{each.name}: has {count} partitions, {each.setting} says {each.partitions}: stop everything, "
                f"set it to {max(count, each.partitions)}, and run `todoke topics grow`"
            )


def observe(admin: AdminClient, names: Iterable[str]) -> dict[str, Found]:
    """Which of `names` the cluster has, and how. Raises `Retry` while it doesn't answer, else `Misconfigured`."""
    try:
        there = admin.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise fault("cluster", error) from None
    resources = {name: ConfigResource(ConfigResource.Type.TOPIC, name) for name in names if name in there}
    if not resources:
        return {}
    answers = admin.describe_configs(list(resources.values()), request_timeout=TIMEOUT_S)
    found = {}
    for name, resource in resources.items():
        entries = result(name, answers[resource])
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
        result(name, future)


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
        result(resource.name, future)


def result(name: str, future: Future[Any]) -> Any:
    try:
        return future.result(TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return None  # somebody else was quicker, with the same table
        raise fault(name, error) from None


def fault(name: str, error: KafkaException) -> Misconfigured | Retry:
    reason = error.args[0]
    if reason.name() in PASSING:
        return Retry(f"{name}: {reason.str()}: start Kafka, or correct kafka.bootstrap", perhaps=False)
    return Misconfigured(f"{name}: {reason.str()}: {FIXES.get(reason.name(), 'correct what it names')}")
