"""The verifier: what is whole passes, and of what has one byte changed it names the part."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.sinks.test_vault import record
from todoke.processors.audit import InBatch, InLog, Receipt, check_receipt, receipt, verify
from todoke.processors.checkpoint import Checkpoint, Signer
from todoke.processors.commitment import commit, fold_entry, show
from todoke.processors.merkle import Edge, inclusion, leaf_hash
from todoke.processors.tiles import CHECKPOINT, hashes_of
from todoke.schemas.errors import Unproved
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder

SIGNER = Signer("log.example/0", bytes(range(32)))
KEYS = [SIGNER.verifier()]
SIZES = (1, 255, 256, 257, 700)
BIG = 70_000
"""More than a full tile of the second level."""


def entry(number: int) -> bytes:
    return fold_entry([number.to_bytes(32, "big")])


def made(place: Path, *sizes: int) -> Folder:
    log = Log(Folder(place), None, [SIGNER])
    for size in sizes:
        log.publish([entry(number) for number in range(log.size, size)])
    log.close()
    return Folder(place)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return made(tmp_path_factory.mktemp("log"), *SIZES)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600, BIG])
def test_a_log_of_any_size_is_whole(tmp_path: Path, size: int) -> None:
    found = verify(made(tmp_path, size).read, KEYS, SIGNER.name)
    assert (found.checkpoint.size, found.entries, found.records, found.erasures) == (size, size, size, 0)


def test_from_a_checkpoint_on_only_what_is_new_is_read(tmp_path: Path) -> None:
    saved: list[Checkpoint] = []
    for size in (3, 256, 300, 513, 900):
        folder = made(tmp_path, size)
        for since in [None, *saved]:
            read: list[str] = []

            def noted(name: str, read: list[str] = read, folder: Folder = folder) -> bytes | None:
                read.append(name)
                return folder.read(name)

            found = verify(noted, KEYS, SIGNER.name, since)
            assert found.entries == size - (since.size if since else 0)
            bundles = {name for name in read if name.startswith("tile/entries/")}
            assert len(bundles) <= 2 * (size // 256 + 1 - (since.size // 256 if since else 0))
        saved.append(found.checkpoint)
    with pytest.raises(Unproved, match="not those that were verified before"):
        verify(folder.read, KEYS, SIGNER.name, Checkpoint(SIGNER.name, 300, bytes(32)))
    with pytest.raises(Unproved, match="fewer than the 901"):
        verify(folder.read, KEYS, SIGNER.name, Checkpoint(SIGNER.name, 901, bytes(32)))


def names(folder: Folder) -> Iterator[str]:
    """The files that a checkpoint of 700 entries speaks of."""
    yield CHECKPOINT
    for name in ("tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"):
        yield name
    for name in ("tile/entries/000", "tile/entries/001", "tile/entries/002.p/188"):
        yield name


def but(folder: Folder, name: str, said: bytes | None) -> Callable[[str], bytes | None]:
    """The log, with other bytes in one place."""
    return lambda each: said if each == name else folder.read(each)


@pytest.mark.parametrize("name", list(names(Folder(Path()))))
def test_any_byte_that_is_changed_is_found_and_named(folder: Folder, name: str) -> None:
    data = folder.read(name)
    assert data is not None
    places = (
        range(len(data)) if name == CHECKPOINT else random.Random(name).sample(range(len(data)), min(len(data), 200))
    )
    for at in places:
        for bit in (1, 0x80):
            changed = bytearray(data)
            changed[at] ^= bit
            said = bytes(changed)
            with pytest.raises(Unproved) as error:
                verify(but(folder, name, said), KEYS, SIGNER.name)
            of = name.rsplit("/", maxsplit=1)[-1].split(".", maxsplit=1)[0]
            spoken = str(error.value)
            assert (
                spoken.startswith(("checkpoint", "note")) if name == CHECKPOINT else of in spoken or "entry" in spoken
            ), spoken


@pytest.mark.parametrize("name", list(names(Folder(Path()))))
@pytest.mark.parametrize("how", ["gone", "short", "long"])
def test_a_file_that_is_gone_or_of_another_length_is_named(folder: Folder, name: str, how: str) -> None:
    data = folder.read(name) or b""
    said = {"gone": None, "short": data[:-1], "long": data + b"\x00\x01x"}[how]
    if name.endswith(("/188", "/2")) and how == "gone":
        assert folder.read(name.partition(".p")[0]) is None  # nothing has taken its place
    with pytest.raises(Unproved) as error:
        verify(but(folder, name, said), KEYS, SIGNER.name)
    assert name.split(".", maxsplit=1)[0] in str(error.value) or name == CHECKPOINT


def test_another_key_or_origin_is_refused(folder: Folder) -> None:
    with pytest.raises(Unproved, match="none of the log's keys"):
        verify(folder.read, [Signer(SIGNER.name, bytes(32)).verifier()], SIGNER.name)
    with pytest.raises(Unproved, match=r"is of the log log\.example/0"):
        verify(folder.read, KEYS, "log.example/1")


def test_entries_of_another_form_are_refused(tmp_path: Path) -> None:
    log = Log(Folder(tmp_path), None, [SIGNER])
    log.publish([entry(0), b'{"n":1,"root":"","t":"rows","v":1,"name":"taro"}'])
    log.close()
    with pytest.raises(Unproved, match="entry 1"):
        verify(Folder(tmp_path).read, KEYS, SIGNER.name)


def given(place: Path, hidden: bool) -> bytes:
    """A receipt for the 17th of 40 records, in a log of 300 entries."""
    records = [record(number) for number in range(40)]
    salts = [bytes([number]) * 32 for number in range(40)]
    commitments = [commit(each, salt) for each, salt in zip(records, salts, strict=True)]
    log = Log(Folder(place), None, [SIGNER])
    log.publish([entry(number) for number in range(123)])
    log.publish([fold_entry(commitments)])
    log.publish([entry(number) for number in range(124, 300)])
    log.close()
    kept: dict[tuple[int, int], bytes] = {}
    tree = Edge()
    for each in commitments:
        tree.append(leaf_hash(each), lambda level, index, value: kept.__setitem__((level, index), value))
    path = inclusion(17, 40, lambda level, index: kept[level, index])
    shown = show(
        records[17],
        salts[17],
        frozenset({"head", "disclosable"} if hidden else {"head", "disclosable", "principal", "internal"}),
    )
    read = Folder(place).read
    proof = inclusion(123, 300, hashes_of(300, read))
    made = receipt(shown, InBatch(17, 40, path, fold_entry(commitments)), InLog(123, proof, read(CHECKPOINT) or b""))
    return msgspec.json.encode(made)


def test_a_receipt_proves_what_it_shows_and_hides_the_rest(tmp_path: Path) -> None:
    whole = check_receipt(given(tmp_path / "a", hidden=False), KEYS, SIGNER.name)
    assert whole.values["principal"]["identifiers"] == ["person-17@example.jp"]
    data = given(tmp_path / "b", hidden=True)
    part = check_receipt(data, KEYS, SIGNER.name)
    assert part.values["disclosable"]["items"] == ["email-address"]
    assert b"person-17" not in data


def test_any_character_of_a_receipt_that_is_changed_is_found(tmp_path: Path) -> None:
    data = given(tmp_path, hidden=True)
    whole = msgspec.json.decode(data, type=Receipt)
    unnoticed = []
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            same = check_receipt(bytes(changed), KEYS, SIGNER.name)
        except Unproved:
            continue
        if same != whole:
            unnoticed.append(data[max(at - 20, 0) : at + 20])
    assert unnoticed == []
