"""Law 2 where calls overlap, processes sleep and the intake lags: the partner's last word is the record's."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.laws.events import grant, withdraw
from tests.town import Town
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.receipts import Verb
from todoke.sinks.base import HttpRequest, HttpResponse, UploadRequest
from todoke.sinks.sender import Guard, Sender
from todoke.streams import people
from todoke.streams.desk import Desk
from todoke.streams.due import entries

pytestmark = pytest.mark.stack
PURPOSE = "marketing-communications"
KURA = "kura-crm"


def ops(town: Town) -> list[str]:
    """What the partner took in for the purpose, in order."""
    return [each["op"] for each in town.told(KURA) if each["scope"] == PURPOSE]


def ids(town: Town) -> list[str]:
    return [each["request_id"] for each in town.told(KURA) if each["scope"] == PURPOSE]


def owed(town: Town, verb: Verb) -> Obligation | None:
    """The obligation of the purpose at the partner, as the view holds it."""
    tools = town.made.tools
    refs = {ref for ref, _ in [*tools.index.all_standing(), *tools.index.all_ended()]}
    found = [one for each in tools.view.obligations.all(sorted(refs)) for one in each.values()]
    return next((each for each in found if (each.partner, each.scope, each.verb) == (KURA, PURPOSE, verb)), None)


def is_done(town: Town, verb: Verb) -> bool:
    found = owed(town, verb)
    return found is not None and found.state in ENDED


def counted(town: Town, name: str, **labels: str) -> float:
    return town.made.metrics.registry.get_sample_value(name, labels) or 0


def stale(town: Town) -> bool:
    tools = town.made.tools
    return tools.now() > tools.marks.oldest() + tools.permission_bound_ms


@contextmanager
def process(town: Town, command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker or a dispatcher as a process of its own."""
    settings = msgspec.to_builtins(town.settings)
    config = town.directory / f"{command}.toml"
    lines = [
        f"{key} = {msgspec.json.encode(each).decode()}" for key, each in settings.items() if type(each) is not dict
    ]
    for name in ("kafka", "redis", "worker"):
        table = {key: each for key, each in settings[name].items() if type(each) is not dict}
        lines += [f"[{name}]", *(f"{key} = {msgspec.json.encode(each).decode()}" for key, each in table.items())]
    config.write_text("\n".join(lines))
    with (town.directory / f"{command}.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "todoke.streams", command],
            env={**os.environ, "TODOKE_CONFIG": str(config)},
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGCONT)
        running.terminate()
        running.wait(60)


class Stopped(Sender):
    """A sender whose process is stopped at its first call, before or after the last look at the clock."""

    def __init__(self, inner: Sender, *, guarded: bool) -> None:
        self.inner = inner
        self.guarded = guarded
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def send(
        self, request: HttpRequest | UploadRequest, timeout_s: float, traceparent: str = "", guard: Guard | None = None
    ) -> HttpResponse:
        if not self.reached.is_set():
            self.reached.set()
            await self.goes_on.wait()
            guard = guard if self.guarded else None
        return await self.inner.send(request, timeout_s, traceparent, guard)


def desk_of(town: Town, number: int = 0) -> Desk:
    return next(each.desk for each in town.dispatchers[number].stations if each.partner == KURA)


async def taken_over(town: Town, holds: Callable[[], bool]) -> bool:
    """Wait until something holds, while a second dispatcher has the lane of the first, which still acts."""
    one, other = desk_of(town), desk_of(town, 1)

    def both() -> bool:
        one.lanes = other.lanes = one.lanes or other.lanes
        return holds()

    return await town.until(both)


def quick(desk: Desk) -> None:
    """Calls of this desk count as over after two seconds."""
    desk.partner = replace(desk.partner, limits=replace(desk.partner.limits, timeout_ms=1000, lingers_ms=0))


async def test_no_permission_is_told_while_events_lie_unread_in_the_intake(town: Town) -> None:
    await town.stop_worker(town.workers[0])
    with process(town, "worker") as worker:
        await town.fault(KURA, kind="429")
        await town.publish("consent-changes", grant("taro", PURPOSE))
        assert await town.until(lambda: owed(town, "grant") is not None and not stale(town))

        worker.send_signal(signal.SIGSTOP)
        await town.publish("consent-changes", withdraw("taro", PURPOSE))
        assert await town.until(lambda: stale(town))
        await town.fault(KURA, kind="429", times=0)
        before = counted(town, "todoke_obligations_held_total", partner=KURA, reason="intake")
        grants = [each for each in [owed(town, "grant")] if each]

        def looked_at() -> bool:
            town.made.due.wake(entries(grants, 1, 0))
            return counted(town, "todoke_obligations_held_total", partner=KURA, reason="intake") > before + 1

        assert await town.until(looked_at)
        assert ops(town) == []
        worker.send_signal(signal.SIGCONT)
        assert await town.until(lambda: is_done(town, "withdraw"))

    assert set(ops(town)) == {"withdrawn"}


