"""`todoke partners check` against the partners themselves: emulators that take our credentials, refuse them, or are not there."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from tests.contracts.rows import partner, rows
from tests.laws.events import email, withdraw
from tests.town import Town
from todoke.schemas.errors import Misconfigured
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits, Partner
from todoke.sinks import connectors
from todoke.sinks.emulators import emulating
from todoke.streams.build import clock
from todoke.streams.cli import main
from todoke.streams.embedded import ports
from todoke.streams.partnerchecks import Coverage, Finding, coverage, covered, examine, limits
from todoke.streams.partnercommands import chosen

ROWS = rows()
PROBED = ["amplitude", "criteo", "ga4", "google_data_manager", "klaviyo", "segment"]
BY_TOKEN = ["liveramp_privacy"]
UNPROBED = ["braze", "meta", "opendsr", "the_trade_desk", "treasure_data", "webhook"]


@asynccontextmanager
async def rehearsal(
    name: str, secret: str = "", fault: str = "", **changes: Any
) -> AsyncIterator[tuple[Partner, Mapping[str, str]]]:
    """An entry of the connector's row with an emulator behind it, which knows `secret`, and the variables it names."""
    row = ROWS[name]
    environ = {key.upper(): each.reveal() for key, each in row.secrets.items()}
    async with emulating(name, secret or row.secrets[row.secret].reveal(), clock) as address:
        if fault:
            faults = f"{address}/_emulator/faults"
            async with aiohttp.ClientSession() as session, session.post(faults, json={"kind": fault}) as got:
                assert got.status == 200
        entry = partner(name, **{key: address + path for key, path in row.addresses.items()})
        yield replace(entry, **changes), environ


def states(found: list[Finding]) -> dict[str, str]:
    """What was looked at, and the last that was found of each."""
    return {each.what: each.state for each in found}


def said(found: list[Finding], what: str) -> str:
    return "; ".join(each.text for each in found if each.what == what)


@pytest.mark.parametrize("name", [*PROBED, *BY_TOKEN, *UNPROBED])
async def test_a_partner_that_is_there_and_takes_our_credentials(name: str) -> None:
    async with rehearsal(name) as (entry, environ):
        found = await examine(entry, environ, clock)

    credentials = {"credentials": "unknown" if name in UNPROBED else "ok"}
    expected = {"secrets": "ok", "evidence": "ok", "hosts": "note", "reachable": "ok"} | credentials
    assert {what: state for what, state in states(found).items() if what != "questions"} == expected, found
    assert "without TLS" in said(found, "hosts")
    shown = {name in PROBED: "by a call that changes nothing", name in BY_TOKEN: "a token was given"}
    assert shown.get(True, "no call that changes nothing") in said(found, "credentials")


@pytest.mark.parametrize("name", [*PROBED, *BY_TOKEN])
async def test_credentials_that_are_not_taken_are_wrong(name: str) -> None:
    google = name in {"ga4", "google_data_manager"}

    async with rehearsal(name, "" if google else "another-secret", "token-refused" * google) as (entry, environ):
        found = await examine(entry, environ, clock)

    assert (states(found)["reachable"], states(found)["credentials"]) == ("ok", "wrong"), found
    assert all(each.reveal() not in said(found, "credentials") for each in ROWS[name].secrets.values())


@pytest.mark.parametrize(
    ("name", "fault"), [("criteo", "token-down"), ("google_data_manager", "429-retry-after"), ("segment", "500")]
)
async def test_what_passes_says_nothing_of_credentials(name: str, fault: str) -> None:
    async with rehearsal(name, fault=fault) as (entry, environ):
        found = await examine(entry, environ, clock)

    assert states(found)["credentials"] == "unknown", found


async def test_a_secret_that_is_missing_is_named_and_nothing_is_called() -> None:
    async with rehearsal("criteo") as (entry, _):
        found = await examine(entry, {}, clock)

    (only,) = found
    assert (only.what, only.state) == ("secrets", "wrong")
    assert "the variable CLIENT_SECRET is missing or empty; set it" in only.text


async def test_a_setting_that_is_wrong_only_once_it_is_read_is_told() -> None:
    entry = partner("meta", base_url="env:META_URL")

    environ = {name.upper(): "x" for name in ROWS["meta"].secrets}

    found = await examine(entry, {**environ, "META_URL": "http://graph.example"}, clock)

    assert (found[-1].what, found[-1].state) == ("settings", "wrong")
    assert "settings.base_url: http would show people's identifiers" in found[-1].text


async def test_who_is_not_reached_is_wrong_and_nobody_is_asked_for_credentials() -> None:
    environ = {"CLIENT_SECRET": "s"}
    (closed,) = ports.free(1)
    nowhere = partner("criteo", base_url=f"http://127.0.0.1:{closed}", token_url="https://no-such-host.invalid/t")

    found = await examine(nowhere, environ, clock)

    assert f"127.0.0.1:{closed}: not-connected" in said(found, "reachable")
    assert "no-such-host.invalid: host-unknown" in said(found, "reachable")
    assert {each.state for each in found if each.what == "reachable"} == {"wrong"}
    assert (states(found)["credentials"], said(found, "credentials")) == (
        "unknown",
        "not tried, since it can't be reached",
    )


async def test_a_server_without_tls_where_it_should_have_some_is_told() -> None:
    async with rehearsal("segment") as (entry, environ):
        secure = {name: str(entry.settings[name]).replace("http:", "https:") for name in ROWS["segment"].addresses}
        found = await examine(replace(entry, settings={**entry.settings, **secure}), environ, clock)

    assert (states(found)["reachable"], "tls" in said(found, "reachable")) == ("wrong", True)


