"""Partners that report by themselves what became of jobs: believed over raw bytes, once, and even late."""

from collections.abc import AsyncIterator

import pytest

from tests.agency import DAY, MINUTE, Agency, Erasing, Lenient, erase, posts
from todoke.streams.due import Lane
from todoke.streams.embedded.stack import Addresses

pytestmark = pytest.mark.stack


@pytest.fixture
async def town(
    stack: Addresses, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Agency]:
    kind = getattr(request, "param", Erasing)
    async with kind(stack, tmp_path_factory.mktemp("town")) as opened:
        yield opened


async def test_who_has_given_up_believes_what_is_heard_later(town: Agency) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    await town.fault("eraser", kind="500", times=None)
    await town.later(36 * DAY)
    await town.states("eraser", "blocked")
    await town.fault("eraser", kind="500", times=0)

    assert await town.deliver(*await town.report(attempt.reference)) == 202
    (owed,) = await town.states("eraser", "done")

    assert owed.blocked == ""
    assert await posts(town) == 1


async def test_a_report_counts_as_an_answer_does_and_again_it_changes_nothing(town: Agency) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    pending = await town.report(attempt.reference)
    town.ahead_ms += 4_000_000  # the job is done, and nobody asks yet
    assert await town.until(lambda: town.made.tools.view.is_current(town.now(), 60_000))
    completed = await town.report(attempt.reference)

    early = await town.deliver(*pending)
    first = await town.deliver(*completed)
    (owed,) = await town.states("eraser", "done")
    graded = town.graded("eraser")
    again = [await town.deliver(*completed) for _ in range(3)]

    assert (early, first, again) == (202, 202, [202, 202, 202])
    assert graded[-1] == (1, "", 3)
    assert set(town.graded("eraser")) == set(graded)
    ended = [each for each in town.receipts() if (each.partner, each.kind) == ("eraser", "ended")]
    assert len({each.receipt_id for each in ended}) == 2
    assert town.owed("eraser") == [owed]
    lanes = [Lane("eraser", 0)]
    assert await town.until(lambda: not town.made.due.pull(lanes, 1, town.now() * 1000))


async def test_reports_that_are_not_what_they_claim_are_refused_and_counted(town: Agency) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    headers, body = await town.report(attempt.reference)
    told = town.attempts("eraser")
    other = body.replace(attempt.reference.encode(), b"00000000-0000-4000-8000-000000000000")

    found = {
        "unsigned": await town.post({}, body),
        "changed": await town.post(headers, other),
        "large": await town.post(headers, body + b" " * 4096),
        "empty": await town.post({}, b""),
        "elsewhere": await town.post(headers, body, "meta"),
        "nobody": await town.post(headers, body, "no-such-partner"),
    }

    assert found == {
        "unsigned": 403,
        "changed": 403,
        "large": 413,
        "empty": 403,
        "elsewhere": 404,
        "nobody": 404,
    }
    assert town.attempts("eraser") == told
    value = town.made.metrics.registry.get_sample_value
    assert value("todoke_callbacks_total", {"partner": "eraser", "outcome": "refused"}) == 3
    assert value("todoke_callbacks_total", {"partner": "eraser", "outcome": "too-large"}) == 1


async def test_a_report_of_a_job_that_nobody_began_is_not_found_and_one_in_a_lost_view_has_to_come_again(
    town: Agency,
) -> None:
    await erase(town, "taro")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    town.ahead_ms += 4_000_000
    assert await town.until(lambda: town.made.tools.view.is_current(town.now(), 60_000))
    completed = await town.report(attempt.reference)
    view = town.made.tools.view
    view.client.delete(view.key("job", "eraser", attempt.reference))

    unknown = await town.post(*completed)
    for runners in list(town.workers):
        await town.stop_worker(runners)
    view.client.delete(view.key("shards"))
    lost = await town.post(*completed)
    for each in view.client.scan_iter(view.key("*"), count=1000):
        view.client.delete(each)
    town.start_worker()
    assert await town.until(lambda: view.is_current(town.now(), 60_000))
    rebuilt = await town.post(*completed)

    assert (unknown, lost, rebuilt) == (404, 503, 202)
    await town.states("eraser", "done")
    assert await posts(town) == 1


@pytest.mark.parametrize("town", [Lenient], indirect=True)
async def test_a_failure_reported_after_it_counted_as_done_opens_it_again_and_has_it_told_anew(town: Agency) -> None:
    await town.fault("meta", kind="500", times=None)  # so that the person is not forgotten yet
    await erase(town, "taro")
    await town.states("eraser", "done")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    await town.cancel(attempt.reference)

    assert await town.deliver(*await town.report(attempt.reference)) == 202
    assert await town.until(lambda: town.owed("eraser")[0].generation == 2)
    (opened,) = town.owed("eraser")
    early = await posts(town)
    await town.later(2 * MINUTE)
    (owed,) = await town.states("eraser", "done")

    assert (opened.state, opened.reopened, early) == ("open", "request-cancelled", 1)
    assert (owed.generation, owed.grade) == (2, 2)
    assert await posts(town) == 2


@pytest.mark.parametrize("town", [Lenient], indirect=True)
async def test_a_failure_after_the_person_was_forgotten_is_shown_to_somebody(town: Agency) -> None:
    await erase(town, "taro")
    await town.states("eraser", "done")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    assert await town.until(lambda: all(not each.identifiers for each in town.records()))
    await town.cancel(attempt.reference)

    assert await town.deliver(*await town.report(attempt.reference)) == 202
    assert await town.until(lambda: town.owed("eraser")[0].generation == 2)
    await town.later(2 * MINUTE)
    (owed,) = await town.states("eraser", "blocked")

    assert (owed.blocked, owed.reopened) == ("unreachable", "request-cancelled")
    assert await posts(town) == 1
    assert (await town.settled()).exact


@pytest.mark.parametrize("town", [Lenient], indirect=True)
async def test_a_job_goes_on_when_its_person_is_forgotten_and_what_is_heard_of_it_still_counts(town: Agency) -> None:
    await erase(town, "taro")
    await town.states("eraser", "done")
    await town.taken("eraser")
    assert await town.until(lambda: all(not each.identifiers for each in town.records()))
    (attempt,) = town.attempts("eraser")

    town.ahead_ms += 4_000_000
    assert await town.until(lambda: town.made.tools.view.is_current(town.now(), 60_000))
    assert await town.deliver(*await town.report(attempt.reference)) == 202
    assert await town.until(lambda: town.owed("eraser")[0].grade == 3)

    assert [each.state for each in town.owed("eraser")] == ["done"]
    assert await posts(town) == 1


@pytest.mark.parametrize("town", [Lenient], indirect=True)
async def test_whom_a_job_concerns_that_nobody_waits_for_is_known_again_after_the_view_was_lost(town: Agency) -> None:
    await town.fault("meta", kind="500", times=None)  # so that the person is not forgotten yet
    await erase(town, "taro")
    await town.states("eraser", "done")
    await town.taken("eraser")
    (attempt,) = town.attempts("eraser")
    await town.cancel(attempt.reference)
    view = town.made.tools.view
    for runners in list(town.workers):
        await town.stop_worker(runners)
    for each in view.client.scan_iter(view.key("*"), count=1000):
        view.client.delete(each)
    town.start_worker()
    assert await town.until(lambda: view.is_current(town.now(), 60_000))

    assert await town.deliver(*await town.report(attempt.reference)) == 202

    assert await town.until(lambda: town.owed("eraser")[0].generation == 2)
