"""Partners that are no HTTP interfaces, on real parts: a file, a topic, and people who are handed a list."""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pyrage
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec.structs import replace

from tests.laws.events import delete, email, grant, topic_of, withdraw
from tests.stores import Place, asyncssh_store
from tests.town import Town
from todoke.processors.identifiers import digest
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import Event
from todoke.streams import worklist
from todoke.streams.cli import main
from todoke.streams.embedded.stack import Addresses
from todoke.streams.people import act

pytestmark = pytest.mark.stack
MAIL = "marketing-communications"
ENTRY = """
[[partner]]
name = "{name}"
label = "{name}"
address = "東京都千代田区一丁目1番1号"
representative = "代表取締役 某"
role = "subcontractor"
legal_basis = "entrustment"
items = ["email-address"]
identifiers = ["email"]
connector = "{connector}"
deadline_hours = {{ grant = 24, withdraw = 24, suspend = 24, delete = 72 }}
assumed_to_hold = true
limits = {{ items = 100, timeout_ms = 20000 }}
{more}

[[partner.account]]
name = "main"
scopes = ["marketing-communications"]
"""


class Ways(Town):
    """A town whose partners take files, read a topic, and are told by letter."""

    def __init__(self, addresses: Addresses, directory: Path, store: Place) -> None:
        super().__init__(addresses, directory)
        self.store = store
        self.identity = pyrage.x25519.Identity.generate()
        self.partner_topic = f"{self.settings.namespace}partners-own"
        self.settings = replace(self.settings, partners=str(directory / "partners.toml"))

    def write(self) -> None:
        """The registry, before anything starts."""
        sftp = self.store.entry.settings
        key = self.directory / "key"
        key.write_text(self.store.secrets["private_key"].reveal())
        file = f"""settings.url = "{sftp["url"]}"
settings.user = "todoke"
settings.host_keys = {json.dumps(sftp["host_keys"])}
settings.folder = "in"
secrets.private_key = "file:{key}"
grants = true"""
        topic = f"""settings.servers = ["{self.settings.kafka.bootstrap}"]
settings.topics = {{ main = "{self.partner_topic}" }}
settings.security = "PLAINTEXT"
grants = true"""
        people = f"""settings.recipients = ["{self.identity.to_public()}"]
settings.how = "A letter to the privacy desk"
owner = "mail-room\""""
        made = [("files", "file_drop", file), ("events", "kafka_topic", topic), ("letters", "manual", people)]
        entries = [ENTRY.format(name=name, connector=connector, more=more) for name, connector, more in made]
        text = "revision = 1\n" + "".join(entries)
        by_letter = text.index('name = "letters"')
        text = text[:by_letter] + text[by_letter:].replace("grant = 24, ", "")
        Path(self.settings.partners).write_text(text)

    async def said(self, *events: Event) -> None:
        """Events, and all that follows from them."""
        for each in events:
            await self.publish(topic_of(each), each)
        found = await self.settled()
        assert (found.exact, found.pending) == (True, 0)

    def states(self, partner: str) -> list[tuple[str, str, str]]:
        """What is, or was, owed there: verb, state and why it is blocked."""
        owed = sorted((each for each in self.obligations() if each.partner == partner), key=lambda one: one.opened_at)
        return [(each.verb, each.state, each.blocked) for each in owed]

    def heard(self) -> list[tuple[bytes, str]]:
        """Key and verb of every message in the partner's topic."""
        consumer = Consumer(
            {"bootstrap.servers": self.settings.kafka.bootstrap, "group.id": "x", "enable.partition.eof": True}
        )
        consumer.assign([TopicPartition(self.partner_topic, 0, 0)])
        found: list[tuple[bytes, str]] = []
        while True:
            message = consumer.poll(10)
            assert message is not None
            if message.error():
                consumer.close()
                return found
            found.append((message.key() or b"", json.loads(message.value() or b"")["data"]["verb"]))


@pytest.fixture
async def ways(stack: Addresses, tmp_path: Path) -> AsyncIterator[Ways]:
    async with AsyncExitStack() as opened:
        store = await opened.enter_async_context(asyncssh_store(tmp_path))
        town = Ways(stack, tmp_path, store)
        town.write()
        admin = AdminClient({"bootstrap.servers": stack.bootstrap})
        for future in admin.create_topics([NewTopic(town.partner_topic, 1, 1)]).values():
            future.result(30)
        yield await opened.enter_async_context(town)


