"""Keyed hashes that stand for people inside, and the sealing of what only a key may open.

`subject_ref` and aliases are HMAC-SHA-256 (RFC 2104). Values are sealed with AES-256-GCM (NIST SP 800-38D) under a data
key per subject and generation, wrapped under a wrapping key of the keyring. Nonces are 96 random bits. Every sealed value
names the generation that opens it.
"""

import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from todoke.schemas.errors import Misconfigured, Unopened
from todoke.schemas.record import Key, by_number

Random = Callable[[int], bytes]
KEY_BYTES = 32
NONCE_BYTES = 12
ORPHAN = "x"  # no hex digit, so that no member's reference begins with it
RINGS = ("alias", "wrapping", "log")
GENERATION = re.compile(r"[a-z][a-z-]{0,15}[0-9]{1,6}")


class Ring(Struct, frozen=True):
    """The generations of one key by name, of which `current` makes what is new; the others open what is old."""

    current: str
    keys: dict[str, bytes]

    @property
    def newest(self) -> bytes:
        """The current key."""
        return self.keys[self.current]

    def __repr__(self) -> str:
        """Names of keys, never keys."""
        return f"Ring({self.current!r} of {sorted(self.keys, key=by_number)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Keep rich from reading the fields by itself."""
        return [("current", self.current), ("of", sorted(self.keys, key=by_number))]


class Keyring(Struct, frozen=True):
    """The keys of one installation, 32 bytes each.

    `reference` makes subject references and is never rotated. `alias` makes the hashes by which identifiers are found;
    `wrapping` wraps the data keys of subjects; `log` seals log rows and dead letters.
    """

    reference: bytes
    alias: Ring
    wrapping: Ring
    log: Ring

    def rings(self) -> Iterator[tuple[str, Ring]]:
        """What rotates, by name."""
        return ((name, getattr(self, name)) for name in RINGS)

    def __repr__(self) -> str:
        """Names of keys, never keys."""
        return f"Keyring({', '.join(f'{name}={ring!r}' for name, ring in self.rings())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Keep rich from reading the fields by itself."""
        return list(self.rings())


def named(keyring: Keyring) -> dict[str, bytes]:
    """Every key by its full name, as `reference` or `wrapping.w1`."""
    found = {"reference": keyring.reference}
    return found | {f"{ring}.{name}": key for ring, each in keyring.rings() for name, key in each.keys.items()}


def check(keyring: Keyring) -> Keyring:
    """The keyring itself; raises `Misconfigured` that names the key which is missing or of the wrong length."""
    for name, key in named(keyring).items():
        if len(key) != KEY_BYTES:
            fix = "make one with `todoke keys new`, or `todoke keys add`"
            raise Misconfigured(f"keys: {name}: expected {KEY_BYTES} bytes, got {len(key)}: {fix}")
    for ring, each in keyring.rings():
        wrong = [name for name in each.keys if not GENERATION.fullmatch(name)]
        if wrong:
            fix = "small letters and a number, as w2: generations are ordered by it"
            raise Misconfigured(f"keys: {ring}: a generation's name is out of form: use {fix}")
        if each.current not in each.keys:
            raise Misconfigured(f"keys: {ring}.current: no {ring} key is called so: name one of {ring}.*")
    return keyring


def checks(keyring: Keyring) -> dict[str, str]:
    """What tells each key from another of its name, and no more of it: HMAC under the reference key."""
    return {
        name: hmac.digest(keyring.reference, f"check\0{name}\0".encode() + key, sha256).hex()[:32]
        for name, key in named(keyring).items()
    }


def foreign(keyring: Keyring, known: Mapping[str, str], retired: frozenset[str]) -> list[str]:
    """What speaks against this keyring where the checks `known` were noted, as sentences without a key.

    Every check is made with the reference key, so with another one all would differ: then it alone is named.
    """
    mine = checks(keyring)
    if known.get("reference", mine["reference"]) != mine["reference"]:
        return ["reference is another key than the one that named the people here"]
    other = [name for name in sorted(known.keys() & mine.keys()) if known[name] != mine[name]]
    lost = [name for name in sorted(known.keys() - mine.keys()) if name not in retired]
    return [f"{name} is another key than the one used here under that name" for name in other] + [
        f"{name} is missing, and was not retired" for name in lost
    ]


def subject_ref(keyring: Keyring, subject: str) -> str:
    """The internal name of an upstream subject: 32 hex digits (correctness, 1)."""
    return hmac.digest(keyring.reference, b"subject\0" + subject.encode(), sha256).hex()[:32]


