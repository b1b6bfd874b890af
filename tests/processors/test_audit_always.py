"""The verifier over logs of any size and history: every byte counts, nothing more is needed, and what is wrong is named."""

import random
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processors import test_audit as simple
from todoke.processors.audit import Audit, Receipt, check_receipt, verify
from todoke.processors.checkpoint import Checkpoint, Signer, parse_checkpoint, parse_note, sign
from todoke.processors.commitment import fold_entry
from todoke.processors.tiles import CHECKPOINT, WIDTH, bundle, journal, tile, widths
from todoke.schemas.errors import Fenced, Unproved
from todoke.sinks.ledger import entry_of
from todoke.sinks.log import Log

SIGNER = Signer("log.example/0", bytes(range(32)))
KEYS = [SIGNER.verifier()]
LINES = [
    b'{"day":"2027-01-01","keys":["R1.2026-12"],"leaf":3,"v":1}',
    b'{"day":"2027-02-01","keys":["R1"],"leaf":5,"v":1}',
]
Files = dict[str, bytes]


class Shelf:
    """A storage in a dictionary."""

    def __init__(self) -> None:
        self.files: Files = {}

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def create(self, name: str, data: bytes) -> None:
        if self.files.setdefault(name, data) != data:
            raise Fenced(name)

    def swap(self, name: str, old: bytes | None, new: bytes) -> None:
        if self.files.get(name) != old:
            raise Fenced(name)
        self.files[name] = new

    def delete(self, name: str) -> None:
        self.files.pop(name, None)

    def clear(self, name: str) -> None:
        self.files = {each: data for each, data in self.files.items() if not each.startswith(f"{name}/")}

    def close(self) -> None:
        pass


def entry(number: int) -> bytes:
    """The 4th and the 6th of every log are erasures."""
    if number in (3, 5):
        return entry_of(LINES[number == 5], number)
    return fold_entry([number.to_bytes(32, "big")] * (number % 3 + 1))


@cache
def files(*sizes: int) -> Files:
    """A log that was published at these sizes."""
    shelf = Shelf()
    log = Log(shelf, None, [SIGNER])
    for size in sizes:
        log.publish([entry(number) for number in range(log.size, size)])
    empty = {CHECKPOINT: sign(log.checkpoint, [SIGNER]).dump()}
    return empty | shelf.files | {journal(number): line for number, line in enumerate(LINES)}


def judged(log: Files, since: Checkpoint | None = None, minimum: int = 0) -> Audit:
    return verify(log.get, KEYS, SIGNER.name, since, minimum=minimum)


def checkpoint(log: Files) -> Checkpoint:
    return parse_checkpoint(parse_note(log[CHECKPOINT]).text)


def spoken_of(size: int) -> list[str]:
    """The files that a checkpoint of this size stands on."""
    names = [CHECKPOINT, *map(journal, range((size > 3) + (size > 5)))]
    for level in range(8):
        full, part = divmod(size >> (8 * level), WIDTH)
        names += [tile(level, index) for index in range(full)] + ([tile(level, full, part)] if part else [])
    full, part = divmod(size, WIDTH)
    return names + [bundle(index) for index in range(full)] + ([bundle(full, part)] if part else [])


def unnoticed(log: Files, name: str, places: range | list[int], bits: range) -> list[tuple[str, int, str]]:
    """The bytes of a file that may be changed without an error that names the file."""
    found = []
    for at in places:
        for bit in bits:
            changed = bytearray(log[name])
            changed[at] ^= 1 << bit
            try:
                judged(log | {name: bytes(changed)})
                said = ""
            except Unproved as error:
                said = str(error)
            if name not in said and not (name == CHECKPOINT and said.startswith("note: ")):
                found.append((name, at, said))
    return found


@pytest.mark.parametrize("name", spoken_of(23))
def test_no_bit_of_a_small_log_can_be_changed(name: str) -> None:
    log = files(2, 23)
    assert unnoticed(log, name, range(len(log[name])), range(8)) == []


@pytest.mark.parametrize("name", spoken_of(300))
def test_no_byte_of_a_log_with_two_levels_can_be_changed(name: str) -> None:
    log = files(2, 255, 257, 300)
    bits, size = random.Random(name), len(log[name])
    places = sorted(bits.sample(range(size), min(size, 250)))
    assert unnoticed(log, name, places, range(bits.randrange(8), 8, 8)) == []


