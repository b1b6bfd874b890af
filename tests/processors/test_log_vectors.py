"""Other projects' vectors through our trees, notes and verifier (tests/golden/log/README.md says whose they are)."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from todoke.processors.audit import verify
from todoke.processors.checkpoint import opened, parse_note, sign, signed_by, signer, verifier
from todoke.processors.merkle import check_consistency, check_inclusion, consistency, inclusion, leaf_hash
from todoke.processors.tiles import CHECKPOINT, bundle, hashes_of, unpack
from todoke.schemas.errors import Misconfigured, Unproved

GOLDEN = Path(__file__).parents[1] / "golden" / "log"
TESSERA = {
    name: base64.b64decode(text)
    for name, text in msgspec.json.decode((GOLDEN / "tessera.json").read_bytes(), type=dict[str, str]).items()
}
TESSERA_KEYS = [verifier("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")]
TESSERA_ORIGIN = "example.com/log/testdata"
WORDS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eit",
    "nain",
    "ten",
    "ileven",
    "twelf",
    "threeten",
    "fourten",
    "fivten",
]

PETER = verifier("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
ENOCH = verifier("EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop")
PETERS = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
SPECIFIED = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
SPECIFIED_KEY = verifier("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")


def probes(kind: str) -> list[Any]:
    """The probes of one kind, by name."""
    named = msgspec.json.decode((GOLDEN / f"{kind}.json").read_bytes())
    return [pytest.param(each, id=name) for name, each in named.items()]


STRICTER = {"sizes are equal (one) and proof is empty"}
"""Its roots, which nobody should care about, are no hashes: ours are."""


def path(probe: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(each) for each in probe["proof"] or ()]


def refused(probe: dict[str, Any], judge: Any) -> None:
    """A probe that must be refused is, by the one error that says so; another isn't."""
    if probe["wantErr"] or probe["desc"] in STRICTER:
        with pytest.raises(Unproved):
            judge()
    else:
        judge()


@pytest.mark.parametrize("probe", probes("inclusion"))
def test_proofs_of_inclusion_are_judged_as_by_the_others(probe: dict[str, Any]) -> None:
    leaf, root = base64.b64decode(probe["leafHash"]), base64.b64decode(probe["root"])
    refused(probe, lambda: check_inclusion(leaf, probe["leafIdx"], probe["treeSize"], path(probe), root))


@pytest.mark.parametrize("probe", probes("consistency"))
def test_proofs_of_consistency_are_judged_as_by_the_others(probe: dict[str, Any]) -> None:
    old, new = base64.b64decode(probe["root1"]), base64.b64decode(probe["root2"])
    refused(probe, lambda: check_consistency(probe["size1"], probe["size2"], path(probe), old, new))


def tessera(size: int) -> dict[str, bytes]:
    """Tessera's log as it stood at a size."""
    return {**TESSERA, CHECKPOINT: TESSERA[f"checkpoint.{size}"]}


@pytest.mark.parametrize("size", range(16))
def test_the_log_of_another_writer_is_whole_at_each_size(size: int) -> None:
    found = verify(tessera(size).get, TESSERA_KEYS, TESSERA_ORIGIN, ours=False)
    assert (found.checkpoint.size, found.entries, found.records) == (size, size, 0)
    for old in range(size + 1):
        before = opened(TESSERA[f"checkpoint.{old}"], TESSERA_KEYS, TESSERA_ORIGIN)
        after = verify(tessera(size).get, TESSERA_KEYS, TESSERA_ORIGIN, before, ours=False)
        assert after.entries == size - old
        proof = consistency(old, size, hashes_of(size, TESSERA.get))
        check_consistency(old, size, proof, before.root, found.checkpoint.root)


def test_the_entries_of_another_writer_are_read_and_proved() -> None:
    entries = unpack(TESSERA[bundle(0, 15)])
    assert [each.decode() for each in entries] == WORDS
    root = opened(TESSERA[CHECKPOINT], TESSERA_KEYS, TESSERA_ORIGIN).root
    for index, each in enumerate(entries):
        check_inclusion(leaf_hash(each), index, 15, inclusion(index, 15, hashes_of(15, TESSERA.get)), root)


def test_a_log_of_other_entries_is_none_of_provisions() -> None:
    with pytest.raises(Unproved, match="entry 0"):
        verify(TESSERA.get, TESSERA_KEYS, TESSERA_ORIGIN)


def test_notes_are_signed_and_opened_as_by_the_others() -> None:
    signing = signer(PETERS)
    assert signing.verifier() == PETER
    assert TEXT + "\n" + signing.sign(TEXT).line() == TEXT + "\n" + BY_PETER
    both = parse_note((TEXT + "\n" + BY_PETER + BY_ENOCH).encode())
    assert both.text == TEXT
    assert signed_by(both, PETER)
    assert signed_by(both, ENOCH)
    only = parse_note((TEXT + "\n" + BY_ENOCH).encode())
    assert not signed_by(only, PETER)
    again = parse_note((TEXT + "\n" + BY_PETER + BY_PETER + BY_ENOCH[:60] + "ABCD" + BY_ENOCH[60:]).encode())
    assert signed_by(again, PETER)  # a line of a key that isn't asked after is nobody's business
    with pytest.raises(Unproved, match="EnochRoot"):
        signed_by(again, ENOCH)
    assert signed_by(parse_note(SPECIFIED.encode()), SPECIFIED_KEY)


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT + "\n",
        TEXT + "\n" + BY_PETER[:-1],
        "\x01" + TEXT + "\n" + BY_PETER,
        TEXT + "\n" + BY_PETER.replace("PeterNeumann", "Bad Name"),
        TEXT + "\n" + BY_PETER + "Unexpected line.\n",
        TEXT + "\n" + BY_PETER * 101,
        TEXT + "\n" + BY_PETER.replace("PeterNeumann", "Peter+Neumann"),
        TEXT + "\n" + BY_PETER.replace("PeterNeumann", "Peter\u3000Neumann"),
    ],
)
def test_notes_that_the_others_refuse_are_refused(data: str) -> None:
    with pytest.raises(Unproved):
        parse_note(data.encode())
    with pytest.raises(Unproved):
        parse_note(b"\xff" + data.encode())


@pytest.mark.parametrize("made", [verifier, signer])
def test_every_mangling_of_a_key_is_refused(made: Any) -> None:
    text = PETER.dump() if made is verifier else PETERS
    made(text)
    for begin in range(len(text) + 1):
        for end in range(begin + 1, len(text) + 1):
            if (begin, end) != (0, len(text)):
                with pytest.raises(Misconfigured):
                    made(text[begin:end])
    for at in range(len(text)):
        with pytest.raises(Misconfigured):
            made(text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_keys_of_another_length_or_kind_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        verifier(text)


def test_a_checkpoint_is_written_as_it_was_read() -> None:
    note = parse_note(TESSERA[CHECKPOINT])
    assert note.dump() == TESSERA[CHECKPOINT]
    key = signer("PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg")
    assert sign(opened(TESSERA[CHECKPOINT], TESSERA_KEYS, TESSERA_ORIGIN), [key]).dump() == TESSERA[CHECKPOINT]


@pytest.mark.parametrize("size", ["9" * 5000, "9223372036854775808", "-1", "01", "1_0", "\u0661", ""])
def test_a_size_that_no_log_has_is_refused(size: str) -> None:
    key = signer(PETERS)
    text = f"PeterNeumann\n{size}\n{base64.b64encode(bytes(32)).decode()}\n"
    note = text + "\n" + key.sign(text).line()
    with pytest.raises(Unproved):
        opened(note.encode(), [PETER], "PeterNeumann")
