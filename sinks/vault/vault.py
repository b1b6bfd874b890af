"""The vault: records sealed, found, put off, held and let go; and the sequence of what goes into the log.

A record lies under the key of its retention class and of the month in which it expires. When that month is over the key is
destroyed, and with it every record and salt that it sealed; what is left of them, the id among the ids and the place among
a subject's records, is taken away after it (decision 0023).
"""

import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.commitment import commit, fold_entry
from todoke.processors.keys import Keyring, Random, log_generation, open_from_log, seal_for_log
from todoke.processors.merkle import inclusion, leaf_hash, levels
from todoke.processors.provision import together
from todoke.schemas.errors import Unopened
from todoke.schemas.records import Record

from .base import Delete, Put, Store
from .sealing import KEY_BYTES, NONCE_BYTES, RANDOM_BYTES, rewrap, seal, unseal

NEXT, SUBJECTS = b"next", b"subjects"
OFFSET = b"offset|"
HELD = b"held|"
OPEN = "open"
ID_BYTES = 16
TAG_BYTES = 16
SOME = 2_000
COMMITMENT_BYTES = 32
END = b"\xff" * 64
MONTHLY = re.compile(r"(?!hold/).+/\d{4}-\d\d")  # a hold may be named anything, such as by a digit


class Kept(Struct, frozen=True):
    """A record as it is kept: its salt, and its place: which leaf of the log, and where in that leaf's batch."""

    record: Record
    salt: bytes
    leaf: int
    place: int
    key: str

    def __repr__(self) -> str:
        """Never the salt."""
        return f"Kept({self.record.record_id})"


class Listed(Struct, frozen=True):
    """What is known of a record without opening it."""

    record_id: str
    source: str
    number: int


class _Month(Struct):
    name: str
    number: int
    cipher: AESGCM


