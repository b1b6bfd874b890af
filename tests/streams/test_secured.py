"""The whole way over TLS, SCRAM and an authorizer, each role with the rights of the table and no others."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.laws.events import grant, provide, topic_of, withdraw
from tests.secured import PASSWORDS, VIEW_PASSWORD, Secured
from tests.secured import provide as secure
from tests.town import PATIENCE_S, SECRET, TOKEN, WEBHOOKS
from todoke.sinks import emulators
from todoke.streams import build, cluster, keyfile, providers, shards
from todoke.streams.cli import main
from todoke.streams.embedded import process
from todoke.streams.embedded.process import Identity
from todoke.streams.settings import Settings, load

pytestmark = pytest.mark.stack

NAMESPACE = "safe."
WHY = ("--by", "mori", "--ground", "a test")
SECRETS = [*PASSWORDS.values(), VIEW_PASSWORD]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secure(tmp_path_factory.mktemp("secured")) as found:
        yield found


class House:
    """The files and variables of each role, and commands run as one."""

    def __init__(self, secured: Secured, folder: Path) -> None:
        self.secured = secured
        self.folder = folder
        keyfile.create(folder / "keys.toml")
        self.environ: dict[str, str] = {}
        self.logs: list[Path] = []

    def config(self, role: str, **client: Any) -> Path:
        """As docs/settings.md has it: the password in a variable, the CA in a file."""
        lines = [
            f'namespace = "{NAMESPACE}"',
            f'keys = "file:{self.folder / "keys.toml"}"',
            'host = "127.0.0.1"',
            "port = 0",
        ]
        lines += ["[kafka]", f'bootstrap = "{self.secured.bootstrap}"', "replication = 1", "in_sync = 1"]
        lines += ["partitions = 2", "lane_partitions = 1", "[kafka.client]"]
        found = {**self.secured.client(role), "sasl.password": "env:TODOKE_KAFKA_PASSWORD", **client}
        lines += [f'"{key}" = {json.dumps(value)}' for key, value in found.items()]
        lines += ["[ledger]", f'key = "file:{self.folder}/log.key"']
        lines += [f'{each} = "{self.folder}/{each}"' for each in ("vault", "log", "guard")]
        path = self.folder / f"{role}{len(client)}.toml"
        path.write_text("\n".join(lines))
        return path

    def variables(self, role: str, **more: str) -> dict[str, str]:
        found = {"TODOKE_CONFIG": str(self.config(role)), "TODOKE_KAFKA_PASSWORD": PASSWORDS[role]}
        return {**found, "TODOKE_REDIS": self.secured.redis_url(), **self.environ, **more}

    async def said(self, role: str, *words: str, **more: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, main, words, env=self.variables(role, **more))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    def start(self, role: str, *words: str) -> Identity:
        log = self.folder / f"{role}.log"
        self.logs.append(log)
        return process.spawn(
            [sys.executable, "-m", "todoke.streams", *words], log, {**os.environ, **self.variables(role)}
        )


@pytest.fixture
async def house(secured: Secured, tmp_path: Path) -> AsyncIterator[House]:
    found = House(secured, tmp_path)
    async with AsyncExitStack() as opened:
        place = await opened.enter_async_context(emulators.emulating("meta", TOKEN, build.clock))
        found.environ |= {"TODOKE_META_URL": place, "TODOKE_META_TOKEN": TOKEN}
        for name in WEBHOOKS.values():
            place = await opened.enter_async_context(emulators.emulating("webhook", SECRET, build.clock))
            found.environ |= {f"TODOKE_{name}_URL": f"{place}/hooks", f"TODOKE_{name}_SECRET": SECRET}
        yield found


@pytest.mark.slow
async def test_a_whole_way_with_the_rights_of_the_table_and_no_others(house: House) -> None:
    partners = [each.name for each in build.rules(Settings()).registry.partners]
    await asyncio.to_thread(house.secured.allow, NAMESPACE, partners)
    code, text = await house.said("deployer", "topics", "apply")
    assert code == 0, text
    said = [provide("taro", "kura-crm"), grant("taro"), withdraw("taro"), grant("hanako")]
    lines = [msgspec.json.encode({"topic": topic_of(each), "event": each}) for each in said]
    (house.folder / "events.jsonl").write_bytes(b"\n".join(lines))
    assert (await house.said("ledger", "ledger", "key", str(house.folder / "log.key")))[0] == 0
    running = [house.start("worker", "worker"), house.start("dispatcher", "dispatch")]
    running.append(house.start("ledger", "ledger", "run"))
    try:
        assert (await house.said("upstream", "publish", str(house.folder / "events.jsonl")))[0] == 0
        deadline = time.monotonic() + PATIENCE_S
        while True:
            code, text = await house.said("operator", "balance")
            done = code == 0 and " 4 distinct" in text and " open" not in text
            if done:
                break
            assert all(map(process.alive, running)), _logs(house)
            assert time.monotonic() < deadline, text + _logs(house)
            await asyncio.sleep(0.5)
        code, story = await house.said("operator", "subject", "taro", "--events", *WHY)
        assert code == 0, story
        assert "withdraw" in story
        assert (await house.said("operator", "check", "taro", "targeted-advertising", *WHY))[0] == 3
        assert (await house.said("operator", "letters"))[0] == 0
        admin = house.secured.admin()
        groups = [each.group_id for each in admin.list_consumer_groups().result(30).valid]
        assert [each for each in groups if each.startswith(f"{NAMESPACE}todoke.registry.")], groups  # Faust's
    finally:
        ended = [await asyncio.to_thread(process.end, each, 60.0) for each in running]
    assert all(ended)
    assert await asyncio.to_thread(_cut, house) > 0
    logs = _logs(house)
    assert not [line for line in logs.splitlines() if " ERROR " in line or " CRITICAL " in line], logs
    assert not [each for each in SECRETS if each in logs + text + story]


def _cut(house: House) -> int:
    """Let go of all rows that the ledger has, as the ledger; how many are gone by the broker's account."""
    loaded = load({**os.environ, **house.variables("ledger")})
    vault = shards.vault(loaded, providers.load(loaded.keys), 0, reading=True)
    offsets = vault.offsets()
    vault.close()
    shards.cut(
        AdminClient({"bootstrap.servers": loaded.kafka.bootstrap, **loaded.kafka.client}), offsets, build.clock()
    )
    places = {TopicPartition(*place): OffsetSpec.earliest() for place in offsets}  # type: ignore[no-untyped-call]
    admin = house.secured.admin()
    return sum(each.result(30).offset for each in admin.list_offsets(places).values())


