"""Keys change while everything runs: nobody is lost by it, nobody is told twice, and what was shredded stays shredded."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from msgspec.structs import replace

from tests.laws.events import delete, email, grant, topic_of, unsubscribe, withdraw
from tests.town import PATIENCE_S, Town
from todoke.processors.keys import RINGS, is_orphan, open_from_log, subject_ref
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import ConsentChange, LogRow
from todoke.schemas.identity import Identifier
from todoke.schemas.keyring import KeyCheck
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Told
from todoke.streams import build, keychecks, keyfile, rewrap
from todoke.streams.cli import main
from todoke.streams.embedded.stack import Addresses
from todoke.streams.lookup import look_up

pytestmark = pytest.mark.stack
PEOPLE = [f"person-{number}" for number in range(6)]


def ring_of(town: Town) -> Path:
    return Path(town.settings.keys.partition(":")[2])


async def reload(town: Town) -> build.Parts:
    """What processes that start now are made of: with the keyring as the file has it. The town works with it, too."""
    made = await asyncio.to_thread(build.parts, town.settings)
    await asyncio.to_thread(keychecks.establish, made.tools, town.reader())
    before, town._made = town.made, made
    town._opened.callback(before.tools.view.client.close)
    town._opened.callback(before.outbox.close)
    return made


async def roll(town: Town) -> None:
    """Replace the worker and the dispatcher, one after the other, the old ones at work until the new ones are."""
    made = await reload(town)
    worker, dispatcher = town.workers[0], town.dispatchers[0]
    town.start_worker(made)
    await town.stop_worker(worker)
    await town.start_dispatcher()
    await town.stop_dispatcher(dispatcher)


def change(town: Town, *step: str) -> None:
    said = CliRunner().invoke(main, ["keys", *step, str(ring_of(town))])
    assert said.exit_code == 0, said.output


async def renew(town: Town) -> rewrap.Progress:
    return await asyncio.to_thread(rewrap.run, town.made.tools, town.reader(), 10_000, lambda _: None)


async def calls(town: Town) -> dict[str, int]:
    return {name: (await town.ask(name, "calls")).get("total", 0) for name in town.addresses}


async def test_all_keys_are_rotated_while_events_come_and_nobody_is_told_twice(town: Town) -> None:
    await asyncio.to_thread(keychecks.establish, town.made.tools, town.reader())
    events = [event for name in PEOPLE for event in (grant(name), withdraw(name, identifiers=(email(name),)))]
    stranger = unsubscribe(None, identifiers=(email("stranger"),))
    for event in [*events[:8], stranger]:
        await town.publish(topic_of(event), event)
    assert (await town.settled()).exact
    assert generations(town) == {("a1",)}
    for ring in RINGS:
        change(town, "add", ring)
    await roll(town)
    for event in events[8:10]:
        await town.publish(topic_of(event), event)
    assert (await town.settled()).exact
    assert generations(town) == {("a1",), ("a1", "a2")}
    for ring in RINGS:
        change(town, "use", ring, f"{ring[0]}2")
    made = await reload(town)
    town.start_worker(made)  # for a while one wraps under the old, one under the new
    await town.start_dispatcher()
    by_address = unsubscribe(None, identifiers=(email(PEOPLE[1]),))  # who was enrolled under the old alias key
    for event in [*events[10:], by_address]:
        await town.publish(topic_of(event), event)
    before = await town.settled()
    assert before.exact
    owed, told, heard = obligations(town), told_of(town), await calls(town)

    await town.stop_worker(town.workers[0])
    await town.stop_dispatcher(town.dispatchers[0])
    first = await renew(town)
    again = await renew(town)
    needed = await asyncio.to_thread(rewrap.needed, town.made.tools, town.reader())
    for ring in ("wrapping", "alias"):
        await asyncio.to_thread(keychecks.retire, town.made.tools, town.reader(), f"{ring}.{ring[0]}1")
        change(town, "remove", ring, f"{ring[0]}1")
    await roll(town)

    assert (first.failed, first.done) == (0, first.found)
    assert first.found > 0
    assert again.found == 0
    assert set(needed.by) == {"wrapping.w2", "alias.a2"}
    assert (obligations(town), told_of(town), await calls(town)) == (owed, told, heard)
    await said_again(town, owed, heard)
    await found_by_address(town)
    # rows of before and after open, each with the key that it names
    rows = list(town.reader().values("provision-log", LogRow))
    assert all(open_from_log(town.made.tools.keyring, row.row_id, row.payload) for row in rows)
    assert set(rewrap.sealed(town.reader())) == {"log.l1", "log.l2"}


async def said_again(town: Town, owed: set[str], heard: dict[str, int]) -> None:
    """What was told under the old alias counts: new obligations are settled by it, without a call."""
    for name in PEOPLE:
        once_more = withdraw(name, at=2000, identifiers=(email(name),))
        await town.publish(topic_of(once_more), once_more)
    found = await town.settled()
    assert found.exact
    assert len(obligations(town)) > len(owed)
    assert await calls(town) == heard


async def found_by_address(town: Town) -> None:
    """By the address alone the member is found, and so is who was never known otherwise: nobody new."""
    known = set(town.reader().latest("consent-state", SubjectRecord))
    for name in (PEOPLE[0], "stranger"):
        by_address = unsubscribe(None, at=3000, identifiers=(email(name),))
        await town.publish(topic_of(by_address), by_address)
    assert (await town.settled()).exact
    assert set(town.reader().latest("consent-state", SubjectRecord)) == known
    assert len([ref for ref in known if is_orphan(ref)]) == 1
    assert look_up(town.made.tools, PEOPLE[0], "email-magazine").answer == "deny"


async def test_a_rewrap_that_died_before_it_produced_is_found_again(town: Town) -> None:
    await town.publish("consent-changes", *[grant(name) for name in PEOPLE])
    assert (await town.settled()).exact
    for step in (("add", "wrapping"), ("use", "wrapping", "w2")):
        change(town, *step)
    await roll(town)
    refs = [subject_ref(town.made.tools.keyring, name) for name in PEOPLE]
    died = build.outbox(town.settings)
    died.close()

    with pytest.raises(RuntimeError):  # the process dies between compare-and-set and produce
        await asyncio.to_thread(rewrap._renew, replace(town.made.tools, outbox=died), refs)
    cells = town.made.tools.view.records
    found = cells.load([cells.cell(ref) for ref in refs])
    in_view = [key.wrapping for each in found if each for key in each.keys.values()]
    progress = await renew(town)

    assert set(in_view) == {"w2"}
    assert (progress.found, progress.done) == (len(PEOPLE), len(PEOPLE))
    records = town.reader().latest("consent-state", SubjectRecord).values()
    assert {key.wrapping for each in records for key in each.keys.values()} == {"w2"}


async def test_another_keyring_is_refused_by_view_and_topic_and_nothing_of_it_is_noted(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, reader = town.made.tools, town.reader()
    await asyncio.to_thread(keychecks.establish, tools, reader)
    other = tmp_path / "other.toml"
    keyfile.create(other)
    configured(town, tmp_path, other, monkeypatch)
    noted = reader.latest("keys", KeyCheck)
    run = CliRunner().invoke

    by_view = [await asyncio.to_thread(run, main, [name]) for name in ("worker", "dispatch", "balance", "obligations")]
    tools.view.client.delete(tools.view.key("keys"))
    by_topic = [await asyncio.to_thread(run, main, [name]) for name in ("worker", "dispatch")]

    for each in (by_view[0], by_view[1], by_view[3], *by_topic):
        assert each.exit_code == 1
        assert "reference is another key than the one that named the people here: start with the keyring" in each.output
    assert reader.latest("keys", KeyCheck) == noted
    assert set(noted) == {"reference", "alias.a1", "wrapping.w1", "log.l1"}
    # without a generation that was never retired, neither
    keyring = tools.keyring
    more, name = keyfile.add(keyring, "wrapping")
    await asyncio.to_thread(keychecks.establish, replace(tools, keyring=more), reader)
    with pytest.raises(Misconfigured, match=r"wrapping\.w2 is missing, and was not retired"):
        keychecks.compare(keyring, tools.view)
    await asyncio.to_thread(keychecks.retire, tools, reader, f"wrapping.{name}")
    keychecks.compare(keyring, tools.view)


async def test_of_two_that_start_first_with_different_keys_one_is_refused(town: Town, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    keyfile.create(other)
    rival = replace(town.made.tools, keyring=keyfile.read(other))

    found = await asyncio.gather(
        *(asyncio.to_thread(keychecks.establish, each, town.reader()) for each in (town.made.tools, rival)),
        return_exceptions=True,
    )

    assert sorted(type(each).__name__ for each in found) == ["Misconfigured", "NoneType"]


async def test_the_old_wrapped_key_leaves_the_log_of_an_idle_partition(town: Town, stack: Addresses) -> None:
    """On a broker with short times: what a shredding overwrote is in no segment any more, though nobody writes."""
    topic = town.made.topic("consent-state")
    short = {
        "segment.ms": "1000",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "1000",
        "delete.retention.ms": "1000",
        "file.delete.delay.ms": "0",
        "compression.type": "uncompressed",
    }
    await asyncio.to_thread(configure, town, topic, short)
    await town.publish("consent-changes", known("gone"))
    assert (await town.settled()).exact
    ref = subject_ref(town.made.tools.keyring, "gone")
    cells = town.made.tools.view.records
    (record,) = cells.load([cells.cell(ref)])
    assert record is not None
    wrapped = [key.wrapped for key in record.keys.values()]
    sealed = [each.sealed for each in record.identifiers.values()]
    assert lies_in(town, stack, wrapped)
    assert lies_in(town, stack, sealed)
    await town.publish("deletion-requests", delete("gone"))
    assert await town.until(lambda: not held(town, ref))
    await town.settled()
    # from here on nothing is said about anybody
    worker = town.workers[0]
    await town.stop_worker(worker)
    town._made = replace(town.made, settings=replace(town.settings, worker=replace(town.settings.worker, pulse_ms=500)))
    town.start_worker()

    assert await town.until(lambda: not lies_in(town, stack, [*wrapped, *sealed]))
    assert (await town.settled()).exact
    (after,) = cells.load([cells.cell(ref)])
    assert after is not None
    assert (after.keys, after.identifiers) == ({}, {})


async def test_what_an_older_backup_brings_back_is_shredded_again(town: Town, tmp_path: Path) -> None:
    await town.publish("consent-changes", known("gone"), known("kept"))
    assert (await town.settled()).exact
    ref = subject_ref(town.made.tools.keyring, "gone")
    codec = town.made.tools.codec
    backup = town.reader().latest("consent-state", SubjectRecord)
    await town.publish("deletion-requests", delete("gone"))
    assert await town.until(lambda: not held(town, ref))
    await town.settled()
    marks = list(rewrap.marks(town.made.tools, town.reader()))
    cells, client = town.made.tools.view.records, town.made.tools.view.client

    # the disaster: view and topic as they were when the backup was made
    for each in backup.values():
        client.set(cells.cell(each.subject_ref).key, codec.encode(each))
    restored = held(town, ref)
    kept = [msgspec.json.decode(msgspec.json.encode(each), type=SubjectRecord) for each in marks]
    changed = await asyncio.to_thread(rewrap.shred_again, town.made.tools, kept)

    assert restored
    assert changed == 1
    assert not held(town, ref)
    assert held(town, subject_ref(town.made.tools.keyring, "kept"))
    assert [(each.keys, each.identifiers, each.holdings) for each in marks] == [({}, {}, {})]
    assert not town.reader().latest("consent-state", SubjectRecord)[ref].keys


async def test_the_commands_take_an_installation_from_one_key_to_the_next(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = ring_of(town)
    configured(town, tmp_path, ring, monkeypatch)
    await asyncio.to_thread(keychecks.establish, town.made.tools, town.reader())
    await town.publish("consent-changes", *[known(name) for name in (*PEOPLE, "gone")])
    await town.settled()
    await town.publish("deletion-requests", delete("gone"))
    assert await town.until(lambda: not held(town, subject_ref(town.made.tools.keyring, "gone")))
    await town.settled()

    async def said(*words: str, code: int = 0) -> str:
        found = await asyncio.to_thread(CliRunner().invoke, main, ["keys", *words])
        assert found.exit_code == code, found.output
        return found.output

    change(town, "add", "wrapping")
    change(town, "use", "wrapping", "w2")
    await roll(town)
    early = await said("retire", "wrapping", "w1", code=1)
    before = await said("status", "--rows")
    renewed = await said("rewrap", "--rate", "10000")
    after = await said("status")
    retired = await said("retire", "wrapping", "w1")
    kept = tmp_path / "marks"
    marks = await said("shredded", str(kept))
    again = await said("reshred", str(kept))
    times = await said("destruction")

    assert "wrapping.w1 is needed by 6: run `todoke keys rewrap`" in early
    assert [line.split()[:3] for line in before.splitlines() if line.startswith((" wrapping", " alias"))] == [
        ["alias.a1", "current", "6"],
        ["wrapping.w1", "old", "6"],
        ["wrapping.w2", "current", "0"],
    ]
    assert "6 of 6 subjects renewed" in renewed
    assert "partition 2 of 2" in renewed
    assert "`todoke keys retire wrapping w1`" in after
    assert "wrapping.w1 is retired" in retired
    assert "1 subjects" in marks
    assert "0 of 1 subjects had come back" in again
    assert "T + 7 d 1 h" in times
    assert "topics, without the log keys: T + 31 d 1 h" in times
    shown = f"{early}{before}{renewed}{after}{retired}{marks}{again}{times}{kept.read_text()}"
    assert not [text for text in ring.read_text().split('"') if len(text) > 40 and text[:20] in shown]


def configured(town: Town, directory: Path, ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands work with this town, and the keyring at `ring`."""
    config = directory / "todoke.toml"
    kafka, view = town.settings.kafka.bootstrap, town.settings.redis.url
    config.write_text(
        f'namespace = "{town.settings.namespace}"\nkeys = "file:{ring}"\n'
        f'[kafka]\nbootstrap = "{kafka}"\npartitions = 2\nlane_partitions = 1\n[redis]\nurl = "{view}"\n'
    )
    monkeypatch.setenv("TODOKE_CONFIG", str(config))