async def test_a_restriction_is_not_done_while_a_permission_is_under_way_and_is_said_again_after_it(town: Town) -> None:
    first = desk_of(town)
    await town.start_dispatcher(KURA)
    assert await town.until(lambda: bool(first.lanes))
    await town.fault(KURA, kind="slow", delay_s=9, times=1)
    await town.publish("consent-changes", grant("taro", PURPOSE))
    async with asyncio.timeout(60):
        while "fault:slow" not in await town.ask(KURA, "calls"):  # noqa: ASYNC110  # there is nothing to wait for but its answer
            await asyncio.sleep(0.05)
    await town.publish("consent-changes", withdraw("taro", PURPOSE))
    assert await taken_over(town, lambda: "withdrawn" in ops(town))
    early = owed(town, "withdraw")

    found = await town.settled()

    assert early is not None
    assert early.state == "open"
    assert (
        counted(town, "todoke_obligations_reopened_total", partner=KURA, reason="overtaken") == 0
    )  # never done too early
    assert ops(town) == ["withdrawn", "granted", "withdrawn"]
    assert len(set(ids(town))) == 3
    assert found.exact
    assert is_done(town, "withdraw")


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_process_that_was_stopped_before_a_permissive_call_changes_nothing_in_the_end(
    town: Town, guarded: bool
) -> None:
    first = desk_of(town)
    quick(first)
    exchange = first.place.exchange
    stopped = Stopped(exchange.sender, guarded=guarded)
    exchange.sender = stopped
    await town.publish("consent-changes", grant("taro", PURPOSE))
    assert await town.until(stopped.reached.is_set)
    await town.start_dispatcher(KURA)
    await town.publish("consent-changes", withdraw("taro", PURPOSE))
    assert await taken_over(town, lambda: is_done(town, "withdraw"))
    before = ops(town)

    stopped.goes_on.set()
    assert await town.until(lambda: not first._busy)
    late = [] if guarded else ["granted", "withdrawn"]
    assert await town.until(lambda: len(ops(town)) == len(before) + len(late))
    found = await town.settled()

    assert set(before) == {"withdrawn"}
    assert ops(town) == before + late
    assert len(set(ids(town))) == len(ids(town))
    assert found.exact
    assert is_done(town, "withdraw")
    reopened = counted(town, "todoke_obligations_reopened_total", partner=KURA, reason="overtaken")
    assert reopened == (0 if guarded else 1)


async def test_a_dispatcher_stopped_in_the_midst_of_a_permissive_call_leaves_the_records_word_standing(
    town: Town,
) -> None:
    await town.stop_dispatcher(town.dispatchers[0])
    await town.fault(KURA, kind="slow", delay_s=20, times=1)
    with process(town, "dispatch") as dispatcher:
        await town.publish("consent-changes", grant("taro", PURPOSE))
        assert await until_called(town)
        dispatcher.send_signal(signal.SIGSTOP)
        await town.start_dispatcher()
        await town.publish("consent-changes", withdraw("taro", PURPOSE))
        assert await town.until(lambda: "granted" in ops(town))
        dispatcher.send_signal(signal.SIGCONT)

        found = await town.settled()

    assert found.exact
    assert is_done(town, "withdraw")
    assert ops(town)[-1] == "withdrawn"


async def until_called(town: Town) -> bool:
    for _ in range(600):
        if (await town.ask(KURA, "calls")).get("fault:slow"):
            return True
        await asyncio.sleep(0.1)
    return False


async def test_what_a_partner_says_has_failed_after_all_is_told_anew_under_another_id(town: Town) -> None:
    await town.publish("consent-changes", withdraw("taro", PURPOSE, identifiers=grant("taro").identifiers))
    await town.settled()
    done: Any = owed(town, "withdraw")

    people.act(town.made.tools, done.obligation_id, "reopened", by="amy", ground="their letter", evidence="letter 7")
    assert await town.until(lambda: len(ops(town)) == 2)
    found = await town.settled()

    again: Any = owed(town, "withdraw")
    assert (done.state, again.state, again.generation, again.reopened) == ("done", "done", 2, "failed-late")
    assert len(set(ids(town))) == 2
    assert found.exact
