"""Vault and ledger on a real RocksDB and a real folder: kept, proved, moved, erased; and what is left of it in the files."""

import os
import random
import shutil
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from msgspec.structs import replace

from todoke.processors.checkpoint import Signer
from todoke.processors.commitment import commit, fold_entry
from todoke.processors.keys import Keyring
from todoke.processors.merkle import check_inclusion, leaf_hash, root_of
from todoke.schemas.errors import Fenced, Unopened
from todoke.schemas.records import Record
from todoke.sinks.ledger import Ledger
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder
from todoke.sinks.vault.rocks import Rocks
from todoke.sinks.vault.sealing import RANDOM_BYTES
from todoke.sinks.vault.vault import Vault
from todoke.streams import keyfile

SIGNER = Signer("log.example/shard-0", bytes(range(32)))
IDS = UUID("6b8f0c52-3f0b-5d6a-9b6e-0d0b6a7d3c11")
PLACE = ("provision-log", 0)


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return keyfile.fresh()


def record(number: int, expires: str = "2029-11-23", retention: str = "R3") -> Record:
    """A record of one of seven people."""
    return Record(
        record_id=str(uuid5(IDS, str(number))),
        kind="provision",
        rule="appi",
        at=1_700_000_000_000 + number,
        subject_ref=f"subject-{number % 7}",
        source="intake",
        number=number // 7 + 1,
        partner="kura-crm",
        retention=retention,
        anchor="2026-11-23",
        expires=expires,
        disclosable={"items": ["email-address"], "recipient": "倉CRM株式会社"},
        principal={"identifiers": [f"person-{number}@example.jp"]},
        internal={"event": str(number)},
    )


def vault(place: Path, keyring: Keyring) -> Vault:
    return Vault(Rocks(place / "vault"), keyring, os.urandom)


def ledger(place: Path, keyring: Keyring) -> Ledger:
    storage = Folder(place / "log")
    return Ledger(vault(place, keyring), storage, lambda: Log(storage, Folder(place / "guard"), [SIGNER]))


def append(kept: Vault, begin: int, end: int, expires: str = "2029-11-23") -> None:
    kept.append([record(each, expires) for each in range(begin, end)], {PLACE: end})


def test_what_is_kept_opens_proves_and_survives_a_restart(tmp_path: Path, keyring: Keyring) -> None:
    for begin, end in ((0, 5), (5, 6), (6, 300)):
        kept = vault(tmp_path, keyring)
        assert kept.offsets() == ({PLACE: begin} if begin else {})
        append(kept, begin, end)
        kept.close()
    kept = vault(tmp_path, keyring)
    assert kept.next_leaf == 3
    for number in (0, 5, 6, 299):
        found = kept.find(record(number).record_id)
        assert found is not None
        assert found.record == record(number)
        path, size = kept.path(found.leaf, found.place)
        entry = kept.entries(found.leaf, 1)[0]
        commitment = commit(found.record, found.salt)
        root = root_of([leaf_hash(each) for each in kept.commitments(found.leaf)])
        check_inclusion(leaf_hash(commitment), found.place, size, path, root)
        assert entry == fold_entry(kept.commitments(found.leaf))
    theirs = {each.record.record_id for each in kept.of("subject-3")}
    assert theirs == {record(each).record_id for each in range(300) if each % 7 == 3}
    assert {each.number for each in kept.listed("subject-3")} == set(range(1, 44))
    assert sum(len(each) for each in kept.every()) == 300
    assert kept.unknown([record(299).record_id, record(300).record_id, record(300).record_id]) == [False, True, False]
    kept.close()


def test_a_second_process_is_told_to_stop(tmp_path: Path, keyring: Keyring) -> None:
    kept = vault(tmp_path, keyring)
    with pytest.raises(Fenced, match="another process"):
        vault(tmp_path, keyring)
    kept.close()


def test_another_keyring_opens_nothing(tmp_path: Path, keyring: Keyring) -> None:
    kept = vault(tmp_path, keyring)
    append(kept, 0, 3)
    kept.close()
    with pytest.raises(Unopened):
        vault(tmp_path, keyfile.fresh())


def bytes_of(folder: Path) -> bytes:
    return b"".join(each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file())


def test_an_expired_month_is_gone_from_vault_index_and_files_and_the_tree_stands(
    tmp_path: Path, keyring: Keyring
) -> None:
    drawn: list[bytes] = []

    def noted(count: int) -> bytes:
        drawn.append(os.urandom(count))
        return drawn[-1]

    storage = Folder(tmp_path / "log")
    kept = Vault(Rocks(tmp_path / "vault"), keyring, noted)
    both = Ledger(kept, storage, lambda: Log(storage, Folder(tmp_path / "guard"), [SIGNER]))
    kept.append([record(0, "2026-10-31"), record(1), record(2, "2026-11-01"), record(3, "2026-10-02")], {PLACE: 4})
    both.publish()
    (fresh,) = [each for each in drawn if len(each) == 4 * RANDOM_BYTES]
    nonce = fresh[:12]  # of the first record's wrapped key: it stands in the store as it is
    kept._store.scour()
    assert nonce in bytes_of(tmp_path / "vault")
    assert both.erase_due(date(2026, 10, 31)) is None
    made = both.erase_due(date(2026, 11, 1))
    assert made is not None
    assert made.keys == ("R3/2026-10",)
    for number, stays in ((0, False), (1, True), (2, True), (3, False)):
        assert (kept.find(record(number).record_id) is not None) == stays
        assert (list(kept.listed(f"subject-{number}")) != []) == stays
    assert nonce not in bytes_of(tmp_path / "vault")
    found = kept.find(record(1).record_id)
    assert found is not None
    path, size = kept.path(found.leaf, found.place)
    root = root_of([leaf_hash(each) for each in kept.commitments(found.leaf)])
    check_inclusion(leaf_hash(commit(found.record, found.salt)), found.place, size, path, root)
    assert both.log.size == 2
    both.close()