def known(name: str) -> ConsentChange:
    """A grant of somebody whom every partner knows by one identifier or the other."""
    return grant(name, identifiers=(email(name), Identifier("member_id", f"M-{name}")))


def held(town: Town, ref: str) -> bool:
    cells = town.made.tools.view.records
    (record,) = cells.load([cells.cell(ref)])
    return record is not None and bool(record.keys)


def obligations(town: Town) -> set[str]:
    return {each.obligation_id for each in town.obligations()}


def generations(town: Town) -> set[tuple[str, ...]]:
    """Under which generations of the alias key identifiers are found."""
    records = town.reader().latest("consent-state", SubjectRecord).values()
    return {tuple(sorted(each.aliases)) for record in records for each in record.identifiers.values()}


def told_of(town: Town) -> set[str]:
    return set(town.reader().latest("told", Told))


def lies_in(town: Town, stack: Addresses, wanted: list[bytes]) -> bool:
    """Whether any of it can be read from the topic, or lies in a segment on the broker's disk where that is at hand."""
    travelled = list(town.raw(["consent-state"]))
    segments = stack.directory.glob(f"**/{town.made.topic('consent-state')}-*/*.log*")
    on_disk = [data for each in segments if (data := read(each))]
    return any(raw in each for each in (*travelled, *on_disk) for raw in wanted)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # the cleaner has just swapped it
        return b""


def configure(town: Town, topic: str, config: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": town.settings.kafka.bootstrap})
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(PATIENCE_S)