@pytest.mark.long
@pytest.mark.parametrize("name", spoken_of(300))
def test_no_byte_at_all_of_a_log_with_two_levels_can_be_changed(name: str) -> None:
    log = files(2, 255, 257, 300)
    assert unnoticed(log, name, range(len(log[name])), range(random.Random(name).randrange(8), 8, 8)) == []


def test_no_byte_of_a_log_with_three_levels_can_be_changed() -> None:
    log = files(65_536 + 256 + 1)
    chosen = random.Random(3)
    names = [each for each in spoken_of(65_793) if each.startswith(("tile/1", "tile/2"))]
    for name in [*names, *chosen.sample(spoken_of(65_793), 4)]:
        assert unnoticed(log, name, [chosen.randrange(len(log[name]))], range(1)) == []


def test_what_is_not_an_entry_of_ours_is_named_although_it_was_signed() -> None:
    good = entry(1)
    root = good[good.index(b"root") + 7 :][:44]
    for wrong in (
        b"",
        b"{}",
        good + b" ",
        good.replace(b'"n":2', b'"n":0'),
        good.replace(b'"n":2', b'"n":02'),
        good.replace(b'"n":2', b'"n":2,"n":2'),
        good.replace(b'"n":2', b'"n":2,"name":"taro"'),
        good.replace(b'"v":1', b'"v":2'),
        good.replace(root, root[:-4]),
        good.replace(root, root[:-2] + b"9="),
        good.replace(b'{"n"', b'{ "n"'),
        entry(3).replace(b'"n":3', b'"n":0'),
        entry(3).replace(b"erasure", b"erased"),
    ):
        shelf = Shelf()
        Log(shelf, None, [SIGNER]).publish([entry(0), wrong, entry(2)])
        with pytest.raises(Unproved, match=r"entry 1 of tile/entries/000: "):
            judged(shelf.files)
        assert verify(shelf.read, KEYS, SIGNER.name, ours=False).entries == 3


def test_an_erasure_without_its_line_is_named() -> None:
    log = files(300)
    before = checkpoint(files(4))
    assert (judged(log).erasures, judged(log, before).erasures) == (2, 1)
    short = {name: data for name, data in log.items() if name != journal(1)}
    for since, said in (
        (None, r"journal/000001\.json: it is missing"),
        (before, "entry 5 of tile/entries/000: the journal"),
    ):
        with pytest.raises(Unproved, match=said):
            judged(short, since)
    with pytest.raises(Unproved, match=r"journal/000001\.json: it is not what entry 5"):
        judged(log | {journal(1): LINES[1] + b" "})
    with pytest.raises(Unproved, match="entry 5"):
        judged(log | {journal(1): LINES[1] + b" "}, before)
    with pytest.raises(Unproved, match=r"journal/000000\.json"):
        judged(log | {journal(0): LINES[1], journal(1): LINES[0]})
    assert judged(log | {journal(2): b"of an erasure that is being published"}).erasures == 2


SIZES = st.integers(0, 5).flatmap(
    lambda exact: st.sampled_from([0, 1, 255, 256, 257, 512, 600]) if exact else st.integers(0, 800)
)


@settings(max_examples=60)
@given(st.lists(SIZES, min_size=2, max_size=4).map(sorted), st.data())
def test_in_parts_as_whole_and_what_was_verified_can_not_be_rewritten(sizes: list[int], data: st.DataObject) -> None:
    *earlier, old, size = sizes
    log = files(*earlier, old, size)
    since = checkpoint(files(old))
    whole, part = judged(log), judged(log, since)
    assert (whole.checkpoint, whole.entries, part.entries) == (part.checkpoint, size, size - old)
    assert part.records == whole.records - judged(files(old)).records
    if old:
        rewritten = data.draw(st.integers(0, old - 1))
        shelf = Shelf()
        entries = [entry(number) for number in range(size)]
        entries[rewritten] = fold_entry([sha256(b"another").digest()])
        Log(shelf, None, [SIGNER]).publish(entries)
        with pytest.raises(Unproved, match=f"first {old} entries"):
            judged(shelf.files, since)


