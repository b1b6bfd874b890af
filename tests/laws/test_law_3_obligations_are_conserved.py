"""Law 3: one obligation per recipient concerned, each in exactly one state, computed again from topics at any time."""

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.laws.events import NOON, delete, email, grant, lives, provide, topic_of, withdraw
from tests.rules import keyring
from tests.town import Town
from todoke.processors.keys import subject_ref
from todoke.schemas.errors import Unopened
from todoke.schemas.identity import Identifier
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.receipts import Evidence, Receipt, ReceiptKind
from todoke.schemas.record import SubjectRecord
from todoke.streams import lanes, patrol, people
from todoke.streams.embedded import process
from todoke.streams.outbox import Letter

pytestmark = pytest.mark.stack


async def test_what_cannot_be_sent_stays_open_with_a_reason_until_a_linked_identifier_reopens_it(town: Town) -> None:
    nameless = withdraw("taro", identifiers=(Identifier("line_id", "U" + "1" * 32),))
    await town.publish("consent-changes", nameless)
    found = await town.settled()
    assert found.exact
    assert found.states == {"blocked": 1}
    assert [each.blocked for each in town.obligations()] == ["unreachable"]

    await town.publish("consent-changes", grant("taro", "research", at=1))
    found = await town.settled()

    assert found.exact
    assert found.states == {"superseded": 1, "done": 1}


async def test_a_person_can_close_what_was_met_elsewhere_and_it_is_logged(town: Town) -> None:
    await town.publish("provisions", provide("taro", "a-letter-house"))
    await town.publish("consent-changes", withdraw("taro"))
    await town.settled()
    (owed,) = [each for each in town.obligations() if each.state == "blocked" and each.partner == "a-letter-house"]

    people.act(
        town.made.tools, owed.obligation_id, "closed", by="privacy-office", ground="told by letter", evidence="file 7"
    )

    def ended() -> list[Obligation]:
        mine = [each for each in town.obligations() if each.obligation_id == owed.obligation_id]
        return [each for each in mine if each.state in ENDED]

    assert await town.until(lambda: bool(ended()))
    (closed,) = ended()
    assert (await town.settled()).exact
    assert closed.state == "closed"
    assert [(act.by, act.ground, act.evidence) for act in closed.acts] == [
        ("privacy-office", "told by letter", "file 7")
    ]


async def test_a_provision_after_a_restriction_has_the_partner_told_again(town: Town) -> None:
    await town.publish("consent-changes", withdraw("taro", at=0, identifiers=(email("taro"),)))
    await town.settled()
    calls = (await town.ask("meta", "calls"))["total"]

    await town.publish("provisions", provide("taro", "meta", at=town.made.tools.now() - NOON))
    found = await town.settled()

    assert found.exact
    assert (await town.ask("meta", "calls"))["total"] > calls


async def test_a_delete_ends_in_shredding_and_no_grant_is_sent_while_it_is_open(town: Town) -> None:
    await town.fault("kura-crm", kind="500", times=None)
    known = (email("taro"), Identifier("member_id", "M-1"))  # by one or the other every partner knows the person
    await town.publish("consent-changes", grant("taro", "marketing-communications", identifiers=known))
    await town.publish("deletion-requests", delete("taro", at=2000))
    assert await town.until(lambda: any(each.verb == "delete" for each in town.obligations()))
    again = grant("taro", "marketing-communications", at=3000)
    await town.publish("consent-changes", again)
    assert await town.until(lambda: town.made.tools.index.outcomes([again.event_id]) != [None])

    sent = (await town.ask("kura-crm", "state"))["last"]
    await town.fault("kura-crm", kind="500", times=0)
    found = await town.settled()

    assert sent == {}
    assert found.exact
    record = town.reader().latest("consent-state", SubjectRecord)[subject_ref(town.made.tools.keyring, "taro")]
    assert record.shredded_through == record.erased_through > 0
    assert {each.generation for each in record.identifiers.values()} == set(record.keys)
    done = {(each.partner, each.verb) for each in town.obligations() if each.state == "done"}
    assert ("kura-crm", "delete") in done
    assert ("kura-crm", "grant") in done


