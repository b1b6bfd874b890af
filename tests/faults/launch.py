"""Starts a worker or a dispatcher that has a fault in it: a stop between two effects, or a mutant. The product has no fault code.

    python -m tests.faults.launch --stop=records:3:kill --mutant=tie-goes-to-the-grant -- worker

This is the process under test, so it imports the product. What it names and does not find is an error, never passed over.
"""

import functools
import importlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Boundary(NamedTuple):
    """A place between two effects: whose it is, the function, and whether before or after it."""

    role: str
    target: str
    after: bool


BOUNDARIES: dict[str, Boundary] = {
    "read": Boundary("worker", "intake:Intake.__call__", after=False),
    "records": Boundary("worker", "intake:Intake._merge", after=True),
    "obligations": Boundary("worker", "intake:Intake._oblige", after=True),
    "outcomes": Boundary("worker", "intake:Intake._outcomes", after=True),
    "half-produced": Boundary("worker", "outbox:Outbox._produce", after=True),
    "produced": Boundary("worker", "intake:Intake.__call__", after=True),
    "committed": Boundary("worker", "runner:Runner._store", after=True),
    "settling-read": Boundary("worker", "settling:Settling.__call__", after=False),
    "settling-written": Boundary("worker", "settling:Settling._shredded", after=False),
    "settling-produced": Boundary("worker", "settling:Settling.__call__", after=True),
    "keeper-read": Boundary("worker", "keeper:Keeper.__call__", after=False),
    "keeper-healed": Boundary("worker", "keeper:Keeper._heal", after=True),
    "keeper-marked": Boundary("worker", "keeper:Keeper.__call__", after=True),
    "lane-woken": Boundary("dispatch", "dispatch:Station._wake", after=True),
    "looked": Boundary("dispatch", "desk:Desk._look", after=True),
    "closed": Boundary("dispatch", "desk:Desk._close", after=True),
    "told": Boundary("dispatch", "notes:Notes.begun", after=True),
    "attempting": Boundary("dispatch", "desk:Desk._begin", after=True),
    "sending": Boundary("dispatch", "todoke.sinks.sender:Sender.send", after=False),
    "sent": Boundary("dispatch", "todoke.sinks.sender:Sender.send", after=True),
    "noted": Boundary("dispatch", "notes:Notes.ended", after=True),
    "receipt": Boundary("dispatch", "desk:Desk._end", after=True),
    "settled": Boundary("dispatch", "due:Due.settle", after=True),
}
"""Every place at which a run can be stopped, in the order of effects."""


def find(target: str) -> tuple[Any, str]:
    """The owner and the attribute that `module:Class.method` names."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module if module.startswith("todoke.") else f"todoke.streams.{module}")
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    getattr(owner, name)
    return owner, name


def stop_at(boundary: str, nth: int, how: str) -> None:
    """Have this process send itself a signal at the n-th passing of a boundary."""
    place = BOUNDARIES[boundary]
    owner, name = find(place.target)
    inner = getattr(owner, name)
    lock, passed = threading.Lock(), 0

    def pass_by() -> None:
        nonlocal passed
        with lock:
            passed += 1
            if passed == nth:
                print(f"stopping at {boundary}, passing {nth}: {how}", flush=True)
                os.kill(os.getpid(), SIGNALS[how])

    wrap = _awaited if inspect.iscoroutinefunction(inner) else _called
    setattr(owner, name, wrap(inner, pass_by, after=place.after))


def _called(inner: Callable[..., Any], pass_by: Callable[[], None], *, after: bool) -> Callable[..., Any]:
    """`inner` with a stop before or after it. Work on nothing is no effect, so idle desks and polls do not count."""

    @functools.wraps(inner)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        idle = len(arguments) > 1 and isinstance(arguments[1], list | tuple) and not arguments[1]
        if not after and not idle:
            pass_by()
        found = inner(*arguments, **options)
        if after and not idle:
            pass_by()
        return found

    return wrapper


def _awaited(inner: Callable[..., Any], pass_by: Callable[[], None], *, after: bool) -> Callable[..., Any]:
    @functools.wraps(inner)
    async def wrapper(*arguments: Any, **options: Any) -> Any:
        if not after:
            pass_by()
        found = await inner(*arguments, **options)
        if after:
            pass_by()
        return found

    return wrapper


def main(arguments: list[str]) -> None:
    """Break what the options name, then be the role."""
    from tests.faults.mutants import MUTANTS
    from todoke.streams.cli import main as todoke

    place = arguments.index("--")
    for word in arguments[:place]:
        kind, _, value = word.partition("=")
        if kind == "--stop":
            boundary, nth, how = value.split(":")
            stop_at(boundary, int(nth), how)
        elif kind == "--mutant":
            MUTANTS[value].apply()
        else:
            raise SystemExit(f"{word}: use --stop=BOUNDARY:N:kill|stop or --mutant=NAME")
    sys.argv = ["todoke", *arguments[place + 1 :]]
    todoke()


if __name__ == "__main__":
    main(sys.argv[1:])
