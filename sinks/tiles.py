"""Where a log lies: a folder, or whatever else can keep bytes under a name for good and swap a few of them.

Names are the paths of C2SP tlog-tiles. What is written is durable when the call returns; what was written is never
changed, but for the few names that `swap` serves.
"""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Protocol

from todoke.schemas.errors import Fenced, Misconfigured

TEMPORARY = ".new"
LOCK = ".lock"


class Storage(Protocol):
    """Bytes by name."""

    def read(self, name: str) -> bytes | None:
        """What stands there, or None."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """Write it, for good. The same bytes again are fine; where others stand, raises `Fenced`."""
        ...

    def swap(self, name: str, old: bytes | None, new: bytes) -> None:
        """Compare-and-set: raises `Fenced` where something else than `old` stands (None: nothing)."""
        ...

    def delete(self, name: str) -> None:
        """Forget it; fine when it is gone already."""
        ...

    def clear(self, name: str) -> None:
        """Forget all that lies below this name, which ends where a folder would: the partial tiles in `tile/0/000.p`."""
        ...

    def close(self) -> None:
        """Let go of what this writer held."""
        ...


class Folder:
    """A folder of a POSIX file system that honours fsync, rename and flock: a local disk, not NFS.

    One writer at a time: the lock is held from the first write to `close`, and the kernel lets go of it when the process dies.
    """

    def __init__(self, place: Path) -> None:
        """The folder is made when something is written."""
        self.place = place
        self._lock: int | None = None
        self._named: set[Path] = set()  # folders that this process knows to be durable in their parents

    def read(self, name: str) -> bytes | None:
        """See `Storage`."""
        try:
            return (self.place / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def create(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        self._hold()
        there = self.read(name)
        if there is None:
            self._write(name, data)
        elif there != data:
            raise Fenced(f"{name}: other bytes stand there already: another writer has been at work in {self.place}")
        else:
            self._name(self.place / name)  # a writer that was killed may not have come to this

    def swap(self, name: str, old: bytes | None, new: bytes) -> None:
        """See `Storage`."""
        self._hold()
        if self.read(name) != old:
            raise Fenced(f"{name}: somebody else has written it: another writer has been at work in {self.place}")
        self._write(name, new)

    def delete(self, name: str) -> None:
        """See `Storage`."""
        self._hold()
        path = self.place / name
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _sync(path.parent)

    def clear(self, name: str) -> None:
        """See `Storage`."""
        self._hold()
        folder = self.place / name
        if folder.is_dir():
            shutil.rmtree(folder)
            self._named.discard(folder)
            _sync(folder.parent)

    def close(self) -> None:
        """See `Storage`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hold(self) -> None:
        if self._lock is not None:
            return
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.place / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Misconfigured(f"{self.place}: {error.strerror}: name a folder that can be written") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Fenced(f"{self.place}: another process writes there: stop it, or wait until it has ended") from None
        self._lock = handle
        self._name(self.place / LOCK)

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all: a file beside it, then a rename; both durable."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + TEMPORARY)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        self._name(path)

    def _name(self, path: Path) -> None:
        """Make the file's name durable, and those of its folders, each once: who made one may have died before its fsync."""
        _sync(path.parent)
        folder = path.parent
        while folder not in self._named:
            _sync(folder.parent)
            self._named.add(folder)
            if folder == self.place:
                break
            folder = folder.parent


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
