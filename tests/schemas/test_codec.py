"""The codec: every type there and back, the same bytes for ever, and a refusal that says what to do and tells nothing."""

import runpy
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from fastavro import schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, to_builtins
from msgspec.structs import replace

from todoke.schemas import contracts
from todoke.schemas.codec import RECORDS, TRAVELLERS, Codec, UnknownSchema
from todoke.schemas.errors import REASONS, Refused
from todoke.schemas.events import INTAKE, Age, ConsentChange, Event, Unsubscribe
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence, Receipt
from todoke.schemas.record import Register, SubjectRecord

GOLDEN = Path(__file__).parents[1] / "golden"
CODEC = Codec()
SCHEMAS = contracts.current(contracts.folder())
CHANGE = ConsentChange(event_id="e-1", occurred_at=1_788_225_300_000, purpose="profiling", decision="granted")
SECRET: Any = "hanako.mihon@example.jp"
LONG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
ANOTHER = 4711


def fitting(hint: Any, schema: Any) -> st.SearchStrategy[Any]:
    """Values of a type within what its schema can hold."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        assert inside[1] is NoneType
        return st.none() | fitting(inside[0], schema[1])
    if origin is Literal:
        return st.sampled_from(inside)
    if origin is tuple:
        return st.lists(fitting(inside[0], schema["items"]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(), fitting(inside[1], schema["values"]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Struct):
        types = {field["name"]: field["type"] for field in schema["fields"]}
        hints = get_type_hints(hint)
        return st.builds(hint, **{name: fitting(hints[name], types[name]) for name in hint.__struct_fields__})
    return {"string": st.text(), "bytes": st.binary(), "boolean": st.booleans(), "long": LONG, "int": INT}[schema]


def _inlined(schema: Any, seen: dict[str, Any]) -> Any:
    """A schema with each name of a record replaced by the record."""
    if isinstance(schema, str):
        return seen.get(schema, schema)
    if isinstance(schema, list):
        return [_inlined(each, seen) for each in schema]
    if schema["type"] == "record":
        seen[schema["name"]] = schema
        schema["fields"] = [{**field, "type": _inlined(field["type"], seen)} for field in schema["fields"]]
        return schema
    return {key: _inlined(value, seen) if key in ("items", "values") else value for key, value in schema.items()}


VALUES = {kind: fitting(kind, _inlined(deepcopy(SCHEMAS[name]), {})) for name, kind in RECORDS.items()}


def foreign(schema: Any, body: bytes, schema_id: int = ANOTHER) -> tuple[Codec, bytes]:
    """A codec that has learnt another's schema, and a message by it."""
    codec = Codec()
    codec.learn(schema_id, schema)
    return codec, b"\0" + schema_id.to_bytes(4, "big") + body


def changed(name: str, **types: Any) -> dict[str, Any]:
    """A contract with some fields' types changed, or the field left out for None."""
    schema = deepcopy(SCHEMAS[name])
    kept = [field for field in schema["fields"] if types.get(field["name"], "") is not None]
    schema["fields"] = [{**field, "type": types.get(field["name"], field["type"])} for field in kept]
    for field in schema["fields"]:
        if field["name"] in types:
            field.pop("default", None)
    return schema


def written(schema: Any, value: dict[str, Any]) -> bytes:
    """A body by any schema."""
    out = BytesIO()
    schemaless_writer(out, schema, value)
    return out.getvalue()


def fault(message: bytes, kind: type[Struct]) -> Refused | None:
    """Why a message is refused; None when it is read."""
    try:
        CODEC.decode(message, kind)
    except Refused as error:
        return error
    return None


@pytest.mark.parametrize("kind", TRAVELLERS, ids=lambda kind: kind.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_value_comes_back_as_it_was(kind: type[Struct], data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])

    back = CODEC.decode(CODEC.encode(value), kind)

    assert back == value
    assert type(back) is kind


@pytest.mark.parametrize("kind", TRAVELLERS, ids=lambda kind: kind.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_bytes_are_those_that_fastavro_writes(kind: type[Struct], data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])

    body = written(SCHEMAS[kind.__name__], to_builtins(value, builtin_types=(bytes,)))

    assert CODEC.encode(value)[5:] == body


