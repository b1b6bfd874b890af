"""A whole installation for a test: emulators, workers and dispatchers of this process, on real Kafka and Valkey."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from todoke.processors.balance import Balance, balance
from todoke.schemas.errors import NotCurrent
from todoke.schemas.events import Event
from todoke.schemas.obligations import Obligation
from todoke.sinks import emulators
from todoke.streams import build, cluster, keyfile, topics
from todoke.streams.dispatch import Dispatcher
from todoke.streams.embedded.stack import Addresses
from todoke.streams.outbox import Letter
from todoke.streams.runner import Runner
from todoke.streams.settings import Kafka, Redis, Settings, Worker
from todoke.streams.snapshot import Topics

SECRET = "whsec_dG93bi10ZXN0LXNpZ25pbmctc2VjcmV0LTMyYiEh"
TOKEN = "town-token"
PATIENCE_S = 120.0
LINGERS_MS = 500
WEBHOOKS = {"kura-crm": "KURA", "aozora-analytics": "AOZORA", "hoshi-dmp": "HOSHI"}


class Town:
    """Opened as an async context. Everything it starts is stopped on leaving."""

    def __init__(self, addresses: Addresses, directory: Path) -> None:
        self.directory = directory
        keys = directory / "keys.toml"
        keyfile.create(keys)
        self.settings = Settings(
            namespace=f"{secrets.token_hex(4)}.",
            keys=f"file:{keys}",
            kafka=Kafka(bootstrap=addresses.bootstrap, replication=1, in_sync=1, partitions=2, lane_partitions=1),
            redis=Redis(url=addresses.redis_url),
            worker=Worker(session_timeout_ms=6000, batch=200),
            host="127.0.0.1",
            port=0,
        )
        self.ahead_ms = 0
        self._made: build.Parts | None = None
        self.addresses: dict[str, str] = {}
        self.workers: list[list[Runner]] = []
        self.dispatchers: list[Dispatcher] = []
        self._opened = AsyncExitStack()
        self._before = dict(os.environ)

    async def __aenter__(self) -> Self:
        try:
            return await self._open()
        except BaseException:
            await self.__aexit__()
            raise

    async def _open(self) -> Self:
        clock = self.now
        place = await self._opened.enter_async_context(emulators.emulating("meta", TOKEN, clock))
        self.addresses["meta"] = place
        os.environ |= {"TODOKE_META_URL": place, "TODOKE_META_TOKEN": TOKEN}
        for partner, name in WEBHOOKS.items():
            options = {"receipts": "true"} if partner == "kura-crm" else {}
            place = await self._opened.enter_async_context(
                emulators.emulating(
                    "webhook", SECRET, clock, options=options, place=emulators.Place(journal=self._journal(partner))
                )
            )
            self.addresses[partner] = place
            os.environ |= {f"TODOKE_{name}_URL": f"{place}/hooks", f"TODOKE_{name}_SECRET": SECRET}
        self._made = await asyncio.to_thread(build.parts, self.settings, self.now)
        self.reload()
        names = [partner.name for partner in self.made.tools.rules.registry.partners]
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.bootstrap})
        await asyncio.to_thread(cluster.apply, admin, topics.wanted(self.settings, names))
        self.start_worker()
        await self.start_dispatcher()
        return self

    async def __aexit__(self, *_: object) -> None:
        for dispatcher in self.dispatchers:
            await dispatcher.stop()
        for runners in self.workers:
            await asyncio.gather(*(asyncio.to_thread(runner.stop) for runner in runners))
        if self._made:
            await asyncio.to_thread(self.made.outbox.close)
            client = self.made.tools.view.client
            for key in client.scan_iter(self.made.tools.view.key("*"), count=1000):
                client.delete(key)
            client.close()
        await self._opened.aclose()
        os.environ.clear()
        os.environ.update(self._before)

    def now(self) -> int:
        """The clock of everything here but the broker, `ahead_ms` ahead of the real one."""
        return build.clock() + self.ahead_ms

    @property
    def made(self) -> build.Parts:
        """The parts that the test itself works with, shared by what runs in this process."""
        assert self._made, "the town is not open"
        return self._made

    def reload(self) -> None:
        """Read policy and partners anew, as processes that start do."""
        rules = build.rules(self.settings)
        # our emulators act before they answer or not at all, so nobody waits for what they may do afterwards
        partners = [
            replace(each, limits=replace(each.limits, lingers_ms=LINGERS_MS)) for each in rules.registry.partners
        ]
        rules = replace(rules, registry=replace(rules.registry, partners=tuple(partners)))
        self._made = replace(self.made, tools=replace(self.made.tools, rules=rules))

    def start_worker(self, made: build.Parts | None = None) -> list[Runner]:
        """A worker more: intake, obligations, keeper, each in its thread."""
        runners = build.worker_runners(made or self.made)
        for runner in runners:
            runner.start()
        self.workers.append(runners)
        return runners

    async def stop_worker(self, runners: list[Runner]) -> None:
        """Stop one of the workers."""
        self.workers.remove(runners)
        await asyncio.gather(*(asyncio.to_thread(runner.stop) for runner in runners))

    async def start_dispatcher(self, *partners: str) -> Dispatcher:
        """A dispatcher more."""
        dispatcher = Dispatcher(replace(self.made, outbox=build.outbox(self.settings)), partners)
        await dispatcher.start()
        self.dispatchers.append(dispatcher)
        return dispatcher

    async def stop_dispatcher(self, dispatcher: Dispatcher) -> None:
        """Stop one of the dispatchers."""
        self.dispatchers.remove(dispatcher)
        await dispatcher.stop()

    async def publish(self, topic: str, *events: Event | bytes, key: str | None = None) -> None:
        """Events, or raw bytes, onto an intake topic."""
        codec = self.made.tools.codec
        letters = [
            Letter(
                self.made.topic(topic),
                key if isinstance(each, bytes) else each.subject,
                each if isinstance(each, bytes) else codec.encode(each),
            )
            for each in events
        ]
        await asyncio.to_thread(self.made.outbox.send, letters)

    async def balance(self) -> Balance:
        """The balance now, from the topics."""
        reader = self.reader()
        snapshot = await asyncio.to_thread(reader.snapshot)
        return balance(snapshot, self.made.tools.rules, self.made.tools.now())

    async def settled(self) -> Balance:
        """Wait until nothing is under way, and return the balance; the last one when patience ends."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = await self.balance()
            assert not [each.name for runners in self.workers for each in runners if each.failure]
            if (found.exact and not found.pending) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)

    async def until(self, holds: Callable[[], bool]) -> bool:
        """Wait until something holds; whether it did before patience ended."""
        deadline = time.monotonic() + PATIENCE_S

        def known() -> bool:
            try:
                return holds()
            except NotCurrent:  # the keeper is at work
                return False

        while not await asyncio.to_thread(known):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def reader(self) -> Topics:
        """Whole topics."""
        return Topics(self.settings, self.made.tools.codec)

    def obligations(self) -> list[Obligation]:
        """Every obligation, from its topic."""
        return list(self.reader().latest("obligations", Obligation).values())

    async def ask(self, partner: str, path: str) -> Any:
        """What a partner's emulator says under `/_emulator/`."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.addresses[partner]}/_emulator/{path}") as got,
        ):
            return await got.json()

    async def fault(self, partner: str, **fault: Any) -> None:
        """Have a partner's emulator fail."""
        address = f"{self.addresses[partner]}/_emulator/faults"
        async with aiohttp.ClientSession() as session, session.post(address, json=fault) as got:
            assert got.status == 200, await got.text()

    def _journal(self, partner: str) -> Path:
        return self.directory / f"{partner}.jsonl"

    def told(self, partner: str) -> list[dict[str, Any]]:
        """What a webhook partner has taken in, one line an effect, in order."""
        return [json.loads(line) for line in self._journal(partner).read_text().splitlines()]

    def raw(self, names: Iterable[str]) -> Iterable[bytes]:
        """Key, value and headers of every message of topics, as they travel."""
        reader = self.reader()
        for name in names:
            for message in reader.read(name):
                yield (message.key() or b"") + (message.value() or b"") + repr(message.headers()).encode()
