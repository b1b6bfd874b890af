"""The topics: what each carries, keyed by what, kept for how long; and where a cluster differs from that.

Partitions. Every producer of ours and of Java clients places a key by murmur2 (`partitioner=murmur2_random` in
librdkafka, whose default is CRC32), so a key's messages stay together whoever writes them. Topics need not have equal
numbers of partitions: nothing is joined by partition. Topics that are deleted by time, but for lanes, may be given more
at any time: merging goes by the event's time, so no order among partitions matters. Of the others a number once chosen
stays until `todoke topics grow`: with another one, keys move, the old records of a compacted topic are never overwritten
where they lie (an erased person's among them), and the due-queue of a subject is looked for elsewhere. So processes
refuse to start where cluster and settings differ in that.

Times. Every topic has the broker's append time. An event's is what its grant counts from and what it is judged against
(correctness, 5), and the clock by which retention and compaction lag run must not be a producer's: a clock that is slow
by a month would have its events deleted on arrival, and the keeper's time to see each record (correctness, 9) cut short.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import confluent_kafka
from msgspec import Struct

from todoke.schemas.directives import Directive
from todoke.schemas.events import (
    ConsentChange,
    DeadLetter,
    DeletionRequest,
    IdentityLink,
    LogRow,
    Outcome,
    Provision,
    RightsRequest,
    SuspensionRequest,
    Unsubscribe,
)
from todoke.schemas.keyring import KeyCheck
from todoke.schemas.lanes import LaneOrder
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import SubjectRecord
from todoke.schemas.registry import RegistryRevision
from todoke.schemas.suppressions import SuppressionEntry
from todoke.schemas.told import Told

from .settings import Settings

HOUR = 3_600_000
DAY = 24 * HOUR
FOREVER = -1
PARTNER = "<partner>"

Cleanup = Literal["delete", "compact"]
Partitions = Literal["intake", "lane", "one"]


class Topic(Struct, frozen=True, kw_only=True):
    """One topic, or one for each partner where the name ends in `<partner>`. `retention_ms` is for cleanup delete."""

    name: str
    carries: type[Struct]
    key: str
    cleanup: Cleanup
    retention_ms: int = FOREVER
    partitions: Partitions = "intake"
    config: Mapping[str, str] = {}
    doc: str

    @property
    def grows(self) -> bool:
        """Whether it may be given more partitions at any time: nothing is found by partition, and nothing overwritten."""
        return self.cleanup == "delete" and self.partitions == "intake"


ALWAYS = {
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",  # an accepted event is not traded for a quick election (law 1)
    # The default, stated since a cluster's may differ. It limits whole batches: below librdkafka's own limit of 1,000,000
    # it would refuse good events for their company. The limit of one event is admission's (worker.largest_event).
    "max.message.bytes": "1048588",
}
DELETE = {
    "retention.bytes": str(FOREVER),  # a limit by size would delete what nobody has read yet
    "segment.ms": str(DAY),  # deletion goes by whole segments, so data stays for retention.ms and up to a day
}
COMPACT = {
    # The newest segment is never compacted, and a segment ends when something is appended after its time. So the lags
    # below hold for partitions that are written to; in one that nobody writes to, overwritten records lie on.
    "segment.ms": str(DAY),
    "min.compaction.lag.ms": str(DAY),  # the keeper sees every record for a day; processors stop at half of it
    "max.compaction.lag.ms": str(7 * DAY),  # a shredded record's older copies are gone a week after it was overwritten
    "delete.retention.ms": str(7 * DAY),  # a reader that began before a removal has a week to come across it
}
LARGEST_LETTER = 2_097_152
"""Of a dead letter, in bytes: an event of the largest size, sealed. Its producer's message.max.bytes must allow it."""


def partition_of(key: bytes, partitions: int) -> int:
    """Where our producers and Java's put a key among so many partitions."""
    return int(confluent_kafka.murmur2(key, partitions))


def _intake(name: str, carries: type[Struct], doc: str) -> Topic:
    key = "upstream's subject id; none where only identifiers are known"
    return Topic(name=name, carries=carries, key=key, cleanup="delete", retention_ms=30 * DAY, doc=doc)