def prunable(size: int, minimum: int) -> set[str]:
    """What a log may refuse: full tiles and bundles that end at or before its minimum index (tlog-tiles, Pruning)."""
    found = {bundle(index) for index in range(minimum // WIDTH)}
    for level in range(8):
        found |= {tile(level, index) for index in range(minimum >> (8 * (level + 1)))}
    return found & set(spoken_of(size))


@settings(max_examples=60)
@given(SIZES, st.data())
def test_what_may_be_gone_is_not_asked_for_and_all_else_is(size: int, data: st.DataObject) -> None:
    minimum = data.draw(st.integers(0, size) | st.just(size))
    log, gone = files(size), prunable(size, minimum)
    left = {name: each for name, each in log.items() if name not in gone}
    found = judged(left, minimum=minimum)
    assert found.entries == size - minimum // WIDTH * WIDTH
    if gone:
        with pytest.raises(Unproved, match="it is missing"):
            judged(left)
    begun = {tile(level, index, width) for level, index, width in widths(minimum // WIDTH * WIDTH)}
    needed = sorted({each for each in spoken_of(size) if not each.startswith("journal")} - gone)
    name = data.draw(st.sampled_from(needed))
    place = data.draw(st.integers(0, len(log[name]) - 1))
    changed = bytearray(log[name])
    changed[place] ^= 1
    with pytest.raises(Unproved) as error:
        judged(left | {name: bytes(changed)}, minimum=minimum)
    assert name in str(error.value) or name == CHECKPOINT or name.partition(".p")[0] in str(error.value) or begun


def test_a_minimum_beyond_the_log_is_refused() -> None:
    with pytest.raises(Unproved, match="fewer than the 301 that may be gone"):
        judged(files(300), minimum=301)
    with pytest.raises(Unproved, match="fewer than the 301 that were verified"):
        judged(files(300), Checkpoint(SIGNER.name, 301, bytes(32)))


@pytest.fixture(scope="module")
def receipt() -> bytes:
    with TemporaryDirectory() as place:
        return simple.given(Path(place), hidden=True)


def test_no_bit_of_a_receipt_can_be_changed(receipt: bytes) -> None:
    left = []
    for at in range(len(receipt)):
        for bit in range(8):
            changed = bytearray(receipt)
            changed[at] ^= 1 << bit
            try:
                check_receipt(bytes(changed), KEYS, SIGNER.name)
            except Unproved:
                continue
            left.append(receipt[max(at - 20, 0) : at + 20])
    assert left == []


def test_a_receipt_reads_the_same_to_everybody(receipt: bytes) -> None:
    shown = check_receipt(receipt, KEYS, SIGNER.name)
    assert check_receipt(msgspec.json.format(receipt, indent=2), KEYS, SIGNER.name) == shown
    items = b'"items":["email-address"]'
    assert items in receipt
    for twice in (
        receipt.replace(items, b'"items":["nothing"],' + items),
        receipt.replace(b'"place"', b'"v":2,"place"'),
    ):
        with pytest.raises(Unproved, match="a name twice"):
            check_receipt(twice, KEYS, SIGNER.name)


def wrong(receipt: bytes, **parts: object) -> str:
    """What is said of a receipt with other parts."""
    found = msgspec.structs.replace(msgspec.json.decode(receipt, type=Receipt), **parts)
    with pytest.raises(Unproved) as error:
        check_receipt(msgspec.json.encode(found), KEYS, SIGNER.name)
    return str(error.value)


def test_the_part_of_a_receipt_that_is_wrong_is_named(receipt: bytes) -> None:
    found = msgspec.json.decode(receipt, type=Receipt)
    hidden = next(iter(found.withheld))
    assert "salts.head" in wrong(receipt, salts=found.salts | {"head": "no"})
    assert f"withheld.{hidden}" in wrong(receipt, withheld=found.withheld | {hidden: "no"})
    assert "each face" in wrong(receipt, withheld={})
    assert "needs its salt" in wrong(receipt, salts={})
    assert "size" in wrong(receipt, size=found.size + 1)
    assert "path" in wrong(receipt, path=["no"])
    assert "path" in wrong(receipt, place=found.place + 1)
    assert "proof: " in wrong(receipt, proof="")
    assert "inclusion: " in wrong(
        receipt, proof=found.proof.replace(f"index {found.index}", f"index {found.index + 1}")
    )
    assert "signature" in wrong(receipt, proof=found.proof.replace("\n300\n", "\n301\n"))
    assert "another version" in wrong(receipt, v=2)
    assert "email" not in repr(found)
