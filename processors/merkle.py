"""Merkle trees of RFC 9162, section 2.1: hashes, proofs, and a tree that grows at its right edge.

Indexes and sizes count leaves. A hash is 32 bytes of SHA-256.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from msgspec import Struct

from todoke.schemas.errors import Unproved

EMPTY = sha256(b"").digest()
Hashes = Callable[[int, int], bytes]
"""`hashes(level, index)`: the root of the full subtree of 2^level leaves that begins at leaf index * 2^level."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 9162, 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees (RFC 9162, 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def subtrees(begin: int, end: int) -> list[tuple[int, int]]:
    """The full subtrees, (level, index) from left to right, of which [begin, end) is made, aligned as in a tree."""
    found = []
    while begin < end:
        level = min((begin & -begin).bit_length() - 1 if begin else 64, (end - begin).bit_length() - 1)
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def fold(hashes: Iterable[bytes]) -> bytes:
    """The root over full subtrees from left to right, as `subtrees` lists those of a whole tree."""
    root = None
    for each in reversed(list(hashes)):
        root = each if root is None else node_hash(each, root)
    return EMPTY if root is None else root


class Edge(Struct):
    """The right edge of a tree: its size, and the roots of the full subtrees that it is made of, largest first."""

    size: int = 0
    hashes: list[bytes] = []

    def append(self, leaf: bytes, done: Callable[[int, int, bytes], None] | None = None) -> None:
        """Add a leaf's hash. `done(level, index, hash)` is told of each full subtree that this completes, leaf included."""
        level, index = 0, self.size
        if done:
            done(0, index, leaf)
        while index & 1:
            leaf = node_hash(self.hashes.pop(), leaf)
            level, index = level + 1, index >> 1
            if done:
                done(level, index, leaf)
        self.hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree."""
        return fold(self.hashes)


def edge(size: int, hashes: Hashes) -> Edge:
    """The right edge of a tree of which all full subtrees can be read."""
    return Edge(size, [hashes(level, index) for level, index in subtrees(0, size)])


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The roots of the full subtrees over the hashes of leaves: `levels(leaves)[level][index]`."""
    found = [list(leaves)]
    while len(found[-1]) > 1:  # an odd one at the end is part of none
        below = found[-1]
        found.append([node_hash(left, right) for left, right in zip(below[::2], below[1::2], strict=False)])
    return found


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over the hashes of leaves."""
    full = levels(leaves)
    return fold(full[level][index] for level, index in subtrees(0, len(leaves)))


def _range(begin: int, end: int, hashes: Hashes) -> bytes:
    return fold(hashes(level, index) for level, index in subtrees(begin, end))


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion(index: int, size: int, hashes: Hashes) -> list[bytes]:
    """The proof that leaf `index` is in the tree of `size` leaves (RFC 9162, 2.1.3.1), leaf to root."""
    if not 0 <= index < size:
        raise Unproved(f"inclusion: leaf {index} is not in a tree of {size} leaves")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range(middle, end, hashes))
            end = middle
        else:
            path.append(_range(begin, middle, hashes))
            begin = middle
    return path[::-1]


def root_from(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2). Raises `Unproved`."""
    if not 0 <= index < size or any(len(each) != len(EMPTY) for each in (leaf, *path)):
        raise Unproved("inclusion: the index is not in the tree, or a hash is not 32 bytes long")
    node, last = index, size - 1
    for each in path:
        if not last:
            raise Unproved("inclusion: the proof is too long")
        if node & 1 or node == last:
            leaf = node_hash(each, leaf)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            leaf = node_hash(leaf, each)
        node, last = node >> 1, last >> 1
    if last:
        raise Unproved("inclusion: the proof is too short")
    return leaf


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raises `Unproved` unless the path shows that the leaf's hash stands at `index` under `root`."""
    if root_from(leaf, index, size, path) != root:
        raise Unproved("inclusion: the proof leads to another root")


def consistency(old: int, size: int, hashes: Hashes) -> list[bytes]:
    """The proof that the tree of `old` leaves is a beginning of that of `size` (RFC 9162, 2.1.4.1)."""
    if not 0 <= old <= size:
        raise Unproved(f"consistency: a tree of {old} leaves is no beginning of one of {size}")
    begin, end, path = 0, size, []
    if old in (0, size):
        return []
    whole = True  # the old tree begins where this one does, and is all of it
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_range(middle, end, hashes))
            end = middle
        else:
            path.append(_range(begin, middle, hashes))
            begin, whole = middle, False
    if not whole:
        path.append(_range(begin, end, hashes))
    return path[::-1]


def check_consistency(old: int, size: int, path: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Raises `Unproved` unless the path shows that `old_root` is a beginning of `root` (RFC 9162, 2.1.4.2)."""
    if any(len(each) != len(EMPTY) for each in (old_root, root, *path)):
        raise Unproved("consistency: a hash is not 32 bytes long")
    if old in (0, size):
        if path or (old == size and old_root != root) or (old == 0 and old_root != EMPTY):
            raise Unproved("consistency: trees of these sizes need no proof, and these roots can't be")
        return
    if not 0 < old < size or not path:
        raise Unproved("consistency: the old tree is larger, or the proof is missing")
    if _both_roots(old - 1, size - 1, list(path) if old & (old - 1) else [old_root, *path]) != (old_root, root):
        raise Unproved("consistency: the proof does not lead from the old root to the new one")


def _both_roots(node: int, last: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for each in path[1:]:
        if not last:
            raise Unproved("consistency: the proof is too long")
        if node & 1 or node == last:
            first, second = node_hash(each, first), node_hash(each, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, each)
        node, last = node >> 1, last >> 1
    if last:
        raise Unproved("consistency: the proof is too short")
    return first, second
