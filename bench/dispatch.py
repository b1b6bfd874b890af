"""What dispatch costs, and whether ill partners slow the healthy ones: `make bench ARGS=dispatch`, some minutes.

Everybody is a process of its own: a worker, an emulator for each partner, one dispatcher. Obligations are made first,
with no dispatcher there; then one starts, and what is timed is from the first call to the last, as the emulator counts
them. `batch` is `meta` with 10,000 rows a call, `single` is `kura-crm` with one person a call. Then, in turns, people
withdraw at a steady pace while all partners are well, and while `meta` is dead, `aozora-analytics` takes 5 s an answer
and `hoshi-dmp` throttles: what is compared is the time from saying so to what `kura-crm` applied.
"""

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from msgspec import Struct
from msgspec.structs import replace

from todoke.schemas.events import ConsentChange
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.sinks import emulators
from todoke.sinks.emulators.server import hashed
from todoke.streams import build, cluster, keyfile, topics
from todoke.streams.dispatch import Dispatcher
from todoke.streams.due import Lane
from todoke.streams.embedded.stack import Plan, Stack
from todoke.streams.outbox import Letter
from todoke.streams.settings import Kafka, Redis, Settings

SECRET = "whsec_dG93bi10ZXN0LXNpZ25pbmctc2VjcmV0LTMyYiEh"
TOKEN = "bench-token"
PLACES = {"meta": "META", "kura-crm": "KURA", "aozora-analytics": "AOZORA", "hoshi-dmp": "HOSHI"}
PURPOSES = ("marketing-communications", "targeted-advertising", "cookie-analysis")
ILL: dict[str, dict[str, Any]] = {
    "meta": {"kind": "dead"},
    "aozora-analytics": {"kind": "slow", "delay_s": 5.0},
    "hoshi-dmp": {"kind": "429-retry-after", "after_s": 2.0},
}
LIMITS = {
    "meta": Limits(items=10_000, bytes=2_000_000, age_ms=200, concurrency=2),
    "kura-crm": Limits(concurrency=64, age_ms=5),
}
PATIENCE_S = 240.0
SPAWN = multiprocessing.get_context("spawn")


class Told(Struct, frozen=True):
    """How many people an emulator was told of after its first call, in how many seconds; and all calls."""

    people: int
    seconds: float
    calls: int


class Latency(Struct, frozen=True):
    """Seconds from an event to what the healthy partner applied, by quantile, and of how many people."""

    median: float
    p99: float
    people: int


def made_of(settings: Settings) -> build.Parts:
    """The parts of one process, with the limits that are measured."""
    made = build.parts(settings)
    registry = made.tools.rules.registry
    partners = tuple(replace(each, limits=LIMITS.get(each.name, each.limits)) for each in registry.partners)
    rules = replace(made.tools.rules, registry=replace(registry, partners=partners))
    return replace(made, tools=replace(made.tools, rules=rules))


def work(settings: Settings) -> None:
    """One worker, until it is ended."""
    for each in build.worker_runners(made_of(settings)):
        each.start()
    while True:
        time.sleep(60)


def dispatch(settings: Settings, names: list[str]) -> None:
    """One dispatcher, until it is ended."""

    async def run() -> None:
        dispatcher = Dispatcher(made_of(settings), names)
        await dispatcher.start()
        await dispatcher.watch()

    asyncio.run(run())


def emulate(given: tuple[str, str], journal: Path, options: dict[str, str], said: Any) -> None:
    """One emulator, by name and secret, until it is ended; `said` takes its address."""
    place = emulators.Place(journal=journal)
    asyncio.run(emulators.serve(*given, build.clock, place=place, options=options, ready=said.put))


