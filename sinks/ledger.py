"""The ledger: what comes in is kept in the vault, and what the vault has kept is published in the log, in that order.

The vault's sequence is the truth of what the log will say; the log follows it, and can be made to follow at any time. What
the log says already can't be taken back: a vault that knows less of it is an older copy, and is brought up to it.
"""

import base64
from collections.abc import Callable, Sequence
from datetime import date
from hashlib import sha256

import msgspec
from msgspec import Struct

from todoke.processors.checkpoint import Checkpoint
from todoke.processors.commitment import canonical
from todoke.processors.tiles import WIDTH, bundle, journal, unpack
from todoke.schemas.errors import Fenced, Unproved

from .log import Log
from .tiles import Storage
from .vault.vault import Vault

AT_ONCE = 4_096


class Erasure(Struct, frozen=True, kw_only=True):
    """A line of the journal of erasures: which keys were destroyed on which day (JST), and the leaf that says so.

    The journal lies beside the log, apart from the vault: whoever brings back an older vault destroys these keys again.
    """

    day: str
    keys: tuple[str, ...]
    leaf: int
    v: int = 1


class Ledger:
    """One shard: a vault, and the log of it."""

    def __init__(self, vault: Vault, storage: Storage, opened: Callable[[], Log]) -> None:
        """Brings both to the same state before anything else is served. Raises `Fenced`, `Unproved`."""
        self.vault = vault
        self._storage = storage
        self.log = opened()
        self._journal = self._heed()
        self.publish()
        self.vault.sweep()

    def publish(self) -> Checkpoint:
        """Put into the log what the vault has kept since; returns the checkpoint that is signed for all of it."""
        while self.log.size < self.vault.next_leaf:
            self.log.publish(self.vault.entries(self.log.size, AT_ONCE))
        return self.log.publish([])

    def erase_due(self, today: date) -> Erasure | None:
        """Destroy the keys of months that are over, and say so in journal and log. None where there is nothing to destroy."""
        keys = self.vault.due(today)
        if not keys:
            return None
        self.publish()  # the leaf is spoken of by the journal before it is kept: nothing may come in between
        made = Erasure(day=today.isoformat(), keys=tuple(keys), leaf=self.vault.next_leaf)
        data = msgspec.json.encode(made)
        self._storage.create(journal(self._journal), data)
        self._journal += 1
        self._carry_out(made, data)
        self.vault.sweep()
        self.publish()
        return made

    def close(self) -> None:
        """Let go of vault and log."""
        self.vault.close()
        self.log.close()

    def _carry_out(self, erasure: Erasure, data: bytes) -> None:
        self.vault.destroy(erasure.keys, entry_of(data, len(erasure.keys)), erasure.leaf)

    def _heed(self) -> int:
        """Bring an older copy of the vault up to the log, and carry out every erasure of the journal. How many there are."""
        missing = self.log.size - self.vault.next_leaf
        if missing > 0:
            self.vault.adopt(self._entries(self.vault.next_leaf))
        count = 0
        while data := self._storage.read(journal(count)):
            self._carry_out(msgspec.json.decode(data, type=Erasure), data)
            count += 1
        if self.log.size and self.vault.entries(self.log.size - 1, 1) != self._entries(self.log.size - 1):
            raise Fenced(
                "ledger: the vault's entries are not those of the log: bring back the vault that belongs to it"
            )
        return count

    def _entries(self, begin: int) -> list[bytes]:
        """The log's entries from one on, from its bundles."""
        found: list[bytes] = []
        for number in range(begin // WIDTH, -(-self.log.size // WIDTH)):
            width = min(WIDTH, self.log.size - number * WIDTH)
            data = self._storage.read(bundle(number, width)) or self._storage.read(bundle(number))
            if data is None:
                raise Unproved(f"{bundle(number, width)}: it is missing")
            found += unpack(data)[:width]
        return found[begin % WIDTH :]


def entry_of(journal: bytes, keys: int) -> bytes:
    """The log's entry for an erasure: how many keys were destroyed, and the digest of the journal's line."""
    digest = base64.b64encode(sha256(journal).digest()).decode()
    return canonical({"journal": digest, "n": keys, "t": "erasure", "v": 1})


def shard_of(partition: int, shards: int) -> int:
    """Which shard a partition of `provision-log` belongs to."""
    return partition % shards


def partitions_of(shard: int, shards: int, partitions: int) -> Sequence[int]:
    """The partitions of one shard."""
    return [each for each in range(partitions) if shard_of(each, shards) == shard]