async def test_refusals_and_faults_of_partners_leave_the_sums_exact(town: Town) -> None:
    await town.fault("meta", kind="429", times=2)
    await town.fault("kura-crm", kind="drop-after-apply", rate=0.2, seed=3, times=None)
    await town.fault("aozora-analytics", kind="gone", times=None)
    for event in lives(seed=5, people=15):
        await town.publish(topic_of(event), event)
    for number in range(5):
        event = withdraw(f"person-5-{number}", "cookie-analysis", identifiers=(Identifier("member_id", f"M{number}"),))
        await town.publish("consent-changes", event)

    found = await town.settled()

    assert found.exact
    blocked = [each for each in town.obligations() if each.state == "blocked"]
    assert found.pending == 0
    assert {(each.partner, each.blocked) for each in blocked} == {
        ("aozora-analytics", "endpoint-gone"),
        ("aozora-analytics", "unreachable"),  # of people without a member id or a cookie
    }
    assert {letter.partner for letter in town.reader().letters(lambda each: each.kind == "delivery")} == {
        "aozora-analytics"
    }


async def test_what_was_given_up_is_done_once_the_partner_is_mended_and_a_person_wakes_it(town: Town) -> None:
    await town.fault("aozora-analytics", kind="gone", times=None)
    known = (Identifier("member_id", "M-1"),)
    await town.publish("consent-changes", withdraw("taro", "cookie-analysis", identifiers=known))
    before = await town.settled()
    await town.fault("aozora-analytics", kind="gone", times=0)

    due, lanes = town.made.due, town.settings.kafka.lane_partitions
    woken = people.wake(town.made.tools, due, lanes, "aozora-analytics", "endpoint-gone")
    assert await town.until(lambda: {each.state for each in town.obligations()} == {"done"})

    assert before.states == {"blocked": 1}
    assert woken == 1
    assert (await town.settled()).exact


async def test_workers_killed_in_the_middle_lose_and_double_nothing(town: Town, tmp_path: Path) -> None:
    await town.stop_worker(town.workers[0])
    config = tmp_path / "todoke.toml"
    kafka = town.settings.kafka
    config.write_text(
        f'host = "127.0.0.1"\nport = 0\nnamespace = "{town.settings.namespace}"\nkeys = "{town.settings.keys}"\n'
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nreplication = 1\nin_sync = 1\npartitions = {kafka.partitions}\n'
        f'lane_partitions = {kafka.lane_partitions}\n[redis]\nurl = "{town.settings.redis.url}"\n'
        "[worker]\nbatch = 20\n"
    )
    environ = {**os.environ, "TODOKE_CONFIG": str(config)}
    command = [sys.executable, "-m", "todoke.streams", "worker"]
    said = lives(seed=9, people=60)
    for event in said:
        await town.publish(topic_of(event), event)

    def decided() -> int:
        return sum(each is not None for each in town.made.tools.index.outcomes([each.event_id for each in said]))

    for least in (1, 60, 110):
        worker = process.spawn(command, tmp_path / "worker.log", environ)
        assert await town.until(lambda least=least: decided() >= least)  # type: ignore[misc]  # bound now
        os.kill(worker.pid, signal.SIGKILL)
        process.end(worker)
    worker = process.spawn(command, tmp_path / "worker.log", environ)
    try:
        found = await town.settled()
    finally:
        process.end(worker)

    assert found.exact
    assert found.events == len(said) == sum(found.outcomes.values())


def test_an_identifier_opens_for_its_own_subject_alone() -> None:
    from todoke.processors import keys

    ring = keyring()
    generation, key = keys.new_key(ring, "one", 0, os.urandom)
    sealed = keys.seal_identifier(keys.open_key(ring, "one", generation, key), "one", "email", "x", os.urandom)

    with pytest.raises(Unopened):
        keys.open_identifier(keys.open_key(ring, "one", generation, key), "two", "email", sealed)


async def test_data_given_before_a_deletion_that_comes_to_light_after_the_shredding_holds_up_nobody(town: Town) -> None:
    known = (email("taro"), Identifier("cookie_id", "ck-taro"))  # one that each partner accepts
    await town.publish("deletion-requests", delete("taro", at=1000, identifiers=known))
    await town.settled()
    ref = subject_ref(town.made.tools.keyring, "taro")

    def shredded() -> bool:
        record = town.reader().latest("consent-state", SubjectRecord).get(ref)
        return record is not None and record.shredded_through > 0

    assert await town.until(shredded)

    await town.publish("provisions", provide("taro", "hoshi-dmp", at=500))
    await town.publish("consent-changes", withdraw("hanako"))
    found = await town.settled()

    assert found.exact
    assert found.outcomes == {"applied": 3}