class Field:
    """A stack, a worker and the emulators."""

    def __init__(self, directory: Path) -> None:
        """`directory` keeps the stack, the keys and the journals."""
        self.directory = directory
        self.stack = Stack.start(directory / "stack", Plan(fresh=True))
        keyfile.create(directory / "keys.toml")
        self.settings = Settings(
            namespace="bench.",
            keys=f"file:{directory / 'keys.toml'}",
            kafka=Kafka(
                bootstrap=self.stack.addresses.bootstrap, replication=1, in_sync=1, partitions=4, lane_partitions=2
            ),
            redis=Redis(url=self.stack.addresses.redis_url),
            host="127.0.0.1",
            port=0,
        )
        self.addresses: dict[str, str] = {}
        self.processes: list[Any] = []
        for partner, name in PLACES.items():
            self._emulate(partner, name)
        partners = [each.name for each in build.rules(self.settings).registry.partners]
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.bootstrap})
        cluster.apply(admin, topics.wanted(self.settings, partners))
        self.made = build.parts(self.settings)
        self.start(work, self.settings)
        self._until(lambda: self.made.tools.view.is_current(build.clock(), self.settings.worker.stale_after_ms))

    def _emulate(self, partner: str, name: str) -> None:
        webhook, said = partner != "meta", SPAWN.Queue()
        options = {"receipts": "true"} if partner == "kura-crm" else {}
        given = ("webhook", SECRET) if webhook else ("meta", TOKEN)
        self.start(emulate, given, self.journal(partner), options, said)
        self.addresses[partner] = said.get(timeout=60)
        os.environ[f"TODOKE_{name}_URL"] = self.addresses[partner] + ("/hooks" if webhook else "")
        os.environ[f"TODOKE_{name}_{'SECRET' if webhook else 'TOKEN'}"] = SECRET if webhook else TOKEN

    def start(self, does: Any, *given: Any) -> Any:
        """A process more."""
        process = SPAWN.Process(target=does, args=given, daemon=True)
        process.start()
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End everything."""
        for each in self.processes:
            each.terminate()
            each.join()
        self.stack.stop()

    def journal(self, partner: str) -> Path:
        return self.directory / f"{partner}.jsonl"

    def applied(self, partner: str, skip: int = 0) -> list[dict[str, Any]]:
        """What a partner applied, but for the first `skip` lines."""
        lines = self.journal(partner).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[skip:]]

    def calls(self, partner: str) -> int:
        """How many calls reached a partner."""
        with urllib.request.urlopen(f"{self.addresses[partner]}/_emulator/calls") as answer:  # our own
            found: dict[str, int] = json.load(answer)
        return found.get("total", 0)

    def fault(self, partner: str, fault: dict[str, Any]) -> None:
        """Have a partner fail from now on; `{}` ends it."""
        body = json.dumps(fault or []).encode()
        request = urllib.request.Request(f"{self.addresses[partner]}/_emulator/faults", data=body)  # our own
        urllib.request.urlopen(request).close()  # likewise

    def publish(self, events: Iterable[ConsentChange]) -> None:
        tools = self.made.tools
        letters = [
            Letter(tools.topic("consent-changes"), each.subject or "", tools.codec.encode(each)) for each in events
        ]
        self.made.outbox.send(letters)

    def owed(self, partner: str) -> int:
        """How many obligations towards a partner have not ended."""
        return self.made.tools.index.standing([partner])[partner].pending

    def hurry(self) -> None:
        """Have whoever waits tried again at once, and wait until nothing is owed: a round leaves nothing to the next."""
        due, far = self.made.due, 4_000_000_000_000_000
        for partner in PLACES:
            lanes = [Lane(partner, each) for each in range(self.settings.kafka.lane_partitions)]
            deadline = time.monotonic() + PATIENCE_S
            while self.owed(partner):
                assert time.monotonic() < deadline, f"{partner} doesn't come to rest"
                now = build.clock() * 1000
                late = [each for each in due.pull(lanes, 100_000, far) if each.due_at > now + 1_000_000]
                due.hasten([replace(each, due_at=now) for each in late])
                time.sleep(1)

    def _until(self, holds: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "it takes too long here; nothing was measured"
            time.sleep(0.02)

    def overhead(self, partner: str, purpose: str, people: int) -> Told:
        """Make as many obligations, then let a new dispatcher work them off."""
        for start in range(0, people, 1000):
            self.publish(withdrawals(f"{partner}-{uuid.uuid4().hex[:6]}", (purpose,), min(1000, people - start)))
        self._until(lambda: self.owed(partner) >= people)
        before, skip = self.calls(partner), len(self.applied(partner))
        process = self.start(dispatch, self.settings, [partner])
        self._until(lambda: self.owed(partner) == 0)
        process.terminate()
        process.join()
        applied = self.applied(partner, skip)
        # the clock starts at the first call, so that one does not count
        people = sum(len(each["identifiers"]) if partner == "meta" else 1 for each in applied[1:])
        seconds = (applied[-1]["at"] - applied[0]["at"]) / 1000
        return Told(people, seconds, self.calls(partner) - before)

    def latency(self, faults: dict[str, dict[str, Any]], people: int, pace: float) -> Latency:
        """People withdraw, `pace` of them a second, while partners fail so; then wait until `kura-crm` knows of all."""
        for partner in ILL:
            self.fault(partner, faults.get(partner, {}))
        skip, said = len(self.applied("kura-crm")), {}
        for _ in range(people):
            due = time.monotonic() + 1 / pace
            events = list(withdrawals(f"pace-{uuid.uuid4().hex}", PURPOSES, 1))
            said[hashed(events[0].identifiers[0].value)] = events[0].occurred_at
            self.publish(events)
            time.sleep(max(due - time.monotonic(), 0))
        self._until(lambda: len(self.applied("kura-crm", skip)) >= people)
        applied = self.applied("kura-crm", skip)
        took = sorted(
            (each["at"] - said[name]) / 1000 for each in applied for name in each["identifiers"] if name in said
        )
        return Latency(statistics.median(took), took[math.ceil(len(took) * 0.99) - 1], len(took))


def withdrawals(name: str, purposes: tuple[str, ...], people: int) -> Iterator[ConsentChange]:
    """People whom nobody knew say stop, each to all of `purposes`."""
    for number in range(people):
        known = (Identifier("email", f"{name}-{number}@example.jp"), Identifier("member_id", f"{name}-{number}"))
        for purpose in purposes:
            yield ConsentChange(
                event_id=str(uuid.uuid4()),
                subject=f"{name}-{number}",
                occurred_at=build.clock(),
                source="bench",
                identifiers=known,
                purpose=purpose,
                decision="withdrawn",
                method="checkbox",
                policy_version="2024-07",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=50_000, help="people told of in batches")
    parser.add_argument("--single", type=int, default=10_000, help="people told of one by one")
    parser.add_argument("--people", type=int, default=600, help="people in each round with and without ill partners")
    parser.add_argument("--pace", type=float, default=40.0, help="how many of those a second")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything that was started ends, too
    directory = Path(tempfile.mkdtemp(prefix="todoke-dispatch-"))
    field: Field | None = None
    try:
        field = Field(directory)
        run(field, chosen)
    finally:
        if field is not None:
            field.stop()
        shutil.rmtree(directory, ignore_errors=True)


def run(field: Field, chosen: argparse.Namespace) -> None:
    """Print a line for each figure as it comes."""
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before anything of ours", flush=True)
    for _ in range(chosen.rounds):
        one = field.overhead("meta", "targeted-advertising", chosen.batch)
        rate, less = one.people / one.seconds, chosen.batch / one.calls
        print(
            f"batch:  {rate:8,.0f} directives/s; {one.calls} calls, {less:,.0f} times fewer than one by one", flush=True
        )
        one = field.overhead("kura-crm", "marketing-communications", chosen.single)
        print(
            f"single: {one.people / one.seconds:8,.0f} calls/s; {one.calls} calls for {chosen.single} people",
            flush=True,
        )
    field.start(dispatch, field.settings, [])
    measure = partial(field.latency, people=chosen.people, pace=chosen.pace)
    measure({})  # until everything has been used once
    found: dict[str, list[float]] = {"well": [], "ill": []}
    for _ in range(chosen.rounds):
        for case, faults in (("well", {}), ("ill", ILL)):
            took = measure(faults)
            found[case].append(took.p99)
            if faults:
                for partner in ILL:
                    field.fault(partner, {})
                field.hurry()
            print(f"{case:7} median {took.median:6.3f} s, p99 {took.p99:6.3f} s of {took.people} people", flush=True)
    well, ill = (statistics.median(found[case]) for case in ("well", "ill"))
    print(f"p99 of the healthy one with the others ill: {100 * (ill / well - 1):+.0f} %")


if __name__ == "__main__":
    main()
