"""Checkpoints as signed notes: C2SP signed-note and tlog-checkpoint, with keys of Ed25519, ML-DSA-44 and witnesses.

A verifier's key is text, `name+id+base64`, as in Go's sumdb and in C2SP; a note is its text, an empty line and signatures.
What a signature of each kind covers is in C2SP signed-note (0x01) and tlog-cosignature v1.0.1 (0x04, 0x06).
"""

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from msgspec import Struct

from todoke.schemas.errors import Misconfigured, Unproved

ED25519 = 0x01
COSIGNED_ED25519 = 0x04
ML_DSA_44 = 0x06
KINDS = (ED25519, ML_DSA_44)
"""What a log signs with; witnesses have the two above 1."""
ID_BYTES = 4
TIME_BYTES = 8
KEY_BYTES = {ED25519: 32, COSIGNED_ED25519: 32, ML_DSA_44: 1312}
"""How long a public key of each kind is."""
MOST_SIGNATURES = 100
"""As Go's sumdb has it; signed-note wants 16 at least."""
LARGEST = 1 << 63
PRIVATE = "PRIVATE+KEY+"
DASH = "\u2014"


class Checkpoint(Struct, frozen=True):
    """What a log says of itself: its origin (a name), how many leaves it has, and the root over them (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text, with its final newline (tlog-checkpoint)."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


class Signature(Struct, frozen=True):
    """A line of a note: who signed, by name and key id (4 bytes), and the signature's bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The line, with its newline."""
        return f"{DASH} {self.name} {_base64(self.key_id + self.signature)}\n"


class Note(Struct, frozen=True):
    """A text and its signatures, known or not."""

    text: str
    signatures: tuple[Signature, ...]

    def dump(self) -> bytes:
        """The note's bytes."""
        return (self.text + "\n" + "".join(each.line() for each in self.signatures)).encode()


class Verifier(Struct, frozen=True):
    """A public key with its name; `kind` is the algorithm's byte."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256 over name, newline, kind and key (signed-note)."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:ID_BYTES]

    def dump(self) -> str:
        """As text: `name+id+base64`."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public)}"


class Signer(Struct, frozen=True):
    """A private key with its name: a seed of 32 bytes, for either kind."""

    name: str
    seed: bytes
    kind: int = ED25519

    def __repr__(self) -> str:
        """Never the key."""
        return f"Signer({self.name})"

    def verifier(self) -> Verifier:
        """The public half."""
        if self.kind == ML_DSA_44:
            public = MLDSA44PrivateKey.from_seed_bytes(self.seed).public_key().public_bytes_raw()
        else:
            public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return Verifier(self.name, self.kind, public)

    def sign(self, text: str) -> Signature:
        """Sign a checkpoint's text. One of ML-DSA-44 has no time: it doesn't say that this is the newest."""
        key = self.verifier()
        message = _covered(key, text, 0)
        if self.kind == ML_DSA_44:
            signature = bytes(TIME_BYTES) + MLDSA44PrivateKey.from_seed_bytes(self.seed).sign(message)
        else:
            signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
        return Signature(self.name, key.key_id, signature)


def dump_signer(signer: Signer) -> str:
    """A private key as text: `PRIVATE+KEY+name+id+base64`, as Go's sumdb has it; the first byte is the kind."""
    key_id = signer.verifier().key_id.hex()
    return f"{PRIVATE}{signer.name}+{key_id}+{_base64(bytes([signer.kind]) + signer.seed)}"


def signer(text: str) -> Signer:
    """The private key in such a text. Raises `Misconfigured`; no message holds the key."""
    name, _, rest = text.strip().removeprefix(PRIVATE).partition("+")
    key_id, _, key = rest.partition("+")
    raw = decoded(key)
    if not text.startswith(PRIVATE) or raw is None or len(raw) != 33 or raw[0] not in KINDS:
        raise Misconfigured("log key: expected PRIVATE+KEY+name+id+base64: make one with `todoke ledger key`")
    found = Signer(name, raw[1:], raw[0])
    if found.verifier().key_id.hex() != key_id:
        raise Misconfigured(f"log key: the id in it is not that of its name and key: copy the key of {name} anew")
    return found


def verifier(text: str) -> Verifier:
    """The public key in a text `name+id+base64`. Raises `Misconfigured`."""
    name, _, rest = text.strip().partition("+")
    key_id, _, key = rest.partition("+")
    raw = decoded(key)
    if raw is None or not name or len(raw) - 1 != KEY_BYTES.get(raw[0] if raw else 0):
        raise Misconfigured("log key: expected a verifier key such as example.jp/log+3f2a9c1d+AU8X…")
    found = Verifier(name, raw[0], raw[1:])
    if found.key_id.hex() != key_id:
        raise Misconfigured(f"log key: the id in it is not that of its name and key: copy the key of {name} anew")
    return found


