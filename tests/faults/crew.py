"""The processes of a run, each as an operator would start it, and what can be done to them. Ended by pid, all of them.

A `Field` has the servers and the emulators, for as many runs as wanted; a `Crew` has the workers and dispatchers of one
installation on it, under a namespace of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from todoke.streams.embedded import kafka, parts, ports, process, valkey
from todoke.streams.embedded.process import Identity

ROOT = Path(__file__).parents[2]
SECRET = "whsec_ZmlyZS10ZXN0LXNpZ25pbmctc2VjcmV0LTMyYiEh"
TOKEN = "fire-token"
WEBHOOKS = {"kura-crm": "KURA", "aozora-analytics": "AOZORA", "hoshi-dmp": "HOSHI"}
ACCOUNTS = {"meta": {"120210000000000001": "customers", "120210000000000002": "visitors"}}
READY_S = 90.0
BEAT_S = 0.05


class Field:
    """Kafka, Valkey and an emulator for each partner. Use it as a context."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True)
        numbers = ports.free(kafka.PORTS + valkey.PORTS + 1 + len(WEBHOOKS))
        self._places = {
            "kafka": parts.Place(directory / "kafka", tuple(numbers[: kafka.PORTS]), quick=True),
            "valkey": parts.Place(directory / "valkey", (numbers[kafka.PORTS],)),
        }
        self._parts: dict[str, parts.Part] = {"kafka": kafka, "valkey": valkey}
        self.running: dict[str, Identity] = {}
        self.bootstrap = f"{ports.HOST}:{numbers[0]}"
        self.valkey_port = numbers[kafka.PORTS]
        self.partners = dict(zip(("meta", *WEBHOOKS), numbers[-1 - len(WEBHOOKS) :], strict=True))
        self.journals = {name: directory / f"{name}.journal" for name in self.partners}

        self.environ = {name: each for name, each in os.environ.items() if not name.startswith("TODOKE_")} | {
            "TODOKE_KAFKA": self.bootstrap,
            "TODOKE_REDIS": f"redis://{ports.HOST}:{self.valkey_port}/0",
            "TODOKE_REPLICATION": "1",
            "TODOKE_META_TOKEN": TOKEN,
            "TODOKE_META_URL": self._address("meta"),
            **{f"TODOKE_{name}_SECRET": SECRET for name in WEBHOOKS.values()},
            **{f"TODOKE_{name}_URL": f"{self._address(partner)}/hooks" for partner, name in WEBHOOKS.items()},
        }

    def __enter__(self) -> Self:
        try:
            for name, part in self._parts.items():
                part.prepare(self._places[name], parts.silent)
                self.launch(name)
            for partner in self.partners:
                self._emulate(partner)
            for name in self._parts:
                self.await_part(name)
            for partner in self.partners:
                address = f"{self._address(partner)}/_emulator/calls"
                wait(partial(answers, address), f"emulator of {partner}")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End everything that was started, the last first."""
        for each in reversed(list(self.running.values())):
            resume(each)
            process.end(each)
        self.running.clear()

    def launch(self, name: str) -> None:
        """Start a server where it was before, on what it has on disk."""
        place, log = self._places[name], self.logs / f"{name}.log"
        with process.held(self._parts[name].command(place), log, folder=place.folder) as child:
            self.running[name] = child

    def await_part(self, name: str) -> None:
        part, place = self._parts[name], self._places[name]
        sign = part.sign(place, self.running[name])
        wait(lambda: part.answer(place.ports[0]) == sign, name)

    def restart(self, name: str, number: int = signal.SIGKILL, away_s: float = 0.0) -> None:
        """End a server by a signal, and start it again after a while."""
        self.stop(name, number)
        time.sleep(away_s)
        self.launch(name)
        self.await_part(name)

    def stop(self, name: str, number: int = signal.SIGKILL) -> None:
        child = self.running.pop(name)
        os.kill(child.pid, number)
        wait(lambda: not process.alive(child), f"the end of {name}")

    def wipe(self) -> None:
        """Forget everything in Valkey, while it runs."""
        with redis.Redis(host=ports.HOST, port=self.valkey_port) as client:
            client.flushall()

    def empty(self) -> None:
        """Kill Valkey, remove its data, start it anew."""
        self.stop("valkey")
        shutil.rmtree(self._places["valkey"].folder)
        self._places["valkey"].folder.mkdir()
        self.launch("valkey")
        self.await_part("valkey")

    def snapshot(self) -> None:
        """Keep a copy of Valkey's data as they are now."""
        copy = self.directory / "snapshot"
        shutil.rmtree(copy, ignore_errors=True)
        self.stop("valkey", signal.SIGTERM)
        shutil.copytree(self._places["valkey"].folder, copy)
        self.launch("valkey")
        self.await_part("valkey")

    def roll_back(self) -> None:
        """Kill Valkey and start it on the copy: everything since has never been."""
        copy, folder = self.directory / "snapshot", self._places["valkey"].folder
        self.stop("valkey")
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
        self.launch("valkey")
        self.await_part("valkey")

    def fault(self, partner: str, body: str) -> None:
        """Have a partner's emulator fail; `[]` ends it."""
        request = urllib.request.Request(f"{self._address(partner)}/_emulator/faults", body.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def _address(self, partner: str) -> str:
        return f"http://{ports.HOST}:{self.partners[partner]}"

    def _emulate(self, partner: str) -> None:
        name, token = ("meta", TOKEN) if partner == "meta" else ("webhook", SECRET)
        options = ["-o", "receipts=true"] if partner == "kura-crm" else []
        port, journal = str(self.partners[partner]), str(self.journals[partner])
        words = ["emulate", name, "--token", token, "--port", port, "--journal", journal, "--fsync", *options]
        command = [sys.executable, "-m", "todoke.streams", *words]
        self.running[partner] = process.spawn(command, self.logs / f"emulator-{partner}.log", self.environ)


class Crew:
    """One installation: its keys, configuration and topics, and the processes that run it. Use it as a context."""

    def __init__(self, field: Field, name: str) -> None:
        self.field = field
        self.name = name
        self.directory = field.directory / name
        self.logs = self.directory / "logs"
        self.logs.mkdir(parents=True)
        self.namespace = f"{name}."
        config = self.directory / "todoke.toml"
        config.write_text(
            'host = "127.0.0.1"\nport = 0\n[kafka]\npartitions = 4\nlane_partitions = 2\nreplication = 1\nin_sync = 1\n'
            "[worker]\nbatch = 200\nsession_timeout_ms = 6000\n"
        )
        self.environ = {
            **field.environ,
            "TODOKE_NAMESPACE": self.namespace,
            "TODOKE_CONFIG": str(config),
            "TODOKE_KEYS": f"file:{self.directory / 'keys.toml'}",
        }
        self.members: dict[str, Identity] = {}
        self.options: dict[str, tuple[str, ...]] = {}
        self.ended: list[str] = []

    def __enter__(self) -> Self:
        for words in (("keys", "new", str(self.directory / "keys.toml")), ("topics", "apply")):
            done = self.run(*words)
            assert done.returncode == 0, done.stderr
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.members):
            self.end(name)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of todoke, to its end."""
        command = [sys.executable, "-m", "todoke.streams", *words]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False, timeout=600)

    def start(self, name: str, *options: str) -> None:
        """Start `worker-N` or `dispatch-N`; `options` are those of the launcher: a mutant, a boundary to stop at."""
        role = name.partition("-")[0]
        module = ("tests.faults.launch", *options, "--", role) if options else ("todoke.streams", role)
        environ = {**self.environ, "TODOKE_PORT": str(ports.free(1)[0]), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", *module]
        self.members[name] = process.spawn(command, self.logs / f"{name}.log", environ)
        self.options[name] = options

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal, and wait for the end where it ends the process."""
        child = self.members[name]
        if process.alive(child):
            os.kill(child.pid, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            wait(lambda: not process.alive(child), f"the end of {name}")
            self.members.pop(name)

    def end(self, name: str) -> None:
        """End a process at once, whatever it is doing, also when it stands still."""
        child = self.members.pop(name)
        if process.alive(child):
            os.kill(child.pid, signal.SIGKILL)
            wait(lambda: not process.alive(child), f"the end of {name}")

    def alive(self, name: str) -> bool:
        return name in self.members and process.alive(self.members[name])

    def supervise(self, options: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Start again what has ended by itself, as an orchestrator would; without any stop that the launcher was told."""
        for name in [name for name in self.members if not self.alive(name)]:
            self.ended.append(name)
            self.members.pop(name)
            kept = (options or {}).get(name, keep(self.options[name]))
            self.start(name, *kept)


def keep(options: tuple[str, ...]) -> tuple[str, ...]:
    """The launcher's options without the stop: a mutant stays what it is when it is started again."""
    return tuple(word for word in options if not word.startswith("--stop="))


def stopped(child: Identity) -> bool:
    """Whether a process stands still, by SIGSTOP."""
    try:
        state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in "Tt"


def resume(child: Identity) -> None:
    """Let a process go on, if it stands still."""
    if process.alive(child):
        os.kill(child.pid, signal.SIGCONT)


def answers(address: str) -> bool:
    """Whether somebody answers there with 200."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait(holds: Callable[[], bool], what: str, timeout_s: float = READY_S) -> None:
    """Wait until something holds. Raises `TimeoutError` that names it."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout_s:.0f} s")
        time.sleep(BEAT_S)
