"""How one record is sealed: AES-256-GCM under a key of its own, which is sealed under the key of its class and month.

A record's key and salt stand in one short cipher text, the rest of it in two: who it is about, and everything else. Each is
bound to the record's id, so that none can stand in for another. A record's key seals exactly two texts, so their nonces are
fixed and the key never meets one twice.
"""

from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from todoke.processors.commitment import SALT_BYTES
from todoke.schemas.errors import Unopened
from todoke.schemas.records import Record

KEY_BYTES = 32
NONCE_BYTES = 12
RANDOM_BYTES = NONCE_BYTES + KEY_BYTES + SALT_BYTES
WRAPPED_BYTES = RANDOM_BYTES + 16
FACTS, PRINCIPAL = b"\x00" * NONCE_BYTES, b"\x00" * (NONCE_BYTES - 1) + b"\x01"

_encode = msgspec.msgpack.Encoder().encode


class _Facts(Struct, frozen=True, array_like=True):
    """A record without who it is about. Fields are only ever added, at the end and with a default."""

    kind: str
    rule: str
    at: int
    source: str
    number: int
    partner: str
    retention: str
    anchor: str
    expires: str
    supersedes: str
    disclosable: dict[str, Any]
    internal: dict[str, Any]
    rolls: str = ""


class _Who(Struct, frozen=True, array_like=True):
    subject_ref: str
    principal: dict[str, Any]


_facts = msgspec.msgpack.Decoder(_Facts).decode
_who = msgspec.msgpack.Decoder(_Who).decode


def seal(key: AESGCM, name: bytes, record: Record, random: bytes) -> bytes:
    """The record sealed: its wrapped key and salt (92 B), the length of the facts (4 B), the facts, who it is about.

    `key` is that of its class and month, `name` its id's 16 bytes, `random` fresh: nonce, data key, salt.
    """
    nonce, secret = random[:NONCE_BYTES], random[NONCE_BYTES:]
    own = AESGCM(secret[:KEY_BYTES])
    facts = own.encrypt(FACTS, _encode(_Facts(*[getattr(record, each) for each in _Facts.__struct_fields__])), name)
    who = own.encrypt(PRINCIPAL, _encode(_Who(record.subject_ref, record.principal)), name)
    return nonce + key.encrypt(nonce, secret, name) + len(facts).to_bytes(4, "big") + facts + who


def unseal(key: AESGCM, name: bytes, sealed: bytes, record_id: str) -> tuple[Record, bytes]:
    """The record and its salt. Raises `Unopened`."""
    secret = unwrap(key, name, sealed)
    own = AESGCM(secret[:KEY_BYTES])
    begin = WRAPPED_BYTES + 4
    end = begin + int.from_bytes(sealed[WRAPPED_BYTES:begin], "big")
    try:
        facts = _facts(own.decrypt(FACTS, sealed[begin:end], name))
        who = _who(own.decrypt(PRINCIPAL, sealed[end:], name))
    except (InvalidTag, msgspec.DecodeError, ValueError):
        raise Unopened("vault: a record does not open: its bytes were changed") from None
    known = {each: getattr(facts, each) for each in _Facts.__struct_fields__}
    return Record(record_id=record_id, subject_ref=who.subject_ref, principal=who.principal, **known), secret[
        KEY_BYTES:
    ]


def unwrap(key: AESGCM, name: bytes, sealed: bytes) -> bytes:
    """The record's own key and its salt. Raises `Unopened`."""
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:WRAPPED_BYTES], name)
    except (InvalidTag, ValueError):
        raise Unopened("vault: a record does not open: wrong key, or its bytes were changed") from None


def rewrap(old: AESGCM, new: AESGCM, name: bytes, sealed: bytes, nonce: bytes) -> bytes:
    """The same record with its own key and salt sealed under another key. Raises `Unopened`."""
    return nonce + new.encrypt(nonce, unwrap(old, name, sealed), name) + sealed[WRAPPED_BYTES:]
