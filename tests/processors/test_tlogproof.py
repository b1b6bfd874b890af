"""Proofs as text: against the vectors of transparency-dev/formats (tests/golden/log/README.md), and by properties."""

import base64
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoke.processors.checkpoint import Checkpoint, Signer, sign
from todoke.processors.merkle import Edge, inclusion, leaf_hash
from todoke.processors.tlogproof import Proof, check, parse
from todoke.schemas.errors import Unproved

SIGNER = Signer("log.example/0", bytes(range(32)))
KEYS = [SIGNER.verifier()]
H1, H2 = sha256(b"hash1").digest(), sha256(b"hash2").digest()
B1, B2 = base64.b64encode(H1).decode(), base64.b64encode(H2).decode()
TEXTS = [
    (Proof(5, (H1, H2), b"test checkpoint\n"), f"c2sp.org/tlog-proof@v1\nindex 5\n{B1}\n{B2}\n\ntest checkpoint\n"),
    (
        Proof(10, (H1,), b"checkpoint data\n", b"extra information"),
        f"c2sp.org/tlog-proof@v1\nextra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n{B1}\n\ncheckpoint data\n",
    ),
    (Proof(0, (), b"checkpoint\n"), "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n"),
]
REFUSED = {
    "wrong-header\nindex 0\n\ncheckpoint\n": "first line",
    "c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\ncheckpoint\n": "extra data",
    "c2sp.org/tlog-proof@v1\n\n\ncheckpoint\n": "index",
    "c2sp.org/tlog-proof@v1\nindex notanumber\n\ncheckpoint\n": "index",
    "c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n": "index",
    "c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\ncheckpoint\n": "line 3",
    f"c2sp.org/tlog-proof@v1\nindex 0\n{base64.b64encode(bytes(64)).decode()}\n\ncheckpoint\n": "line 3",
    f"c2sp.org/tlog-proof@v1\nindex 0\n{'a' * 65 * 1024}\n": "empty line",
    # ours: one form only
    "c2sp.org/tlog-proof@v1\nindex 05\n\ncheckpoint\n": "index",
    "c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n\ncheckpoint\n": "larger than any log",
    f"c2sp.org/tlog-proof@v1\nindex {'9' * 5000}\n\ncheckpoint\n": "index",
    f"c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n{B1}\n\ncheckpoint\n": "line 3",
    "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{B1}\n" * 64 + "\ncheckpoint\n": "64 hashes",
    "c2sp.org/tlog-proof@v1": "empty line",
    "": "first line",
}


@pytest.mark.parametrize(("proof", "text"), TEXTS)
def test_the_text_is_that_of_the_others(proof: Proof, text: str) -> None:
    assert proof.dump().decode() == text
    assert parse(text.encode()) == proof


@pytest.mark.parametrize(("text", "names"), REFUSED.items())
def test_what_the_others_refuse_is_refused_and_named(text: str, names: str) -> None:
    with pytest.raises(Unproved, match=names):
        parse(text.encode())


@given(
    st.builds(
        Proof,
        st.integers(0, 2**63 - 1),
        st.lists(st.binary(min_size=32, max_size=32), max_size=9).map(tuple),
        st.binary(),
        st.none() | st.binary(),
    )
)
def test_a_proof_survives_being_written_and_read(proof: Proof) -> None:
    assert parse(proof.dump()) == proof


def proved(size: int, index: int) -> tuple[bytes, bytes]:
    """A leaf's hash, and the proof that a log of so many leaves has it."""
    kept: dict[tuple[int, int], bytes] = {}
    tree = Edge()
    for number in range(size):
        tree.append(leaf_hash(b"%d" % number), lambda level, place, value: kept.__setitem__((level, place), value))
    note = sign(Checkpoint(SIGNER.name, size, tree.root()), [SIGNER]).dump()
    path = inclusion(index, size, lambda level, place: kept[level, place])
    return leaf_hash(b"%d" % index), Proof(index, tuple(path), note, b"extra").dump()


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 1), (7, 6), (300, 17), (300, 299)])
def test_a_proof_holds_for_its_leaf_its_log_and_its_key_alone(size: int, index: int) -> None:
    leaf, data = proved(size, index)
    found, checkpoint = check(data, leaf, KEYS, SIGNER.name)
    assert (found.index, found.extra, checkpoint.size) == (index, b"extra", size)
    other = [Signer(SIGNER.name, bytes(32)).verifier()]
    for wrong, keys, origin in (
        (leaf_hash(b"another"), KEYS, SIGNER.name),
        (leaf, KEYS, "log.example/1"),
        (leaf, other, SIGNER.name),
    ):
        with pytest.raises(Unproved):
            check(data, wrong, keys, origin)


def test_any_byte_of_a_proof_that_is_changed_is_found_but_in_what_nobody_vouches_for() -> None:
    leaf, data = proved(300, 17)
    extra = range(data.index(b"extra ") + 6, data.index(b"\nindex"))
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                check(bytes(changed), leaf, KEYS, SIGNER.name)
            except Unproved:
                continue
            assert at in extra, data[max(at - 20, 0) : at + 20]
