"""Partners that carry out later what they take in: asked until they say so, over restarts, and believed when they report."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.agency import DAY, MINUTE, Advertising, Agency, Erasing, Hurried, Silent, erase, posts
from tests.laws.events import delete, email, grant, provide, withdraw
from todoke.streams import people
from todoke.streams.due import Entry, Lane
from todoke.streams.embedded.stack import Addresses

pytestmark = pytest.mark.stack


@pytest.fixture
async def town(
    stack: Addresses, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Agency]:
    kind = getattr(request, "param", Erasing)
    async with kind(stack, tmp_path_factory.mktemp("town")) as opened:
        yield opened


async def test_what_was_taken_in_is_asked_about_and_not_sent_again_and_the_answer_ends_the_same_attempt(
    town: Agency,
) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    await town.later(5 * MINUTE)
    early = town.attempts("eraser")

    await town.later(7 * 3_600_000)
    (owed,) = await town.states("eraser", "done")

    assert [(each.grade, each.reported_at) for each in early] == [(2, 0)]
    (attempt,) = town.attempts("eraser")
    assert (attempt.started_at, attempt.grade, attempt.failed) == (early[0].started_at, 3, False)
    assert attempt.reported_at > attempt.ended_at
    assert owed.grades["accepted"] < owed.grades["processed"] == attempt.reported_at
    assert town.graded("eraser") == [(1, "", 2), (1, "", 3)]
    assert await posts(town) == 1
    assert (await town.settled()).exact


async def test_a_dispatcher_that_starts_anew_asks_on_even_if_the_view_was_lost_meanwhile(town: Agency) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    await town.stop_dispatcher(town.dispatcher)
    client, key = town.made.tools.view.client, town.made.tools.view.key
    for each in client.scan_iter(key("*"), count=1000):
        client.delete(each)
    await town.later(7 * 3_600_000)

    await town.start_dispatcher()
    await town.states("eraser", "done")

    assert await posts(town) == 1
    assert town.graded("eraser") == [(1, "", 2), (1, "", 3)]
    assert (await town.settled()).exact


async def test_who_dies_when_a_call_was_accepted_and_nothing_else_was_written_calls_the_same_once_more(
    town: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = next(each.desk for each in town.dispatcher.stations if each.partner == "eraser")
    calling, answered = desk._exchange, asyncio.Event()

    async def call_and_die(batch: Any, leave: Any) -> Any:
        found = await calling(batch, leave)
        answered.set()
        await asyncio.Event().wait()
        return found

    monkeypatch.setattr(desk, "_exchange", call_and_die)
    await erase(town, "taro")
    await asyncio.wait_for(answered.wait(), 60)
    dying = town.dispatcher
    town.dispatchers.remove(dying)
    for station in dying.stations:
        await asyncio.to_thread(station.runner.stop)
    for task in (*dying._tasks, *desk._rounds):
        task.cancel()

    await town.start_dispatcher()
    await town.taken("eraser")
    await town.later(7 * 3_600_000)
    await town.states("eraser", "done")

    assert (await town.ask("eraser", "calls"))["status:400"] == 1  # "already exists": the same request id
    assert await town.requests() == ["completed"]
    await asyncio.to_thread(dying.orders.stop)
    await dying.reports.stop()
    await dying.health.stop()
    if dying._sender:
        await dying._sender.close()


async def test_a_job_that_fails_is_begun_anew_under_another_id_and_only_that_one_counts(town: Agency) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    await town.fault("eraser", kind="late-failure", times=1)
    await town.later(7 * 3_600_000)
    assert await town.until(lambda: any(each.failed for each in town.attempts("eraser")))

    await town.later(10 * MINUTE)
    await town.taken("eraser", 2)
    await town.later(7 * 3_600_000)
    (owed,) = await town.states("eraser", "done")

    first, second = town.attempts("eraser")
    assert (first.generation, first.failed, first.refused, first.evidence) == (1, True, True, 0)
    assert (second.generation, second.failed, second.grade) == (2, False, 3)
    assert first.reference != second.reference
    assert (owed.generation, owed.grade) == (2, 3)
    assert town.graded("eraser") == [(1, "", 2), (1, "request-cancelled", 0), (2, "", 2), (2, "", 3)]
    assert sorted(await town.requests()) == ["cancelled", "completed"]
    assert (await town.settled()).exact


async def test_a_job_that_fails_each_time_is_given_up_for_a_person_to_look_at(town: Agency) -> None:
    await erase(town, "taro")
    await town.fault("eraser", kind="late-failure", times=None)
    for number in range(1, 6):
        await town.taken("eraser", number)
        await town.later(7 * 3_600_000)
        assert await town.until(lambda n=number: len([e for e in town.attempts("eraser") if e.failed]) == n)  # type: ignore[misc]
        await town.later(3 * 3_600_000)
    (owed,) = await town.states("eraser", "blocked")

    assert owed.blocked == "gave-up-after-5:request-cancelled"
    assert await posts(town) == 5
    letters = town.reader().letters(lambda each: each.partner == "eraser")
    assert [each.reason for each in letters] == ["gave-up-after-5:request-cancelled"]
    assert (await town.settled()).exact


@pytest.mark.parametrize("town", [Silent], indirect=True)
async def test_who_never_hears_gives_up_in_time_and_a_person_may_have_it_told_anew(town: Agency) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    await town.fault("eraser", kind="500", times=None)
    await town.later(36 * DAY)
    (owed,) = await town.states("eraser", "blocked")
    await town.fault("eraser", kind="500", times=0)

    assert owed.blocked == "no-result"
    assert [each.reason for each in town.reader().letters(lambda each: each.partner == "eraser")] == ["no-result"]
    assert await posts(town) == 1
    people.act(town.made.tools, owed.obligation_id, "reopened", by="office", ground="it never came", evidence="")
    await town.taken("eraser", 2)
    (owed,) = await town.states("eraser", "open")

    assert [each.generation for each in town.attempts("eraser")] == [1, 2]
    assert (owed.generation, owed.reopened_at > 0) == (2, True)
    assert await posts(town) == 2
    assert (await town.balance()).exact


@pytest.mark.parametrize("town", [Hurried], indirect=True)
async def test_who_is_forgotten_while_a_job_is_under_way_is_not_called_again_and_the_answer_ends_it(
    town: Agency,
) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    await town.later(4 * 3_600_000)
    assert await town.until(lambda: all(not each.identifiers for each in town.records()))
    (waiting,) = town.owed("eraser")
    await town.restart()  # every lane that is gained is looked at

    await town.later(4 * 3_600_000)
    (owed,) = await town.states("eraser", "done")

    assert (waiting.state, waiting.grade) == ("open", 2)
    assert (owed.blocked, owed.grade) == ("", 3)
    assert await posts(town) == 1


async def test_what_a_partner_cannot_do_is_blocked_and_never_turned_into_a_deletion(
    town: Agency,
) -> None:
    known = provide("taro", "eraser", identifiers=(email("taro"),))
    await town.publish("provisions", known)
    await town.publish("consent-changes", withdraw("taro"))

    (owed,) = await town.states("eraser", "blocked")

    assert (owed.verb, owed.blocked, owed.grades) == ("withdraw", "verb-unsupported", {})
    await town.publish("deletion-requests", delete("taro"))
    await town.taken("eraser")
    await town.later(7 * 3_600_000)
    assert await town.until(lambda: "done" in [each.state for each in town.owed("eraser")])
    assert {(each.verb, each.state) for each in town.owed("eraser")} == {("withdraw", "superseded"), ("delete", "done")}
    assert (await town.ask("eraser", "calls"))["status:201"] == 1
    assert (await town.settled()).exact


async def test_whoever_is_roused_while_in_hand_is_looked_at_once_more_and_nobody_is_put_off(town: Agency) -> None:
    due, lane, now = town.made.due, Lane("nobody", 0), town.now() * 1000
    first = [Entry(lane, restrictive=True, subject_ref=name, due_at=now) for name in ("in-hand", "settled", "later")]
    due.wake([*first[:2], replace(first[2], due_at=now + 10**9)])
    held = due.pull([lane], 9, now)

    due.rouse(
        [replace(first[0], due_at=now), replace(first[2], due_at=now + 500), replace(first[0], due_at=now + 10**9)]
    )
    due.rouse([Entry(lane, restrictive=True, subject_ref="new", due_at=now + 7)])
    due.settle([held[1]])
    due.defer([(held[0], now + 10**12)])
    found = {each.subject_ref: each.due_at - now for each in due.pull([lane], 9, now + 10**12)}

    assert [each.subject_ref for each in held] == ["in-hand", "settled"]
    assert found == {"in-hand": 2, "later": 500, "new": 7}


async def google(town: Agency, *calls: int) -> list[str]:
    """Who is in the audience."""
    members: list[str] = (await town.ask("ads", "state"))["audiences"].get("7001", [])
    return members


@pytest.mark.parametrize("town", [Advertising], indirect=True)
async def test_one_job_of_several_people_is_asked_about_once_and_ends_for_all_of_them(town: Agency) -> None:
    await town.publish("consent-changes", *(withdraw(f"p{n}", identifiers=(email(f"p{n}"),)) for n in range(5)))
    await town.taken("ads", 5)
    references = {each.reference for each in town.attempts("ads")}

    await town.later(31 * MINUTE)
    await town.later(4 * MINUTE)
    owed = await town.states("ads", *["done"] * 5)

    calls = await town.ask("ads", "calls")
    assert len(references) < 5
    assert calls["total"] - len(references) < 5  # one question for all; again where the view could not take the answer
    assert {each.grade for each in owed} == {3}
    assert (await town.settled()).exact


@pytest.mark.parametrize("town", [Advertising], indirect=True)
async def test_a_stop_goes_out_while_the_job_of_a_grant_is_under_way_and_once_more_when_that_is_over(
    town: Agency,
) -> None:
    await town.publish("consent-changes", grant("taro"))
    await town.taken("ads", 1)
    await town.publish("consent-changes", withdraw("taro"))
    await town.taken("ads", 2)
    early = [(each.effect, each.grade) for each in town.attempts("ads")]
    assert "done" not in [each.state for each in town.owed("ads") if each.verb == "withdraw"]

    for _ in range(6):
        await town.later(34 * MINUTE)
        await asyncio.sleep(1)
    assert await town.until(lambda: town.owed("ads")[-1].state == "done")

    assert town.owed("ads")[-1].verb == "withdraw"
    assert early == [("present", 2), ("absent", 2)]
    told = town.attempts("ads")
    granted = next((each for each in told if each.effect == "present"), None)
    last = told[-1]
    assert (last.effect, last.grade) == ("absent", 3)
    assert last.generation == 2
    assert granted is None or granted.reported_at < last.started_at
    assert await google(town) == []
    assert (await town.settled()).exact


async def test_what_is_under_way_is_measured(town: Agency) -> None:
    await erase(town, "taro", "hanako")
    await town.taken("eraser", 2)
    began = min(each.started_at for each in town.attempts("eraser"))
    value = town.made.metrics.registry.get_sample_value

    async def shows(jobs: int, oldest: float) -> bool:
        def shown() -> bool:
            partner = {"partner": "eraser"}
            return (
                value("todoke_jobs_under_way", partner),
                value("todoke_jobs_oldest_timestamp_seconds", partner),
            ) == (
                jobs,
                oldest,
            )

        watching = asyncio.create_task(town.dispatcher.watch())
        try:
            return await town.until(shown)
        finally:
            watching.cancel()

    assert await shows(2, began / 1000)
    await town.later(7 * 3_600_000)
    await town.states("eraser", "done", "done")
    assert await shows(0, 0)