async def test_each_hears_in_its_own_way_and_only_people_leave_it_open(ways: Ways) -> None:
    await ways.said(grant("taro", MAIL, identifiers=(email("taro"),)))
    await ways.said(withdraw("taro", MAIL, identifiers=(email("taro"),)))

    files = {each.name: each.read_text() for each in (ways.store.folder / "in").glob("*.csv")}
    rows = [row for each in sorted(files) for row in csv.DictReader(io.StringIO(files[each], newline=""))]
    assert {(row["verb"], row["identifier"]) for row in rows} == {
        ("grant", digest("taro@example.jp")),
        ("withdraw", digest("taro@example.jp")),
    }
    assert [verb for _, verb in await asyncio.to_thread(ways.heard)] == ["grant", "withdraw"]
    for partner in ("files", "events"):
        assert ways.states(partner)[-1] == ("withdraw", "done", "")
    assert ways.states("letters") == [("withdraw", "blocked", "by-hand")]


async def test_a_list_is_sealed_and_noted_and_what_was_told_is_closed_by_its_proof(ways: Ways, tmp_path: Path) -> None:
    await ways.said(
        delete("hanako", identifiers=(email("hanako"),)), withdraw("taro", MAIL, identifiers=(email("taro"),))
    )
    tools, path = ways.made.tools, tmp_path / "list.age"
    entry, connector, how = worklist._of(tools, "letters")

    found = await asyncio.to_thread(worklist.gather, tools, entry, connector)
    count = await asyncio.to_thread(worklist.write, tools, (entry, connector), found, path, "mori")

    body = pyrage.decrypt(path.read_bytes(), [ways.identity]).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(body, newline="")))
    assert (how, count) == ("A letter to the privacy desk", 2)
    assert [(row["verb"], row["identifier"]) for row in rows] == [
        ("withdraw", "taro@example.jp"),
        ("delete", "hanako@example.jp"),
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Misconfigured, match="is there already"):
        worklist.write(tools, (entry, connector), found, path, "mori")
    assert await ways.until(
        lambda: {each.owner for each in ways.obligations() if each.partner == "letters"} == {"mori"}
    )
    assert {state for _, state, _ in ways.states("letters")} == {"blocked"}

    act(tools, rows[0]["obligation_id"], "closed", by="mori", ground="letter sent", evidence="RR123456789JP")

    assert await ways.until(lambda: ("withdraw", "closed", "by-hand") in ways.states("letters"))
    left = await asyncio.to_thread(worklist.gather, tools, entry, connector)
    assert [each.owed.verb for each in left.tasks] == ["delete"]


async def test_who_changes_their_mind_is_on_no_list(ways: Ways) -> None:
    await ways.said(withdraw("taro", MAIL, identifiers=(email("taro"),)))
    await ways.said(grant("taro", MAIL, at=2000, identifiers=(email("taro"),)))
    entry, connector, _ = worklist._of(ways.made.tools, "letters")

    found = await asyncio.to_thread(worklist.gather, ways.made.tools, entry, connector)

    assert found.tasks == ()
    assert [state for _, state, _ in ways.states("letters")] == ["superseded"]


async def test_the_command_shows_no_person(ways: Ways, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await ways.said(withdraw("taro", MAIL, identifiers=(email("taro"),)))
    config = tmp_path / "todoke.toml"
    kafka = ways.settings.kafka
    config.write_text(
        f"""namespace = "{ways.settings.namespace}"
keys = "{ways.settings.keys}"
partners = "{ways.settings.partners}"
[kafka]
bootstrap = "{kafka.bootstrap}"
replication = 1
in_sync = 1
partitions = {kafka.partitions}
lane_partitions = {kafka.lane_partitions}
[redis]
url = "{ways.settings.redis.url}"
"""
    )
    monkeypatch.setenv("TODOKE_CONFIG", str(config))

    async def run(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["partners", "worklist", *words])
        return result.exit_code, result.output

    shown = await run("letters")
    written = await run("letters", "--write", str(tmp_path / "l.age"), "--by", "mori")
    nobody = await run("letters", "--write", str(tmp_path / "m.age"))
    other, unknown = await run("files"), await run("nobody")

    assert shown[0] == written[0] == 0, shown[1] + written[1]
    assert re.search(r"withdraw +main +marketing-communications +email +mail-room", shown[1])
    assert "1 obligations written to" in written[1]
    assert (nobody[0], "--by: missing" in nobody[1]) == (1, True)
    assert (other[0], "is told by its connector file_drop" in other[1]) == (1, True)
    assert (unknown[0], "no partner is called nobody" in unknown[1]) == (1, True)
    assert "taro" not in shown[1] + written[1]
    assert not (tmp_path / "m.age").exists()
