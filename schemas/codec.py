"""From values to bytes and back: Avro in the Confluent wire format.

A message is a zero byte, the writer's schema id (4 bytes, big-endian), and the Avro body. It is decoded with the schema
that it was written with, whatever its version; then the fields are taken by name, so that what an older writer didn't
know gets the type's default and what a newer one added is ignored. Nothing here looks at a value's meaning: admission does.
"""

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from io import BytesIO
from struct import Struct as Layout
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType
from msgspec import Struct

from . import contracts
from .directives import Directive
from .errors import Refused
from .events import INTAKE, DeadLetter, LogRow, Outcome
from .evolution import needs_resolution
from .keyring import KeyCheck
from .lanes import LaneOrder
from .obligations import Obligation
from .receipts import Receipt
from .record import SubjectRecord
from .refusal import refusal
from .registry import RegistryRevision
from .suppressions import SuppressionEntry
from .told import Told

TRAVELLERS: tuple[type[Struct], ...] = (
    *INTAKE.values(),
    RegistryRevision,
    LaneOrder,
    SubjectRecord,
    Directive,
    Receipt,
    Obligation,
    Told,
    Outcome,
    SuppressionEntry,
    LogRow,
    DeadLetter,
    KeyCheck,
)
"""Every type that travels; each has a contract of its own name."""

RECORDS: dict[str, type[Struct]] = {each.__name__: each for each in TRAVELLERS}

LATELY = 8192
"""How many values are remembered with their bytes: more than one batch keeps."""
HEADER = Layout(">BI")
MAGIC = 0
UNREADABLE = (EOFError, LookupError, ValueError, TypeError, ArithmeticError, SchemaResolutionError)
"""What fastavro raises at bytes that aren't what the schema says.

Our own error is raised after theirs was let go, not from it: their messages hold values, and a context is printed.
"""

T = TypeVar("T", bound=Struct)


class UnknownSchema(Refused):
    """A schema id that the codec hasn't learnt. Fetch it from the registry, `learn` it, decode again.

    Only a registry that answers "no such id" makes it the refusal that it is; one that doesn't answer makes it wait.
    """

    def __init__(self, schema_id: int) -> None:
        """Keep the id, which is no secret."""
        super().__init__("unknown-schema", "schema id", "Register the schema before writing with it.")
        self.schema_id = schema_id


class Writer(NamedTuple):
    """How to read what one schema wrote. `kind` is None for a record that is none of ours."""

    kind: type[Struct] | None
    schema: Any
    reader: Any


class Codec:
    """Encodes and decodes every type that travels. Not locked: `learn` from the thread or loop that decodes.

    `ids` are those to write with, by record name: a registry's, or None for those of the lock. What the lock names can
    always be read, so that a topic begun without a registry is read through to its end.
    """

    def __init__(self, ids: Mapping[str, int] | None = None, where: Traversable | None = None) -> None:
        """Read the contracts, which are files beside this module, and parse them."""
        where = where or contracts.folder()
        locked = contracts.lock(where)
        self._schemas = contracts.current(where)
        self._writers: dict[int, Writer] = {}
        self._lately: dict[int, tuple[Struct, bytes]] = {}
        self._ours: dict[type[Struct], tuple[bytes, Any]] = {}
        for name, versions in contracts.history(where).items():
            for version, schema in versions.items():
                self.learn(locked[name][version].id, schema)
        for name, schema_id in (contracts.ids(locked) if ids is None else ids).items():
            self.learn(schema_id, self._schemas[name])
            self._ours[RECORDS[name]] = (HEADER.pack(MAGIC, schema_id), self._writers[schema_id].schema)

    def learn(self, schema_id: int, schema: Any) -> None:
        """Take in a schema by which others write. One that is none of ours, or no schema, is learnt as just that."""
        try:
            plain = _physical(schema)
            name = plain["name"].rsplit(".", 1)[-1]
            ours = self._schemas.get(name)
            parsed = parse_schema(plain)
            reader = parse_schema(ours) if ours is not None and needs_resolution(plain, ours) else None
        except (SchemaParseException, UnknownType, TypeError, KeyError, AttributeError):
            self._writers[schema_id] = Writer(None, None, None)
        else:
            self._writers[schema_id] = Writer(RECORDS.get(name), parsed, reader)

    def encode(self, value: Struct) -> bytes:
        """The message. Raises `Refused` where Avro can't hold the value, as a whole number of more than 64 bits."""
        known = self._lately.get(id(value))
        if known is not None and known[0] is value:  # of the view, for its topic
            return known[1]
        header, schema = self._ours[type(value)]
        out = BytesIO()
        out.write(header)
        try:
            schemaless_writer(out, schema, msgspec.to_builtins(value, builtin_types=(bytes,)))
        except (OverflowError, ValueError, TypeError):
            pass
        else:
            return out.getvalue()
        fix = "Keep whole numbers within 64 bits and text within Unicode, each of the type that its field has."
        raise Refused("undecodable", "value", fix)

    def remember(self, value: Struct, data: bytes) -> None:
        """Note that `value` reads `data`: if that is by the schema written with now, it need not be encoded again."""
        if data.startswith(self._ours[type(value)][0]):
            if len(self._lately) >= LATELY:
                self._lately.clear()
            self._lately[id(value)] = (value, data)  # the value itself is kept, so that no other takes its id

    def forget(self) -> None:
        """Let go of what was remembered: a batch is done."""
        self._lately.clear()

    def decode(self, data: bytes, *expected: type[T]) -> T:
        """The value, which is of one of the types expected; of any that travels when none is named.

        Raises `UnknownSchema` for a schema that has yet to be learnt, and else `Refused`: not-avro, unknown-schema,
        undecodable or unknown-value. A null value of a compacted topic is the caller's to see before.
        """
        if len(data) < HEADER.size or data[0] != MAGIC:
            fix = "Write with a serializer of a Confluent-compatible schema registry."
            raise Refused("not-avro", "value", fix)
        schema_id = int.from_bytes(data[1:5], "big")
        writer = self._writers.get(schema_id)
        if writer is None:
            raise UnknownSchema(schema_id)
        kind, schema, reader = writer
        if kind is None or (expected and kind not in expected):
            names = ", ".join(each.__name__ for each in expected) or "a record of the contracts"
            raise Refused("unknown-schema", "schema id", f"Write {names} to this topic, or choose another topic.")
        body = BytesIO(data)
        body.seek(HEADER.size)
        try:
            fields = schemaless_reader(body, schema, reader)
        except UNREADABLE:
            fields = None
        if fields is None or body.tell() != len(data):
            fix = "Write the body with the schema that the id names, whole, and nothing after it."
            raise Refused("undecodable", "value", fix)
        return cast("T", _converted(fields, kind))


def _converted(fields: Any, kind: type[Struct]) -> Struct:
    try:
        return msgspec.convert(fields, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        fault = refusal(kind, error)
    if fault.field == "event_id" and not fields.get("event_id"):  # admission has a better word for its absence
        return _converted({**fields, "event_id": ""}, kind)
    raise fault


def _physical(part: Any) -> Any:
    """A schema without logical types: times are counts here, and decoding them otherwise costs more than all the rest."""
    if isinstance(part, list):
        return [_physical(each) for each in part]
    if isinstance(part, dict):
        return {
            key: value if key == "default" else _physical(value) for key, value in part.items() if key != "logicalType"
        }
    return part