async def test_whoever_waits_behind_a_deletion_asked_long_ago_is_looked_at_when_it_is_told(town: Town) -> None:
    everything = (email("taro"), Identifier("cookie_id", "ck-taro"))
    assert await town.until(
        lambda: all(mark.stage == patrol.DONE for _, mark in patrol.progress(town.made.tools, (0, 1)))
    )
    await asyncio.to_thread(lanes.order, town.made, "kura-crm", "paused", by="aiko", ground="so that both come at once")
    assert await town.until(lambda: "paused" in {each.desk.ordered for each in town.dispatchers[0].stations})
    await town.publish("deletion-requests", delete("taro", at=1000, identifiers=everything))
    await town.publish("consent-changes", grant("taro", "marketing-communications", at=2000))

    def theirs() -> set[tuple[str, str]]:
        return {(each.verb, each.state) for each in town.obligations() if each.partner == "kura-crm"}

    assert await town.until(lambda: theirs() == {("delete", "open"), ("grant", "open")})
    await asyncio.to_thread(lanes.order, town.made, "kura-crm", "open", by="aiko", ground="both are there")
    found = await town.settled()

    assert (found.exact, found.pending) == (True, 0)
    assert theirs() == {("delete", "done"), ("grant", "done")}


async def test_nobody_is_shredded_before_every_deletion_has_its_obligation(town: Town) -> None:
    view, ref = town.made.tools.view, subject_ref(town.made.tools.keyring, "taro")
    known = (email("taro"), Identifier("cookie_id", "ck-taro"))
    for partner in ("hoshi-dmp", "kura-crm"):
        await asyncio.to_thread(lanes.order, town.made, partner, "paused", by="aiko", ground="one after the other")
    held = [each.desk for each in town.dispatchers[0].stations if each.desk.partner.name in {"hoshi-dmp", "kura-crm"}]
    assert await town.until(lambda: {each.ordered for each in held} == {"paused"})
    await town.publish("provisions", provide("taro", "hoshi-dmp", at=500, identifiers=known))
    await town.publish("deletion-requests", delete("taro", at=1000, identifiers=known))

    def deletes() -> dict[str, Obligation]:
        mine = [each for each in town.obligations() if each.subject_ref == ref]
        return {each.partner: each for each in mine if each.verb == "delete"}

    def shredded() -> bool:
        return town.reader().latest("consent-state", SubjectRecord)[ref].shredded_through > 0

    assert await town.until(lambda: {"hoshi-dmp", "kura-crm"} <= deletes().keys())
    cell = view.obligations.cell(ref, deletes()["hoshi-dmp"].obligation_id)
    (raw,) = view.raw([cell])
    view.client.hdel(cell.key, cell.field)  # a worker writes them one after the other, and desks are quick
    await asyncio.to_thread(lanes.order, town.made, "kura-crm", "open", by="aiko", ground="first")
    assert await town.until(lambda: deletes()["kura-crm"].state == "done")
    await town.publish("consent-changes", withdraw("taro", "profiling", at=2000))
    assert await town.until(lambda: len(town.obligations()) > len(deletes()) + 1)

    assert not shredded()

    view.client.hset(cell.key, cell.field, raw)
    await asyncio.to_thread(lanes.order, town.made, "hoshi-dmp", "open", by="aiko", ground="second")
    assert await town.until(shredded)


async def test_an_obligation_that_the_keeper_brings_to_the_view_is_looked_at(town: Town) -> None:
    await town.publish("consent-changes", withdraw("taro", identifiers=(email("taro"),)))
    await town.settled()
    known = next(each for each in town.obligations() if each.partner == "meta")
    lost = replace(known, obligation_id=str(uuid.uuid4()), grades={})

    # as after a view that was rolled back: the topic has it, its lane's wake-up is long gone
    town.made.outbox.send(
        [Letter(town.made.topic("obligations"), lost.obligation_id, town.made.tools.codec.encode(lost))]
    )

    def superseded() -> bool:
        states = {each.obligation_id: each.state for each in town.obligations()}
        return states[lost.obligation_id] == "superseded"

    assert await town.until(superseded)