TOPICS: tuple[Topic, ...] = (
    _intake(
        "consent-changes", ConsentChange, "Purposes granted or withdrawn: how, under which policy version and regime."
    ),
    _intake("unsubscribes", Unsubscribe, "Channels stopped or taken up again, whole or one list."),
    _intake(
        "deletion-requests",
        DeletionRequest,
        "Deletions asked for, with ground, identity and agent check, or the asking taken back.",
    ),
    _intake(
        "suspension-requests",
        SuspensionRequest,
        "Use, or provision to third parties, suspended or the suspension lifted.",
    ),
    _intake(
        "rights-requests", RightsRequest, "Access, source, correction, disclosure of provision records, purpose notice."
    ),
    _intake(
        "provisions",
        Provision,
        "What upstream gave to whom (Art. 29), received from whom (Art. 30), or had joined (Art. 31).",
    ),
    _intake("identity-links", IdentityLink, "Identifiers linked to a subject, subjects merged or parted."),
    Topic(
        name="registry",
        carries=RegistryRevision,
        key="kind/revision",
        cleanup="compact",
        partitions="one",
        doc="Revisions of policy and partners, all of them, in one order.",
    ),
    Topic(
        name="lane-orders",
        carries=LaneOrder,
        key="partner",
        cleanup="delete",
        partitions="one",
        doc="Lanes paused and resumed: by whom and why, kept for good. Every dispatcher reads it whole when it starts.",
    ),
    Topic(
        name="consent-state",
        carries=SubjectRecord,
        key="subject_ref",
        cleanup="compact",
        doc="The merged subject record: the truth that every view is rebuilt from.",
    ),
    Topic(
        name="directives.<partner>",
        carries=Directive,
        key="subject_ref",
        cleanup="delete",
        retention_ms=7 * DAY,
        partitions="lane",
        doc="Look at this subject for this partner. A wake-up, never the only copy (correctness, 16).",
    ),
    Topic(
        name="receipts",
        carries=Receipt,
        key="subject_ref",
        cleanup="delete",
        retention_ms=90 * DAY,
        doc="Attempts and what came of them. Outlives the longest quota window (correctness, 17).",
    ),
    Topic(
        name="obligations",
        carries=Obligation,
        key="obligation_id",
        cleanup="compact",
        doc="The state of each obligation; null some time after it has ended.",
    ),
    Topic(
        name="told",
        carries=Told,
        key="subject_ref, partner, account, scope and alias",
        cleanup="compact",
        doc="What each partner may have been told.",
    ),
    Topic(
        name="outcomes",
        carries=Outcome,
        key="event_id",
        cleanup="compact",
        doc="What became of each event.",
    ),
    Topic(
        name="suppressions.<partner>",
        carries=SuppressionEntry,
        key="the partner's own hash of the identifier",
        cleanup="compact",
        partitions="lane",
        doc="The list for a vendor that reads Kafka; null takes an identifier off. Its ACL lets this vendor alone read.",
    ),
    Topic(
        name="provision-log",
        carries=LogRow,
        key="subject_ref",
        cleanup="delete",
        doc="Sealed rows for the ledger, which deletes the records that it holds durably (correctness, 22).",
    ),
    Topic(
        name="dead-letters",
        carries=DeadLetter,
        key="letter_id",
        cleanup="delete",
        retention_ms=90 * DAY,
        config={"max.message.bytes": str(LARGEST_LETTER)},
        doc="Refused input and given-up deliveries: reason, sealed payload, replay handle.",
    ),
    Topic(
        name="keys",
        carries=KeyCheck,
        key="ring and generation",
        cleanup="compact",
        partitions="one",
        doc="By which another keyring is noticed at start; no keys.",
    ),
)
"""Every topic. `docs` and `todoke topics list` show this table."""


class Wanted(Struct, frozen=True, kw_only=True):
    """A topic as a cluster should have it, under its full name. `grows`: it may have more partitions, at any time."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    grows: bool = False
    setting: str = "kafka.partitions"


class Found(Struct, frozen=True, kw_only=True):
    """A topic as a cluster has it."""

    partitions: int
    replication: int
    config: dict[str, str]


class Change(Struct, frozen=True, kw_only=True):
    """One difference: a topic that is missing (`field` is empty), or one field of it. `done` once it was mended."""

    topic: str
    field: str = ""
    actual: str = ""
    wanted: str = ""
    done: bool = False

    @property
    def fixable(self) -> bool:
        """Whether it can be mended in place. Partitions and replicas can't: the one moves keys, the other data."""
        return self.field not in ("partitions", "replication")

    def __str__(self) -> str:
        if not self.field:
            return f"{self.topic}: {'created' if self.done else 'missing'}"
        return f"{self.topic}: {self.field}: {'was' if self.done else 'is'} {self.actual}, wanted {self.wanted}"


def names(topic: Topic, namespace: str, partners: Iterable[str]) -> list[str]:
    """The full names of a row: one, or one for each partner."""
    if not topic.name.endswith(PARTNER):
        return [namespace + topic.name]
    return [namespace + topic.name.replace(PARTNER, partner) for partner in partners]


def carried(namespace: str, partners: Sequence[str]) -> list[tuple[str, str]]:
    """Every topic with the name of the record that it carries: what the schema registry must know."""
    return [(name, topic.carries.__name__) for topic in TOPICS for name in names(topic, namespace, partners)]


def wanted(settings: Settings, partners: Sequence[str]) -> list[Wanted]:
    """Every topic as the settings want it."""
    kafka = settings.kafka
    counts: dict[Partitions, int] = {"intake": kafka.partitions, "lane": kafka.lane_partitions, "one": 1}
    return [
        Wanted(
            name=name,
            partitions=counts[topic.partitions],
            replication=kafka.replication,
            config={"min.insync.replicas": str(min(kafka.in_sync, kafka.replication)), **configuration(topic)},
            grows=topic.grows,
            setting={"intake": "kafka.partitions", "lane": "kafka.lane_partitions", "one": "Todoke"}[topic.partitions],
        )
        for topic in TOPICS
        for name in names(topic, settings.namespace, partners)
    ]


def configuration(topic: Topic) -> dict[str, str]:
    """What a row sets at the broker, whatever the cluster's size."""
    if topic.cleanup == "compact":
        return {"cleanup.policy": "compact", **ALWAYS, **COMPACT, **topic.config}
    return {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms), **ALWAYS, **DELETE, **topic.config}


def plan(existing: Mapping[str, Found], wanted: Iterable[Wanted]) -> list[Change]:
    """What has to change for `existing` to be as `wanted`. Topics and settings that aren't ours are not looked at."""
    changes: list[Change] = []
    for each in wanted:
        found = existing.get(each.name)
        if found is None:
            changes.append(Change(topic=each.name))
            continue
        pairs = {
            "partitions": (
                str(found.partitions),
                str(max(found.partitions, each.partitions) if each.grows else each.partitions),
            ),
            "replication": (str(found.replication), str(each.replication)),
            **{key: (found.config.get(key, ""), value) for key, value in each.config.items()},
        }
        changes.extend(
            Change(topic=each.name, field=field, actual=actual, wanted=value)
            for field, (actual, value) in pairs.items()
            if actual != value
        )
    return changes
