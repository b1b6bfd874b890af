"""Proofs as text, of C2SP tlog-proof: that an entry is in a log, checked without asking the log.

A proof is a header, perhaps extra data, the entry's index, the hashes from the leaf's sibling up, an empty line, and the
checkpoint as the log signed it, witnesses' lines included.
"""

import base64
from collections.abc import Callable, Sequence

from msgspec import Struct

from todoke.schemas.errors import Unproved

from .checkpoint import Checkpoint, Verifier, decoded, opened
from .merkle import EMPTY, check_inclusion, inclusion, leaf_hash
from .tiles import CHECKPOINT, WIDTH, bundle, hashes_of, unpack

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
LARGEST = 1 << 63
HIGHEST = 63
"""No tree has more levels, so no proof has more hashes."""


class Proof(Struct, frozen=True):
    """Which entry, the hashes (32 bytes each) from its sibling up, the signed checkpoint that they lead to, and extra data.

    Nothing vouches for `extra`: no one may trust it for itself.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def dump(self) -> bytes:
        """The proof's bytes; a file of them is named `.tlog-proof`."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {_base64(self.extra)}")
        lines += [f"index {self.index}", *map(_base64, self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def parse(data: bytes) -> Proof:
    """The proof in these bytes. Raises `Unproved`, which names the line that is wrong."""
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Unproved("proof: only its checkpoint may have other characters than ASCII") from None
    if lines[0] != HEADER:
        raise Unproved(f"proof: its first line is not {HEADER}")
    extra, at = None, 1
    if lines[1:] and lines[1].startswith("extra "):
        extra, at = decoded(lines[1].removeprefix("extra ")), 2
        if extra is None:
            raise Unproved("proof: its extra data is no Base64")
    if not blank:
        raise Unproved("proof: it has no empty line with a checkpoint after it")
    path = []
    for number, line in enumerate(lines[at + 1 :], at + 2):
        value = decoded(line)
        if value is None or len(value) != len(EMPTY):
            raise Unproved(f"proof: line {number} is no hash of 32 bytes in Base64")
        path.append(value)
    if len(path) > HIGHEST:
        raise Unproved(f"proof: it has {len(path)} hashes, and no tree needs more than {HIGHEST}")
    return Proof(_index(lines[at] if lines[at:] else ""), tuple(path), checkpoint, extra)


def check(data: bytes, leaf: bytes, keys: Sequence[Verifier], origin: str) -> tuple[Proof, Checkpoint]:
    """What these bytes prove of a leaf's hash: the proof, and the checkpoint, which one of the log's keys signed.

    Raises `Unproved`, which names the part that is wrong.
    """
    found = parse(data)
    checkpoint = opened(found.checkpoint, keys, origin)
    check_inclusion(leaf, found.index, checkpoint.size, found.path, checkpoint.root)
    return found, checkpoint


def prove(read: Callable[[str], bytes | None], keys: Sequence[Verifier], origin: str, index: int) -> Proof:
    """The proof of one entry under the log's checkpoint, made from its tiles, with the entry as extra data. Raises `Unproved`."""
    data = read(CHECKPOINT)
    if data is None:
        raise Unproved("checkpoint: there is none")
    found = opened(data, keys, origin)
    path = inclusion(index, found.size, hashes_of(found.size, read))
    number, place = divmod(index, WIDTH)
    width = min(WIDTH, found.size - number * WIDTH)
    packed = read(bundle(number, width)) or read(bundle(number))
    if packed is None or len(entries := unpack(packed)) <= place:
        raise Unproved(f"{bundle(number, width)}: it is missing, or too short")
    check_inclusion(leaf_hash(entries[place]), index, found.size, path, found.root)
    return Proof(index, tuple(path), data, entries[place])


def _index(line: str) -> int:
    text = line.removeprefix("index ")
    if line == text or not text.isdecimal() or len(text) > len(str(LARGEST)) or text != str(int(text)):
        raise Unproved("proof: where its index should be there is none, or not in its form")
    if int(text) >= LARGEST:
        raise Unproved("proof: its index is larger than any log")
    return int(text)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
