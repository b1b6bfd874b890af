"""The table of topics, and what `plan` finds a cluster to lack."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from todoke.schemas.codec import RECORDS
from todoke.schemas.events import INTAKE
from todoke.streams.settings import Kafka, Settings
from todoke.streams.topics import DAY, TOPICS, Change, Found, Topic, Wanted, carried, configuration, plan, wanted

PARTNERS = ["meta", "kura-crm"]
SETTINGS = Settings(namespace="test.", kafka=Kafka(replication=1, in_sync=1, partitions=3, lane_partitions=2))
EMBEDDED = wanted(SETTINGS, PARTNERS)
BY_NAME = {topic.name: topic for topic in TOPICS}
COMPACTED = [topic for topic in TOPICS if topic.cleanup == "compact"]


def found(each: Wanted) -> Found:
    """A topic just as it was wanted, with the settings that a broker adds."""
    config = {**each.config, "compression.type": "producer"}
    return Found(partitions=each.partitions, replication=each.replication, config=config)


def test_the_table_carries_every_type_that_travels_once() -> None:
    assert sorted(topic.carries.__name__ for topic in TOPICS) == sorted(RECORDS)
    assert len(BY_NAME) == len(TOPICS)


@pytest.mark.parametrize("name", INTAKE)
def test_an_intake_topic_carries_its_event_for_thirty_days(name: str) -> None:
    topic = BY_NAME[name]

    assert (topic.carries, topic.cleanup, topic.retention_ms, topic.partitions) == (
        INTAKE[name],
        "delete",
        30 * DAY,
        "intake",
    )


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_has_the_brokers_time_and_no_limit_that_loses_data(topic: Topic) -> None:
    config = configuration(topic)

    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["unclean.leader.election.enable"] == "false"
    assert config.get("retention.bytes", "-1") == "-1"
    assert int(config["max.message.bytes"]) > 1_000_000  # the largest batch that librdkafka makes
    assert topic.doc.endswith(".")


@pytest.mark.parametrize("topic", COMPACTED, ids=lambda topic: topic.name)
def test_a_compacted_topic_leaves_the_keeper_its_day_and_ends_what_was_overwritten(topic: Topic) -> None:
    config = {key: int(value) for key, value in configuration(topic).items() if value.isdecimal()}

    assert "retention.ms" not in config
    assert config["min.compaction.lag.ms"] == DAY
    assert config["segment.ms"] <= config["max.compaction.lag.ms"] == 7 * DAY
    assert config["delete.retention.ms"] >= config["max.compaction.lag.ms"]


def test_only_the_provision_log_and_orders_are_kept_for_ever_by_deleting() -> None:
    kept = [topic.name for topic in TOPICS if topic.cleanup == "delete" and topic.retention_ms < 0]
    assert kept == ["lane-orders", "provision-log"]


def test_names_have_the_namespace_and_families_one_member_for_each_partner() -> None:
    names = [each.name for each in EMBEDDED]

    assert names[0] == "test.consent-changes"
    assert [name for name in names if "directives" in name] == ["test.directives.meta", "test.directives.kura-crm"]
    assert ("test.suppressions.meta", "SuppressionEntry") in carried("test.", PARTNERS)
    assert [name for name, _ in carried("test.", PARTNERS)] == names


def test_sizes_come_from_the_settings() -> None:
    by_name = {each.name: each for each in wanted(Settings(), PARTNERS)}

    assert {each.replication for each in by_name.values()} == {3}
    assert {each.config["min.insync.replicas"] for each in by_name.values()} == {"2"}
    assert by_name["consent-state"].partitions == 12
    assert by_name["directives.meta"].partitions == 6
    assert by_name["registry"].partitions == 1
    assert {each.config["min.insync.replicas"] for each in EMBEDDED} == {"1"}


def test_an_empty_cluster_lacks_every_topic() -> None:
    assert plan({}, EMBEDDED) == [Change(topic=each.name) for each in EMBEDDED]
    assert str(Change(topic="told")) == "told: missing"
    assert str(Change(topic="told", done=True)) == "told: created"


def test_a_cluster_that_is_as_wanted_needs_nothing_and_other_topics_are_let_be() -> None:
    existing = {each.name: found(each) for each in EMBEDDED}
    existing["somebody.elses"] = Found(partitions=1, replication=1, config={})

    assert plan(existing, EMBEDDED) == []


def test_a_difference_is_told_by_field_with_what_is_and_what_should_be() -> None:
    one = EMBEDDED[0]
    existing = {one.name: replace(found(one), config={**one.config, "retention.ms": "1000"})}

    changes = plan(existing, [one])

    assert changes == [Change(topic=one.name, field="retention.ms", actual="1000", wanted=str(30 * DAY))]
    assert str(changes[0]) == "test.consent-changes: retention.ms: is 1000, wanted 2592000000"
    assert str(replace(changes[0], done=True)) == "test.consent-changes: retention.ms: was 1000, wanted 2592000000"
    assert changes[0].fixable


def test_partitions_and_replicas_are_never_mended() -> None:
    one = replace(EMBEDDED[0], grows=False)
    existing = {one.name: replace(found(one), partitions=9, replication=2)}

    changes = plan(existing, [one])

    assert [(each.field, each.actual, each.wanted, each.fixable) for each in changes] == [
        ("partitions", "9", "3", False),
        ("replication", "2", "1", False),
    ]


def test_what_is_deleted_by_time_may_have_more_partitions_but_for_lanes_and_nothing_may_have_fewer() -> None:
    more = {each.name: replace(found(each), partitions=each.partitions + 1) for each in EMBEDDED}
    fewer = {each.name: replace(found(each), partitions=each.partitions - 1) for each in EMBEDDED}

    grown = {change.topic for change in plan(more, EMBEDDED)}

    assert {each.name.removeprefix("test.") for each in EMBEDDED if each.name not in grown} == {
        *INTAKE,
        "receipts",
        "provision-log",
        "dead-letters",
    }
    assert {change.topic for change in plan(fewer, EMBEDDED)} == {each.name for each in EMBEDDED}


@given(
    missing=st.sets(st.sampled_from([each.name for each in EMBEDDED])), key=st.sampled_from(sorted(EMBEDDED[0].config))
)
def test_every_difference_is_found_and_no_other(missing: set[str], key: str) -> None:
    existing = {each.name: found(each) for each in EMBEDDED if each.name not in missing}
    for name, each in existing.items():
        if key in each.config:
            existing[name] = replace(each, config={**each.config, key: "other"})

    changes = plan(existing, EMBEDDED)

    different = {name for name, each in existing.items() if key in each.config}
    assert {each.topic for each in changes if not each.field} == missing
    assert {each.topic for each in changes if each.field == key} == different
    assert len(changes) == len(missing) + len(different)
