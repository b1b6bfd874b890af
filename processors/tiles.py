"""Where the parts of a log stand, and how entries are bundled: C2SP tlog-tiles. Paths are relative to the log's prefix."""

import re
from collections.abc import Callable, Sequence

from todoke.schemas.errors import Unproved

from .merkle import Hashes, root_of

WIDTH = 256
"""Hashes in a full tile, entries in a full bundle."""
HEIGHT = 8
HASH_BYTES = 32
LARGEST_ENTRY = 65_535
LARGEST_FILE = WIDTH * (LARGEST_ENTRY + 2)
CHECKPOINT = "checkpoint"
COSIGNED = "checkpoint.cosigned"
"""Ours: the newest checkpoint that enough witnesses have cosigned."""
PARTIAL = ".p"
_KNOWN = re.compile(
    r"checkpoint(\.cosigned)?|journal/\d{6,12}\.json"
    r"|tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/(x\d{3}/){0,6}\d{3}(\.p/([1-9]\d?|1\d\d|2[0-4]\d|25[0-5]))?",
    re.ASCII,
)


def tile(level: int, index: int, width: int = WIDTH) -> str:
    """The path of a tile of hashes; a partial one has a width of less than 256."""
    return f"tile/{level}/{_place(index, width)}"


def bundle(index: int, width: int = WIDTH) -> str:
    """The path of a bundle of entries."""
    return f"tile/entries/{_place(index, width)}"


def journal(number: int) -> str:
    """The path of a line of the journal of erasures: ours, beside what the specification has."""
    return f"journal/{number:06d}.json"


def known(name: str) -> bool:
    """Whether this is the path of a part of a log; no other path leads out of its folder, or to what a writer keeps there."""
    return _KNOWN.fullmatch(name) is not None


def _place(index: int, width: int) -> str:
    """The index in groups of three digits, all but the last with an x before them; `.p/W` for what is partial."""
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    partial = "" if width == WIDTH else f"{PARTIAL}/{width}"
    return "/".join(reversed(groups)) + partial


def widths(size: int) -> list[tuple[int, int, int]]:
    """The partial tiles of a log of `size` entries: level, index and width of each."""
    found, level = [], 0
    while size:
        if size % WIDTH:
            found.append((level, size // WIDTH, size % WIDTH))
        level, size = level + 1, size // WIDTH
    return found


def pack(entries: Sequence[bytes]) -> bytes:
    """A bundle: each entry after its length in two bytes, big-endian. Raises `Unproved` for one that is too long."""
    if any(len(each) > LARGEST_ENTRY for each in entries):
        raise Unproved(f"bundle: an entry is longer than {LARGEST_ENTRY} bytes")
    return b"".join([len(each).to_bytes(2, "big") + each for each in entries])


def unpack(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises `Unproved` where it doesn't end with one."""
    entries, at, end = [], 0, len(data)
    while at < end:
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin], "big")
        entries.append(data[begin:at])
    if at != end or (end and begin > end):
        raise Unproved("bundle: it ends within an entry")
    return entries


def hashes_of(size: int, read: Callable[[str], bytes | None]) -> Hashes:
    """Reads full subtrees of a log of `size` entries from its tiles. Raises `Unproved` where a tile is missing or short."""

    def hashes(level: int, index: int) -> bytes:
        floor, within = divmod(level, HEIGHT)
        first = index << within
        number, place = divmod(first, WIDTH)
        width = min(WIDTH, (size >> (HEIGHT * floor)) - number * WIDTH)
        data = read(tile(floor, number, width))
        if data is None and width < WIDTH:  # the tile may have been filled since
            data = read(tile(floor, number))
        if data is None or len(data) < width * HASH_BYTES:
            raise Unproved(f"{tile(floor, number, width)}: it is missing, or too short")
        part = range(place, place + (1 << within))
        return root_of([data[each * HASH_BYTES : (each + 1) * HASH_BYTES] for each in part])

    return hashes
