"""The contracts: the Avro schemas of everything that travels, current and past.

`avro/<Record>.avsc` is the current schema, with its documentation. `avro/history/<Record>.<version>.avsc` is every
version there ever was, the current one included, in the canonical form of which `ids.lock.json` holds the SHA-256. The
lock gives each version an id of its own, for where no schema registry is configured (`renewal` keeps all three in step).
"""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import msgspec
from msgspec import Struct

from .errors import Misconfigured
from .evolution import findings, incompatibilities

Schema = dict[str, Any]

FIRST_ID = int.from_bytes(b"To\0\1", "big")
"""Ids of the lock start far above those of a registry, which count from 1: a topic may hold messages of both."""


class Locked(Struct, frozen=True):
    """One version of one record: its id on the wire where there is no registry, and the digest of its canonical form."""

    id: int
    sha256: str


Lock = dict[str, dict[int, Locked]]


class Fault(Struct, frozen=True):
    """Why a schema can't take the place of an earlier one: record and field, what differs, from which one, the fix."""

    where: str
    what: str
    against: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}, against {self.against}: {self.fix}"


def folder() -> Traversable:
    """Where the contracts are: beside this module, in a checkout and in a wheel."""
    return files(__package__ or "")


def current(where: Traversable) -> dict[str, Schema]:
    """The current schema of each record, by name."""
    found = (each for each in where.joinpath("avro").iterdir() if each.name.endswith(".avsc"))
    return {each.name.removesuffix(".avsc"): msgspec.json.decode(each.read_bytes()) for each in found}


def history(where: Traversable) -> dict[str, dict[int, Schema]]:
    """Every version of each record, by name and number."""
    found: dict[str, dict[int, Schema]] = {}
    for each in where.joinpath("avro", "history").iterdir():
        name, version, _ = each.name.split(".")
        found.setdefault(name, {})[int(version)] = msgspec.json.decode(each.read_bytes())
    return found


def lock(where: Traversable) -> Lock:
    """The lock, by record name and version."""
    return msgspec.json.decode(where.joinpath("ids.lock.json").read_bytes(), type=Lock)


def ids(locked: Lock) -> dict[str, int]:
    """The id of each record's newest version: what a `Codec` writes with where there is no registry."""
    return {name: versions[max(versions)].id for name, versions in locked.items()}


def canonical(schema: Schema) -> bytes:
    """The schema as one JSON text: without documentation, keys sorted, nothing else left out.

    Avro's own parsing canonical form drops defaults and aliases as well, by which versions differ too.
    """
    return msgspec.json.encode(_undocumented(schema), order="sorted")


def digest(schema: Schema) -> str:
    """SHA-256 of the canonical form, in hex."""
    return sha256(canonical(schema)).hexdigest()


def renewal(where: Traversable) -> dict[str, bytes]:
    """What has to be written, by path below `schemas/`, for history and lock to follow the current schemas.

    Empty when nothing has changed but documentation. Raises `Misconfigured` when a changed schema can't read what an
    earlier version wrote, naming the fields.
    """
    past, locked = history(where), lock(where)
    written: dict[str, bytes] = {}
    following = max((each.id for versions in locked.values() for each in versions.values()), default=FIRST_ID - 1)
    for name, schema in sorted(current(where).items()):
        versions = locked.setdefault(name, {})
        newest = max(versions, default=0)
        if newest and versions[newest].sha256 == digest(schema):
            continue
        faults = [each for old in past.get(name, {}).values() for each in incompatibilities(old, schema)]
        if faults:
            raise Misconfigured(f"schemas/avro/{name}.avsc can't read what was written before: {'; '.join(faults)}")
        following += 1
        versions[newest + 1] = Locked(following, digest(schema))
        written[f"avro/history/{name}.{newest + 1}.avsc"] = canonical(schema)
    if written:
        written["ids.lock.json"] = (
            msgspec.json.format(msgspec.json.encode(dict(sorted(locked.items()))), indent=2) + b"\n"
        )
    return written


def faults(schema: Schema, earlier: Mapping[str, Schema]) -> list[Fault]:
    """Why `schema` can't read what each of the `earlier` ones, by what they are called, wrote. Empty when it can.

    Raises fastavro's SchemaParseException when one of them is no Avro schema.
    """
    return [
        Fault(each.where, each.what, against, each.fix)
        for against, old in earlier.items()
        for each in findings(old, schema)
        if each.fatal
    ]


def _undocumented(part: Any) -> Any:
    """`part` without `doc`; a field's default is data, and stays as it is."""
    if isinstance(part, list):
        return [_undocumented(each) for each in part]
    if isinstance(part, dict):
        return {key: value if key == "default" else _undocumented(value) for key, value in part.items() if key != "doc"}
    return part
