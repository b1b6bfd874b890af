"""What a vault needs of a database: ordered tables of bytes, and writes that happen wholly or not at all."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

Table = Literal["ids", "rows", "subjects", "entries", "batches", "keys", "facts"]
TABLES: tuple[Table, ...] = ("ids", "rows", "subjects", "entries", "batches", "keys", "facts")
"""By what they hold: where a record is, by its id; sealed records, by key and id; records of a subject, by keyed hash;
entries of the log, and commitments, by leaf; wrapped keys, by name; and a few facts, such as offsets."""

Put = tuple[Table, bytes, bytes]
Delete = tuple[Table, bytes]


class Store(Protocol):
    """A database of which this process is the only writer: opening it twice raises `Fenced`."""

    def get(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys, in order."""
        ...

    def scan(self, table: Table, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `begin` up to and without `end`, in the order of their bytes. What is written meanwhile may be among them or not."""
        ...

    def write(self, puts: Sequence[Put], deletes: Sequence[Delete] = ()) -> None:
        """All of it or nothing, and durable when this returns. Deletes come first."""
        ...

    def scour(self) -> None:
        """Have what was deleted leave the database's own files. Takes as long as it takes."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
