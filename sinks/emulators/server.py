"""What all emulators share: faults on demand, a journal of what was applied, and an HTTP server around them.

An emulator speaks a vendor's contract from the vendor's own text, with its own code: nothing here or in its siblings
imports a connector, so a misreading there does not hide itself here.
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import msgspec
from aiohttp import web
from msgspec import Struct

LARGEST_CALL = 32 << 20
LONGEST_HOLD_S = 120.0

TRANSPORT_FAULTS = ("slow", "timeout", "drop-after-apply", "dead")
"""Faults of the way, the same at every vendor; the others have the form that the vendor gives them."""

Clock = Callable[[], int]
"""Now, in ms since 1970."""


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault to show: at the next `times` calls (None: until replaced), each with probability `rate` drawn from `seed`.

    With a `path`, only calls strike whose path ends in it. `after_s` is the wait that a 429 names; `delay_s` is how long `slow` holds a call before it is applied, and
    `timeout` holds one that never is.
    """

    kind: str
    path: str = ""
    times: int | None = None
    rate: float = 1.0
    seed: int = 0
    after_s: float = 1.0
    delay_s: float | None = None


class Call(NamedTuple):
    """One request as it came, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """One answer. `body` is JSON, or text as it is."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = {}


class Emulator(Protocol):
    """One vendor. `answer` applies a call unless `fault` says otherwise; all of it in one go, without awaiting.

    One that gives tokens names the path in `token_path`: calls to it are counted apart, as `tokens`.
    """

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults that it can show, besides those of the way."""
        ...

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        """What the vendor says to `call`."""
        ...

    def state(self, identifier: str) -> dict[str, Any]:
        """What the vendor holds, of one hashed identifier or, with an empty one, of all."""
        ...

    def replay(self, line: Mapping[str, Any]) -> None:
        """Apply a line of the journal again, after a restart."""
        ...


class Journal:
    """Every applied effect, one line of JSON each, in order. With `fsync` each line is on disk before the answer."""

    def __init__(self, path: Path | None = None, *, fsync: bool = False) -> None:
        self._file = path.open("a+", encoding="utf-8") if path else None
        self._fsync = fsync

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def lines(self) -> list[dict[str, Any]]:
        """What was written so far. A last line cut short by a crash was never answered, so it is dropped."""
        if not self._file:
            return []
        self._file.seek(0)
        text = self._file.read()
        whole, _, torn = text.rpartition("\n")
        if torn:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(whole + "\n" if whole else "")
            self._file.flush()
        return [json.loads(line) for line in whole.splitlines()]

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one effect."""
        if not self._file:
            return
        self._file.write(json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n")
        self._file.flush()
        if self._fsync:
            os.fsync(self._file.fileno())


class Faults:
    """The faults in force. The first that strikes counts; the same seed strikes the same calls."""

    def __init__(self) -> None:
        self._set: list[tuple[Fault, Random]] = []
        self._left: list[int | None] = []

    def replace(self, faults: list[Fault]) -> None:
        """Forget the faults in force and take these."""
        self._set = [(fault, Random(fault.seed)) for fault in faults]  # noqa: S311  # a dice, not a key
        self._left = [fault.times for fault in faults]

    def strike(self, path: str = "", *, token: bool = False) -> Fault | None:
        """The fault of the next call, or of the next one for a `token`, which only faults called `token-…` strike."""
        struck: Fault | None = None
        for index, (fault, random) in enumerate(self._set):
            if fault.kind.startswith("token-") is not token or not path.endswith(fault.path):
                continue
            hit = random.random() < fault.rate  # drawn at every call, so that one fault does not shift another
            left = self._left[index]
            if struck is None and hit and left != 0:
                struck = fault
                self._left[index] = None if left is None else left - 1
        return struck


def hashed(value: str) -> str:
    """How the emulators keep an identifier: SHA-256 in hex."""
    return hashlib.sha256(value.encode()).hexdigest()


class Server:
    """An emulator behind HTTP, with its controls under `/_emulator/`."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._faults = Faults()
        self._calls: Counter[str] = Counter()
        self._closing = asyncio.Event()
        self.app = web.Application(client_max_size=LARGEST_CALL)
        self.app.add_routes(
            [
                web.get("/_emulator/state", self._state),
                web.get("/_emulator/calls", self._count),
                web.post("/_emulator/faults", self._set_faults),
                web.route("*", "/{path:.*}", self._answer),
            ]
        )

    def close(self) -> None:
        """Let go of the calls that a fault holds."""
        self._closing.set()

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self._emulator.state(request.query.get("identifier", "")))

    async def _count(self, request: web.Request) -> web.Response:  # noqa: ARG002  # aiohttp's handlers take it
        return web.json_response(dict(sorted(self._calls.items())))

    async def _set_faults(self, request: web.Request) -> web.Response:
        known = (*TRANSPORT_FAULTS, *self._emulator.faults)
        try:
            given = msgspec.json.decode(await request.read(), type=list[Fault] | Fault)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        faults = given if isinstance(given, list) else [given]
        if unknown := [fault.kind for fault in faults if fault.kind not in known]:
            return web.json_response({"error": f"unknown faults {unknown}; known: {', '.join(known)}"}, status=400)
        self._faults.replace(faults)
        return web.json_response({"faults": len(faults)})

    async def _answer(self, request: web.Request) -> web.Response:
        token = request.path == getattr(self._emulator, "token_path", None)
        self._calls["tokens" if token else "total"] += 1
        fault = self._faults.strike(request.path, token=token)
        if fault:
            self._calls[f"fault:{fault.kind}"] += 1
        match fault.kind if fault else "":
            case "dead":
                return self._drop(request)
            case "timeout":
                await self._hold(fault)
                return self._drop(request)
            case "slow":
                await self._hold(fault)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, request.path, request.query_string, headers, body)
        answer = self._emulator.answer(call, None if fault and fault.kind in TRANSPORT_FAULTS else fault)
        self._calls[f"status:{answer.status}"] += 1
        if fault and fault.kind == "drop-after-apply":
            return self._drop(request)
        if isinstance(answer.body, str):
            return web.Response(status=answer.status, text=answer.body, headers=answer.headers)
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)

    async def _hold(self, fault: Fault | None) -> None:
        delay = fault.delay_s if fault and fault.delay_s is not None else LONGEST_HOLD_S
        try:
            await asyncio.wait_for(self._closing.wait(), delay)
        except TimeoutError:
            return

    def _drop(self, request: web.Request) -> web.Response:
        """Cut the connection: what is returned goes nowhere."""
        if request.transport:
            request.transport.abort()
        return web.Response()


@asynccontextmanager
async def listening(emulator: Emulator, host: str, port: int) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address, with the port that was found for port 0."""
    server = Server(emulator)
    runner = web.AppRunner(server.app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{bound[1]}"
    finally:
        server.close()
        await runner.cleanup()
