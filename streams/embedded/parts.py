"""What the stack is made of. A part is a module with the names of `Part`; a third one is a module and a row."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from .process import Identity

Progress = Callable[[str, float, float], None]
"""What is being done, how much of it is done, and of how much (0 when nobody knows). Bytes, where it is a download."""


def silent(_what: str, _done: float, _total: float) -> None:
    """Tell nobody."""


class Missing(Exception):
    """Something has to be installed, or fetched, before a part can start; the message says what."""


class Place(Struct, frozen=True):
    """Where a part is started: its own folder, its ports, whether a quick start matters more than a fast run."""

    folder: Path
    ports: tuple[int, ...]
    quick: bool = False


class Part(Protocol):
    """One server. The stack calls `prepare`, starts `command`, and polls `answer` until it is what `sign` said.

    All of it under the directory's lock, so that nobody else does the same there.
    """

    NAME: str
    """Of its folder, its log, and its place in `state.json`."""

    PORTS: int
    """How many it listens on. The first one is told to clients."""

    def prepare(self, place: Place, progress: Progress) -> None:
        """Fetch and write what it needs. It starts nothing that stays. Raises `Missing`."""

    def command(self, place: Place) -> list[str]:
        """The program and its arguments. It is started in the place's folder, and has to stay in the foreground there, log to
        its output, and end on SIGTERM.
        """

    def sign(self, place: Place, process: Identity) -> str:
        """How this very server identifies itself, so that a foreign one on its port is never taken for it."""

    def answer(self, port: int) -> str | None:
        """How the server on that port identifies itself, once it takes requests; None within seconds when none does."""
