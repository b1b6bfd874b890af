"""The tree against a tree made by the definition (RFC 9162, 2.1), for every size to 130 and every proof in it."""

import pytest

from todoke.processors.merkle import (
    EMPTY,
    Edge,
    check_consistency,
    check_inclusion,
    consistency,
    edge,
    inclusion,
    leaf_hash,
    node_hash,
    root_of,
)
from todoke.schemas.errors import Unproved

SIZE = 130
LEAVES = [leaf_hash(bytes([number])) for number in range(SIZE)]


def defined(leaves: list[bytes]) -> bytes:
    """The root as the definition has it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(defined(leaves[:half]), defined(leaves[half:]))


ROOTS = [defined(LEAVES[:size]) for size in range(SIZE + 1)]


def full() -> dict[tuple[int, int], bytes]:
    """Every full subtree, as the growing tree tells of them."""
    kept: dict[tuple[int, int], bytes] = {}
    tree = Edge()
    for leaf in LEAVES:
        tree.append(leaf, lambda level, index, value: kept.__setitem__((level, index), value))
    return kept


KEPT = full()


def read(level: int, index: int) -> bytes:
    """One full subtree's root."""
    return KEPT[level, index]


@pytest.mark.parametrize("size", range(SIZE + 1))
def test_a_tree_of_any_size_has_the_defined_root_and_its_proofs_hold(size: int) -> None:
    assert root_of(LEAVES[:size]) == edge(size, read).root() == ROOTS[size]
    for index in range(size):
        path = inclusion(index, size, read)
        check_inclusion(LEAVES[index], index, size, path, ROOTS[size])
        with pytest.raises(Unproved):
            check_inclusion(LEAVES[index - 1] if size > 1 else EMPTY, index, size, path, ROOTS[size])
        with pytest.raises(Unproved):
            check_inclusion(LEAVES[index], index, size, [*path, EMPTY], ROOTS[size])
    for old in range(size + 1):
        path = consistency(old, size, read)
        check_consistency(old, size, path, ROOTS[old], ROOTS[size])
        for at in range(len(path)):
            with pytest.raises(Unproved):
                check_consistency(old, size, [*path[:at], EMPTY, *path[at + 1 :]], ROOTS[old], ROOTS[size])
            with pytest.raises(Unproved):
                check_consistency(old, size, path[:at], ROOTS[old], ROOTS[size])
