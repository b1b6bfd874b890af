"""Recovery by command, on real parts: letters replayed, lanes held and opened, wake-ups that were lost."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from tests.laws.events import NOON, email, grant, withdraw
from tests.town import Town
from todoke.processors.keys import subject_ref
from todoke.processors.replay import Selection
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import ConsentChange
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Rules
from todoke.schemas.record import SubjectRecord
from todoke.streams import build, dispatch, lanes, replay
from todoke.streams.snapshot import Topics

MAIL = "marketing-communications"
MEMBER = (Identifier("member_id", "M-1"),)


def newer_policy(town: Town) -> build.Parts:
    """The parts of a worker whose policy knows one purpose more."""
    tools = town.made.tools
    policy, registry = tools.rules.policy, tools.rules.registry
    more = replace(next(each for each in policy.purposes if each.name == "research"), name="sweepstakes")
    rules = Rules(replace(policy, purposes=(*policy.purposes, more)), registry)
    return replace(town.made, tools=replace(tools, rules=rules))


def sweepstakes(event: ConsentChange) -> ConsentChange:
    return replace(event, purpose="sweepstakes")


async def refused_then_mended(town: Town, *events: ConsentChange) -> None:
    await town.publish("consent-changes", *events)
    assert (await town.settled()).outcomes == {"refused": len(events)}
    await town.stop_worker(town.workers[0])
    town.start_worker(newer_policy(town))


def register(town: Town, subject: str, name: str) -> Any:
    ref = subject_ref(town.made.tools.keyring, subject)
    return town.reader().latest("consent-state", SubjectRecord)[ref].registers.get(name)


async def test_a_refused_event_is_replayed_once_and_has_its_outcome(town: Town) -> None:
    first = sweepstakes(withdraw("taro"))
    await refused_then_mended(town, first)
    selection = Selection(kind="event", reason="unknown-purpose")

    found = await asyncio.to_thread(replay.chosen, town.made, selection, again=False)
    count = await asyncio.to_thread(replay.run, town.made, [each for each, _ in found], 500)
    assert await town.until(lambda: town.made.tools.index.outcomes([first.event_id])[0].outcome != "refused")  # type: ignore[union-attr]  # it was refused, so it is noted
    balance = await town.settled()
    after = await asyncio.to_thread(replay.chosen, town.made, selection, again=True)

    assert [fate for _, fate in found] == ["replay"]
    assert count == 1
    assert balance.outcomes == {"applied": 1}
    assert not balance.undecided
    assert [(each.replayed_at > 0, fate) for each, fate in after] == [(True, "admitted-since")]
    assert register(town, "taro", "purpose/appi/sweepstakes").value == "withdrawn"


async def test_a_grant_that_is_replayed_counts_from_its_first_append(town: Town) -> None:
    # it claims a time after the withdrawal that follows it, as a fast clock would; only its append tells
    early = sweepstakes(grant("taro", at=3_600_000 + 240_000))
    await refused_then_mended(town, early)
    appended_at = next(iter(town.reader().letters())).appended_at
    late = sweepstakes(withdraw("taro", at=appended_at + 1 - NOON))
    await town.publish("consent-changes", late)

    found = await asyncio.to_thread(replay.chosen, town.made, Selection(), again=False)
    await asyncio.to_thread(replay.run, town.made, [each for each, _ in found], 500)
    assert await town.until(lambda: town.made.tools.index.outcomes([early.event_id])[0].outcome != "refused")  # type: ignore[union-attr]  # likewise
    await town.settled()

    assert register(town, "taro", "purpose/appi/sweepstakes").value == "withdrawn"


async def test_an_event_refused_again_is_a_letter_of_its_own_and_the_old_one_stays_marked(town: Town) -> None:
    await town.publish("consent-changes", sweepstakes(withdraw("taro")))
    await town.settled()
    found = await asyncio.to_thread(replay.chosen, town.made, Selection(), again=False)

    await asyncio.to_thread(replay.run, town.made, [each for each, _ in found], 500)
    assert await town.until(lambda: len(town.reader().letters()) == 2)

    again = await asyncio.to_thread(replay.chosen, town.made, Selection(), again=False)
    assert sorted(fate for _, fate in again) == ["replay", "replayed-before"]
    assert {each.letter_id for each, _ in again} > {found[0][0].letter_id}
    assert (await town.settled()).outcomes == {"refused": 1}


async def test_a_delivery_given_up_is_replayed_with_its_failures_forgiven(town: Town) -> None:
    await town.fault("aozora-analytics", kind="gone", times=None)
    await town.publish("consent-changes", withdraw("taro", "cookie-analysis", identifiers=MEMBER))
    assert (await town.settled()).states == {"blocked": 1}
    selection = Selection(partner="aozora-analytics", reason="endpoint-gone")
    found = await asyncio.to_thread(replay.chosen, town.made, selection, again=False)
    await town.fault("aozora-analytics", kind="gone", times=0)

    await asyncio.to_thread(replay.run, town.made, [each for each, _ in found], 500)
    assert await town.until(lambda: {each.state for each in town.obligations()} == {"done"})
    assert (await town.settled()).exact

    after = await asyncio.to_thread(replay.chosen, town.made, selection, again=True)
    assert [fate for _, fate in after] == ["ended-since"]
    assert not town.made.tools.view.client.keys(town.made.tools.view.key("tries", "*"))


async def test_a_lane_that_is_paused_calls_nobody_and_loses_nothing(town: Town) -> None:
    await asyncio.to_thread(lanes.order, town.made, "aozora-analytics", "paused", by="aiko", ground="their request")
    held = [
        each for station in town.dispatchers[0].stations if (each := station.desk).partner.name == "aozora-analytics"
    ]
    assert await town.until(lambda: held[0].ordered == "paused")
    late = await town.start_dispatcher("aozora-analytics")
    assert late.stations[0].desk.ordered == "paused"

    await town.publish("consent-changes", withdraw("taro", "cookie-analysis", identifiers=MEMBER))
    other = withdraw("taro", identifiers=(*MEMBER, Identifier("email", "taro@example.jp")))
    await town.publish("consent-changes", other)
    assert await town.until(lambda: {each.state for each in town.obligations() if each.partner == "meta"} == {"done"})
    paused = (
        await town.ask("aozora-analytics", "calls"),
        {each.state for each in town.obligations() if each.partner == "aozora-analytics"},
    )

    await asyncio.to_thread(lanes.order, town.made, "aozora-analytics", "open", by="aiko", ground="mended")
    found = await town.settled()

    assert not [each for each in paused[0] if each != "total"] or not any(paused[0].values())
    assert paused[1] == {"open"}
    assert found.exact
    assert found.pending == 0


async def test_a_lane_held_for_grants_still_carries_restrictions(town: Town) -> None:
    await asyncio.to_thread(lanes.order, town.made, "kura-crm", "restrictions", by="aiko", ground="an audit")
    kura = next(station.desk for station in town.dispatchers[0].stations if station.partner == "kura-crm")
    assert await town.until(lambda: kura.ordered == "restrictions")

    await town.publish(
        "consent-changes",
        grant("hanako", MAIL),
        grant("taro", MAIL),
        withdraw("jiro", MAIL, identifiers=(email("jiro"),)),
    )

    def states() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for each in town.obligations():
            if each.partner == "kura-crm":
                found.setdefault(each.verb, set()).add(each.state)
        return found

    assert await town.until(lambda: states().get("withdraw") == {"done"})
    assert states()["grant"] == {"open"}

    await asyncio.to_thread(lanes.order, town.made, "kura-crm", "open", by="aiko", ground="the audit is over")
    assert (await town.settled()).exact
    assert states()["grant"] == {"done"}


async def test_an_order_for_nobody_is_refused_by_name(town: Town) -> None:
    with pytest.raises(Misconfigured, match=r"nobody: no such partner: use one of meta, "):
        await asyncio.to_thread(lanes.order, town.made, "nobody", "paused", by="aiko", ground="-")


async def test_what_stood_for_longer_than_its_lane_is_kept_is_looked_at_by_whoever_comes(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.stop_dispatcher(town.dispatchers[0])
    await town.publish("consent-changes", withdraw("taro", "cookie-analysis", identifiers=MEMBER))
    reader = Topics(town.settings, town.made.tools.codec)
    assert await town.until(lambda: bool(town.obligations()) and bool(list(reader.read("directives.aozora-analytics"))))
    admin = AdminClient({"bootstrap.servers": town.settings.kafka.bootstrap})
    lane = TopicPartition(town.made.topic("directives.aozora-analytics"), 0, -1)  # up to its end, as retention would
    looks = [0]

    def emptied() -> bool:
        """Ten times in a row: the sweep of the rules that were just published may still wake people."""
        admin.delete_records([lane])[lane].result()
        looks[0] = 0 if list(reader.read("directives.aozora-analytics")) else looks[0] + 1
        return looks[0] >= 10

    assert await town.until(emptied)

    monkeypatch.setattr(dispatch, "FORGOTTEN_AFTER_MS", -60_000)
    await town.start_dispatcher()

    found = await town.settled()
    assert found.exact
    assert found.states == {"done": 1}
