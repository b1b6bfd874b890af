"""Keyed hashes that stand for people inside, and the sealing of what only a key may open.

`subject_ref` and aliases are HMAC-SHA-256 (RFC 2104). Values are sealed with AES-256-GCM (NIST SP 800-38D) under a data
key per subject and generation, wrapped under a wrapping key from file or environment. Nonces are 96 random bits.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from todoke.schemas.errors import Misconfigured, Unopened
from todoke.schemas.record import Key

Random = Callable[[int], bytes]
KEY_BYTES = 32
NONCE_BYTES = 12
ORPHAN = "x"  # no hex digit, so that no member's reference begins with it


class Keyring(Struct, frozen=True):
    """The keys of one installation, 32 bytes each.

    `reference` makes subject references and is never rotated; `alias` makes alias hashes; `wrapping` holds the wrapping
    keys by name, of which `current` wraps what is new; `log` seals log rows and dead letters.
    """

    reference: bytes
    alias: bytes
    wrapping: dict[str, bytes]
    current: str
    log: bytes

    def __repr__(self) -> str:
        """Names of keys, never keys."""
        return f"Keyring(wrapping={sorted(self.wrapping)}, current={self.current!r})"


def check(keyring: Keyring) -> Keyring:
    """The keyring itself; raises `Misconfigured` that names the key which is missing or of the wrong length."""
    named = {"reference": keyring.reference, "alias": keyring.alias, "log": keyring.log}
    named |= {f"wrapping.{name}": key for name, key in keyring.wrapping.items()}
    for name, key in named.items():
        if len(key) != KEY_BYTES:
            raise Misconfigured(
                f"keys: {name}: expected {KEY_BYTES} bytes, got {len(key)}: make one with `todoke keys`"
            )
    if keyring.current not in keyring.wrapping:
        raise Misconfigured(f"keys: current: no wrapping key is called {keyring.current!r}: name one of wrapping.*")
    return keyring


def subject_ref(keyring: Keyring, subject: str) -> str:
    """The internal name of an upstream subject: 32 hex digits (correctness, 1)."""
    return hmac.digest(keyring.reference, b"subject\0" + subject.encode(), sha256).hex()[:32]


def orphan_ref(keyring: Keyring, alias: str) -> str:
    """The internal name of somebody known by identifiers only, until the member's own event brings one of them."""
    return ORPHAN + hmac.digest(keyring.reference, b"alias\0" + alias.encode(), sha256).hex()[:31]


def is_orphan(ref: str) -> bool:
    """Whether a subject is known by identifiers only."""
    return ref.startswith(ORPHAN)


def alias(keyring: Keyring, kind: str, canonical: str) -> str:
    """The keyed hash by which an identifier is found without being opened: 32 hex digits."""
    return hmac.digest(keyring.alias, kind.encode() + b"\0" + canonical.encode(), sha256).hex()[:32]


def new_key(keyring: Keyring, ref: str, created_at: int, random: Random) -> tuple[str, Key]:
    """A fresh data key for one subject: its generation's name, and the key wrapped."""
    generation = random(8).hex()
    wrapped = _seal(keyring.wrapping[keyring.current], random(KEY_BYTES), f"key|{ref}|{generation}", random)
    return generation, Key(wrapped=wrapped, wrapping=keyring.current, created_at=created_at)


def open_key(keyring: Keyring, ref: str, generation: str, key: Key) -> bytes:
    """The data key itself. Raises `Unopened` when its wrapping key is not at hand, or the bytes were changed."""
    wrapping = keyring.wrapping.get(key.wrapping)
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
    """Bytes sealed for the ledger or the dead letters; `label` binds them to their row or letter."""
    return _seal(keyring.log, plain, f"log|{label}", random)


def open_from_log(keyring: Keyring, label: str, sealed: bytes) -> bytes:
    """The inverse of `seal_for_log`. Raises `Unopened`."""
    return _open(keyring.log, sealed, f"log|{label}")


def _seal(key: bytes, plain: bytes, bound: str, random: Random) -> bytes:
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound.encode())


def _open(key: bytes, sealed: bytes, bound: str) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound.encode())
    except (InvalidTag, ValueError):
        kind = bound.split("|", 1)[0]
        raise Unopened(f"keys: a sealed {kind} does not open: wrong key, or the bytes were changed") from None