class Vault:
    """Keeps records in a store. One process at a time."""

    def __init__(self, store: Store, keyring: Keyring, random: Random) -> None:
        """Raises `Unopened` where the keyring lacks the log key that sealed the vault's own keys."""
        self._store = store
        self._keyring = keyring
        self._random = random
        self._held: dict[bytes, str] = {}
        for raw, value in store.scan("facts", HELD, HELD + END):
            self._held[raw[len(HELD) :]] = value.decode()
        self._months: dict[str, _Month] = {}
        self._by_number: dict[int, _Month] = {}
        for raw, value in store.scan("keys", b"", END):
            self._know(raw.decode(), value)
        fact, tags = store.get("facts", [NEXT, SUBJECTS])
        self.next_leaf = int.from_bytes(fact or b"", "big")
        if tags is None:
            made = random(KEY_BYTES)
            store.write([("facts", SUBJECTS, seal_for_log(keyring, "vault|subjects", made, random))])
            self._tags = made
        else:
            self._tags = open_from_log(keyring, "vault|subjects", tags)

    # --- What comes in ---

    def offsets(self) -> dict[tuple[str, int], int]:
        """Up to where each partition has been kept: the offset of the next message."""
        found = {}
        for raw, value in self._store.scan("facts", OFFSET, OFFSET + END):
            _, topic, partition = raw.decode().split("|")
            found[topic, int(partition)] = int.from_bytes(value, "big")
        return found

    def unknown(self, ids: Sequence[str]) -> list[bool]:
        """Which of these records are not kept yet. Of one that is named twice, the first is."""
        names = [UUID(each).bytes for each in ids]
        first: dict[bytes, int] = {}
        for place, name in enumerate(names):
            first.setdefault(name, place)
        return [
            there is None and first[name] == place
            for place, (name, there) in enumerate(zip(names, self._store.get("ids", names), strict=True))
        ]

    def append(self, records: Sequence[Record], offsets: Mapping[tuple[str, int], int]) -> int | None:
        """Keep a batch, and make its entry for the log. Durable when this returns the entry's leaf; None for no records.

        The records' ids are `unknown`. A process that dies in between has kept none of them, nor the offsets; one that goes
        on after this has raised opens the vault anew.
        """
        puts: list[Put] = [
            ("facts", OFFSET + f"{topic}|{partition}".encode(), offset.to_bytes(8, "big"))
            for (topic, partition), offset in offsets.items()
        ]
        if not records:
            self._store.write(puts)
            return None
        leaf = self.next_leaf
        commitments = []
        random = self._random(RANDOM_BYTES * len(records))
        for place, record in enumerate(records):
            fresh = random[place * RANDOM_BYTES : (place + 1) * RANDOM_BYTES]
            name = UUID(record.record_id).bytes
            tag = self._tag(record.subject_ref)
            month = self._month(self._held.get(tag) or key_of(record), puts)
            commitments.append(commit(record, fresh[NONCE_BYTES + KEY_BYTES :]))
            where = month.number.to_bytes(4, "big")
            puts += [
                ("ids", name, where + _leaf(leaf) + place.to_bytes(4, "big")),
                ("rows", where + name, tag + seal(month.cipher, name, record, fresh)),
                ("subjects", tag + name, record.number.to_bytes(8, "big") + record.source.encode()),
            ]
        puts += [
            ("entries", _leaf(leaf), fold_entry(commitments)),
            ("batches", _leaf(leaf), b"".join(commitments)),
            ("facts", NEXT, _leaf(leaf + 1)),
        ]
        self._store.write(puts)
        self.next_leaf = leaf + 1
        return leaf

    def adopt(self, entries: Sequence[bytes]) -> None:
        """Take over entries that the log has and this vault lost, being an older copy: their records come again, as new."""
        puts: list[Put] = [("entries", _leaf(self.next_leaf + place), each) for place, each in enumerate(entries)]
        self._store.write([*puts, ("facts", NEXT, _leaf(self.next_leaf + len(entries)))])
        self.next_leaf += len(entries)

    # --- What goes into the log ---

    def entries(self, begin: int, limit: int = SOME) -> list[bytes]:
        """Entries of the log from leaf `begin` on."""
        return [value for _, value in islice(self._store.scan("entries", _leaf(begin), END), limit)]

    def path(self, leaf: int, place: int) -> tuple[list[bytes], int]:
        """The proof that a record's commitment is in its batch, and the batch's size. Raises `Unopened` where it is gone."""
        commitments = self.commitments(leaf)
        full = levels([leaf_hash(each) for each in commitments])
        return inclusion(place, len(commitments), lambda level, index: full[level][index]), len(commitments)

    def commitments(self, leaf: int) -> list[bytes]:
        """The commitments of a leaf's batch, in their places."""
        (flat,) = self._store.get("batches", [_leaf(leaf)])
        if flat is None:
            raise Unopened(f"vault: the batch of leaf {leaf} is gone")
        return [flat[at : at + COMMITMENT_BYTES] for at in range(0, len(flat), COMMITMENT_BYTES)]

    # --- What is looked up ---

    def find(self, record_id: str) -> Kept | None:
        """One record. Raises `Unopened` where it doesn't open."""
        name = UUID(record_id).bytes
        (there,) = self._store.get("ids", [name])
        return None if there is None else self._open(name, there)

    def of(self, subject_ref: str) -> Iterator[Kept]:
        """The records of a subject, in the order of their ids."""
        tag = self._tag(subject_ref)
        for raw, _ in self._store.scan("subjects", tag, tag + END):
            (there,) = self._store.get("ids", [raw[TAG_BYTES:]])
            found = self._open(raw[TAG_BYTES:], there) if there else None
            if found:
                yield found

    def listed(self, subject_ref: str) -> list[Listed]:
        """What is there of a subject, without opening it: for gaps in the numbers of its sources."""
        tag = self._tag(subject_ref)
        return [_listed(raw, value) for raw, value in self._store.scan("subjects", tag, tag + END)]

    def every(self) -> Iterator[list[Listed]]:
        """The same of every subject, without saying whose."""
        tag = b""
        some: list[Listed] = []
        for raw, value in self._store.scan("subjects", b"", END):
            if raw[:TAG_BYTES] != tag and some:
                yield some
                some = []
            tag = raw[:TAG_BYTES]
            some.append(_listed(raw, value))
        if some:
            yield some

    def months(self) -> list[str]:
        """The names of the keys there are, such as `R3/2029-11`: what has not been destroyed."""
        return sorted(self._months)

    # --- What changes ---

    def move(self, record_ids: Sequence[str], key: str) -> int:
        """Seal records under another key, such as that of a later month or of a hold. How many were there to be moved."""
        puts: list[Put] = []
        deletes: list[Delete] = []
        names = [UUID(each).bytes for each in record_ids]
        moved = 0
        for name, there in zip(names, self._store.get("ids", names), strict=True):
            month = self._by_number.get(int.from_bytes(there[:4], "big")) if there else None
            if there is None or month is None:
                continue
            new = self._month(key, puts)
            moved += 1
            if new.number == month.number:
                continue
            (row,) = self._store.get("rows", [there[:4] + name])
            assert row is not None
            where = new.number.to_bytes(4, "big")
            sealed = rewrap(month.cipher, new.cipher, name, row[TAG_BYTES:], self._random(NONCE_BYTES))
            puts += [("ids", name, where + there[4:]), ("rows", where + name, row[:TAG_BYTES] + sealed)]
            deletes.append(("rows", there[:4] + name))
        if puts:
            self._store.write(puts, deletes)
        return moved

    def hold(self, subject_ref: str, name: str) -> None:
        """Keep everything of a subject, what is to come included, beyond any date: under a key of this name, never due."""
        tag = self._tag(subject_ref)
        self._store.write([("facts", HELD + tag, f"hold/{name}".encode())])
        self._held[tag] = f"hold/{name}"
        self.move([each.record_id for each in self.listed(subject_ref)], self._held[tag])

    def release(self, subject_ref: str, today: date) -> None:
        """End a hold: each record goes back under the key of its class and month, this month's where that is over."""
        tag = self._tag(subject_ref)
        self._store.write([], [("facts", HELD + tag)])
        self._held.pop(tag, None)
        theirs = list(self.of(subject_ref))
        until = together(each.record for each in theirs)
        for kept in theirs:
            if kept.key.startswith("hold/"):
                record = replace(kept.record, expires=until[kept.record.record_id])
                self.move([record.record_id], key_of(record, today))

    def put_off(self, record: Record) -> None:
        """Keep the earlier records that this one rolls on (`rolls`) as long as it. Those that are held stay so."""
        earlier = [
            each.record.record_id
            for each in self.of(record.subject_ref)
            if each.record.rolls == record.rolls
            and not each.key.startswith("hold/")
            and each.key.rpartition("/")[2] < record.expires[:7]
        ]
        self.move(earlier, key_of(record))

    def due(self, today: date) -> list[str]:
        """The keys whose last record has expired by `today`: those of months that are over."""
        month = today.strftime("%Y-%m")
        return [name for name in self.months() if MONTHLY.fullmatch(name) and name[-7:] < month]

    def destroy(self, names: Sequence[str], entry: bytes, leaf: int) -> None:
        """Destroy keys, and keep the entry that says so at `leaf`, both or neither. Again is fine.

        From here on nothing that they sealed opens; `sweep` takes away what is left.
        """
        deletes: list[Delete] = []
        puts: list[Put] = []
        for name in names:
            if name in self._months:
                deletes.append(("keys", name.encode()))
                puts.append(("facts", f"gone|{self._months[name].number:08x}".encode(), b""))
        if leaf == self.next_leaf:
            puts += [("entries", _leaf(leaf), entry), ("facts", NEXT, _leaf(leaf + 1))]
        self._store.write(puts, deletes)
        self.next_leaf = max(self.next_leaf, leaf + 1)
        for name in set(names) & self._months.keys():
            del self._by_number[self._months.pop(name).number]

    def sweep(self) -> int:
        """Take away what destroyed keys had sealed, and their ids and places; and have it leave the store's files.

        How many records went. Goes on where an earlier one was interrupted.
        """
        swept = 0
        gone = [raw for raw, _ in self._store.scan("facts", b"gone|", b"gone|" + END)]
        for fact in gone:
            where = bytes.fromhex(fact.decode().rpartition("|")[2])
            while rows := list(islice(self._store.scan("rows", where, where + END), SOME)):
                deletes: list[Delete] = []
                for raw, value in rows:
                    name = raw[len(where) :]
                    deletes += [("rows", raw), ("ids", name), ("subjects", value[:TAG_BYTES] + name)]
                self._store.write([], deletes)
                swept += len(rows)
            self._store.scour()
            self._store.write([], [("facts", fact)])
        return swept

    def rewrap_keys(self) -> int:
        """Seal the vault's own keys under the newest log key, after a rotation. How many were sealed anew."""
        puts: list[Put] = []
        for raw, value in self._store.scan("keys", b"", END):
            if log_generation(value[4:]) != self._keyring.log.current:
                label = _label(raw.decode())
                plain = open_from_log(self._keyring, label, value[4:])
                puts.append(("keys", raw, value[:4] + seal_for_log(self._keyring, label, plain, self._random)))
        puts.append(("facts", SUBJECTS, seal_for_log(self._keyring, "vault|subjects", self._tags, self._random)))
        self._store.write(puts)
        return len(puts)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _month(self, name: str, puts: list[Put]) -> _Month:
        """The key of that name; a new one is written with the records that it is for."""
        found = self._months.get(name)
        if found is None:
            number = int.from_bytes(self._random(4), "big")
            while number in self._by_number:
                number = int.from_bytes(self._random(4), "big")
            sealed = seal_for_log(self._keyring, _label(name), self._random(KEY_BYTES), self._random)
            puts.append(("keys", name.encode(), number.to_bytes(4, "big") + sealed))
            found = self._know(name, puts[-1][2])
        return found

    def _know(self, name: str, value: bytes) -> _Month:
        found = _Month(
            name,
            int.from_bytes(value[:4], "big"),
            AESGCM(open_from_log(self._keyring, _label(name), value[4:])),
        )
        self._months[name] = self._by_number[found.number] = found
        return found

    def _open(self, name: bytes, there: bytes) -> Kept | None:
        month = self._by_number.get(int.from_bytes(there[:4], "big"))
        if month is None:
            return None  # its key was destroyed; what is left of it is about to be swept
        (row,) = self._store.get("rows", [there[:4] + name])
        if row is None:
            raise Unopened("vault: a record is missing although its id is there: bring back a backup")
        record, salt = unseal(month.cipher, name, row[TAG_BYTES:], str(UUID(bytes=name)))
        return Kept(record, salt, int.from_bytes(there[4:12], "big"), int.from_bytes(there[12:], "big"), month.name)

    def _tag(self, subject_ref: str) -> bytes:
        return hmac.digest(self._tags, subject_ref.encode(), "sha256")[:TAG_BYTES]


def key_of(record: Record, today: date | None = None) -> str:
    """The name of the key that seals a record: its class, and the month in which it expires, or this one if that is over."""
    month = record.expires[:7] or OPEN
    if today and month < today.strftime("%Y-%m"):
        month = today.strftime("%Y-%m")
    return f"{record.retention}/{month}"


def _leaf(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _label(name: str) -> str:
    return f"vault|{name}"


def _listed(raw: bytes, value: bytes) -> Listed:
    return Listed(str(UUID(bytes=raw[TAG_BYTES:])), value[8:].decode(), int.from_bytes(value[:8], "big"))
