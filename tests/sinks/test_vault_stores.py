"""Both stores, for real: what the vault asks of a database; any order of what can happen; killed at each write; two writers."""

import base64
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import msgspec
import pytest
from msgspec import Struct

from tests.postgres import Served, postgres
from todoke.processors.checkpoint import Signer
from todoke.processors.commitment import commit
from todoke.processors.keys import Keyring
from todoke.processors.merkle import check_inclusion, leaf_hash
from todoke.schemas.errors import Fenced, Misconfigured
from todoke.schemas.records import Record
from todoke.sinks.ledger import Ledger
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder
from todoke.sinks.vault.base import TABLES, Delete, Put, Store
from todoke.sinks.vault.postgres import Postgres
from todoke.sinks.vault.rocks import Rocks
from todoke.sinks.vault.sealing import RANDOM_BYTES, WRAPPED_BYTES
from todoke.sinks.vault.vault import TAG_BYTES, Vault
from todoke.streams import keyfile

IDS = UUID("3c1a7c1e-9d0f-5f0a-8f57-4d7f7b0a4a11")
SIGNER = Signer("log.example/shard-0", bytes(range(32)))
PLACE = ("provision-log", 0)
END = b"\xff" * 64
ROOT = Path(__file__).parents[2]


class Opener(Struct, frozen=True):
    """Opens one and the same store, in any process; and where its files are."""

    kind: str
    where: str
    schema: str
    files: Path

    def __call__(self, *, reading: bool = False) -> Store:
        if self.kind == "postgres":
            return Postgres(self.where, self.schema, reading=reading)
        return Rocks(Path(self.where), reading=reading)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with postgres() as found:
        yield found


