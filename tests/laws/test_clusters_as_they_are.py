"""Clusters as they are: workers and dispatchers that come and go, producers with transactions, topics that grow."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from random import Random
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer, murmur2
from confluent_kafka.admin import AdminClient, NewPartitions
from msgspec.structs import replace

from tests.laws.events import grant, lives, topic_of, withdraw
from tests.town import Town
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import Event, Outcome
from todoke.schemas.obligations import ENDED
from todoke.streams import build, cluster, growth, topics
from todoke.streams.embedded.stack import Addresses
from todoke.streams.lookup import look_up
from todoke.streams.settings import Kafka

pytestmark = pytest.mark.stack


@pytest.fixture
async def wide(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A town with partitions to share out."""
    found = Town(stack, tmp_path_factory.mktemp("wide"))
    kafka = replace(found.settings.kafka, partitions=4, lane_partitions=3)
    found.settings = replace(found.settings, kafka=kafka, worker=replace(found.settings.worker, batch=10))
    async with found:
        yield found


@pytest.mark.slow
async def test_workers_and_dispatchers_that_come_and_go_under_load_lose_nothing(wide: Town) -> None:
    town = wide
    said = lives(seed=7, people=70)
    handed_over: list[int] = []

    def undone() -> int:
        outcomes = town.made.tools.index.outcomes([event.event_id for event in said])
        return sum(each is None for each in outcomes)

    async def leave(some: int, stop: Awaitable[None]) -> None:
        """Stop one when about so many events are left, and note how many were."""
        assert await town.until(lambda: undone() <= some)
        await stop
        handed_over.append(await asyncio.to_thread(undone))

    first, one = town.workers[0], town.dispatchers[0]
    own = [await asyncio.to_thread(build.parts, town.settings) for _ in range(2)]  # as other processes have
    second = town.start_worker(own[0])
    await town.start_dispatcher()
    assert await town.until(lambda: all(each.assigned for each in (*first, *second)))
    assert await town.until(lambda: all(any(each.desk.lanes for each in some.stations) for some in town.dispatchers))
    by_topic: dict[str, list[Event]] = defaultdict(list)
    for event in said:
        by_topic[topic_of(event)].append(event)
    await asyncio.gather(*(town.publish(name, *events) for name, events in by_topic.items()))
    await leave(len(said) * 3 // 4, town.stop_worker(first))
    await leave(len(said), town.stop_dispatcher(one))
    third = town.start_worker(own[1])
    await town.start_dispatcher()
    await leave(len(said) // 2, town.stop_worker(second))
    found = await town.settled()
    await town.stop_worker(third)
    for each in own:
        await asyncio.to_thread(each.outbox.close)
        each.tools.view.client.close()

    assert handed_over[0] > 0  # there was something to lose
    assert found.exact
    assert found.events == len(said) == sum(found.outcomes.values())
    assert "refused" not in found.outcomes
    assert not [each for each in town.obligations() if each.state not in ENDED and each.state != "blocked"]


def _producer(town: Town, **more: Any) -> Producer:
    config = {"bootstrap.servers": town.settings.kafka.bootstrap, "partitioner": "murmur2_random", "log_level": 2}
    return Producer({**config, **more})


def _write(town: Town, producer: Producer, *events: Event, partition: int = -1) -> None:
    for event in events:
        name, value = town.made.topic(topic_of(event)), town.made.tools.codec.encode(event)
        producer.produce(name, value, event.subject, partition=partition, on_delivery=_delivered)


def _delivered(error: KafkaError | None, _: Message) -> None:
    assert error is None or error.code() == KafkaError._PURGE_QUEUE, error  # what is aborted is not sent


async def test_of_upstreams_transactions_the_committed_count_once_and_the_aborted_never(town: Town) -> None:
    def transactions() -> None:
        producer = _producer(town, **{"transactional.id": secrets.token_hex(4)})
        producer.init_transactions(60)
        for events, keep in ((committed, True), (aborted, False), (again, True)):
            producer.begin_transaction()
            _write(town, producer, *events)
            producer.flush(60)
            producer.commit_transaction(60) if keep else producer.abort_transaction(60)

    committed = [grant(f"member-{number}") for number in range(8)]
    aborted = [withdraw(f"member-{number}") for number in range(8)]
    again = [grant("member-9"), withdraw("member-0")]
    await asyncio.to_thread(transactions)
    await town.publish("consent-changes", grant("member-10"))

    found = await town.settled()

    assert found.exact
    assert found.outcomes == {"applied": 11}
    outcomes = town.reader().latest("outcomes", Outcome)
    assert not {each.event_id for each in aborted} & set(outcomes)
    answers = [look_up(town.made.tools, f"member-{number}", "targeted-advertising").answer for number in range(8)]
    assert answers == ["deny"] + ["allow"] * 7


@pytest.mark.slow
async def test_a_transaction_that_hangs_holds_up_its_own_partition_until_the_broker_ends_it(town: Town) -> None:
    hanging, behind, beside = withdraw("taro"), grant("hanako"), grant("jiro")
    options = {"transactional.id": secrets.token_hex(4), "transaction.timeout.ms": 5000}
    producer = _producer(town, **options)

    def hang() -> None:
        producer.init_transactions(60)
        producer.begin_transaction()
        _write(town, producer, hanging, partition=0)
        producer.flush(60)  # and no more: neither committed nor aborted

    def others() -> None:
        plain = _producer(town)
        _write(town, plain, behind, partition=0)
        _write(town, plain, beside, partition=1)
        plain.flush(60)

    def known(event: Event) -> bool:
        return town.made.tools.index.outcomes([event.event_id])[0] is not None

    await asyncio.to_thread(hang)
    await asyncio.to_thread(others)
    assert await town.until(lambda: known(beside))
    waited = not known(behind)
    assert await town.until(lambda: known(behind))  # the broker has aborted what hung

    found = await town.settled()
    assert waited
    assert found.exact
    assert found.outcomes == {"applied": 2}
    assert not known(hanging)


def _grow(town: Town, names: list[str], count: int) -> None:
    admin = AdminClient({"bootstrap.servers": town.settings.kafka.bootstrap})
    asked = [NewPartitions(town.made.topic(name), count) for name in names]
    for future in admin.create_partitions(asked).values():
        future.result(30)
    growth._await(admin, {town.made.topic(name): count for name in names})


async def test_an_intake_topic_that_grows_while_all_runs_changes_no_result_whatever_the_order(town: Town) -> None:
    people = [f"member-{number}" for number in range(24)]
    first = [grant(name, at=10) for name in people]
    second = [withdraw(name, at=1000) for name in people[::2]] + [grant(name, at=2000) for name in people[::4]]
    late = [grant(name, at=20) for name in people] + [withdraw(name, at=5) for name in people]
    await town.publish("consent-changes", *first)
    before = town.settings.kafka.partitions

    await asyncio.to_thread(_grow, town, ["consent-changes"], 5)
    shuffled = [*second, *late]
    Random(3).shuffle(shuffled)

    def write() -> None:
        producer = _producer(town)
        for number, event in enumerate(shuffled):  # wherever, so that no order among a person's events is left
            _write(town, producer, event, partition=number % 5)
        producer.flush(60)

    await asyncio.to_thread(write)
    found = await town.settled()

    assert before < 5
    assert found.exact
    assert found.events == len(first) + len(shuffled) == sum(found.outcomes.values())
    for number, name in enumerate(people):
        expected = "allow" if number % 2 or number % 4 == 0 else "deny"
        assert look_up(town.made.tools, name, "targeted-advertising").answer == expected
    admin = cluster.connect(town.settings.kafka)
    cluster.require(admin, topics.wanted(town.settings, []))  # and processes start


@pytest.mark.slow
async def test_topics_whose_keys_have_a_place_grow_when_all_is_stopped_and_keys_take_their_values_along(
    town: Town,
) -> None:
    said = lives(seed=11, people=40)
    for event in said:
        await town.publish(topic_of(event), event)
    assert (await town.settled()).exact
    partners = [each.name for each in town.made.tools.rules.registry.partners]
    grown = replace(town.settings, kafka=replace(town.settings.kafka, partitions=5, lane_partitions=2))
    codec = town.made.tools.codec

    with pytest.raises(Misconfigured, match="have members: stop every worker and dispatcher first"):
        await asyncio.to_thread(growth.grow, grown, codec)
    await town.stop_dispatcher(town.dispatchers[0])
    await town.stop_worker(town.workers[0])
    lines = await asyncio.to_thread(growth.grow, grown, codec)
    again = await asyncio.to_thread(growth.grow, grown, codec)

    assert f"{town.made.topic('consent-state')}: 2 partitions, now 5" in lines
    assert again == []
    with pytest.raises(Misconfigured, match=r"has 5 partitions, kafka\.partitions says 2: .*`todoke topics grow`"):
        cluster.require(cluster.connect(town.settings.kafka), topics.wanted(town.settings, partners))
    cluster.require(cluster.connect(grown.kafka), topics.wanted(grown, partners))
    for name in ("consent-state", "obligations", "told", "outcomes"):
        assert not _astray(town, name, 5)

    town.settings = grown
    client = town.made.tools.view.client
    for key in client.scan_iter(town.made.tools.view.key("*"), count=1000):
        client.delete(key)  # so that the view is made anew from what was moved
    await asyncio.to_thread(town.made.outbox.close)
    town._made = await asyncio.to_thread(build.parts, grown)
    town.start_worker()
    await town.start_dispatcher()
    later = [withdraw(event.subject or "", "*", at=3_000_000) for event in said if event.subject][::3]
    await town.publish("consent-changes", *later)
    found = await town.settled()
    assert found.exact
    assert found.events == len(said) + len(later)
    for event in later:
        assert look_up(town.made.tools, event.subject or "", "targeted-advertising").answer == "deny"


def _astray(town: Town, name: str, count: int) -> set[bytes]:
    """Keys with a value where they no longer belong."""
    last: dict[tuple[bytes, int], bytes | None] = {}
    for message in town.reader().read(name):
        last[message.key() or b"", message.partition() or 0] = message.value()
    return {key for (key, place), value in last.items() if value is not None and murmur2(key, count) != place}


def test_a_topic_that_would_have_to_shrink_is_refused(stack: Addresses) -> None:
    kafka = Kafka(bootstrap=stack.bootstrap, replication=1, in_sync=1, partitions=3, lane_partitions=1)
    admin = cluster.connect(kafka)
    wanted = [
        topics.Wanted(name=f"{secrets.token_hex(4)}.one", partitions=3, replication=1, config={}),
    ]
    cluster.apply(admin, wanted)

    with pytest.raises(Misconfigured, match="no topic can shrink: set it to 3"):
        growth._more(admin, [replace(wanted[0], partitions=2)])
    with pytest.raises(Misconfigured, match="run `todoke topics apply`"):
        cluster.require(admin, [replace(wanted[0], name="nowhere")])
