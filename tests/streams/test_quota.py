"""Quota over a real Valkey and between real dispatchers: the emulator is the one who counts."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any

import pytest
from msgspec.structs import replace

from tests.laws.events import email, withdraw
from tests.rules import partner
from tests.town import Town
from todoke.processors.quota import Cost
from todoke.schemas.codec import Codec
from todoke.schemas.partners import Limits
from todoke.schemas.quota import Window
from todoke.streams.embedded.stack import Addresses
from todoke.streams.quota import Ask, Quota
from todoke.streams.view import View, connect

pytestmark = pytest.mark.stack
KURA = "kura-crm"
HOUR = Window(most=1000, seconds=3600)
SECOND = Window(most=4, seconds=1)


class Shop(Town):
    """A town whose `kura-crm` takes one obligation a call, within a quota."""

    quota: tuple[Window, ...] = ()

    def reload(self) -> None:
        super().reload()
        tools = self.made.tools
        rules = tools.rules
        limits = Limits(items=1, age_ms=5, lingers_ms=500, quota=self.quota, kept_percent=0)
        partners = tuple(
            replace(each, limits=limits) if each.name == KURA else each for each in rules.registry.partners
        )
        registry = replace(rules.registry, partners=partners)
        self._made = replace(self.made, tools=replace(tools, rules=replace(rules, registry=registry)))


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("shop")


def calls_within(moments: list[int], window: Window) -> int:
    """The most calls that came within the length of a window."""
    worst, recent = 0, deque[int]()
    for at in sorted(moments):
        recent.append(at)
        while recent[0] <= at - window.seconds * 1000:
            recent.popleft()
        worst = max(worst, len(recent))
    return worst


def quota(addresses: Addresses, namespace: str, **limits: Any) -> Quota:
    view = View(connect(addresses.redis_url), Codec(), namespace)
    return Quota(view, partner("shop", "research", limits=Limits(**limits)), 5000, lambda *_: [])


def test_processes_that_share_a_window_never_exceed_it(stack: Addresses) -> None:
    namespace = f"{token_hex(4)}."
    ours = [quota(stack, namespace, quota=(SECOND,), kept_percent=0) for _ in range(3)]
    ours[0].reserve([Ask("first", "main", Cost(), restrictive=True)])
    ours[0].look_up()
    clock = ours[0].view.client

    def calls(mine: Quota) -> list[int]:
        found: list[int] = []
        while len(found) < 4:
            ask = Ask(token_hex(6), "main", Cost(), restrictive=True)
            if mine.reserve([ask]) == [0]:
                seconds, micros = clock.time()
                found.append(seconds * 1000 + micros // 1000)
                mine.over(ask, made=True)
        return found

    with ThreadPoolExecutor(3) as pool:
        moments = [at for theirs in pool.map(calls, ours) for at in theirs]

    assert len(moments) == 12
    assert calls_within(moments, SECOND) <= SECOND.most


def test_what_was_not_called_is_given_back_and_accounts_have_windows_of_their_own(stack: Addresses) -> None:
    ours = quota(stack, f"{token_hex(4)}.", quota=(replace(HOUR, most=2),), quota_per="account", kept_percent=0)
    asks = [Ask(name, account, Cost(), restrictive=True) for name, account in (("a", "jp"), ("b", "jp"), ("c", "eu"))]
    assert all(ours.reserve(asks))  # nobody knows yet what was spent
    ours.look_up()
    assert ours.reserve(asks) == [0, 0, 0]
    assert ours.reserve([Ask("d", "jp", Cost(), restrictive=True)])[0] > 0

    ours.over(asks[1], made=False)

    assert ours.reserve([Ask("d", "jp", Cost(), restrictive=True), Ask("e", "eu", Cost(), restrictive=True)]) == [0, 0]


@pytest.mark.long
async def test_two_dispatchers_keep_one_quota_and_everybody_is_told(stack: Addresses, place: Any) -> None:
    shop = Shop(stack, place)
    shop.quota = (SECOND,)
    async with shop as town:
        await town.start_dispatcher(KURA)
        for name in ("a", "b", "c", "d", "e"):
            await town.publish(
                "consent-changes", withdraw(name, "marketing-communications", identifiers=(email(name),))
            )
        found = await town.settled()

        moments = [line["at"] for line in town.told(KURA)]

    assert (found.exact, found.pending) == (True, 0)
    assert len(moments) > 2 * SECOND.most
    assert calls_within(moments, SECOND) <= SECOND.most


@pytest.mark.long
async def test_a_quota_that_was_lost_with_the_view_is_counted_anew_from_receipts(stack: Addresses, place: Any) -> None:
    shop = Shop(stack, place)
    shop.quota = (HOUR,)
    async with shop as town:
        (station,) = [each for each in town.dispatchers[0].stations if each.partner == KURA]
        ours = station.desk.gate.quota
        assert ours is not None
        await town.publish(
            "consent-changes", withdraw("taro", "marketing-communications", identifiers=(email("taro"),))
        )
        await town.settled()
        for runners in list(town.workers):
            await town.stop_worker(runners)
        client = town.made.tools.view.client
        client.delete(*client.scan_iter(town.made.tools.view.key("*"), count=1000))
        town.start_worker()

        def counted() -> bool:
            return not ours.unsure and ours.left() == {("*", HOUR.key): HOUR.most - len(town.told(KURA))}

        assert await town.until(counted)
        await town.publish(
            "consent-changes", withdraw("jiro", "marketing-communications", identifiers=(email("jiro"),))
        )
        found = await town.settled()
        assert (found.exact, found.pending) == (True, 0)
        assert await town.until(counted)


async def test_a_dead_partner_is_met_by_one_call_at_a_time_and_by_all_when_it_is_back(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk,) = [each.desk for each in town.dispatchers[0].stations if each.partner == KURA]
    gate, turn, at_once = desk.gate, desk._turn, list[tuple[int, int]]()

    async def watched(batch: Any, *rest: Any) -> Any:
        if gate.half_open:
            at_once.append((len(desk._rounds), len(batch)))
        return await turn(batch, *rest)

    monkeypatch.setattr(desk, "_turn", watched)
    await town.fault(KURA, kind="500", times=None)
    for name in ("a", "b", "c"):
        await town.publish("consent-changes", withdraw(name, "marketing-communications", identifiers=(email(name),)))

    assert await town.until(lambda: bool(at_once))
    await town.fault(KURA, kind="500", times=0)
    found = await town.settled()

    assert {rounds for rounds, _ in at_once} == {1}
    assert (found.exact, found.pending) == (True, 0)
    assert gate.breaker.state(town.now()) == "closed"
