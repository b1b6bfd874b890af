"""Salted commitments to records: what goes into the Merkle log instead of them.

Whoever has the salt and the record can show that the log holds it; without the salt a commitment says nothing, not even
to someone who tries every possible record. Each face has a salt of its own, made from the record's, so that one face can
be opened and the others stay shut (decision 0020).
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from todoke.schemas.records import FACES, Face, Record

from .merkle import leaf_hash, root_of

SALT_BYTES = 32


def canonical(value: Mapping[str, Any]) -> bytes:
    """The value as JSON in one form only (RFC 8785).

    Holds for what records are made of: text, whole numbers to 2^53, booleans, null, lists, and objects with ASCII names.
    """
    return msgspec.json.encode(value, order="sorted")


def face_salt(salt: bytes, face: Face) -> bytes:
    """The salt of one face: HMAC-SHA256 of its name under the record's salt (32 bytes)."""
    return hmac.digest(salt, face.encode(), "sha256")


def commit_face(face_salt: bytes, value: Mapping[str, Any]) -> bytes:
    """The commitment to one face (32 bytes)."""
    return hmac.digest(face_salt, canonical(value), "sha256")


def combine(faces: Mapping[Face, bytes]) -> bytes:
    """The commitment to a record, of the commitments to its four faces (32 bytes)."""
    return sha256(b"".join([faces[name] for name in FACES])).digest()


def commit(record: Record, salt: bytes) -> bytes:
    """The commitment to a record (32 bytes)."""
    return combine({name: commit_face(face_salt(salt, name), record.face(name)) for name in FACES})


class Shown(Struct, frozen=True, kw_only=True):
    """A record of which some faces are shown: their values and salts, and bare commitments to the others."""

    values: dict[Face, dict[str, Any]]
    salts: dict[Face, bytes]
    withheld: dict[Face, bytes]

    def __repr__(self) -> str:
        """Only which faces are shown: values are somebody's."""
        return f"Shown({', '.join(self.values)})"

    def commitment(self) -> bytes:
        """The commitment to the record, from what is shown. Raises KeyError where a face is neither shown nor withheld."""
        shown = {name: commit_face(self.salts[name], value) for name, value in self.values.items()}
        return combine({**self.withheld, **shown})


def show(record: Record, salt: bytes, faces: frozenset[Face]) -> Shown:
    """The record with these faces shown and the others withheld."""
    salts = {name: face_salt(salt, name) for name in FACES}
    return Shown(
        values={name: record.face(name) for name in FACES if name in faces},
        salts={name: salts[name] for name in FACES if name in faces},
        withheld={name: commit_face(salts[name], record.face(name)) for name in FACES if name not in faces},
    )


def fold_entry(commitments: Sequence[bytes]) -> bytes:
    """The log's entry for a batch of records: how many, and the root over their commitments, as canonical JSON."""
    root = base64.b64encode(root_of([leaf_hash(each) for each in commitments])).decode()
    return canonical({"n": len(commitments), "root": root, "t": "rows", "v": 1})
