"""What happens once, on deploy: schemas are held against those before them, and registered."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
from fastavro.schema import SchemaParseException, UnknownType

from todoke.schemas import contracts
from todoke.schemas.codec import RECORDS
from todoke.schemas.contracts import Fault, Schema
from todoke.schemas.errors import Misconfigured

from . import build, settings
from .registry import LEVEL, SchemaRegistry, Version, subject
from .settings import Settings
from .topics import carried

NO_SCHEMA = (SchemaParseException, UnknownType, TypeError, KeyError, AttributeError)
"""What fastavro raises at something that is no Avro schema."""


def register(loaded: Settings, partners: Sequence[str]) -> str:
    """Register every current schema under every topic that carries it, at `LEVEL`; says what was done. May be repeated.

    Raises `Retry` while the registry doesn't answer, `Misconfigured` when it refuses: naming record, field and fix where
    it is for a schema that can't read an earlier version.
    """
    client, schemas = SchemaRegistry(loaded.registry), contracts.current(contracts.folder())
    pairs = carried(loaded.namespace, partners)
    faults = check(schemas, client, pairs, levels=False)
    if faults:
        raise Misconfigured("; ".join(map(str, faults)))
    for topic, record in pairs:
        client.register(subject(topic, record), schemas[record])
    return f"{client}: {len(pairs)} subjects hold the current schemas, at {LEVEL}"


def check(
    schemas: dict[str, Schema],
    client: SchemaRegistry | None,
    pairs: Iterable[tuple[str, str]],
    *,
    levels: bool = True,
) -> list[Fault]:
    """Why `schemas`, by record, can't take the place of what there is: in the history, and where one is given in a registry.

    A subject that the registry lacks is no fault: it is registered on deploy. With `levels`, one that there is must be
    held to `LEVEL`.
    """
    history = contracts.history(contracts.folder())
    found: list[Fault] = []
    for name, schema in schemas.items():
        past = {f"version {number} of the lock": old for number, old in sorted(history.get(name, {}).items())}
        found += _compared(name, schema, past)
    for topic, name in pairs if client else ():
        assert client is not None  # said a line above
        held = client.versions(subject(topic, name)) if name in schemas else {}
        if held:
            found += _registered(client, subject(topic, name), held, name, schemas[name])
            if levels and (level := client.level(subject(topic, name))) != LEVEL:
                level_fault = f"its level is {level or 'not set'}, wanted {LEVEL}"
                found.append(Fault(subject(topic, name), level_fault, str(client), "run `todoke schemas register`"))
    return found


def _registered(
    client: SchemaRegistry, name: str, held: dict[int, Version], record: str, schema: Schema
) -> list[Fault]:
    """Against what a subject holds: by our own rules, which name the field; and by the registry's, which has the last word."""
    past = {f"version {number} of {name}": each.schema for number, each in sorted(held.items())}
    found = _compared(record, schema, past)
    if not found and not client.allows(name, schema):
        what = "the registry would refuse it, by rules of its own"
        found.append(Fault(record, what, name, "undo the change, or look at the subject's rules there"))
    return found


def _compared(record: str, schema: Schema, past: dict[str, Schema]) -> list[Fault]:
    found: list[Fault] = []
    for against, old in past.items():
        try:
            found += contracts.faults(schema, {against: old})
        except NO_SCHEMA:
            found.append(Fault(record, "one of the two is no Avro schema", against, "correct it"))
    return found


def _read(path: Path) -> tuple[str, Schema]:
    """The record of a file, and its schema. Raises `Misconfigured`."""
    try:
        schema = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise Misconfigured(f"{path}: {error}: it has to be an Avro schema of a record, as JSON") from None
    name = str(schema.get("name", "")).rsplit(".", 1)[-1]
    if name not in RECORDS:
        raise Misconfigured(
            f"{path}: name: no contract is called {name or 'so'}: use one of {', '.join(sorted(RECORDS))}"
        )
    return name, schema


@click.command("check")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def schemas_check(files: tuple[Path, ...]) -> None:
    """Hold the contracts, or those in FILES, against every version that the lock and the registry know.

    Ends with 1, and a line for each record and field with what to do, when one can't read what was written before.
    """
    loaded = settings.load()
    schemas = dict(map(_read, files)) if files else contracts.current(contracts.folder())
    client = SchemaRegistry(loaded.registry) if loaded.registry.url else None
    pairs = carried(loaded.namespace, [partner.name for partner in build.rules(loaded).registry.partners])
    faults = check(schemas, client, pairs)
    for each in faults:
        click.echo(str(each))
    where = f"the lock and {client}" if client else "the lock; no registry.url is set"
    click.echo(f"{len(schemas)} contracts, {len(faults)} faults, against {where}")
    sys.exit(1 if faults else 0)


@click.command("register")
def schemas_register() -> None:
    """Register every contract under its subjects, at BACKWARD_TRANSITIVE; `todoke topics apply` does it, too."""
    loaded = settings.load()
    if not loaded.registry.url:
        raise Misconfigured("registry.url: not set, so there is nowhere to register: set it, or use the lock's ids")
    click.echo(register(loaded, [partner.name for partner in build.rules(loaded).registry.partners]))
