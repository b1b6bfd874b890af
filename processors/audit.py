"""The verifier: judges a log from its public key and its files alone, and names the first thing that is wrong.

Knows nothing of Kafka, vaults or settings. Reads each file once and keeps one tile a level, so a log of any size fits.
"""

import base64
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from todoke.schemas.errors import Unproved
from todoke.schemas.records import FACES, Face

from .checkpoint import Checkpoint, Verifier, decoded, opened
from .commitment import Shown, combine, commit_face
from .merkle import Hashes, edge, leaf_hash, root_from, root_of
from .tiles import CHECKPOINT, HASH_BYTES, HEIGHT, WIDTH, bundle, hashes_of, journal, tile, unpack, widths
from .tlogproof import Proof, check, parse

Read = Callable[[str], bytes | None]


class Audit(Struct, frozen=True):
    """What was found: the checkpoint, how many entries were read for it, how many records and erasures these speak of.

    Entries that were verified before, or may be gone, are in no count.
    """

    checkpoint: Checkpoint
    entries: int
    records: int
    erasures: int


class _Rows(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="rows"):
    n: int
    root: str
    v: int


class _Erasure(Struct, frozen=True, forbid_unknown_fields=True, tag_field="t", tag="erasure"):
    n: int
    journal: str
    v: int


_entry = msgspec.json.Decoder(_Rows | _Erasure).decode


