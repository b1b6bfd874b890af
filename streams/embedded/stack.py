"""The stack: parts that are started, found again, and stopped, with their state in one directory.

Whoever starts the stack owns it and stops it. A second start finds the first. What a killed owner has left behind is
found by pid and start time at the next start, and ended.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from todoke.schemas.errors import Stop

from . import kafka, ports, process, state, valkey
from .parts import Missing, Part, Place, Progress, silent
from .process import Identity
from .state import Running, State

PARTS: tuple[Part, ...] = (valkey, kafka)
"""In the order in which they are started, and the reverse of that in which they are stopped."""

START_S = 90.0
BEAT_S = 0.05
TAIL = 12


class StackError(Stop):
    """The stack is not up: the message names the part, the reason, and where its log is. Whoever starts it must act."""


class Addresses(Struct, frozen=True):
    """Where the parts are reached."""

    bootstrap: str
    redis_url: str
    directory: Path

    def environ(self) -> dict[str, str]:
        """The variables that point Todoke at this stack."""
        return {"TODOKE_KAFKA": self.bootstrap, "TODOKE_REDIS": self.redis_url, "TODOKE_REPLICATION": "1"}


class Plan(Struct, frozen=True):
    """What is asked for: to forget what was there, ports (0 for free ones), a start that is quick, for tests."""

    fresh: bool = False
    kafka_port: int = 0
    valkey_port: int = 0
    quick: bool = False

    def ports(self) -> dict[str, int]:
        """Which part is to have which port, 0 for a free one."""
        return {"kafka": self.kafka_port, "valkey": self.valkey_port}


class Stack:
    """A stack that is up. `owner` is whether it was started here, rather than found."""

    def __init__(self, directory: Path, known: State, *, owner: bool) -> None:
        """Use `start`."""
        self.directory = directory
        self.owner = owner
        self._parts = known.parts
        self.addresses = Addresses(
            f"{ports.HOST}:{known.parts['kafka'].port}",
            f"redis://{ports.HOST}:{known.parts['valkey'].port}/0",
            directory,
        )

    @classmethod
    def start(cls, directory: Path, plan: Plan | None = None, progress: Progress = silent) -> "Stack":
        """Start the stack in `directory`, or find the one that is up there. Raises `StackError`.

        Blocks until every part answers as itself. Whatever fails or interrupts it, what it has started is ended again.
        Starts in one directory wait for each other. Call it in the main thread or not, but not in a signal's handler.
        """
        try:
            return cls._start(directory.resolve(), plan or Plan(), progress)
        except OSError as error:
            raise StackError(f"the stack in {directory} can't be started: {error}") from error

    @classmethod
    def _start(cls, directory: Path, plan: Plan, progress: Progress) -> "Stack":
        _claim(directory)
        with state.locked(directory / state.LOCK, progress, f"waiting for another start or stop in {directory}"):
            known = _known(directory)
            if known is not None and process.alive(known.owner) and _whole(directory, known, plan):
                return cls(directory, known, owner=False)
            if known is not None:
                _end(directory, known.parts)
            if plan.fresh:
                _empty(directory)
            try:
                return cls(directory, _launch(directory, plan, progress), owner=True)
            except BaseException:
                if (known := _mine(directory)) is not None:
                    _end(directory, known.parts)
                raise

    def stop(self) -> None:
        """End what `start` started; nothing when it was only found. May be called twice, and when the directory is gone."""
        if self.owner:
            _let_go(self.directory, self._parts)

    def broken(self) -> str:
        """What is the matter with the first part that has ended by itself, with the end of its log; empty when all is well."""
        ended = (name for name, part in self._parts.items() if not process.alive(part.process))
        return next((f"{name}: it has ended by itself{_tail(log(self.directory, name))}" for name in ended), "")


start = Stack.start


def release(directory: Path) -> None:
    """End what this process has started in `directory`, and nothing else: also when an interrupt has lost the `Stack`."""
    if (known := _mine(directory)) is not None:  # else the lock may be held for long, by whoever starts there
        _let_go(directory, known.parts)


def _let_go(directory: Path, parts: Mapping[str, Running]) -> None:
    """End these parts, whoever else has started there since. A start that looks at them meanwhile waits."""
    with contextlib.ExitStack() as held:
        if directory.exists():
            held.enter_context(state.locked(directory / state.LOCK, silent, ""))
        _end(directory, parts)


def log(directory: Path, name: str) -> Path:
    """Where a part writes; what it wrote before its last start is beside it, with .1 behind the name."""
    return directory / f"{name}.log"


def _claim(directory: Path) -> None:
    """Make the directory, or see that it is fit: that nothing stands there which a stack would ruin."""
    foreign = [each.NAME for each in PARTS if (directory / each.NAME).exists()]
    if foreign and not (directory / state.LOCK).exists():
        raise StackError(f"{directory / foreign[0]} is there, and no stack has made it: name another directory")
    try:
        new = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        if new:
            (directory / ".gitignore").write_text("*\n")
        (directory / state.LOCK).touch()
    except OSError as error:
        raise StackError(f"{directory}: {error.strerror}: name another directory") from error


def _known(directory: Path) -> State | None:
    try:
        return state.read(directory)
    except msgspec.DecodeError:
        raise StackError(
            f"{directory / state.FILE} can't be read: end the servers it may speak of, then remove it"
        ) from None


def _mine(directory: Path) -> State | None:
    """What the directory knows of a stack of this process. What can't be read is not ours: we have read and written it."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        known = state.read(directory)
        return known if known is not None and known.owner == _me() else None
    return None