@pytest.fixture(params=["rocks", "postgres"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "rocks":
        return Opener("rocks", str(tmp_path / "vault"), "", tmp_path / "vault")
    served: Served = request.getfixturevalue("served")
    return Opener("postgres", served.url, f"vault_{uuid4().hex}", served.data)


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return keyfile.fresh()


# --- What the vault asks of a store ---


def test_what_was_written_is_there_in_order_and_after_a_restart(opener: Opener) -> None:
    store = opener()
    rng = random.Random(7)
    rows = {rng.randbytes(rng.randint(0, 20)): rng.randbytes(rng.randint(0, 5_000)) for _ in range(4_500)}
    keys = list(rows)
    store.write([("rows", key, rows[key]) for key in keys[:3_000]])
    store.write([("rows", key, rows[key]) for key in keys[3_000:]])
    store.close()
    store = opener()
    assert list(store.scan("rows", b"", END)) == sorted(rows.items())
    low, high = sorted(rng.sample(keys, 2))
    assert list(store.scan("rows", low, high)) == sorted((k, v) for k, v in rows.items() if low <= k < high)
    asked = [keys[5], b"never there, and longer than any", keys[4_000], keys[5]]
    assert store.get("rows", asked) == [rows[keys[5]], None, rows[keys[4_000]], rows[keys[5]]]
    assert store.get("rows", []) == []
    assert [list(store.scan(table, b"", END)) for table in TABLES if table != "rows"] == [[]] * (len(TABLES) - 1)
    store.close()


def test_a_write_puts_over_what_was_there_and_deletes_first(opener: Opener) -> None:
    store = opener()
    store.write([("facts", b"a", b"1"), ("facts", b"b", b"1"), ("keys", b"a", b"1")])
    store.write([("facts", b"a", b"2"), ("facts", b"a", b"3"), ("keys", b"n", b"")], [("facts", b"a"), ("facts", b"b")])
    store.write([])
    assert dict(store.scan("facts", b"", END)) == {b"a": b"3"}
    assert dict(store.scan("keys", b"", END)) == {b"a": b"1", b"n": b""}
    store.scour()
    assert store.get("facts", [b"a", b"b"]) == [b"3", None]
    store.close()


def test_a_write_that_fails_wrote_nothing(opener: Opener) -> None:
    store = opener()
    with pytest.raises(Exception):  # noqa: B017 - each database has its own
        store.write([("facts", b"a", b"1"), ("nowhere", b"b", b"2")])  # type: ignore[list-item]
    assert list(store.scan("facts", b"", END)) == []
    store.close()


def test_a_second_writer_is_fenced_and_a_reader_is_not(opener: Opener) -> None:
    store = opener()
    store.write([("facts", b"a", b"1")])
    with pytest.raises(Fenced, match="another process has this vault open"):
        opener()
    reader = opener(reading=True)
    assert reader.get("facts", [b"a"]) == [b"1"]
    with pytest.raises(Exception):  # noqa: B017 - each database has its own
        reader.write([("facts", b"a", b"2")])
    reader.close()
    assert store.get("facts", [b"a"]) == [b"1"]
    store.close()
    opener().close()


def test_a_reader_makes_no_vault(opener: Opener) -> None:
    with pytest.raises(Misconfigured, match="no vault is there"):
        opener(reading=True)


# --- What happens to a vault, in any order ---


def record(number: int, expires: str = "2029-11-23") -> Record:
    return Record(
        record_id=str(uuid5(IDS, str(number))),
        kind="provision",
        rule="appi",
        at=1_700_000_000_000 + number,
        subject_ref=f"subject-{number % 7}",
        source="intake",
        number=number // 7 + 1,
        partner="kura-crm",
        retention="R3",
        anchor="2026-11-23",
        expires=expires,
        disclosable={"items": ["email-address"]},
        principal={"identifiers": [f"person-{number}@example.jp"]},
        internal={"event": str(number)},
    )


def ledger(store: Store, place: Path, keyring: Keyring) -> Ledger:
    storage = Folder(place / "log")
    vault = Vault(store, keyring, os.urandom)
    return Ledger(vault, storage, lambda: Log(storage, Folder(place / "guard"), [SIGNER]))


def proved(both: Ledger, number: int) -> bool:
    """Whether a record opens, and then leads to what the log says; and it stands in its subject's list just then."""
    wanted = record(number)
    found = both.vault.find(wanted.record_id)
    listed = {each.record_id for each in both.vault.listed(wanted.subject_ref)}
    assert (wanted.record_id in listed) == (found is not None)
    if found is None:
        return False
    path, size = both.vault.path(found.leaf, found.place)
    said = both.vault.entries(found.leaf, 1)[0]
    tree = leaf_hash(commit(found.record, found.salt))
    root = base64.b64decode(msgspec.json.decode(said)["root"])
    check_inclusion(tree, found.place, size, path, root)
    return True


MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05")


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_what_is_held_opens_and_what_is_over_does_not(
    opener: Opener, tmp_path: Path, keyring: Keyring, seed: int
) -> None:
    rng = random.Random(seed)
    both = ledger(opener(), tmp_path, keyring)
    alive: dict[int, str] = {}  # number: the month in which it ends
    held: set[int] = set()
    count, now = 0, 0
    for _ in range(30):
        step = rng.choice(("append", "append", "hold", "release", "erase", "restart", "publish"))
        subject = rng.randrange(7)
        today = date.fromisoformat(f"{MONTHS[now]}-01")
        if step == "append":
            new = {count + each: rng.choice(MONTHS[now:]) for each in range(rng.randint(1, 9))}
            both.vault.append([record(each, f"{month}-15") for each, month in new.items()], {PLACE: count + len(new)})
            alive |= new
            count += len(new)
        elif step == "hold":
            both.vault.hold(f"subject-{subject}", str(count))
            held.add(subject)
        elif step == "release":
            both.vault.release(f"subject-{subject}", today)
            if subject in held:
                alive |= {each: max(month, MONTHS[now]) for each, month in alive.items() if each % 7 == subject}
            held.discard(subject)
        elif step == "erase":
            now = min(now + 1, len(MONTHS) - 1)
            both.erase_due(date.fromisoformat(f"{MONTHS[now]}-01"))
            alive = {each: month for each, month in alive.items() if month >= MONTHS[now] or each % 7 in held}
        elif step == "restart":
            both.close()
            both = ledger(opener(), tmp_path, keyring)
        else:
            both.publish()
    assert {each for each in range(count) if proved(both, each)} == set(alive)
    both.publish()
    assert both.log.size == both.vault.next_leaf
    both.close()


def in_files(folder: Path, wanted: bytes) -> list[str]:
    """Which files of a store hold these bytes."""
    return [str(each) for each in sorted(folder.rglob("*")) if each.is_file() and wanted in each.read_bytes()]


def test_of_an_erased_record_no_byte_is_in_any_file(opener: Opener, tmp_path: Path, keyring: Keyring) -> None:
    one = 1_000_000  # in no other vault of the same server
    drawn: list[bytes] = []

    def noted(many: int) -> bytes:
        drawn.append(os.urandom(many))
        return drawn[-1]

    storage = Folder(tmp_path / "log")
    store = opener()
    both = Ledger(Vault(store, keyring, noted), storage, lambda: Log(storage, Folder(tmp_path / "guard"), [SIGNER]))
    both.vault.append([record(one + 1), record(one, "2026-10-31")], {PLACE: 2})
    row = next(
        value for _, value in store.scan("rows", b"", END) if value[TAG_BYTES : TAG_BYTES + 12] == drawn_nonce(drawn)
    )
    month = next(value for key, value in store.scan("keys", b"", END) if key == b"R3/2026-10")
    wrapped = row[TAG_BYTES : TAG_BYTES + WRAPPED_BYTES]
    store.scour()
    assert in_files(opener.files, wrapped)
    assert in_files(opener.files, month)
    both.erase_due(date(2026, 11, 1))
    assert not proved(both, one)
    assert proved(both, one + 1)
    gone = (wrapped, month, UUID(record(one).record_id).bytes)
    assert [each for wanted in gone for each in in_files(opener.files, wanted) if "pg_wal" not in each] == []
    for _ in range(20 if opener.kind == "postgres" else 0):  # its write-ahead log goes by whole files, at checkpoints
        store.write([("batches", b"more", os.urandom(500_000))])
        store.scour()
    assert [each for wanted in gone for each in in_files(opener.files, wanted)] == []
    both.close()


def drawn_nonce(drawn: Sequence[bytes]) -> bytes:
    """That of the second record's wrapped key: at the edge of its page, where nothing moves over it."""
    (fresh,) = [each for each in drawn if len(each) == 2 * RANDOM_BYTES]
    return fresh[RANDOM_BYTES : RANDOM_BYTES + 12]


# --- Killed ---


class Deadly:
    """A store whose process dies at its n-th write or scouring: before it, or right after it."""

    def __init__(self, store: Store, at: int, after: bool) -> None:
        self._store, self._left, self._after = store, at, after
        self.get, self.scan, self.close = store.get, store.scan, store.close

    def write(self, puts: Sequence[Put], deletes: Sequence[Delete] = ()) -> None:
        self._around(lambda: self._store.write(puts, deletes))

    def scour(self) -> None:
        self._around(self._store.scour)

    def _around(self, work: Callable[[], None]) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        work()
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


OLD = range(6)
NEW = range(6, 10)


def life(both: Ledger) -> None:
    """What a process does: again from its beginning it comes to the same end."""
    vault = both.vault
    for numbers, month in ((OLD, "2026-10"), (NEW, "2029-11")):
        wanted = [record(each, f"{month}-15") for each in numbers]
        fresh = vault.unknown([each.record_id for each in wanted])
        if both.log.size < 3:  # later, what is unknown was erased: its offset is past
            records = [each for each, new in zip(wanted, fresh, strict=True) if new]
            vault.append(records, {PLACE: numbers.stop})
    vault.hold("subject-0", "a")
    vault.move([record(1).record_id], "R3L/2027-01")
    both.publish()
    vault.rewrap_keys()
    both.erase_due(date(2026, 11, 1))
    vault.release("subject-0", date(2026, 11, 1))
    vault.sweep()


def forked(work: Callable[[], None]) -> int:
    """How a child ends that does this: 0, or the signal that killed it. From a process without threads."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the parent is told
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(opener: Opener, place: Path, keyring: Keyring, at: int, after: bool) -> bool:
    """Live, killed at the n-th write, and live again; whether there was an n-th write."""

    def once() -> None:
        both = ledger(Deadly(opener(), at, after), place, keyring)
        life(both)
        both.close()

    ended = forked(once)
    assert ended in (0, -signal.SIGKILL)

    def again() -> None:
        both = ledger(opener(), place, keyring)
        assert both.log.size == both.vault.next_leaf
        life(both)
        assert [proved(both, each) for each in OLD] == [True, True, False, False, False, False]
        assert all(proved(both, each) for each in NEW)
        assert both.vault.offsets() == {PLACE: NEW.stop}
        assert both.log.size == both.vault.next_leaf == 3
        both.close()

    assert forked(again) == 0, f"killed at write {at}"
    return ended != 0


def main(kind: str, where: str, schema: str, folder: str) -> None:
    """All kills of one store: at every write, before it and after it."""
    keyring = keyfile.fresh()
    kills = 0
    for after in (False, True):
        for at in range(1, 100):
            name = f"{schema}_{at}_{int(after)}"
            place = Path(folder) / name
            opener = Opener(kind, where if kind == "postgres" else str(place / "vault"), name, place)
            if not killed(opener, place, keyring, at, after):
                break
            kills += 1
    print(kills)


@pytest.mark.chaos
def test_killed_before_and_after_each_write_it_comes_to_the_same_end(opener: Opener, tmp_path: Path) -> None:
    told = [opener.kind, opener.where, opener.schema or "vault", str(tmp_path)]
    code = f"from tests.sinks.test_vault_stores import main; main(*{told!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20
