"""The processes of the demo: emulators, a worker, a dispatcher, each started as an operator would, and ended by pid."""

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
from msgspec import Struct

from todoke.streams import keyfile
from todoke.streams.embedded import ports, process
from todoke.streams.embedded.process import Identity
from todoke.streams.embedded.stack import Addresses

SECRET = "whsec_dG9kb2tlLWRlbW8tc2lnbmluZy1zZWNyZXQtMzI="  # noqa: S105  # of emulators on loopback
TOKEN = "demo-token"  # noqa: S105  # likewise
WEBHOOKS = {"kura-crm": "KURA", "aozora-analytics": "AOZORA", "hoshi-dmp": "HOSHI"}
READY_S = 60.0


class DemoError(Exception):
    """A process of the demo did not come up, or went away; the message names it and its log."""


class Actor(Struct, frozen=True):
    """One process: its name, who it is, its log, and the port of its probes (0 for none)."""

    name: str
    process: Identity
    log: Path
    port: int


class Cast:
    """Everybody on stage. Ends all of them on leaving, whatever happened."""

    def __init__(self, directory: Path, addresses: Addresses) -> None:
        """Keys, configuration and logs go into `directory`."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        keys, config = directory / "keys.toml", directory / "todoke.toml"
        if not keys.exists():
            keyfile.create(keys)
        config.write_text(
            'host = "127.0.0.1"\nport = 0\n[kafka]\npartitions = 4\nlane_partitions = 2\nreplication = 1\nin_sync = 1\n'
        )
        self.actors: list[Actor] = []
        self._end_left()
        self.environ = {
            **os.environ,
            **addresses.environ(),
            "TODOKE_CONFIG": str(config),
            "TODOKE_KEYS": f"file:{keys}",
            "TODOKE_META_TOKEN": TOKEN,
            **{f"TODOKE_{name}_SECRET": SECRET for name in WEBHOOKS.values()},
        }
        for unwanted in ("TODOKE_POLICY", "TODOKE_PARTNERS", "TODOKE_NAMESPACE", "TODOKE_REGISTRY"):
            self.environ.pop(unwanted, None)

    def emulators(self) -> dict[str, str]:
        """Start an emulator for each partner; their addresses, by partner."""
        free = ports.free(1 + len(WEBHOOKS))
        found = {"meta": f"http://127.0.0.1:{free[0]}"}
        self._start("emulator-meta", ["emulate", "meta", "--token", TOKEN, "--port", str(free[0])], 0)
        self.environ["TODOKE_META_URL"] = found["meta"]
        for (partner, name), port in zip(WEBHOOKS.items(), free[1:], strict=True):
            options = ["-o", "receipts=true"] if partner == "kura-crm" else []
            self._start(
                f"emulator-{partner}", ["emulate", "webhook", "--token", SECRET, "--port", str(port), *options], 0
            )
            found[partner] = f"http://127.0.0.1:{port}"
            self.environ[f"TODOKE_{name}_URL"] = f"{found[partner]}/hooks"
        for partner, address in found.items():
            self._wait(f"emulator-{partner}", f"{address}/_emulator/calls")
        return found

    def roles(self) -> dict[str, int]:
        """Start a worker and a dispatcher; the ports of their probes."""
        found = dict(zip(("worker", "dispatch"), ports.free(2), strict=True))
        for role, port in found.items():
            self._start(role, [role], port)
        for role, port in found.items():
            self._wait(role, f"http://127.0.0.1:{port}/ready")
        return found

    def check(self) -> None:
        """Raise `DemoError` when somebody has left the stage."""
        for each in self.actors:
            if not process.alive(each.process):
                raise DemoError(f"{each.name} ended by itself; its log is {each.log}:\n{_tail(each.log)}")

    def end(self) -> None:
        """End everybody, the last to come first."""
        for each in reversed(self.actors):
            process.end(each.process)
        self.actors.clear()
        self._note()

    def _end_left(self) -> None:
        """End whom a demo that was killed has left behind here, by pid and start time."""
        noted = self.directory / "cast.json"
        if noted.exists():
            for each in msgspec.json.decode(noted.read_bytes(), type=list[Identity]):
                process.end(each)
            noted.unlink()

    def _note(self) -> None:
        (self.directory / "cast.json").write_bytes(msgspec.json.encode([each.process for each in self.actors]))

    def _start(self, name: str, arguments: list[str], port: int) -> None:
        log = self.directory / f"{name}.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "todoke.streams", *arguments]
        started = process.spawn(command, log, {**self.environ, "TODOKE_PORT": str(port)})
        self.actors.append(Actor(name, started, log, port))
        self._note()

    def _wait(self, name: str, address: str) -> None:
        deadline = time.monotonic() + READY_S
        while not _answers(address):
            self.check()
            if time.monotonic() > deadline:
                log = self.directory / f"{name}.log"
                raise DemoError(f"{name} is not ready within {READY_S:.0f} s; its log is {log}:\n{_tail(log)}")
            time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310  # loopback, ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
    return "\n".join(f"  {line}" for line in lines)
