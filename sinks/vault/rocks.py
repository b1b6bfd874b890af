"""The embedded store: RocksDB, a log-structured merge tree.

Record ids are random, so a B-tree would read and write a page somewhere else for each, and slow down as it grows; here
they are sorted in memory and merged in large runs (decision 0023).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    CompactOptions,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)
from rocksdict import BottommostLevelCompaction as Bottommost

from todoke.schemas.errors import Fenced, Misconfigured

from .base import TABLES, Delete, Put, Table

BUFFER_BYTES = 64 << 20
CACHE_BYTES = 256 << 20
BLOOM_BITS = 10
SCOURED = b"scoured"


class Rocks:
    """A store in a folder of a local disk."""

    def __init__(self, place: Path, *, reading: bool = False) -> None:
        """Open it, or make it. Raises `Fenced` where another process has it open, `Misconfigured` where it can't be.

        For `reading` it opens beside the process that writes, and shows what was durable at that moment.
        """
        options = _options(Cache(CACHE_BYTES))
        access = AccessType.read_only() if reading else AccessType.read_write()
        if reading and not place.is_dir():
            raise Misconfigured(f"{place}: no vault is there: start `todoke ledger run`, or correct ledger.vault")
        place.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(place), options, dict.fromkeys(TABLES, options), access)
        except Exception as error:  # noqa: BLE001 - the binding raises nothing narrower
            if "lock" in str(error).lower():
                raise Fenced(f"{place}: another process has this vault open: stop it first") from None
            what = " ".join(str(error).split())
            raise Misconfigured(f"{place}: it does not open as a vault: {what}") from None
        self._tables: dict[Table, Rdict] = {table: self._db.get_column_family(table) for table in TABLES}
        self._handles: dict[Table, ColumnFamily] = {table: self._db.get_column_family_handle(table) for table in TABLES}
        self._durably = WriteOptions()
        self._durably.sync = True

    def get(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        found: Any = self._tables[table].get(list(keys)) if keys else []
        return list(found)

    def scan(self, table: Table, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Store`. What is written meanwhile is not seen."""
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        cursor = self._tables[table].iter(options)
        cursor.seek(begin)
        while cursor.valid():
            yield cursor.key(), cursor.value()
            cursor.next()

    def write(self, puts: Sequence[Put], deletes: Sequence[Delete] = ()) -> None:
        """See `Store`. One record in the write-ahead log, synced."""
        batch = WriteBatch(raw_mode=True)
        handles = self._handles
        for table, key in deletes:
            batch.delete(key, handles[table])
        for table, key, value in puts:
            batch.put(key, value, handles[table])
        self._db.write(batch, self._durably)

    def scour(self) -> None:
        """See `Store`. Writes every table's memory to disk, so that the write-ahead log can go, and merges every run."""
        options = CompactOptions()
        options.set_bottommost_level_compaction(Bottommost.force())
        for each in self._tables.values():
            each.flush()
            each.compact_range(None, None, options)
        self.write([("facts", SCOURED, b"")])
        self._tables["facts"].flush()  # the manifest tells each file's first and last key: a change has it begun anew

    def close(self) -> None:
        """See `Store`."""
        for each in self._tables.values():
            each.close()
        self._tables, self._handles = {}, {}  # the lock is held for as long as anything refers to it
        self._db.close()
        del self._db


def _options(cache: Cache) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_bloom_filter(BLOOM_BITS, False)  # noqa: FBT003 - of the binding: one filter a file, not a block
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003
    options.create_missing_column_families(True)  # noqa: FBT003
    options.set_write_buffer_size(BUFFER_BYTES)
    options.set_max_background_jobs(2)
    options.set_max_manifest_file_size(1)  # so that it is written anew at every change of files, without what is gone
    options.set_block_based_table_factory(blocks)
    return options
