"""Signatures of each kind that C2SP has for checkpoints, against others' vectors and one another."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from todoke.processors.checkpoint import (
    COSIGNED_ED25519,
    ED25519,
    ML_DSA_44,
    Checkpoint,
    Note,
    Signature,
    Signer,
    Verifier,
    dump_signer,
    opened,
    parse_note,
    sign,
    signed_at,
    signed_by,
    signer,
    verifier,
)
from todoke.schemas.errors import Misconfigured, Unproved

GOLDEN = Path(__file__).parents[1] / "golden" / "log"
NAME = "log.example/0"
BOTH = [Signer(NAME, bytes(range(32))), Signer(NAME, bytes(range(1, 33)), ML_DSA_44)]
MADE = Checkpoint(NAME, 300, bytes(range(32)))
AT = 1_679_315_147


def cosigned(text: str, when: int = AT) -> tuple[Verifier, Note]:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    witness = Verifier("witness.example/w1", COSIGNED_ED25519, key.public_key().public_bytes_raw())
    made = when.to_bytes(8) + key.sign(f"cosignature/v1\ntime {when}\n{text}".encode())
    return witness, Note(text, (Signature(witness.name, witness.key_id, made),))


def test_a_note_that_torchwood_signed_with_ml_dsa_44_is_verified() -> None:
    """From litewitness's own tests, torchwood v0.10.0: cmd/litewitness/testdata/mldsa.txt."""
    key = verifier((GOLDEN / "mldsa.vkey").read_text())
    assert key.kind == ML_DSA_44
    assert opened((GOLDEN / "mldsa.note").read_bytes(), [key], key.name).size == 1
    note = parse_note((GOLDEN / "mldsa.note").read_bytes())
    assert signed_at(note, key) == 0
    other = Note(note.text.replace("\n1\n", "\n2\n"), note.signatures)
    with pytest.raises(Unproved, match="is wrong"):
        signed_by(other, key)


@pytest.mark.parametrize("key", BOTH)
def test_each_key_signs_is_verified_and_is_written_and_read(key: Signer) -> None:
    note = sign(MADE, BOTH)
    assert [each.key_id for each in note.signatures] == [each.verifier().key_id for each in BOTH]
    assert opened(note.dump(), [key.verifier()], NAME) == MADE
    assert signer(dump_signer(key)) == key
    assert verifier(key.verifier().dump()) == key.verifier()
    for place in range(0, len(note.signatures[BOTH.index(key)].signature), 97):
        signature = bytearray(note.signatures[BOTH.index(key)].signature)
        signature[place] ^= 1
        changed = Note(note.text, (Signature(NAME, key.verifier().key_id, bytes(signature)),))
        with pytest.raises(Unproved):
            signed_by(changed, key.verifier())


def test_a_witness_says_when() -> None:
    witness, note = cosigned(MADE.text())
    assert signed_at(note, witness) == AT
    assert signed_at(sign(MADE, BOTH), witness) is None


def test_a_time_that_was_changed_is_no_longer_what_the_witness_signed() -> None:
    witness, note = cosigned(MADE.text())
    line = note.signatures[0]
    later = Signature(line.name, line.key_id, (AT + 1).to_bytes(8) + line.signature[8:])
    with pytest.raises(Unproved, match="is wrong"):
        signed_at(Note(note.text, (later,)), witness)
    with pytest.raises(Unproved, match="the time"):
        signed_at(*reversed(cosigned(MADE.text(), 1 << 63)))  # type: ignore[arg-type]  # the pair, turned


def test_a_key_of_a_kind_that_is_not_known_says_so() -> None:
    key = Verifier(NAME, 0x02, bytes(32))
    note = Note(MADE.text(), (Signature(NAME, key.key_id, bytes(64)),))
    with pytest.raises(Unproved, match="0x02"):
        signed_by(note, key)
    with pytest.raises(Misconfigured, match="PRIVATE"):
        signer(dump_signer(Signer(NAME, bytes(32), ED25519)).replace("AQAA", "BAAA"))