async def test_a_desk_that_looks_again_before_a_worker_has_settled_says_nothing_twice(town: Town) -> None:
    (runners,) = town.workers
    (settling,) = [each for each in runners if each.name == "settling"]
    await asyncio.to_thread(settling.stop)
    owed = subject_ref(town.made.tools.keyring, "taro")

    def said() -> list[Receipt]:
        codec = town.made.tools.codec
        found = [codec.decode(each.value() or b"", Receipt) for each in town.reader().read("receipts")]
        return [each for each in found if each.subject_ref == owed and each.partner == "meta"]

    for number in range(6):  # each opens an obligation that takes the place of the one before
        await town.publish("consent-changes", withdraw("taro", at=number, identifiers=(email("taro"),)))
        fresh = {each.obligation_id for each in said() if each.kind in {"ended", "settled"}}
        assert await town.until(
            lambda fresh=fresh: bool(  # type: ignore[misc]
                {each.obligation_id for each in said() if each.kind in {"ended", "settled"}} - fresh
            )
        )
    twice = [name for name, count in Counter((each.obligation_id, each.kind) for each in said()).items() if count > 1]
    town.start_worker()
    found = await town.settled()

    assert twice == []
    assert found.exact


async def test_nothing_gives_way_to_an_obligation_that_died_with_its_worker(town: Town) -> None:
    made = town.made
    await asyncio.to_thread(lanes.order, made, "meta", "paused", by="aiko", ground="let it stand")
    desk = next(each.desk for each in town.dispatchers[0].stations if each.desk.partner.name == "meta")
    assert await town.until(lambda: desk.ordered == "paused")
    await town.publish("consent-changes", withdraw("taro", identifiers=(email("taro"),)))

    def theirs() -> list[Obligation]:
        return [each for each in town.obligations() if each.partner == "meta"]

    assert await town.until(lambda: bool(theirs()))
    owed = theirs()[0]

    def said(kind: ReceiptKind, **given: str) -> Letter:
        receipt = Receipt(
            receipt_id=str(uuid.uuid4()),
            obligation_id=owed.obligation_id,
            subject_ref=owed.subject_ref,
            partner=owed.partner,
            account=owed.account,
            scope=owed.scope,
            verb=owed.verb,
            kind=kind,
            at=made.tools.now(),
            **given,  # type: ignore[arg-type]  # texts alone
        )
        return Letter(made.topic("receipts"), owed.subject_ref, made.tools.codec.encode(receipt))

    made.outbox.send([said("superseded", reference=str(uuid.uuid4())), said("blocked", reason="unreachable")])
    assert await town.until(lambda: theirs()[0].blocked == "unreachable")
    assert theirs()[0].state == "blocked"

    await asyncio.to_thread(lanes.order, made, "meta", "open", by="aiko", ground="on")
    assert await town.until(lambda: theirs()[0].state == "done")


async def test_a_receipt_for_an_obligation_that_is_still_on_its_way_holds_up_no_other(town: Town) -> None:
    await town.publish("consent-changes", withdraw("taro", identifiers=(email("taro"),)))
    await town.settled()
    made = town.made
    known = next(each for each in town.obligations() if each.partner == "meta")
    early = replace(known, obligation_id=str(uuid.uuid4()), grades={})
    receipt = Receipt(
        receipt_id=str(uuid.uuid4()),
        obligation_id=early.obligation_id,
        subject_ref=early.subject_ref,
        partner=early.partner,
        account=early.account,
        scope=early.scope,
        verb=early.verb,
        kind="settled",
        grade=Evidence.confirmed,
        at=made.tools.now(),
    )
    made.outbox.send([Letter(made.topic("receipts"), early.subject_ref, made.tools.codec.encode(receipt))])
    (settling,) = (each for runners in town.workers for each in runners if each.name == "settling")
    assert await town.until(lambda: bool(settling.waiting))
    await town.publish("consent-changes", withdraw("taro", "profiling", at=5000))
    await town.settled()
    assert settling.waiting

    made.outbox.send([Letter(made.topic("obligations"), early.obligation_id, made.tools.codec.encode(early))])

    def heard() -> bool:
        grades = {each.obligation_id: each.grades for each in town.obligations()}
        return bool(grades.get(early.obligation_id))

    assert await town.until(heard)
    assert await town.until(lambda: not settling.waiting)
