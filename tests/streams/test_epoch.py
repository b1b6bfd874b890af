"""Correctness 8: what is read or written in a view that isn't current is refused, on a real Valkey that loses things."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.valkey import Server
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured, NotCurrent
from todoke.schemas.record import SubjectRecord
from todoke.streams.epoch import Epoch, Shard, Watch, parse
from todoke.streams.settings import Redis, Settings, Worker
from todoke.streams.topics import COMPACT
from todoke.streams.view import View, connect

pytestmark = pytest.mark.stack
NOW = 1_700_000_000_000
PLACES = ("consent-state/0", "told/0")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as opened:
        yield opened


@pytest.fixture
def view(server: Server) -> Iterator[View]:
    client = connect(server.url)
    yield View(client, Codec(), "t.", Watch(len(PLACES), 60_000), lambda: NOW)
    client.close()


def heal(view: View, offset: int = 100) -> None:
    """Mark all shards as a keeper does when it has read up to their end."""
    for name in PLACES:
        view.client.hset(view.key("shards"), name, str(Shard("keeper", view.epoch().life, offset, NOW - 5)))


def grow(view: View) -> SubjectRecord:
    """Write one more version of one record."""
    cell = view.records.cell("s")
    held = view.records.update([cell], lambda _, held: SubjectRecord("s", version=held.version + 1 if held else 1))
    return held[cell]


def refused(view: View) -> list[str]:
    """Which kinds of access are refused."""
    cell = view.records.cell("s")
    steps: dict[str, Callable[[], object]] = {
        "load": lambda: view.records.load([cell]),
        "all": lambda: view.all(["s"]),
        "nothing": lambda: view.read([]),
        "update": lambda: grow(view),
        "swap": lambda: view.swap([(cell, b"", b"x")]),
    }
    found = []
    for name, step in steps.items():
        try:
            step()
        except NotCurrent:
            found.append(name)
    return found


EVERYTHING = ["load", "all", "nothing", "update", "swap"]
READS = ["load", "all", "nothing", "update"]


def test_a_view_that_nobody_has_healed_answers_nothing_and_takes_nothing(view: View) -> None:
    assert refused(view) == EVERYTHING


def test_a_healed_view_answers_with_the_age_of_what_it_knows(view: View) -> None:
    heal(view)

    assert refused(view) == []
    assert view.records.load_aged([view.records.cell("s")])[1] == 5


def test_a_view_that_was_wiped_answers_nothing_and_takes_nothing(view: View) -> None:
    heal(view)
    grow(view)
    view.client.flushall()

    assert refused(view) == EVERYTHING
    assert view.client.dbsize() == 0


def test_a_swap_that_expects_nothing_is_refused_when_the_view_was_wiped_since_the_read(view: View) -> None:
    heal(view)

    def change(_: object, held: SubjectRecord | None) -> SubjectRecord:
        view.client.flushall()
        return SubjectRecord("s", version=1)

    with pytest.raises(NotCurrent):
        view.records.update([view.records.cell("s")], change)
    assert view.client.dbsize() == 0


def test_one_shard_that_is_not_healed_is_enough(view: View) -> None:
    heal(view)
    view.client.hset(view.key("shards"), PLACES[1], str(Shard("keeper")))

    assert refused(view) == EVERYTHING


def test_a_server_that_came_back_from_an_older_snapshot_is_not_trusted(server: Server, view: View) -> None:
    heal(view)
    grow(view)
    view.client.save()
    grow(view)
    server.kill()
    server.start()

    healed = view.epoch().shards
    assert {name: each.offset for name, each in healed.items()} == dict.fromkeys(PLACES, 100)
    assert refused(view) == EVERYTHING


def test_a_server_that_was_a_replica_for_a_while_is_not_trusted_though_it_is_the_same_run(view: View) -> None:
    heal(view)
    before = view.epoch().life
    view.client.replicaof("127.0.0.1", "1")
    view.client.replicaof("NO", "ONE")

    after = view.epoch().life
    assert (before.split(".")[0], before == after) == (after.split(".")[0], False)
    assert refused(view) == EVERYTHING


def test_a_promoted_replica_is_not_trusted_though_it_holds_all_that_its_primary_held(
    server: Server, view: View, tmp_path_factory: pytest.TempPathFactory
) -> None:
    heal(view)
    grow(view)
    with Server(tmp_path_factory.mktemp("replica")) as other:
        replica = other.client
        replica.replicaof("127.0.0.1", str(server.port))
        while replica.info("replication")["master_link_status"] != "up":
            pass
        view.client.wait(1, 10_000)
        server.kill()
        replica.replicaof("NO", "ONE")
        taken_over = View(replica, Codec(), "t.", view.watch, lambda: NOW)

        assert replica.get(view.records.cell("s").key)
        assert refused(taken_over) == EVERYTHING
        replica.close()


def test_a_shard_that_steps_back_stops_every_read_until_it_has_caught_up(view: View) -> None:
    heal(view, 100)
    assert refused(view) == []
    heal(view, 99)
    back = refused(view)
    heal(view, 101)

    assert back == READS
    assert refused(view) == []


def test_an_older_answer_to_a_read_that_was_sent_before_is_no_step_back() -> None:
    watch = Watch(1, 60_000)
    older, newer = (Epoch("run", {"told/0": Shard("keeper", "run", offset, NOW)}) for offset in (100, 101))
    sent = watch.before()
    watch.require(newer, NOW, watch.before())

    watch.require(older, NOW, sent)
    with pytest.raises(NotCurrent, match="stepped back from 101 to 100"):
        watch.require(older, NOW, watch.before())


def test_a_keeper_that_has_been_silent_too_long_stops_every_read(view: View) -> None:
    heal(view)
    view.now = lambda: NOW + 60_001

    assert refused(view) == READS


def test_those_who_heal_read_and_write_whatever_the_view_has_lost(view: View) -> None:
    assert refused(view.unwatched()) == []


def test_a_shard_reads_as_it_was_written() -> None:
    shard = Shard("a1b2", "run.replication", 12, NOW)

    assert parse(str(shard).encode()) == shard


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_is_refused_at_the_start(server: Server, policy: str) -> None:
    client: redis.Redis = server.client
    client.config_set("maxmemory-policy", policy)
    client.close()

    with pytest.raises(Misconfigured, match="set maxmemory-policy to noeviction"):
        connect(server.url)


def test_processors_stop_long_before_the_keeper_could_miss_what_compaction_removes() -> None:
    from todoke.streams import build

    half = int(COMPACT["min.compaction.lag.ms"]) // 2
    settings = Settings(redis=Redis(url="redis://127.0.0.1:1/0"), worker=Worker(stale_after_ms=half + 1))

    assert Worker().stale_after_ms <= half
    with pytest.raises(Misconfigured, match=r"worker\.stale_after_ms"):
        build.parts(settings)
