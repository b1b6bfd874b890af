"""Correctness 8 and 9 in a whole installation: the view lost at any moment, its server rolled back, the topic behind it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from msgspec.structs import replace

from tests.laws.events import delete, email, grant, lives, topic_of, withdraw
from tests.town import Town
from tests.valkey import Server
from todoke.processors.keys import subject_ref
from todoke.schemas.errors import NotCurrent
from todoke.schemas.identity import Identifier
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.record import SubjectRecord
from todoke.streams import build, rebuild
from todoke.streams.embedded.stack import Addresses
from todoke.streams.freshness import Freshness
from todoke.streams.intake import Intake
from todoke.streams.keeper import Keeper
from todoke.streams.kept import kept
from todoke.streams.lookup import look_up
from todoke.streams.outbox import Letter

pytestmark = pytest.mark.stack


class Wiping:
    """Goes before every script of a view, and wipes it before the one of that number."""

    def __init__(self, town: Town, number: int) -> None:
        self.view = town.made.tools.view
        self.number = number
        self.seen = 0

    def before(self, script: Callable[..., Any]) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.seen += 1
            if self.seen == self.number:
                wipe(self.view)
            return script(**arguments)

        return call


def wipe(view: Any) -> None:
    for key in view.client.scan_iter(view.key("*"), count=1000):
        view.client.delete(key)


@pytest.fixture
async def stopped(town: Town) -> Town:
    """An installation that has worked, and whose workers have been stopped: the view is still fresh."""
    await town.publish("consent-changes", grant("taro"), withdraw("hanako"))
    await town.settled()
    for runners in list(town.workers):
        await town.stop_worker(runners)
    for dispatcher in list(town.dispatchers):
        await town.stop_dispatcher(dispatcher)
    return town


def marks(town: Town) -> dict[str, int]:
    """How much stands in each topic that says what was decided."""
    names = ("consent-state", "obligations", "outcomes", "receipts", "told")
    return {name: sum(1 for _ in town.reader().read(name)) for name in names}


async def test_a_view_wiped_before_any_access_of_a_batch_decides_nothing(stopped: Town) -> None:
    town = stopped
    await town.publish("consent-changes", withdraw("taro"))
    messages = list(town.reader().read("consent-changes"))[-1:]
    made = replace(town.made, outbox=build.outbox(town.settings))
    before = marks(town)
    refused, late, number = 0, 0, 1
    while True:
        view = town.made.tools.view
        saved = {key: view.client.dump(key) for key in view.client.scan_iter(view.key("*"), count=1000)}
        wiping = Wiping(town, number)
        guarded = type(view)(view.client, view.codec, view.namespace, view.watch, view.now)
        guarded._read, guarded._swap = wiping.before(view._read), wiping.before(view._swap)
        tools = replace(made.tools, view=guarded, index=type(made.tools.index)(guarded, 1000), outbox=made.outbox)
        try:
            freshness = Freshness(tools.marks, lambda _: {}, tools.now)
            await asyncio.to_thread(Intake(tools, freshness), messages)
        except NotCurrent:
            refused += 1
        finally:
            wipe(view)
            for key, raw in saved.items():
                view.client.restore(key, 0, raw, replace=True)
        if wiping.seen < number:
            break
        if marks(town) != before:  # all was produced: the last look notices, and the batch is done again
            late, before = late + 1, marks(town)
        else:
            assert not late, number
        number += 1
    made.outbox.close()

    assert refused == number - 1 >= 4
    assert late == 1


async def test_a_server_rolled_back_to_before_a_withdrawal_never_answers_allow(
    stack: Addresses, tmp_path: Path
) -> None:
    with Server(tmp_path) as server:
        async with Town(replace(stack, redis_url=server.url), tmp_path) as town:
            await town.publish("consent-changes", grant("taro"))
            await town.settled()
            tools = town.made.tools
            assert look_up(tools, "taro", "targeted-advertising").answer == "allow"
            await asyncio.to_thread(tools.view.client.save)
            await town.publish("consent-changes", withdraw("taro"))
            await town.settled()
            server.kill()
            answers = {look_up(tools, "taro", "targeted-advertising").answer}
            server.start()

            def answered() -> bool:
                answers.add(look_up(tools, "taro", "targeted-advertising").answer)
                return "deny" in answers

            assert await town.until(answered)
            found = await town.settled()

            assert answers == {"unknown", "deny"}
            assert found.exact


async def test_a_view_wiped_again_in_the_midst_of_healing_is_healed_whole(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    for event in lives(seed=5, people=30):
        await town.publish(topic_of(event), event)
    await town.settled()
    for runners in list(town.workers):
        await town.stop_worker(runners)
    view = town.made.tools.view
    wipe(view)
    monkeypatch.setattr(build, "KEEPER_BATCH", 25)
    heal, batches = Keeper._heal, 0

    def wiped_after(self: Keeper, topic: str, messages: list[Message]) -> None:
        nonlocal batches
        heal(self, topic, messages)
        batches += 1
        if batches in (3, 8):
            wipe(view)

    monkeypatch.setattr(Keeper, "_heal", wiped_after)
    town.start_worker()

    assert await town.until(lambda: batches > 8 and view.is_current(town.made.tools.now(), 60_000))
    for topic, keeps in kept(view).items():
        values = list(town.reader().latest(topic, keeps.cells.kind).values())
        held = keeps.cells.load([keeps.cell(each) for each in values])
        assert [each for each, mine in zip(values, held, strict=True) if mine is None] == []
    assert (await town.settled()).exact


@pytest.fixture
def healed(town: Town) -> Callable[[], Any]:
    """Wipe the view under its keeper and wait until it is current again."""

    async def again() -> None:
        wipe(town.made.tools.view)
        tools = town.made.tools
        assert await town.until(lambda: tools.view.is_current(tools.now(), tools.stale_after_ms))

    return again


async def test_what_is_healed_by_header_is_found_like_what_was_written(town: Town, healed: Callable[[], Any]) -> None:
    for event in [*lives(seed=8, people=20), grant("taro")]:
        await town.publish(topic_of(event), event)
    await town.settled()
    before = indexes(town)

    await healed()

    after = indexes(town)
    assert before.keys() == after.keys()
    assert {name: each for name, each in before.items() if after[name] != each} == {}


async def test_messages_without_a_header_are_healed_by_what_they_hold(town: Town, healed: Callable[[], Any]) -> None:
    await town.publish("consent-changes", grant("taro"), withdraw("hanako"))
    await town.settled()
    before = indexes(town)
    codec, outbox = town.made.tools.codec, town.made.outbox
    for topic, kind in (("consent-state", SubjectRecord), ("obligations", Obligation)):
        bare = [
            Letter(town.made.topic(topic), key, codec.encode(value))
            for key, value in town.reader().latest(topic, kind).items()
        ]
        outbox.send(bare)

    await healed()

    assert indexes(town) == before


async def test_healing_finds_nobody_by_an_identifier_that_was_shredded(town: Town, healed: Callable[[], Any]) -> None:
    known = (email("taro"), Identifier("member_id", "M-1"))  # by one or the other every partner knows the person
    await town.publish("consent-changes", grant("taro", identifiers=known))
    await town.settled()
    await town.publish("deletion-requests", delete("taro"))
    await town.settled()
    tools = town.made.tools
    ref = subject_ref(tools.keyring, "taro")

    def shredded() -> bool:
        (record,) = tools.view.records.load([tools.view.records.cell(ref)])
        return record is not None and record.shredded_through > 0

    assert await town.until(shredded)
    await town.settled()

    await healed()

    assert [name for name in indexes(town) if ":a:" in name] == []


async def test_a_tombstone_last_of_its_key_leaves_no_trace_and_a_value_after_it_stands(
    town: Town, healed: Callable[[], Any]
) -> None:
    for event in lives(seed=2, people=20):
        await town.publish(topic_of(event), event)
    await town.settled()
    gone, back = [each for each in town.obligations() if each.state in ENDED][:2]
    topic, codec = town.made.topic("obligations"), town.made.tools.codec
    for each in (gone, back):
        headers = (("todoke-subject", each.subject_ref.encode()),)
        town.made.outbox.send([Letter(topic, each.obligation_id, None, headers)])
    town.made.outbox.send([Letter(topic, back.obligation_id, codec.encode(back))])

    await healed()

    cells = town.made.tools.view.obligations
    held = cells.load([cells.cell(each.subject_ref, each.obligation_id) for each in (gone, back)])
    assert held == [None, back]


async def test_a_rebuild_by_command_empties_the_view_and_brings_back_all_but_outcomes_are_kept(town: Town) -> None:
    for event in lives(seed=9, people=20):
        await town.publish(topic_of(event), event)
    found = await town.settled()
    before, tools = indexes(town), town.made.tools
    stray = tools.view.key("a", "stray")
    tools.view.client.sadd(stray, "nobody")

    await asyncio.to_thread(rebuild.drop, town.made, wipe=True)
    refused = not rebuild.verdict(town.made)[0]
    assert await town.until(lambda: rebuild.verdict(town.made)[0])

    assert refused
    assert indexes(town) == before
    assert (await town.settled()).states == found.states
    assert sum(rebuild.ends(town.made).values()) > 0


def indexes(town: Town) -> dict[str, Any]:
    """All that people and obligations are found by."""
    view = town.made.tools.view
    found: dict[str, Any] = {}
    for raw in view.client.scan_iter(view.key("*"), count=1000):
        name = raw.decode().removeprefix(view.key(""))
        kind = name.partition(":")[0]
        if kind == "a":
            found[f":{name}"] = sorted(view.client.smembers(raw))
        elif kind in ("standing", "ended", "deletes"):
            found[f":{name}"] = dict(view.client.zrange(raw, 0, -1, withscores=True))
    return found


async def test_an_old_record_last_in_its_topic_is_no_truth_for_a_view_healed_from_it(town: Town) -> None:
    await town.publish("consent-changes", grant("taro"))
    await town.settled()
    (old,) = town.reader().latest("consent-state", SubjectRecord).values()
    await town.publish("consent-changes", withdraw("taro"))
    await town.settled()
    for runners in list(town.workers):
        await town.stop_worker(runners)
    tools = town.made.tools
    await town.publish("consent-state", tools.codec.encode(old), key=old.subject_ref)  # by a worker that woke late
    wipe(tools.view)
    town.start_worker()

    answers = set()

    def answered() -> bool:
        answers.add(look_up(tools, "taro", "targeted-advertising").answer)
        return answers != {"unknown"}

    def mended() -> bool:
        last = town.reader().latest("consent-state", SubjectRecord)[old.subject_ref]
        return last.registers["purpose/appi/targeted-advertising"].value == "withdrawn"

    assert await town.until(answered)
    assert answers == {"unknown", "deny"}
    assert await town.until(mended)