@pytest.mark.parametrize("kind", TRAVELLERS, ids=lambda kind: kind.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(kind: type[Struct], data: st.DataObject) -> None:
    whole = CODEC.encode(data.draw(VALUES[kind]))
    start = data.draw(st.integers(0, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=8)) + whole[start + data.draw(st.integers(0, 8)) :]

    refused = fault(damaged, kind)

    assert refused is None or (refused.reason in REASONS and refused.__context__ is None)


@pytest.mark.parametrize("kind", TRAVELLERS, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_message_cut_short_or_with_more_after_it_is_refused(kind: type[Struct], data: st.DataObject) -> None:
    whole = CODEC.encode(data.draw(VALUES[kind]))
    cut = data.draw(st.integers(0, len(whole) - 1))

    for damaged in (whole[:cut], whole + b"\0"):
        with pytest.raises(Refused, match=r"not-avro|undecodable"):
            CODEC.decode(damaged, kind)


def test_golden_bytes_are_what_the_maker_makes() -> None:
    made = dict(runpy.run_path(str(GOLDEN / "make_avro.py"))["golden"]())

    kept = {path.name: path.read_text() for path in (GOLDEN / "avro").iterdir()}

    assert {name: kept.get(name) for name in made} == made, "run: python tests/golden/make_avro.py"


@pytest.mark.parametrize("path", sorted((GOLDEN / "avro").iterdir()), ids=lambda path: path.stem)
def test_golden_bytes_of_every_version_are_read(path: Path) -> None:
    name, version, _ = path.name.split(".")
    sample = runpy.run_path(str(GOLDEN / "make_avro.py"))["sample"](RECORDS[name])

    back = CODEC.decode(bytes.fromhex(path.read_text()), RECORDS[name])

    if int(version) == max(contracts.lock(contracts.folder())[name]):
        assert back == sample


def test_the_wire_format_is_a_zero_byte_the_id_and_the_body() -> None:
    message = Codec({"ConsentChange": 258}).encode(CHANGE)

    assert message[:5] == b"\0\0\0\1\2"
    assert message[5:9] == b"\x06e-1"


def test_a_codec_with_ids_of_a_registry_reads_what_was_written_with_those_of_the_lock() -> None:
    registered = Codec(dict.fromkeys(RECORDS, 0) | {name: number for number, name in enumerate(RECORDS, 1)})

    assert registered.decode(CODEC.encode(CHANGE), ConsentChange) == CHANGE
    assert registered.decode(registered.encode(CHANGE), ConsentChange) == CHANGE


def test_without_expectation_any_type_is_read() -> None:
    value: Struct = CODEC.decode(CODEC.encode(CHANGE))

    assert value == CHANGE


def test_one_of_several_types_is_read() -> None:
    event: Event = CODEC.decode(CODEC.encode(CHANGE), *INTAKE.values())

    assert event == CHANGE


def test_an_enumeration_travels_as_its_number() -> None:
    receipt = Receipt(
        receipt_id="r",
        obligation_id="o",
        subject_ref="s",
        partner="meta",
        account="a",
        scope="profiling",
        verb="withdraw",
        kind="ended",
        at=1,
        grade=Evidence.accepted,
    )

    assert CODEC.decode(CODEC.encode(receipt), Receipt).grade == Evidence.accepted


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\1", b'{"event_id": "e-1"}'])
def test_what_is_not_the_wire_format_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        CODEC.decode(data, ConsentChange)

    assert (refused.value.reason, type(refused.value)) == ("not-avro", Refused)


def test_an_unknown_id_can_be_told_apart_and_learnt() -> None:
    message = b"\0" + ANOTHER.to_bytes(4, "big") + CODEC.encode(CHANGE)[5:]
    codec = Codec()

    with pytest.raises(UnknownSchema) as refused:
        codec.decode(message, ConsentChange)
    codec.learn(refused.value.schema_id, SCHEMAS["ConsentChange"])

    assert (refused.value.reason, refused.value.schema_id) == ("unknown-schema", ANOTHER)
    assert codec.decode(message, ConsentChange) == CHANGE


@pytest.mark.parametrize(
    "schema",
    [
        None,
        "string",
        ["null", "string"],
        {"type": "enum", "name": "Colour", "symbols": ["red"]},
        {"type": "record", "name": "ConsentChange", "fields": [{"name": "x", "type": "nonsense"}]},
        {"type": "record", "name": "com.example.Order", "fields": []},
    ],
)
def test_a_schema_that_is_none_of_ours_is_learnt_as_that_and_not_asked_for_again(schema: Any) -> None:
    codec, message = foreign(schema, b"")

    with pytest.raises(Refused) as refused:
        codec.decode(message)

    assert (refused.value.reason, type(refused.value)) == ("unknown-schema", Refused)


def test_a_record_of_another_topic_is_refused_with_what_belongs_here() -> None:
    with pytest.raises(Refused, match="Write Unsubscribe to this topic") as refused:
        CODEC.decode(CODEC.encode(CHANGE), Unsubscribe)

    assert (refused.value.reason, type(refused.value)) == ("unknown-schema", Refused)


def test_an_older_writer_gets_the_defaults_and_a_newer_ones_fields_are_ignored() -> None:
    older = changed("ConsentChange", regime=None, expires_at=None, identifiers=None, age=None, source=None)
    newer = changed("ConsentChange")
    newer["fields"].insert(2, {"name": "mood", "type": ["null", "string"], "default": None})
    old_body = {
        "event_id": "e-1",
        "subject": None,
        "occurred_at": CHANGE.occurred_at,
        "purpose": "profiling",
        "decision": "granted",
        "method": "",
        "policy_version": "",
    }

    for schema, extra in (older, {}), (newer, {"mood": "fair"}):
        codec, message = foreign(schema, written(schema, old_body | extra))

        assert codec.decode(message, ConsentChange) == CHANGE


def test_a_namespace_of_the_writers_own_is_as_good() -> None:
    schema = {**SCHEMAS["ConsentChange"], "namespace": "jp.example.shop"}
    codec, message = foreign(schema, CODEC.encode(CHANGE)[5:])

    assert codec.decode(message, ConsentChange) == CHANGE


def test_a_writers_logical_types_stay_counts() -> None:
    schema = changed("ConsentChange", occurred_at={"type": "long", "logicalType": "timestamp-millis"})
    codec, message = foreign(schema, CODEC.encode(CHANGE)[5:])

    assert codec.decode(message, ConsentChange) == CHANGE


def test_text_that_a_writer_declares_as_bytes_is_read_by_resolution() -> None:
    codec, message = foreign(changed("ConsentChange", purpose="bytes"), CODEC.encode(CHANGE)[5:])

    assert codec.decode(message, ConsentChange) == CHANGE


def test_what_resolution_can_not_read_is_undecodable() -> None:
    """Two faults: the one asks for resolution, which then meets the other."""
    codec, message = foreign(changed("ConsentChange", purpose="bytes", event_id=None), CODEC.encode(CHANGE)[5:])

    with pytest.raises(Refused, match="undecodable"):
        codec.decode(message, ConsentChange)


@pytest.mark.parametrize(
    ("fault", "field", "choices"),
    [
        ({"decision": SECRET}, "decision", "granted, withdrawn"),
        (
            {"identifiers": (Identifier("email", "a"), Identifier(SECRET, SECRET))},
            "identifiers[1].kind",
            "cookie_id, email",
        ),
        ({"age": Age(band=SECRET)}, "age.band", "13_to_17, 18_and_over, under_13"),
    ],
)
def test_a_value_outside_its_list_is_refused_with_the_list_and_never_shown(
    fault: dict[str, Any], field: str, choices: str
) -> None:
    message = CODEC.encode(replace(CHANGE, **fault))

    with pytest.raises(Refused) as refused:
        CODEC.decode(message, ConsentChange)

    assert (refused.value.reason, refused.value.field) == ("unknown-value", field)
    assert choices in refused.value.fix
    assert SECRET not in str(refused.value)
    assert refused.value.__context__ is None


@pytest.mark.parametrize("event_id", [None, ["null", "string"]])
def test_an_event_without_an_id_is_left_to_admission(event_id: Any) -> None:
    schema = changed("ConsentChange", event_id=event_id)
    value = {"event_id": None, "subject": "s", "occurred_at": 5, "purpose": "p", "decision": "granted"}
    codec, message = foreign(schema, written(schema, value))

    assert codec.decode(message, ConsentChange).event_id == ""


def test_another_type_is_refused_by_the_names_of_the_types() -> None:
    schema = changed("ConsentChange", purpose=["null", "string"], method="double")
    for value, field in (({"purpose": None, "method": 1.5}, "purpose"), ({"purpose": SECRET, "method": 1.5}, "method")):
        body = written(schema, {"event_id": "e", "occurred_at": 5, "decision": "granted", **value})
        codec, message = foreign(schema, body)

        with pytest.raises(Refused) as refused:
            codec.decode(message, ConsentChange)

        assert (refused.value.reason, refused.value.field) == ("undecodable", field)
        assert refused.value.fix.startswith("Expected str, got ")


def test_a_missing_field_is_named() -> None:
    schema = changed("SubjectRecord", subject_ref=None)
    codec, message = foreign(schema, written(schema, {}))

    with pytest.raises(Refused) as refused:
        codec.decode(message, SubjectRecord)

    assert (refused.value.reason, refused.value.field) == ("undecodable", "subject_ref")


@pytest.mark.parametrize(
    "fault", [{"occurred_at": 2**70}, {"purpose": "\ud800"}, {"expires_at": 2**70}, {"subject": 5}]
)
def test_what_avro_can_not_hold_is_refused_on_the_way_out(fault: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        CODEC.encode(replace(CHANGE, **fault))

    assert refused.value.reason == "undecodable"
    assert refused.value.__context__ is None


def test_a_record_of_a_thousand_registers_is_read() -> None:
    registers = {f"purpose/appi/{number}": Register("granted", number, False, "e") for number in range(1000)}
    record = SubjectRecord(subject_ref="s", registers=registers)

    assert CODEC.decode(CODEC.encode(record), SubjectRecord) == record