async def test_a_host_that_would_be_called_and_stands_in_no_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = connectors.CONNECTORS["criteo"]
    monkeypatch.setitem(
        connectors.CONNECTORS, "criteo", maker._replace(addresses=lambda config: (config.base_url + "/x",))
    )
    async with rehearsal("criteo") as (entry, environ), rehearsal("criteo") as (other, _):
        apart = {**entry.settings, "token_url": other.settings["token_url"]}
        found = await examine(replace(entry, settings=apart), environ, clock)

    assert states(found)["hosts"] == "wrong"
    assert "would be called, and is in no address of the settings" in said(found, "hosts")
    assert states(found)["credentials"] == "wrong"  # the sender refuses


async def test_people_need_no_credentials() -> None:
    found = await examine(partner("manual"), {}, clock)

    assert states(found) == {"secrets": "ok", "evidence": "ok", "hosts": "ok", "credentials": "ok"}


async def test_questions_that_come_too_late_for_the_deadline_are_noted() -> None:
    async with rehearsal("opendsr", done="processed", deadline_hours={"delete": 4}) as (entry, environ):
        late = await examine(entry, environ, clock)
        soon = await examine(replace(entry, deadline_hours={"delete": 6}), environ, clock)
        enough = await examine(replace(entry, done="accepted"), environ, clock)

    assert (states(late)["questions"], states(soon)["questions"]) == ("note", "ok")
    assert "the shortest deadline is 4 h, so it is seen to be met too late" in said(late, "questions")
    assert "first asked after 6 h, then every 6 h, for 840 h" in said(soon, "questions")
    assert "questions" not in states(enough)


def test_limits_of_its_own_come_first() -> None:
    found = limits(replace(partner("meta"), limits=Limits(items=7)))

    assert (found.state, found.text.split("; ")[0]) == ("ok", "items 7")


def test_who_can_be_named_is_counted_in_people_and_kinds() -> None:
    entry = replace(partner("meta"), name="ads", identifiers=("email", "phone"))
    found = Coverage(1500, {"ads": 1200}, {"ads": {"email": 1100, "phone": 400}})

    assert covered(found, entry) == Finding(
        "identifiers", "note", "1,200 of 1,500 people (80%) can be named: email 1,100, phone 400"
    )
    assert covered(Coverage(3, {"ads": 3}, {"ads": {"email": 3}}), entry).state == "ok"
    assert covered(Coverage(0, {}, {}), entry).state == "unknown"


def test_one_that_is_not_there_is_named_with_those_that_are() -> None:
    known = [partner("meta"), partner("criteo")]

    assert chosen(known, ["a-criteo"]) == [known[1]]
    assert chosen(known, []) == known
    with pytest.raises(Misconfigured, match="a-mata: no such partner: use one of a-meta, a-criteo"):
        chosen(known, ["a-mata", "a-meta"])


async def command(town: Town, directory: Path, *words: str) -> Result:
    """`todoke partners` with the settings of a town, whose partners' variables are set."""
    kafka = town.settings.kafka
    config = directory / "todoke.toml"
    config.write_text(
        f"""namespace = "{town.settings.namespace}"
keys = "{town.settings.keys}"
[kafka]
bootstrap = "{kafka.bootstrap}"
replication = 1
in_sync = 1
partitions = {kafka.partitions}
lane_partitions = {kafka.lane_partitions}
[redis]
url = "{town.settings.redis.url}"
"""
    )
    environ = {**os.environ, "TODOKE_CONFIG": str(config)}
    return await asyncio.to_thread(CliRunner(env=environ).invoke, main, ["partners", *words])


@pytest.mark.stack
async def test_the_command_shows_each_partner_and_ends_with_one_when_something_is_wrong(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {
        "taro": (email("taro"),),
        "hanako": (email("hanako"), Identifier("phone", "090-1234-5678")),
        "jiro": (Identifier("cookie_id", "c-1"),),
    }
    await town.publish(
        "consent-changes", *(withdraw(name, identifiers=identifiers) for name, identifiers in people.items())
    )
    await town.settled()
    partners = town.made.tools.rules.registry.partners

    known = await asyncio.to_thread(coverage, town.made.tools.view, partners, 100)
    some = await asyncio.to_thread(coverage, town.made.tools.view, partners, 1)
    good = await command(town, tmp_path, "check")
    one = await command(town, tmp_path, "check", "meta")
    offline = await command(town, tmp_path, "check", "--offline")
    listed = await command(town, tmp_path, "list")
    monkeypatch.delenv("TODOKE_META_TOKEN")
    wrong = await command(town, tmp_path, "check", "meta")
    nobody = await command(town, tmp_path, "check", "mata")

    assert (known.people, known.named["meta"], known.kinds["meta"]) == (3, 2, {"email": 2, "phone": 1})
    assert (known.named["aozora-analytics"], some.people) == (1, 1)
    assert (good.exit_code, one.exit_code, offline.exit_code, listed.exit_code) == (0, 0, 0, 0), good.output
    assert all(each.name in good.output and each.name in listed.output for each in partners)
    assert "2 of 3 people (66%) can be named: email 2, phone 1" in " ".join(good.output.split())
    assert "kura-crm" not in one.output
    assert "reachable" not in offline.output
    assert (wrong.exit_code, "TODOKE_META_TOKEN is missing" in " ".join(wrong.output.split())) == (1, True)
    assert (nobody.exit_code, "mata: no such partner" in nobody.output) == (1, True)
    assert "taro" not in good.output
