"""What a stack's directory remembers: who owns the stack, and each part that was started."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from .parts import Progress
from .process import Identity

FILE = "state.json"
LOCK = "lock"


class Running(Struct, frozen=True):
    """A part that was started: its process, its port, and how the server on that port says that it is this one."""

    process: Identity
    port: int
    sign: str = ""


class State(Struct, frozen=True):
    """The process that started the stack and will stop it, and the parts in the order in which they were started."""

    owner: Identity
    parts: dict[str, Running] = {}


def read(directory: Path) -> State | None:
    """What was written last; None where nothing was. Raises `msgspec.DecodeError` when it isn't ours to read."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=State)
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(directory: Path, state: State) -> None:
    """Replace it, whole or not at all."""
    new = directory / f"{FILE}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    new.replace(directory / FILE)


def forget(directory: Path) -> None:
    """Remove it: nothing runs here any more."""
    (directory / FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, progress: Progress, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`; meanwhile tell what is waited for. The system lets go of it when its holder dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(waiting, 0, 0)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