def _whole(directory: Path, known: State, plan: Plan) -> bool:
    """Whether every part of a living owner answers. Raises `StackError` where only the owner may put things right."""
    broken = [each.NAME for each in PARTS if not _answering(each, known)]
    if known.owner == _me() and broken:
        return False
    stop = f"stop process {known.owner.pid}, which owns it, first (Ctrl-C there, or kill {known.owner.pid})"
    if broken:
        raise StackError(
            f"{broken[0]}: no answer from the stack in {directory}: {stop}{_tail(log(directory, broken[0]))}"
        )
    if plan.fresh:
        raise StackError(f"the stack in {directory} is in use: {stop}")
    for name, port in plan.ports().items():
        if port not in (0, known.parts[name].port):
            raise StackError(
                f"{name}: the stack that is up in {directory} has it on port {known.parts[name].port}: {stop}"
            )
    return True


def _answering(part: Part, known: State) -> bool:
    running = known.parts.get(part.NAME)
    return running is not None and process.alive(running.process) and part.answer(running.port) == running.sign


def _launch(directory: Path, plan: Plan, progress: Progress) -> State:
    """Prepare everything, then start everything, then wait for everything."""
    places = _places(directory, plan)
    for part in PARTS:
        progress(f"preparing {part.NAME}", 0, 0)
        try:
            part.prepare(places[part.NAME], progress)
        except (Missing, OSError) as error:
            raise StackError(f"{part.NAME}: {error}") from error
    known = State(_me())
    for part in PARTS:
        try:
            known = _spawn(directory, known, part, places[part.NAME])
        except OSError as error:
            raise StackError(f"{part.NAME}: {error}") from error
    for part in PARTS:
        progress(f"starting {part.NAME}", 0, 0)
        _wait(directory, part, known.parts[part.NAME])
    return known


def _places(directory: Path, plan: Plan) -> dict[str, Place]:
    """A folder and ports for each part. Raises `StackError` when a port that was asked for can't be had."""
    asked = plan.ports()
    if plan.kafka_port and plan.kafka_port == plan.valkey_port:
        raise StackError(
            f"kafka and valkey can't both have port {plan.kafka_port}: name another, or none for a free one"
        )
    for name, port in asked.items():
        if port and (obstacle := ports.obstacle(port)):
            raise StackError(f"{name}: port {port}: {obstacle}: name another, or none for a free one")
    free = ports.free(sum(each.PORTS for each in PARTS), but=set(asked.values()))
    places = {}
    for each in PARTS:
        own = [free.pop() for _ in range(each.PORTS)]
        own[0] = asked.get(each.NAME) or own[0]
        places[each.NAME] = Place(directory / each.NAME, tuple(own), plan.quick)
    return places


def _spawn(directory: Path, known: State, part: Part, place: Place) -> State:
    """Start a part, written down before it does anything, so that a killed owner leaves none that nobody knows of."""
    path = log(directory, part.NAME)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
    with process.held(part.command(place), path, folder=place.folder) as child:
        running = Running(child, place.ports[0], part.sign(place, child))
        known = State(known.owner, {**known.parts, part.NAME: running})
        state.write(directory, known)
    return known


def _wait(directory: Path, part: Part, running: Running) -> None:
    deadline = time.monotonic() + START_S
    path = log(directory, part.NAME)
    while (found := part.answer(running.port)) != running.sign:
        if not process.alive(running.process):
            raise StackError(f"{part.NAME}: it ended while starting{_tail(path)}")
        if found is not None:
            raise StackError(
                f"{part.NAME}: another server answers on port {running.port}: name another port{_tail(path)}"
            )
        if time.monotonic() > deadline:
            raise StackError(f"{part.NAME}: no answer within {START_S:.0f} s{_tail(path)}")
        time.sleep(BEAT_S)


def _end(directory: Path, parts: Mapping[str, Running]) -> None:
    """End parts by pid and start time, the last started first, and forget them unless others took their place."""
    left = [
        f"{name} (process {each.process.pid})"
        for name, each in reversed(list(parts.items()))
        if not process.end(each.process)
    ]
    if left:
        raise StackError(f"{' and '.join(left)} of {directory} can't be ended: end it, then start again")
    with contextlib.suppress(OSError, msgspec.DecodeError):
        known = state.read(directory)
        if known is not None and known.parts == parts:
            state.forget(directory)


def _empty(directory: Path) -> None:
    """Remove what parts have written, and nothing that somebody else may have put beside it."""
    for each in PARTS:
        if (directory / each.NAME).exists():
            shutil.rmtree(directory / each.NAME)  # what stays behind would not be fresh: an error
        for path in directory.glob(f"{each.NAME}.log*"):
            path.unlink()


def _tail(path: Path) -> str:
    """Where the log is, and its last lines, without the frames of Java's stack traces."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    told = [line for line in lines if line.strip() and not line.startswith(("\tat ", "\t... "))]
    return "\n".join([f"; its log is {path}", *(f"  {line}" for line in told[-TAIL:])])


def _me() -> Identity:
    found = process.identify(os.getpid())
    assert found is not None  # we run
    return found