WRONG: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "sasl.password": ({}, {"TODOKE_KAFKA_PASSWORD": "wrong-Pa55-zzz"}),
    "sasl.mechanism": ({"sasl.mechanism": "SCRAM-SHA-256"}, {}),
    "ssl.ca.location": ({"ssl.ca.location": "other"}, {}),
    "kafka.bootstrap": ({}, {"TODOKE_KAFKA": "127.0.0.1:9"}),
}


@pytest.mark.parametrize("setting", WRONG)
async def test_what_is_refused_names_the_setting_and_shows_no_secret(
    house: House, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "HEARD_S", 1.0)
    monkeypatch.setattr(cluster, "START_S", 1.0)
    client, variables = WRONG[setting]
    client = {key: str(house.secured.other_ca) if value == "other" else value for key, value in client.items()}
    path = house.config("worker", **client)

    for words in (["worker"], ["dispatch"], ["balance"])[: 3 if setting == "sasl.password" else 1]:
        code, text = await house.said("worker", *words, **{"TODOKE_CONFIG": str(path), **variables})

        assert (code, setting in text) == (1, True), (words, text)
        assert "Pa55" not in text


async def test_a_view_that_refuses_names_the_setting_and_shows_no_secret(house: House) -> None:
    refused = [
        await house.said("operator", "subject", "taro", *WHY, TODOKE_REDIS=house.secured.redis_url("wrong-Pa55-zzz")),
        await house.said(
            "operator", "subject", "taro", *WHY, TODOKE_REDIS=house.secured.redis_url(ca=house.secured.other_ca)
        ),
        await house.said(
            "operator", "subject", "taro", *WHY, TODOKE_REDIS=house.secured.redis_url(ca=Path("/missing"))
        ),
    ]

    for (code, text), fix in zip(
        refused, ["user or password", "is not trusted", "ssl_ca_certs names no file"], strict=True
    ):
        assert code == 1
        assert "redis.url: " in text
        assert fix in text
        assert "Pa55" not in text


async def test_a_right_that_is_missing_is_named(house: House) -> None:
    code, text = await house.said("upstream", "topics", "apply")

    assert code == 1
    assert "kafka.client" in text


def _logs(house: House) -> str:
    return "\n".join(path.read_text(errors="replace") for path in house.logs if path.exists())