def verify(
    read: Read,
    keys: Sequence[Verifier],
    origin: str,
    since: Checkpoint | None = None,
    *,
    minimum: int = 0,
    ours: bool = True,
) -> Audit:
    """Verify a log whole, or from a checkpoint on that was verified before. Raises `Unproved`.

    Every entry is hashed, every tile of every level is made anew and compared, and the root must be the signed one. What ends
    at or before the entry `minimum`, as its owner has published it, may be gone (tlog-tiles, Pruning). Each erasure must have its
    line in the journal. Another's log (`ours` False) may have entries of any form.
    """
    found = _opened(read, keys, origin, since, minimum)
    begin = max(since.size if since else 0, minimum // WIDTH * WIDTH)
    first = begin // WIDTH
    levels = _begin(read, found.size, first * WIDTH)
    records, erasures = 0, list[tuple[int, str]]()
    for number in range(first, -(-found.size // WIDTH)):
        entries = _bundle(read, found.size, number)
        _climb(read, found.size, levels, (0, number), [sha256(b"\x00" + each).digest() for each in entries])
        if len(entries) < WIDTH:
            _compare(read, found.size, 0, number, levels[0])
        if ours:  # after their hashes, so that what is wrong here is what was logged
            news = max(begin, number * WIDTH)
            rows, gone = _count(entries[news - number * WIDTH :], news)
            records += rows
            erasures += gone
    for level, index, _ in widths(found.size):
        if level:
            _compare(read, found.size, level, index, levels[level])
    if edge(found.size, _within(levels)).root() != found.root:
        raise Unproved("checkpoint: its root is not the one that the entries lead to")
    if erasures:
        _heed(read, erasures, whole=not begin)
    return Audit(found, found.size - begin, records, len(erasures))


def _opened(read: Read, keys: Sequence[Verifier], origin: str, since: Checkpoint | None, minimum: int) -> Checkpoint:
    """The signed checkpoint, if the log that it speaks of goes on from what was verified before."""
    data = read(CHECKPOINT)
    if data is None:
        raise Unproved("checkpoint: there is none")
    found = opened(data, keys, origin)
    if since and since.size > found.size:
        raise Unproved(
            f"checkpoint: it has {found.size} entries, fewer than the {since.size} that were verified before"
        )
    if minimum > found.size:
        raise Unproved(f"checkpoint: it has {found.size} entries, fewer than the {minimum} that may be gone")
    if since and edge(since.size, hashes_of(found.size, read)).root() != since.root:
        raise Unproved(f"log: its first {since.size} entries are not those that were verified before")
    return found


def _begin(read: Read, size: int, begin: int) -> list[list[bytes]]:
    """The tiles that were not full at an earlier size, a multiple of 256: what is added has to lead to the signed root."""
    levels: list[list[bytes]] = []
    for level, index, width in widths(begin):
        levels += [[] for _ in range(level - len(levels) + 1)]
        whole = _tile(read, size, level, index)
        levels[level] = [whole[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES)]
    return levels


def _climb(read: Read, size: int, levels: list[list[bytes]], at: tuple[int, int], hashes: list[bytes]) -> None:
    """Add the hashes to the tile at this level and index; one that is full is compared, and its root goes up."""
    level, index = at
    if level == len(levels):
        levels.append([])
    levels[level] += hashes
    if len(levels[level]) == WIDTH:
        _compare(read, size, level, index, levels[level])
        full, levels[level] = levels[level], []
        _climb(read, size, levels, (level + 1, index // WIDTH), [root_of(full)])


def _within(levels: list[list[bytes]]) -> Hashes:
    """Reads the subtrees at the right edge: all of them are in tiles that are not full."""

    def hashes(level: int, index: int) -> bytes:
        floor, within = divmod(level, HEIGHT)
        place = (index << within) % WIDTH
        return root_of(levels[floor][place : place + (1 << within)])

    return hashes


def _compare(read: Read, size: int, level: int, index: int, hashes: list[bytes]) -> None:
    data = _tile(read, size, level, index)
    made = b"".join(hashes)
    if data[: len(made)] != made:
        wrong = next(at for at, each in enumerate(hashes) if data[at * HASH_BYTES : (at + 1) * HASH_BYTES] != each)
        number = index * WIDTH + wrong
        below = f"entry {number} of {bundle(index, len(hashes))}" if level == 0 else f"{tile(level - 1, number)}"
        raise Unproved(
            f"{tile(level, index, len(hashes))}: its hash {wrong} is not that of {below}: one of them was changed"
        )


def _tile(read: Read, size: int, level: int, index: int) -> bytes:
    """A tile as this size has it: the partial one, or the full one that has taken its place. One of them is enough."""
    width = min(WIDTH, (size >> (8 * level)) - index * WIDTH)
    name = tile(level, index, width)
    data = read(name)
    if data is None and width < WIDTH:
        data = read(tile(level, index))
        data = None if data is None else data[: width * HASH_BYTES]
    if data is None:
        raise Unproved(f"{name}: it is missing")
    if len(data) != width * HASH_BYTES:
        raise Unproved(f"{name}: it has {len(data)} bytes, not {width * HASH_BYTES}")
    return data


def _bundle(read: Read, size: int, number: int) -> list[bytes]:
    width = min(WIDTH, size - number * WIDTH)
    name = bundle(number, width)
    data = read(name)
    full = data is None and width < WIDTH
    if full:
        data = read(bundle(number))
    if data is None:
        raise Unproved(f"{name}: it is missing")
    try:
        entries = unpack(data)
    except Unproved:
        raise Unproved(f"{name}: it ends within an entry") from None
    if len(entries) < width or (len(entries) > width and not full):
        raise Unproved(f"{name}: it has {len(entries)} entries, not {width}")
    return entries[:width]


def _heed(read: Read, erasures: list[tuple[int, str]], *, whole: bool) -> None:
    """Hold the journal's lines against the entries that speak of them, in order; those of a part begin somewhere."""
    lines: list[str] = []
    while (line := read(journal(len(lines)))) is not None:
        lines.append(_base64(sha256(line).digest()))
    first = 0
    if not whole:
        entry, digest = erasures[0]
        if digest not in lines:
            raise Unproved(f"{_entry_at(entry)}: the journal has no line that it speaks of")
        first = lines.index(digest)
    for number, (index, each) in enumerate(erasures, first):
        if number == len(lines):
            raise Unproved(f"{journal(number)}: it is missing")
        if lines[number] != each:
            raise Unproved(f"{journal(number)}: it is not what {_entry_at(index)} speaks of")


def _count(entries: Sequence[bytes], begin: int) -> tuple[int, list[tuple[int, str]]]:
    """How many records these entries speak of, and which are erasures, with their digests. Raises `Unproved` for a form that is not ours."""
    records, erasures = 0, []
    for place, each in enumerate(entries):
        try:
            found = _entry(each)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unproved(f"{_entry_at(begin + place)}: it is no entry of a provision log") from None
        if found.v != 1:
            raise Unproved(f"{_entry_at(begin + place)}: it is of version {found.v}, which a newer verifier may know")
        if isinstance(found, _Rows):
            digest, made = found.root, f'{{"n":{found.n},"root":"{found.root}","t":"rows","v":1}}'
            records += found.n
        else:
            digest, made = found.journal, f'{{"journal":"{found.journal}","n":{found.n},"t":"erasure","v":1}}'
            erasures.append((begin + place, digest))
        if made.encode() != each or found.n < 1 or len(decoded(digest) or b"") != HASH_BYTES:
            raise Unproved(f"{_entry_at(begin + place)}: it is not in the one form that an entry has")
    return records, erasures


def _entry_at(index: int) -> str:
    return f"entry {index} of {bundle(index // WIDTH)}"


class Receipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What proves one record: the faces that are shown, and the way from them to a signed checkpoint.

    `values` and `salts` are of the faces shown, `withheld` are commitments to the others; `place` and `path` lead to the root
    in `entry`, and `proof`, a C2SP tlog-proof that others' tools can check, from that entry to a signed checkpoint. Bytes are
    Base64.
    """

    v: int = 1
    values: dict[Face, dict[str, Any]]
    salts: dict[Face, str]
    withheld: dict[Face, str]
    place: int
    size: int
    path: list[str]
    entry: str
    proof: str

    def __repr__(self) -> str:
        """Only where it is: the values are somebody's."""
        return f"Receipt(place {self.place} of {self.size})"

    @property
    def index(self) -> int:
        """Which entry of the log. Raises `Unproved` where the proof is none."""
        return parse(self.proof.encode()).index


class InBatch(Struct, frozen=True):
    """Where a record is in its batch: place, the batch's size, the path to its root, and the entry made of that."""

    place: int
    size: int
    path: Sequence[bytes]
    entry: bytes


class InLog(Struct, frozen=True):
    """Where an entry is in the log: index, the inclusion proof, and the signed checkpoint that it leads to."""

    index: int
    proof: Sequence[bytes]
    checkpoint: bytes


def receipt(shown: Shown, batch: InBatch, log: InLog) -> Receipt:
    """The receipt for a record that is shown in part or whole."""
    return Receipt(
        values=shown.values,
        salts={name: _base64(each) for name, each in shown.salts.items()},
        withheld={name: _base64(each) for name, each in shown.withheld.items()},
        place=batch.place,
        size=batch.size,
        path=[_base64(each) for each in batch.path],
        entry=batch.entry.decode(),
        proof=Proof(log.index, tuple(log.proof), log.checkpoint).dump().decode(),
    )


def check_receipt(data: bytes, keys: Sequence[Verifier], origin: str) -> Receipt:
    """The receipt in these bytes (JSON), if it proves what it shows. Raises `Unproved`, which names the part that doesn't."""
    try:
        found = msgspec.json.decode(data, type=Receipt)
        entry = _entry(found.entry)
        plain = msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unproved(f"receipt: it is not in its form: {error}") from None
    if plain != msgspec.json.encode(found):  # a name that comes twice would read differently elsewhere
        raise Unproved("receipt: beside white space it is not as Todoke writes it: a name twice, or another order")
    if not isinstance(entry, _Rows) or found.v != 1 or entry.v != 1:
        raise Unproved("receipt: its entry is none of records, or of another version than 1")
    if found.values.keys() | found.withheld.keys() != set(FACES) or found.values.keys() & found.withheld.keys():
        raise Unproved("receipt: each face must be shown or withheld, one of the two")
    if found.values.keys() != found.salts.keys():
        raise Unproved("receipt: each face that is shown needs its salt")
    faces = {name: _bytes(each, f"withheld.{name}") for name, each in found.withheld.items()}
    for name, value in found.values.items():
        faces[name] = commit_face(_bytes(found.salts[name], f"salts.{name}"), value)
    path = [_bytes(each, "path") for each in found.path]
    if entry.n != found.size:
        raise Unproved("receipt: its size is not that of the entry")
    if root_from(leaf_hash(combine(faces)), found.place, found.size, path) != _bytes(entry.root, "entry.root"):
        raise Unproved(
            "receipt: what it shows is not what the log's entry was made of: a value, a salt or the path is wrong"
        )
    check(found.proof.encode(), leaf_hash(found.entry.encode()), keys, origin)
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str, where: str) -> bytes:
    found = decoded(text)
    if found is None:
        raise Unproved(f"receipt: {where} is no Base64")
    return found