def parse_note(data: bytes) -> Note:
    """The note in these bytes. Raises `Unproved`."""
    try:
        text, blank, tail = data.decode().rpartition("\n\n")
    except UnicodeDecodeError:
        raise Unproved("note: not UTF-8") from None
    lines = tail.split("\n")
    if len(lines) > MOST_SIGNATURES + 1:
        raise Unproved(f"note: it has more than {MOST_SIGNATURES} signatures")
    if not blank or lines[-1] or len(lines) < 2 or any(each < " " and each != "\n" for each in text):
        raise Unproved("note: expected a text, an empty line and signatures")
    return Note(text + "\n", tuple(_signature(line) for line in lines[:-1]))


def _signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, value = rest.partition(" ")
    raw = decoded(value)
    if dash != DASH or name.split() != [name] or "+" in name or raw is None or len(raw) <= ID_BYTES:
        raise Unproved("note: a signature's line is not in its form")
    return Signature(name, raw[:ID_BYTES], raw[ID_BYTES:])


def signed_by(note: Note, key: Verifier) -> bool:
    """Whether the key signed the note. Raises `Unproved` where a line of this key's name and id doesn't verify."""
    return signed_at(note, key) is not None


def signed_at(note: Note, key: Verifier) -> int | None:
    """When the key signed the note, in seconds since 1970: 0 for a kind without time, None where it didn't. Raises `Unproved`."""
    when = None
    for each in note.signatures:
        if each.name == key.name and each.key_id == key.key_id:
            when = _verified(note, key, each.signature)
    return when


def _verified(note: Note, key: Verifier, signature: bytes) -> int:
    timed = key.kind in (COSIGNED_ED25519, ML_DSA_44)
    when = int.from_bytes(signature[:TIME_BYTES]) if timed else 0
    try:
        message = _covered(key, note.text, when)
        if key.kind == ML_DSA_44:
            MLDSA44PublicKey.from_public_bytes(key.public).verify(signature[TIME_BYTES:], message)
        else:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature[TIME_BYTES * timed :], message)
    except (InvalidSignature, ValueError):
        raise Unproved(f"checkpoint: the signature of {key.name} is wrong") from None
    if when >= LARGEST:
        raise Unproved(f"checkpoint: the time in the signature of {key.name} can't be")
    return when


def _covered(key: Verifier, text: str, when: int) -> bytes:
    """What a key's signature is made over: tlog-cosignature has a message for each kind."""
    if key.kind == ED25519:
        return text.encode()
    if key.kind == COSIGNED_ED25519:
        return f"cosignature/v1\ntime {when}\n{text}".encode()
    if key.kind != ML_DSA_44:
        raise Unproved(f"checkpoint: the key {key.name} is of a kind that is not known here: {key.kind:#04x}")
    found = parse_checkpoint(text)
    begin, end = (0).to_bytes(8), found.size.to_bytes(8)
    return b"subtree/v1\n\0" + _short(key.name) + when.to_bytes(8) + _short(found.origin) + begin + end + found.root


def _short(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(1) + data


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text (tlog-checkpoint). Lines after the third are extensions, and ignored. Raises `Unproved`."""
    lines = text.split("\n")
    root = decoded(lines[2]) if len(lines) > 3 else None
    if root is None or len(root) != 32 or not lines[0] or not lines[1].isascii() or not lines[1].isdecimal():
        raise Unproved("checkpoint: expected an origin, a size and a root, each in a line")
    if len(lines[1]) > len(str(LARGEST)) or lines[1] != str(int(lines[1])) or int(lines[1]) >= LARGEST:
        raise Unproved("checkpoint: its size is written with zeros before it, or larger than any log")
    return Checkpoint(lines[0], int(lines[1]), root)


def opened(data: bytes, keys: Sequence[Verifier], origin: str) -> Checkpoint:
    """The checkpoint of this origin that at least one of the log's keys signed; a witness's word alone is none. Raises `Unproved`."""
    note = parse_note(data)
    found = parse_checkpoint(note.text)
    if found.origin != origin:
        raise Unproved(f"checkpoint: it is of the log {found.origin}, not of {origin}")
    if not [key for key in keys if signed_by(note, key) and (key.kind == ED25519 or key.name == origin)]:
        raise Unproved("checkpoint: none of the log's keys signed it")
    return found


def sign(checkpoint: Checkpoint, signers: Sequence[Signer]) -> Note:
    """The checkpoint, signed."""
    text = checkpoint.text()
    return Note(text, tuple(each.sign(text) for each in signers))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes | None:
    """The bytes of a Base64 text, None where it isn't one, or not in its one form: no bit of a proof goes unread."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if _base64(found) == text else None
