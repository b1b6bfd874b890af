"""Whether one Avro schema can read what another wrote: the rules of schema resolution, without a registry.

BACKWARD_TRANSITIVE asks it of the current schema against every earlier version. The rules are those of the Avro
specification, "Schema Resolution"; logical types don't take part, since none is used.
"""

from collections.abc import Iterator
from typing import Any

from fastavro import parse_schema
from msgspec import Struct

Schema = Any
Names = dict[str, Any]

PROMOTIONS: dict[str, tuple[str, ...]] = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
"""What each primitive may be read as, besides itself."""


class Finding(Struct, frozen=True):
    """One difference. `fatal`: the reader can't read it. Else it needs resolution: by-name decoding would misread it."""

    where: str
    what: str
    fix: str = ""
    fatal: bool = True


def incompatibilities(writer: Schema, reader: Schema) -> list[str]:
    """Why `reader` can't read every message that `writer` wrote, each naming the field; empty when it can."""
    return [f"{each.where}: {each.what}" for each in findings(writer, reader) if each.fatal]


def needs_resolution(writer: Schema, reader: Schema) -> bool:
    """Whether decoding with the writer's schema alone, then taking fields by name, would differ from resolution.

    Added fields with defaults and removed fields don't count: the value's type has the same defaults. Nor does what
    resolution couldn't read either: taken by name, it is refused message by message, with the field.
    """
    return any(not each.fatal for each in findings(writer, reader))


def findings(writer: Schema, reader: Schema) -> list[Finding]:
    """Every difference that matters. Raises fastavro's SchemaParseException when either is no Avro schema."""
    walk = _Walk()
    one = parse_schema(writer, walk.writers)
    other = parse_schema(reader, walk.readers)
    return list(walk.compare(one, other, _short(other) if isinstance(other, dict) and "name" in other else "value"))


class _Walk:
    """One comparison. Named types are found by their full names, which parsing has put everywhere."""

    def __init__(self) -> None:
        self.writers: Names = {}
        self.readers: Names = {}
        self.seen: set[tuple[str, str]] = set()

    def compare(self, writer: Schema, reader: Schema, where: str) -> Iterator[Finding]:
        writer, reader = _resolved(writer, self.writers), _resolved(reader, self.readers)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.compare(branch, reader, where)
            return
        if isinstance(reader, list):
            yield from self._branch(writer, reader, where)
            return
        one, other = _kind(writer), _kind(reader)
        if one != other:
            yield from _promoted(one, other, where)
        elif one == "array":
            yield from self.compare(writer["items"], reader["items"], f"{where}[]")
        elif one == "map":
            yield from self.compare(writer["values"], reader["values"], f"{where}{{}}")
        elif one in ("record", "enum", "fixed"):
            yield from self._named(one, writer, reader, where)

    def _branch(self, writer: Schema, branches: list[Schema], where: str) -> Iterator[Finding]:
        """The reader takes the first branch that fits; when none does, the one of the same kind says why."""
        tried: list[Finding] = []
        for branch in branches:
            trial = _Walk()
            trial.writers, trial.readers, trial.seen = self.writers, self.readers, set(self.seen)
            found = list(trial.compare(writer, branch, where))
            if not any(each.fatal for each in found):
                yield from found
                return
            if _kind(_resolved(branch, self.readers)) == _kind(writer):
                tried = tried or found
        fix = f"put {_kind(writer)} back into the union"
        yield from tried or [Finding(where, f"no branch of the union reads {_kind(writer)}", fix)]

    def _named(self, kind: str, writer: Schema, reader: Schema, where: str) -> Iterator[Finding]:
        if _short(writer) not in {_short(reader), *map(_last, reader.get("aliases", ()))}:
            fix = f"name {_short(writer)} among its aliases"
            yield Finding(where, f"{kind} {_short(writer)} became {_short(reader)} without an alias", fix)
        elif kind == "record":
            pair = (writer["name"], reader["name"])
            if pair not in self.seen:  # a record may hold itself
                self.seen.add(pair)
                yield from self._fields(writer, reader, where)
        elif kind == "enum":
            gone = [each for each in writer["symbols"] if each not in reader["symbols"]]
            if gone:
                fatal = "default" not in reader
                fix = "put them back, or give the enum a default"
                yield Finding(where, f"symbols removed without a default: {', '.join(gone)}", fix, fatal)
        elif writer["size"] != reader["size"]:
            fix = "change it back, and put the new size under a new name into a new field"
            yield Finding(where, f"size changed from {writer['size']} to {reader['size']}", fix)

    def _fields(self, writer: Schema, reader: Schema, where: str) -> Iterator[Finding]:
        theirs = {each["name"]: each for each in writer["fields"]}
        for field in reader["fields"]:
            place = f"{where}.{field['name']}"
            found = theirs.get(field["name"])
            if found is None:
                found = next((theirs[name] for name in field.get("aliases", ()) if name in theirs), None)
                if found is not None:
                    yield Finding(place, f"renamed from {found['name']}", fatal=False)
            if found is not None:
                yield from self.compare(found["type"], field["type"], place)
            elif "default" not in field:
                yield Finding(place, "added without a default", "give it a default")


def _promoted(one: str, other: str, where: str) -> Iterator[Finding]:
    if other not in PROMOTIONS.get(one, ()):
        fix = "change it back, and put the new type into a new field with a default"
        yield Finding(where, f"type changed from {one} to {other}", fix)
    elif "bytes" in (one, other):  # numbers read alike, text and bytes don't
        yield Finding(where, f"{one} read as {other}", fatal=False)


def _resolved(schema: Schema, names: Names) -> Schema:
    """The definition behind a name."""
    return names.get(schema, schema) if isinstance(schema, str) else schema


def _kind(schema: Schema) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _short(schema: Schema) -> str:
    """The name without its namespace, which is all that resolution compares."""
    return _last(schema["name"])


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