def test_a_record_that_is_put_off_or_held_outlives_its_month(tmp_path: Path, keyring: Keyring) -> None:
    both = ledger(tmp_path, keyring)
    append(both.vault, 0, 4, "2026-10-31")
    assert both.vault.move([record(1).record_id], "R3L/2027-10") == 1
    assert both.vault.move([record(2).record_id, record(99).record_id], "hold/a") == 1
    both.erase_due(date(2026, 11, 1))
    assert [both.vault.find(record(each).record_id) is not None for each in range(4)] == [False, True, True, False]
    assert both.vault.months() == ["R3L/2027-10", "hold/a"]
    assert both.vault.move([record(2).record_id], "R3/2026-11") == 1
    both.erase_due(date(2026, 12, 1))
    assert both.vault.find(record(2).record_id) is None
    both.close()


def test_records_that_roll_are_put_off_together_through_a_hold_and_its_release(
    tmp_path: Path, keyring: Keyring
) -> None:
    both = ledger(tmp_path, keyring)
    first, second, other = (
        replace(record(number), subject_ref="one", retention="R3L", rolls=rolls, expires=expires)
        for number, rolls, expires in ((1, "a", "2026-10-31"), (2, "a", "2027-03-31"), (3, "b", "2026-10-31"))
    )
    both.vault.append([first, other], {PLACE: 1})
    both.vault.put_off(second)
    both.vault.append([second], {PLACE: 2})
    assert both.vault.months() == ["R3L/2026-10", "R3L/2027-03"]
    both.vault.hold("one", "case")
    both.vault.put_off(replace(second, expires="2027-04-30"))  # what is held stays under its hold
    assert {each.key for each in both.vault.of("one")} == {"hold/case"}
    both.vault.release("one", date(2026, 9, 1))
    both.erase_due(date(2026, 11, 1))
    found = {each.record.record_id: each.key for each in both.vault.of("one")}
    assert found == {first.record_id: "R3L/2027-03", second.record_id: "R3L/2027-03"}
    both.close()


@pytest.mark.parametrize("seed", range(6))
def test_an_older_vault_is_brought_up_to_its_log_and_erases_again(tmp_path: Path, keyring: Keyring, seed: int) -> None:
    rng = random.Random(seed)
    both = ledger(tmp_path, keyring)
    append(both.vault, 0, 10, "2026-10-31")
    append(both.vault, 10, 20)
    both.publish()
    both.close()
    shutil.copytree(tmp_path / "vault", tmp_path / "backup")
    both = ledger(tmp_path, keyring)
    steps = ["append", "erase"]
    rng.shuffle(steps)
    for step in steps:
        if step == "append":
            append(both.vault, 20, 30)
        else:
            both.erase_due(date(2026, 11, 5))
    both.publish()
    size = both.log.size
    both.close()
    shutil.rmtree(tmp_path / "vault")
    shutil.copytree(tmp_path / "backup", tmp_path / "vault")
    both = ledger(tmp_path, keyring)
    assert both.vault.next_leaf == both.log.size == size
    assert both.vault.find(record(3).record_id) is None, "what was erased came back with the backup"
    assert both.vault.find(record(13).record_id) is not None
    assert both.vault.offsets() == {PLACE: 20}
    append(both.vault, 20, 30)  # they come again from the topic
    both.publish()
    assert both.vault.find(record(23).record_id) is not None
    both.close()


def test_a_vault_of_another_log_is_refused(tmp_path: Path, keyring: Keyring) -> None:
    for name in ("one", "two"):
        both = ledger(tmp_path / name, keyring)
        append(both.vault, 0, 5)
        both.publish()
        both.close()
    shutil.rmtree(tmp_path / "one" / "vault")
    shutil.copytree(tmp_path / "two" / "vault", tmp_path / "one" / "vault")
    with pytest.raises(Fenced, match="are not those of the log"):
        ledger(tmp_path / "one", keyring)


def test_a_rotated_log_key_can_be_retired_once_the_vault_is_sealed_anew(tmp_path: Path, keyring: Keyring) -> None:
    kept = vault(tmp_path, keyring)
    append(kept, 0, 3)
    kept.close()
    newer = {**keyring.log.keys, "l2": os.urandom(32)}
    rotated = replace(keyring, log=replace(keyring.log, current="l2", keys=newer))
    kept = vault(tmp_path, rotated)
    assert kept.rewrap_keys() == 2
    kept.close()
    alone = replace(rotated, log=replace(rotated.log, keys={"l2": newer["l2"]}))
    kept = vault(tmp_path, alone)
    assert kept.find(record(1).record_id) is not None
    kept.close()


@pytest.fixture(autouse=True)
def _names_stay_inside(tmp_path: Path) -> Iterator[None]:
    yield
    assert b"person-1@example.jp" not in bytes_of(tmp_path)
    assert sha256(b"person-1@example.jp").digest() not in bytes_of(tmp_path)
