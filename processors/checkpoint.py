"""Checkpoints as signed notes: C2SP signed-note and tlog-checkpoint, with Ed25519 keys.

A verifier's key is text, `name+id+base64`, as in Go's sumdb and in C2SP; a note is its text, an empty line and signatures.
"""

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from todoke.schemas.errors import Misconfigured, Unproved

ED25519 = 0x01
KEY_BYTES = {ED25519: 32}
"""How long a public key of each kind is."""
ID_BYTES = 4
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
    """A private key (32 bytes of Ed25519) with its name."""

    name: str
    seed: bytes

    def __repr__(self) -> str:
        """Never the key."""
        return f"Signer({self.name})"

    def verifier(self) -> Verifier:
        """The public half."""
        return Verifier(
            self.name, ED25519, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        )

    def sign(self, text: str) -> Signature:
        """Sign a note's text."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return Signature(self.name, self.verifier().key_id, signature)


def dump_signer(signer: Signer) -> str:
    """A private key as text: `PRIVATE+KEY+name+id+base64`, as Go's sumdb has it."""
    key_id = signer.verifier().key_id.hex()
    return f"{PRIVATE}{signer.name}+{key_id}+{_base64(bytes([ED25519]) + signer.seed)}"


def signer(text: str) -> Signer:
    """The private key in such a text. Raises `Misconfigured`; no message holds the key."""
    name, _, rest = text.strip().removeprefix(PRIVATE).partition("+")
    key_id, _, key = rest.partition("+")
    raw = decoded(key)
    if not text.startswith(PRIVATE) or raw is None or len(raw) != 33 or raw[0] != ED25519:
        raise Misconfigured("log key: expected PRIVATE+KEY+name+id+base64 of Ed25519: make one with `todoke log key`")
    found = Signer(name, raw[1:])
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
    found = [each for each in note.signatures if each.name == key.name and each.key_id == key.key_id]
    for each in found:
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(each.signature, note.text.encode())
        except (InvalidSignature, ValueError):
            raise Unproved(f"checkpoint: the signature of {key.name} is wrong") from None
    return bool(found)


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
