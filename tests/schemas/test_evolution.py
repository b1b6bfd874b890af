"""The rules of schema resolution, held against fastavro's own reader."""

from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from todoke.schemas import contracts
from todoke.schemas.evolution import incompatibilities, needs_resolution

NESTED = {"type": "record", "name": "Age", "fields": [{"name": "band", "type": "string"}]}
ADULT = {**NESTED, "fields": [*NESTED["fields"], {"name": "adult", "type": "boolean"}]}
ENUM = {"type": "enum", "name": "Way", "symbols": ["post", "phone"]}
LESS = {"type": "enum", "name": "Way", "symbols": ["post"]}
FIXED = {"type": "fixed", "name": "Hash", "size": 2}


def record(*fields: dict[str, Any], name: str = "Told", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "todoke", "fields": list(fields), **more}


def field(name: str, kind: Any = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


# writer, reader, a value, the findings
CASES: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "the same": (record(field("a")), record(field("a")), {"a": "x"}, []),
    "another order": (
        record(field("a"), field("b", "long")),
        record(field("b", "long"), field("a")),
        {"a": "x", "b": 1},
        [],
    ),
    "removed": (record(field("a"), field("b")), record(field("a")), {"a": "x", "b": "y"}, []),
    "added with a default": (record(), record(field("a", default="")), {}, []),
    "added without one": (record(), record(field("a")), {}, ["Told.a: added without a default"]),
    "renamed with an alias": (record(field("a")), record(field("b", aliases=["a"])), {"a": "x"}, []),
    "renamed without": (record(field("a")), record(field("b")), {"a": "x"}, ["Told.b: added without a default"]),
    "int to long": (record(field("a", "int")), record(field("a", "long")), {"a": 1}, []),
    "long to int": (
        record(field("a", "long")),
        record(field("a", "int")),
        {"a": 1},
        ["Told.a: type changed from long to int"],
    ),
    "long to double": (record(field("a", "long")), record(field("a", "double")), {"a": 1}, []),
    "string to bytes": (record(field("a")), record(field("a", "bytes")), {"a": "x"}, []),
    "string to long": (
        record(field("a")),
        record(field("a", "long")),
        {"a": "x"},
        ["Told.a: type changed from string to long"],
    ),
    "made nullable": (record(field("a")), record(field("a", ["null", "string"])), {"a": "x"}, []),
    "made nullable and wider": (record(field("a", "int")), record(field("a", ["null", "long"])), {"a": 1}, []),
    "made required": (
        record(field("a", ["null", "string"])),
        record(field("a")),
        {"a": None},
        ["Told.a: type changed from null to string"],
    ),
    "union that nothing reads": (
        record(field("a", "boolean")),
        record(field("a", ["null", "string"])),
        {"a": True},
        ["Told.a: no branch of the union reads boolean"],
    ),
    "nested, added without a default": (
        record(field("age", NESTED)),
        record(field("age", ADULT)),
        {"age": {"band": "x"}},
        ["Told.age.adult: added without a default"],
    ),
    "nested in a union": (
        record(field("age", ["null", NESTED])),
        record(field("age", ["null", ADULT])),
        {"age": {"band": "x"}},
        ["Told.age.adult: added without a default"],
    ),
    "nested in an array": (
        record(field("all", {"type": "array", "items": NESTED})),
        record(field("all", {"type": "array", "items": ADULT})),
        {"all": [{"band": "x"}]},
        ["Told.all[].adult: added without a default"],
    ),
    "nested in a map": (
        record(field("all", {"type": "map", "values": "long"})),
        record(field("all", {"type": "map", "values": "string"})),
        {"all": {"k": 1}},
        ["Told.all{}: type changed from long to string"],
    ),
    "named twice": (
        record(field("one", NESTED), field("two", "Age")),
        record(field("one", NESTED), field("two", ["null", "Age"])),
        {"one": {"band": "x"}, "two": {"band": "y"}},
        [],
    ),
    "in wrappers": (
        record(field("a", {"type": "string"}), field("b", {"type": "int"})),
        record(field("a", "string"), field("b", {"type": "long"})),
        {"a": "x", "b": 1},
        [],
    ),
    "array to map": (
        record(field("a", {"type": "array", "items": "string"})),
        record(field("a", {"type": "map", "values": "string"})),
        {"a": ["x"]},
        ["Told.a: type changed from array to map"],
    ),
    "enum with a symbol more": (record(field("way", LESS)), record(field("way", ENUM)), {"way": "post"}, []),
    "enum with one less": (
        record(field("way", ENUM)),
        record(field("way", LESS)),
        {"way": "phone"},
        ["Told.way: symbols removed without a default: phone"],
    ),
    "enum with one less and a default": (
        record(field("way", ENUM)),
        record(field("way", {**LESS, "default": "post"})),
        {"way": "phone"},
        [],
    ),
    "the same fixed": (record(field("h", FIXED)), record(field("h", FIXED)), {"h": b"ab"}, []),
    "another size": (
        record(field("h", FIXED)),
        record(field("h", {**FIXED, "size": 3})),
        {"h": b"ab"},
        ["Told.h: size changed from 2 to 3"],
    ),
    "another record": (
        record(field("a")),
        record(field("a"), name="Shown"),
        {"a": "x"},
        ["Shown: record Told became Shown without an alias"],
    ),
    "another record, by alias": (
        record(field("a")),
        record(field("a"), name="Shown", aliases=["Told"]),
        {"a": "x"},
        [],
    ),
    "bare values": ("string", "long", "x", ["value: type changed from string to long"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_is_what_fastavro_does(case: str) -> None:
    writer, reader, value, said = CASES[case]
    out = BytesIO()
    schemaless_writer(out, deepcopy(writer), value)
    out.seek(0)

    try:
        schemaless_reader(out, deepcopy(writer), deepcopy(reader))
        reads = True
    except SchemaResolutionError:
        reads = False

    assert incompatibilities(writer, reader) == said
    assert reads == (not said)


def test_a_record_that_holds_itself_is_compared_once() -> None:
    tree = record(field("next", ["null", "Told"]))
    grown = record(field("next", ["null", "Told"]), field("a"))

    assert incompatibilities(tree, tree) == []
    assert "Told.a: added without a default" in incompatibilities(tree, grown)


@pytest.mark.parametrize("case", CASES)
def test_resolution_is_asked_for_where_names_alone_would_misread(case: str) -> None:
    writer, reader, _, _ = CASES[case]
    misread = {"renamed with an alias", "string to bytes", "enum with one less and a default"}

    assert needs_resolution(writer, reader) == (case in misread)


@pytest.mark.parametrize("name", contracts.current(contracts.folder()))
def test_every_contract_reads_each_of_its_versions(name: str) -> None:
    here = contracts.folder()

    faults = [
        f"version {version}: {fault}"
        for version, schema in contracts.history(here)[name].items()
        for fault in incompatibilities(schema, contracts.current(here)[name])
    ]

    assert faults == []
