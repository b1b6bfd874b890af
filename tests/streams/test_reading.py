"""Whoever looks at somebody's data is in the log before they see any of it, on real parts."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient

from tests.golden.make_docs import leaves
from tests.laws.events import NOON, grant
from tests.town import Town
from todoke.processors.keys import open_from_log, subject_ref
from todoke.schemas.events import IdentityLink, LogRow
from todoke.streams.cli import main

MAIL = "marketing-communications"
WHY = ("--by", "mori", "--ground", "call 118")
READING = {
    "todoke subject": ["taro"],
    "todoke event": ["event-taro"],
    "todoke check": ["taro", MAIL],
}
"""Commands that show somebody's data, with what they are asked here."""


def environ(town: Town, directory: Path, more: str = "") -> dict[str, str]:
    kafka, path = town.settings.kafka, directory / "todoke.toml"
    path.write_text(
        f'namespace = "{town.settings.namespace}"\nkeys = "{town.settings.keys}"\n'
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nreplication = 1\nin_sync = 1\n'
        f"partitions = {kafka.partitions}\nlane_partitions = {kafka.lane_partitions}\n"
        f'[redis]\nurl = "{town.settings.redis.url}"\n{more}'
    )
    return {**os.environ, "TODOKE_CONFIG": str(path)}


async def said(place: dict[str, str], *words: str) -> Result:
    return await asyncio.to_thread(CliRunner(env=place).invoke, main, list(words))


def looks(town: Town) -> list[tuple[str, dict[str, str]]]:
    """Who was looked at, and what the row says when it is opened."""
    keyring = town.made.tools.keyring
    found = [each for each in town.reader().values("provision-log", LogRow) if each.kind == "look-up"]
    return [
        (each.subject_ref, msgspec.json.decode(open_from_log(keyring, each.row_id, each.payload))) for each in found
    ]


@pytest.mark.stack
async def test_every_look_is_a_sealed_row_for_everybody_who_is_shown(town: Town, tmp_path: Path) -> None:
    await town.publish("consent-changes", grant("taro", MAIL, event_id="event-taro"))
    await town.publish("consent-changes", grant("hanako", MAIL))
    await town.settled()
    place = environ(town, tmp_path)
    ref = {name: subject_ref(town.made.tools.keyring, name) for name in ("taro", "hanako", "nobody")}

    done = [await said(place, *name.split()[1:], *words, *WHY) for name, words in READING.items()]
    missing = await said(place, "subject", "nobody", *WHY)
    first = looks(town)
    raw = b"".join(each.payload for each in town.reader().values("provision-log", LogRow) if each.kind == "look-up")
    joins = IdentityLink(
        event_id="joins", occurred_at=NOON + 5000, action="merge", subject="taro", other_subject="hanako"
    )
    await town.publish("identity-links", joins)
    await town.settled()
    await said(place, "subject", "taro", *WHY)

    assert [each.exit_code for each in done] == [0, 0, 0], [each.output for each in done]
    assert (missing.exit_code, "nothing is known" in missing.output) == (1, True)
    wanted = [(name.split()[1], ref["taro"]) for name in READING] + [("subject", ref["nobody"])]
    assert sorted((row["command"], who) for who, row in first) == sorted(wanted)
    assert {(row["by"], row["ground"]) for _, row in first} == {("mori", "call 118")}
    assert b"mori" not in raw
    later = Counter(who for who, _ in looks(town)) - Counter(who for who, _ in first)
    assert later == Counter([ref["taro"], ref["hanako"]])


@pytest.mark.stack
async def test_what_cannot_be_written_down_is_not_shown(town: Town, tmp_path: Path) -> None:
    await town.publish("consent-changes", grant("taro", MAIL, event_id="event-taro"))
    await town.settled()
    place = environ(town, tmp_path)
    admin = AdminClient({"bootstrap.servers": town.settings.kafka.bootstrap})
    topic = town.settings.namespace + "provision-log"
    before = [await said(place, *name.split()[1:], *words, *WHY) for name, words in READING.items()]
    admin.delete_topics([topic])[topic].result(30)

    after = [await said(place, *name.split()[1:], *words, *WHY) for name, words in READING.items()]

    assert [each.exit_code for each in before] == [0, 0, 0]
    assert [each.exit_code for each in after] == [1, 1, 1]
    for shown, each in zip(before, after, strict=True):
        assert "nothing is shown" in each.output
        assert not any(line and line in each.output for line in shown.output.splitlines())


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("given", [(), ("--by", "mori"), ("--ground", "call 118"), ("--by", " ", "--ground", "call")])
def test_nobody_looks_without_a_name_and_a_ground(name: str, given: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*name.split()[1:], *READING[name], *given])

    assert done.exit_code != 0
    assert "--by" in done.output or "--ground" in done.output


def test_every_command_that_takes_a_person_asks_who_looks() -> None:
    """One that is new shows up here: it is marked with `reading`, or notes its own act as a person's."""
    of_people = {
        name: command
        for name, command in leaves("todoke", main)
        if any(
            isinstance(each, click.Argument) and each.name in {"subject", "event_id", "record_id"}
            for each in command.params
        )
    }

    assert {*READING, "todoke disclose", "todoke ledger receipt"} <= set(of_people)
    for name, command in of_people.items():
        assert {"--by", "--ground"} <= {option for each in command.params for option in each.opts}, name
