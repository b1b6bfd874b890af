"""Time passes, and rules change: what nobody said must reach partners all the same (correctness, 19, 20 and 21)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.laws.events import NOON, grant, provide, suspend, topic_of, withdraw
from tests.town import Town
from todoke.schemas.events import Age, Event
from todoke.schemas.identity import Identifier
from todoke.schemas.obligations import Obligation
from todoke.schemas.toml import shipped
from todoke.streams.embedded.stack import Addresses
from todoke.streams.patrol import progress

DAY = 86_400_000
YEAR = 366 * DAY
MAIL = "marketing-communications"
MEMBER = (Identifier("member_id", "M-1"),)


async def said(town: Town, *events: Event) -> None:
    for each in events:
        await town.publish(topic_of(each), each)
    found = await town.settled()
    assert found.exact
    assert not found.pending


async def later(town: Town, milliseconds: int) -> None:
    """Move the clock of everything but the broker."""
    town.ahead_ms += milliseconds
    assert await town.until(lambda: town.made.tools.view.is_current(town.now(), 60_000))
    found = await town.settled()
    assert found.exact
    assert not found.pending


def standing(town: Town, partner: str, scope: str) -> list[Obligation]:
    """What was decided last for a scope of a partner, by its verb."""
    found = [each for each in town.obligations() if (each.partner, each.scope) == (partner, scope)]
    return sorted(found, key=lambda each: (each.opened_at, each.boundary))


def last(town: Town, partner: str, scope: str) -> tuple[str, str, str]:
    each = standing(town, partner, scope)[-1]
    return each.verb, each.state, each.cause


def years_ago(town: Town, years: int) -> str:
    """A birth date whose `years`-th birthday comes in a fortnight or two."""
    soon = datetime.fromtimestamp((town.now() + 20 * DAY) / 1000, UTC)
    return f"{soon.year - years}-{soon.month:02}-{min(soon.day, 28):02}"


async def test_a_grant_that_expires_is_taken_back_everywhere(town: Town) -> None:
    await said(town, grant("taro", MAIL, expires_at=NOON + 2 * DAY))
    before = last(town, "kura-crm", MAIL)

    await later(town, 3 * DAY)

    assert before == ("grant", "done", "event")
    assert last(town, "kura-crm", MAIL) == ("withdraw", "done", "time")


async def test_a_suspension_that_ends_gives_the_grant_back(town: Town) -> None:
    await said(town, grant("taro", MAIL), suspend("taro", until=NOON + 2 * DAY))
    before = last(town, "kura-crm", MAIL)

    await later(town, 3 * DAY)

    assert before == ("suspend", "done", "event")
    assert last(town, "kura-crm", MAIL) == ("grant", "done", "time")


async def test_who_comes_of_age_is_no_longer_kept_out(town: Town) -> None:
    minor = Age(birth_date=years_ago(town, 18))
    await said(town, grant("taro", MAIL, age=minor))
    before = {each.partner: (each.verb, each.state) for each in town.obligations() if each.scope == "*"}

    await later(town, 60 * DAY)

    # both serve marketing alone, so they keep nobody below the age for it
    assert (before["meta"], before["kura-crm"]) == (("delete", "done"), ("delete", "done"))
    assert last(town, "kura-crm", MAIL) == ("grant", "done", "time")


async def test_a_child_stays_deleted_when_old_enough_to_be_dealt_with_but_not_to_be_marketed_to(town: Town) -> None:
    child = Age(birth_date=years_ago(town, 13))
    await said(town, grant("taro", MAIL, age=child))
    before = last(town, "kura-crm", "*")

    await later(town, 60 * DAY)

    assert before == ("delete", "done", "event")
    assert not standing(town, "kura-crm", MAIL)
    assert not town.made.tools.turns.due((0, 1), town.now(), 10)


async def test_what_comes_due_while_the_view_is_lost_is_done_once_it_is_healed(town: Town) -> None:
    await said(town, grant("taro", MAIL, expires_at=NOON + 2 * DAY))
    client = town.made.tools.view.client
    client.delete(*client.keys(town.made.tools.view.key("*")))

    await later(town, 3 * DAY)

    assert last(town, "kura-crm", MAIL) == ("withdraw", "done", "time")


async def test_nothing_turns_twice(town: Town) -> None:
    await said(town, grant("taro", MAIL, expires_at=NOON + 2 * DAY))
    await later(town, 3 * DAY)
    before = len(town.obligations())

    await later(town, 1000)

    assert len(town.obligations()) == before
    assert not town.made.tools.turns.due((0, 1), town.now(), 10)


@pytest.fixture
async def changing(stack: Addresses, tmp_path: Path) -> AsyncIterator[Town]:
    """An installation whose policy and partners are files that the test may change."""
    town = Town(stack, tmp_path)
    for name in ("policy", "partners"):
        (tmp_path / f"{name}.toml").write_text(shipped(f"{name}.toml"))
    names = {name: str(tmp_path / f"{name}.toml") for name in ("policy", "partners")}
    town.settings = replace(town.settings, **names)
    async with town:
        yield town


def text_of(town: Town, name: str) -> str:
    return Path(getattr(town.settings, name)).read_text()


def change(town: Town, name: str, *changes: tuple[str, str]) -> None:
    text = text_of(town, name)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    Path(getattr(town.settings, name)).write_text(text)


async def roll(town: Town, name: str, *changes: tuple[str, str]) -> None:
    """Change a file, and start worker and dispatcher anew with it, as a roll-out does."""
    change(town, name, *changes)
    await town.stop_dispatcher(town.dispatchers[0])
    await town.stop_worker(town.workers[0])
    town.reload()
    town.start_worker()
    await town.start_dispatcher()


async def test_a_version_of_the_policy_that_asks_anew_takes_its_grants_back_on_its_day(changing: Town) -> None:
    town = changing
    day = datetime.fromtimestamp((town.now() + 2 * DAY) / 1000, UTC).strftime("%Y-%m-%d")
    version = f'[[version]]\nname = "next"\neffective = "{day}"\nreconsent = ["{MAIL}"]\n\n[[version]]'
    text = text_of(town, "policy")
    place = text.rindex("[[version]]")
    await said(town, grant("taro", MAIL))
    old = text[place : text.index("\n\n", place)]
    await roll(
        town,
        "policy",
        (old, f"{old}\n\n{version.removesuffix('[[version]]').rstrip()}"),
        ("revision = 1", "revision = 2"),
    )
    assert (await town.settled()).exact
    before = last(town, "kura-crm", MAIL)[0]

    await later(town, 3 * DAY)

    assert before == "grant"
    assert last(town, "kura-crm", MAIL) == ("withdraw", "done", "time")
    assert "reconsent-needed" in standing(town, "kura-crm", MAIL)[-1].reasons


async def test_a_new_revision_sweeps_everybody_and_leaves_the_balance_exact(changing: Town) -> None:
    town = changing
    await said(town, *[grant(f"person-{number}", MAIL) for number in range(30)], withdraw("person-3", MAIL, at=5000))

    await roll(town, "partners", ("revision = 1", "revision = 2"))
    found = await town.settled()

    assert found.exact
    assert not found.pending
    renewed = [each for each in town.obligations() if each.registry_revision == town.made.tools.rules.revision]
    assert {each.state for each in renewed} <= {"done", "blocked"}
    assert last(town, "kura-crm", MAIL)[2] == "policy"
    marks = progress(town.made.tools, range(town.settings.kafka.partitions))
    assert {mark.stage for _, mark in marks} == {"done"}


async def test_a_partner_that_is_removed_leaves_its_obligations_with_an_owner(changing: Town) -> None:
    town = changing
    await town.fault("aozora-analytics", kind="500", times=None)
    await town.publish("consent-changes", withdraw("taro", "cookie-analysis", identifiers=MEMBER))
    assert await town.until(lambda: bool(town.obligations()))
    text = text_of(town, "partners")
    start = text.index('[[partner]]\nname = "aozora-analytics"')
    entry = text[start : text.index('[[partner]]\nname = "hoshi-dmp"')]

    await roll(town, "partners", (entry, ""), ("revision = 1", "revision = 2"))
    assert await town.until(
        lambda: {each.state for each in standing(town, "aozora-analytics", "cookie-analysis")} == {"blocked"}
    )

    (each,) = standing(town, "aozora-analytics", "cookie-analysis")
    assert (each.blocked, each.owner) == ("no-connector", "privacy-office")
    assert (await town.settled()).exact


async def test_a_recipient_that_becomes_a_partner_takes_over_what_was_owed_to_it(changing: Town) -> None:
    town = changing
    text = text_of(town, "partners")
    start = text.index('[[partner]]\nname = "hoshi-dmp"')
    entry = text[start:]
    change(town, "partners", (entry, ""))
    town.reload()
    await town.stop_worker(town.workers[0])
    town.start_worker()
    gift = provide("taro", "hoshi-dmp", at=-1000)
    await said(town, gift, withdraw("taro", identifiers=(Identifier("email", "taro@example.jp"),)))
    before = [(each.blocked, each.state) for each in town.obligations() if each.partner == "hoshi-dmp"]

    text = text_of(town, "partners")
    await roll(town, "partners", (text, text.replace("revision = 1", "revision = 2", 1) + entry))
    found = await town.settled()

    assert ("no-connector", "blocked") in before
    assert found.exact
    states = {(each.account, each.state) for each in town.obligations() if each.partner == "hoshi-dmp"}
    assert ("default", "superseded") in states
    assert ("default", "blocked") not in states
    assert ("segments", "done") in states
