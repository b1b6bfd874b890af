"""A store in PostgreSQL: a schema for each vault, a table of keys and values for each of its tables.

One connection does everything, on a loop of its own thread. It also holds the advisory lock that fences other writers, so
a writer that has lost the lock has lost the connection, and can write no more. It is never opened again: the process ends
and another opens the vault anew (decision 0023).
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from todoke.schemas.errors import Fenced, Misconfigured

from .base import TABLES, Delete, Put, Table

T = TypeVar("T")
SCHEMES = ("postgresql", "postgres")
PAGE = 2_000
LOCK_WAIT = "3s"
"""A killed writer's lock is let go when the server notices: at once on one machine."""
CONNECT_S = 10.0
CHANGING: tuple[Table, ...] = ("ids", "rows", "subjects", "keys", "facts")
"""Where anything is ever deleted."""


class Postgres:
    """A store in a schema of a database. The server must be of version 13 or newer, and sync what it commits."""

    def __init__(self, url: str, schema: str, *, reading: bool = False) -> None:
        """Open it, or make it. Raises `Fenced` where another process has it open, `Misconfigured` where it can't be.

        `url` is `postgresql://user@host/database`, with what libpq's URLs may have behind `?`; the password stands in a
        file (`passfile=`, or `~/.pgpass`). For `reading` it takes no lock, and can't write.
        """
        if urlsplit(url).password or "password=" in urlsplit(url).query:
            raise Misconfigured("ledger.vault: no password in the URL: put it into a file, and say passfile=PATH")
        self._schema = '"' + schema.replace('"', '""') + '"'
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vault", daemon=True)
        self._thread.start()
        self._connection: Any = None
        try:
            self._connection = self._run(self._opened(url, schema, reading=reading))
        except BaseException:
            self._stop()
            raise

    def get(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`. One question for all of them."""
        if not keys:
            return []
        asked = f"SELECT k, v FROM {self._schema}.{table} WHERE k = ANY($1::bytea[])"  # noqa: S608 - names are ours
        found = dict(self._run(self._connection.fetch(asked, list(keys))))
        return [found.get(key) for key in keys]

    def scan(self, table: Table, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Store`. By pages; bytea sorts by its bytes."""
        beyond = ">="
        while True:
            asked = f"SELECT k, v FROM {self._schema}.{table} WHERE k {beyond} $1 AND k < $2 ORDER BY k LIMIT {PAGE}"  # noqa: S608 - names are ours
            page = self._run(self._connection.fetch(asked, begin, end))
            yield from map(tuple, page)
            if len(page) < PAGE:
                return
            begin, beyond = page[-1][0], ">"

    def write(self, puts: Sequence[Put], deletes: Sequence[Delete] = ()) -> None:
        """See `Store`. One transaction, one statement a table."""
        if not puts and not deletes:
            return
        self._run(self._written(puts, deletes))

    def scour(self) -> None:
        """See `Store`. Tables are written anew: a plain VACUUM lets the bytes lie in its pages until others need the room.

        The write-ahead log keeps them until it is recycled, and archives of it for as long as they are kept.
        """
        for table in CHANGING:
            self._run(self._connection.execute(f"VACUUM (FULL) {self._schema}.{table}"))
        with suppress(asyncpg.InsufficientPrivilegeError):
            self._run(self._connection.execute("CHECKPOINT"))  # files that were replaced go now, not within minutes

    def close(self) -> None:
        """See `Store`. The lock goes with the connection."""
        with suppress(Fenced):
            self._run(self._connection.close(timeout=CONNECT_S))
        self._stop()

    async def _opened(self, url: str, schema: str, *, reading: bool) -> Any:
        given = {"application_name": "todoke vault", "synchronous_commit": "on", "lock_timeout": LOCK_WAIT}
        if reading:
            given["default_transaction_read_only"] = "on"
        try:
            made = await asyncpg.connect(url, timeout=CONNECT_S, server_settings=given)
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Misconfigured(f"ledger.vault: PostgreSQL does not open: {type(error).__name__}") from None
        try:
            await self._prepare(made, schema, reading=reading)
        except BaseException:
            made.terminate()
            raise
        return made

    async def _prepare(self, made: Any, schema: str, *, reading: bool) -> None:
        if await made.fetchval("SHOW fsync") != "on":
            raise Misconfigured("ledger.vault: the server has fsync off, and would forget what it acknowledged")
        if reading:
            if not await made.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{self._schema}.facts"):
                raise Misconfigured("ledger.vault: no vault is there: start `todoke ledger run`, or correct it")
            return
        number = int.from_bytes(sha256(f"todoke vault {schema}".encode()).digest()[:8], "big", signed=True)
        try:
            await made.execute(f"SELECT pg_advisory_lock({number})")
        except asyncpg.LockNotAvailableError:
            raise Fenced("ledger.vault: another process has this vault open: stop it first") from None
        await made.execute("SET lock_timeout = 0")  # VACUUM waits for whoever reads
        await made.execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
        for table in TABLES:
            await made.execute(
                f"CREATE TABLE IF NOT EXISTS {self._schema}.{table} (k bytea PRIMARY KEY, v bytea NOT NULL)"
            )
            await made.execute(  # what is sealed does not shrink
                f"ALTER TABLE {self._schema}.{table} ALTER COLUMN v SET STORAGE EXTERNAL"
            )

    async def _written(self, puts: Sequence[Put], deletes: Sequence[Delete]) -> None:
        gone: dict[Table, list[bytes]] = defaultdict(list)
        for table, key in deletes:
            gone[table].append(key)
        new: dict[Table, dict[bytes, bytes]] = defaultdict(dict)
        for table, key, value in puts:
            new[table][key] = value
        async with self._connection.transaction():
            for table, keys in gone.items():
                await self._connection.execute(f"DELETE FROM {self._schema}.{table} WHERE k = ANY($1::bytea[])", keys)  # noqa: S608 - names are ours
            for table, rows in new.items():
                await self._connection.execute(
                    f"INSERT INTO {self._schema}.{table} SELECT * FROM unnest($1::bytea[], $2::bytea[])"  # noqa: S608 - names are ours
                    " ON CONFLICT (k) DO UPDATE SET v = excluded.v",
                    list(rows),
                    list(rows.values()),
                )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the loop's thread makes of it. Raises `Fenced` where the connection is gone, and with it the lock."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError):
            raise Fenced(
                "ledger.vault: the connection to PostgreSQL is lost, and with it the lock: start again"
            ) from None

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
