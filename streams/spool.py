"""Lists too long for memory: rows sorted and joined in nameless, encrypted files that vanish with the process.

The key of each is made for it and lives in memory alone. So whatever the disk keeps after a crash opens to nobody.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

RUN = 100_000
"""Rows that are sorted in memory at a time."""
PIECE = 1 << 16


class Sealed:
    """One file without a name (`TemporaryFile`: mode 0600, unlinked at once), written once, then read as often as asked."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        """`random` gives the key."""
        self._file = TemporaryFile(buffering=PIECE)  # noqa: SIM115  # closed by whoever holds it
        self._cipher = Cipher(AES(random(32)), CTR(random(16)))
        self._writing = self._cipher.encryptor()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(self._writing.update(data))
        self.size += len(data)

    def pieces(self) -> Iterator[bytes]:
        """From the beginning. One reader at a time."""
        reading = self._cipher.decryptor()
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield reading.update(piece)

    def lines(self) -> Iterator[bytes]:
        """The same, by lines, without their ends."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole

    def close(self) -> None:
        self._file.close()


class Spool:
    """Gathers rows in any order; `sealed` joins them. Open it as a context, so that nothing is left open."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._some: set[bytes] = set()
        self._runs: list[Sealed] = []
        self._list: Sealed | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, rows: Iterable[bytes]) -> None:
        """Rows without line ends."""
        self._some.update(rows)
        if len(self._some) >= RUN:
            self._flush()

    def seal(self, barred: Collection[bytes], header: bytes = b"") -> None:
        """Make the list: `header`, then every row once but those `barred`, sorted, so that their order says nothing."""
        self._flush()
        self._list = Sealed(self._random)
        self._list.write(header)
        last = None
        for row in heapq.merge(*(each.lines() for each in self._runs)):
            if row != last and row not in barred:
                self._list.write(row + b"\n")
                self.rows += 1
            last = row
        for each in self._runs:
            each.close()
        self._runs = []

    @property
    def size(self) -> int:
        """Of the list, in bytes."""
        assert self._list is not None
        return self._list.size

    def pieces(self) -> Iterator[bytes]:
        """The list."""
        assert self._list is not None
        return self._list.pieces()

    def close(self) -> None:
        for each in (*self._runs, *([self._list] if self._list else [])):
            each.close()

    def _flush(self) -> None:
        if self._some:
            run = Sealed(self._random)
            run.write(b"".join(row + b"\n" for row in sorted(self._some)))
            self._runs.append(run)
            self._some = set()