def orphan_ref(keyring: Keyring, kind: str, canonical: str) -> str:
    """The internal name of somebody known by identifiers only, until the member's own event brings one of them.

    Not by way of the alias, so that two workers name them alike while its key is being rotated.
    """
    text = kind.encode() + b"\0" + canonical.encode()
    return ORPHAN + hmac.digest(keyring.reference, b"identifier\0" + text, sha256).hex()[:31]


def is_orphan(ref: str) -> bool:
    """Whether a subject is known by identifiers only."""
    return ref.startswith(ORPHAN)


def alias(keyring: Keyring, kind: str, canonical: str) -> str:
    """The keyed hash by which an identifier is found without being opened: 32 hex digits, under the current key."""
    return aliases(keyring, kind, canonical)[keyring.alias.current]


def aliases(keyring: Keyring, kind: str, canonical: str) -> dict[str, str]:
    """The same under every alias key at hand, by generation: what is written under one is found under all."""
    text = kind.encode() + b"\0" + canonical.encode()
    return {name: hmac.digest(key, text, sha256).hex()[:32] for name, key in keyring.alias.keys.items()}


def new_key(keyring: Keyring, ref: str, created_at: int, random: Random) -> tuple[str, Key]:
    """A fresh data key for one subject: its generation's name, and the key wrapped."""
    generation = random(8).hex()
    return generation, _wrap(keyring, ref, generation, random(KEY_BYTES), created_at, random)


def rewrap(keyring: Keyring, ref: str, generation: str, key: Key, random: Random) -> Key:
    """The same data key under the current wrapping key. Raises `Unopened`."""
    return _wrap(keyring, ref, generation, open_key(keyring, ref, generation, key), key.created_at, random)


def open_key(keyring: Keyring, ref: str, generation: str, key: Key) -> bytes:
    """The data key itself. Raises `Unopened` when its wrapping key is not at hand, or the bytes were changed."""
    wrapping = keyring.wrapping.keys.get(key.wrapping)
    if wrapping is None:
        raise Unopened(f"keys: no wrapping key is called {key.wrapping!r}: bring it back from the backup of the keys")
    return _open(wrapping, key.wrapped, f"key|{ref}|{generation}")


def seal_identifier(data_key: bytes, ref: str, kind: str, value: str, random: Random) -> bytes:
    """An identifier sealed for one subject; it opens for that subject and kind alone."""
    return _seal(data_key, value.encode(), f"identifier|{ref}|{kind}", random)


def open_identifier(data_key: bytes, ref: str, kind: str, sealed: bytes) -> str:
    """The identifier's value. Raises `Unopened`."""
    return _open(data_key, sealed, f"identifier|{ref}|{kind}").decode()


def seal_for_log(keyring: Keyring, label: str, plain: bytes, random: Random) -> bytes:
    """Bytes sealed for the ledger or the dead letters; `label` binds them to their row or letter.

    The length of the generation's name (1 byte), the name in ASCII, then nonce and ciphertext.
    """
    name = keyring.log.current.encode()
    return bytes([len(name)]) + name + _seal(keyring.log.newest, plain, f"log|{label}", random)


def log_generation(sealed: bytes) -> str:
    """Which log key opens what `seal_for_log` made; empty where it made nothing of the kind."""
    name = sealed[1 : 1 + sealed[0]] if sealed else b""
    return name.decode("ascii", "replace") if GENERATION.fullmatch(name.decode("ascii", "replace")) else ""


def open_from_log(keyring: Keyring, label: str, sealed: bytes) -> bytes:
    """The inverse of `seal_for_log`. Raises `Unopened`."""
    name = log_generation(sealed)
    key = keyring.log.keys.get(name)
    if name and key is None:
        raise Unopened(f"keys: no log key is called {name!r}: bring it back from the backup of the keys")
    return _open(key or keyring.log.newest, sealed[1 + len(name) :] if name else b"", f"log|{label}")


def _wrap(keyring: Keyring, ref: str, generation: str, data_key: bytes, created_at: int, random: Random) -> Key:
    wrapped = _seal(keyring.wrapping.newest, data_key, f"key|{ref}|{generation}", random)
    return Key(wrapped=wrapped, wrapping=keyring.wrapping.current, created_at=created_at)


@lru_cache(16)  # the few keys of the installation; a subject's own pass through, and are not worth more room
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def _seal(key: bytes, plain: bytes, bound: str, random: Random) -> bytes:
    nonce = random(NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plain, bound.encode())


def _open(key: bytes, sealed: bytes, bound: str) -> bytes:
    try:
        return _cipher(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound.encode())
    except (InvalidTag, ValueError):
        kind = bound.split("|", 1)[0]
        raise Unopened(f"keys: a sealed {kind} does not open: wrong key, or the bytes were changed") from None
