"""The contracts: what they say, that types and lock agree with them, and what happens when one is changed."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec import Struct

from todoke.schemas import contracts
from todoke.schemas.codec import RECORDS, Codec
from todoke.schemas.errors import Misconfigured
from todoke.schemas.registry import RegistryRevision

HERE = contracts.folder()
CURRENT = contracts.current(HERE)
RENEW = "run: todoke schemas lock"
PLAIN = {"string": str, "bytes": bytes, "boolean": bool, "long": int, "int": int}


def agree(hint: Any, schema: Any, seen: dict[str, Any]) -> bool:
    """Whether a type and a schema are of one shape, down to the order of fields."""
    schema = seen.get(schema, schema) if isinstance(schema, str) else schema
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return inside[1] is NoneType and schema[0] == "null" and agree(inside[0], schema[1], seen)
    if origin is Literal:
        return bool(schema == "string")
    if origin is tuple:
        return schema["type"] == "array" and agree(inside[0], schema["items"], seen)
    if origin is dict:
        return schema["type"] == "map" and agree(inside[1], schema["values"], seen)
    if isinstance(schema, str):
        return PLAIN[schema] is hint
    seen[schema["name"]] = schema
    hints = get_type_hints(hint)
    return (
        schema["name"] == hint.__name__
        and tuple(field["name"] for field in schema["fields"]) == hint.__struct_fields__
        and all(agree(hints[field["name"]], field["type"], seen) for field in schema["fields"])
    )


def records(part: Any) -> list[dict[str, Any]]:
    """Every record in a schema."""
    if isinstance(part, list):
        return [found for each in part for found in records(each)]
    if not isinstance(part, dict):
        return []
    found = [part] if part.get("type") == "record" else []
    return found + [each for key, value in part.items() if key != "default" for each in records(value)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder of contracts, to be changed."""
    source = Path(str(HERE))
    shutil.copytree(source / "avro", tmp_path / "avro")
    shutil.copy(source / "ids.lock.json", tmp_path)
    return tmp_path


def edit(folder: Path, record: str, **field: Any) -> None:
    """Add a field to a contract."""
    path = folder / "avro" / f"{record}.avsc"
    schema = json.loads(path.read_text())
    schema["fields"].append(field)
    path.write_text(json.dumps(schema))


def test_every_type_that_travels_has_a_contract_and_the_other_way_round() -> None:
    assert set(CURRENT) == set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_a_contract_and_its_type_are_of_one_shape(name: str) -> None:
    assert CURRENT[name]["namespace"] == "todoke"
    assert agree(RECORDS[name], CURRENT[name], {})


@pytest.mark.parametrize("name", RECORDS)
def test_a_contracts_defaults_are_those_of_its_type(name: str) -> None:
    """So that a field that an older writer lacks is the same, whether resolved by Avro or filled in by the codec."""
    defaults = {field["name"]: field["default"] for field in CURRENT[name]["fields"] if "default" in field}
    info: Any = msgspec.inspect.type_info(RECORDS[name])
    fields = [each for each in info.fields if not each.required]

    types = {each.name: msgspec.to_builtins(_default(each)) for each in fields}

    assert {key: list(value) if isinstance(value, tuple) else value for key, value in types.items()} == defaults


def _default(field: Any) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_and_every_field_says_what_it_is(name: str) -> None:
    silent = [
        f"{record['name']}.{field.get('name', '')}"
        for record in records(CURRENT[name])
        for field in (record, *record["fields"])
        if len(field.get("doc", "")) < len("Who.")
    ]

    assert silent == []


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_who_writes_and_who_reads_it(name: str) -> None:
    assert "Written by" in CURRENT[name]["doc"]
    assert "read by" in CURRENT[name]["doc"]


def test_the_lock_and_the_history_follow_the_contracts() -> None:
    assert contracts.renewal(HERE) == {}, RENEW


def test_a_version_in_the_history_is_what_the_lock_says_byte_for_byte() -> None:
    locked = contracts.lock(HERE)

    digests = {
        f"{name}.{version}.avsc": each.sha256 for name, versions in locked.items() for version, each in versions.items()
    }

    history = Path(str(HERE)) / "avro" / "history"
    assert {path.name: sha256(path.read_bytes()).hexdigest() for path in history.iterdir()} == digests


def test_no_id_is_given_twice() -> None:
    given = [each.id for versions in contracts.lock(HERE).values() for each in versions.values()]

    assert len(set(given)) == len(given)
    assert min(given) >= contracts.FIRST_ID


def test_documentation_alone_makes_no_version(copy: Path) -> None:
    path = copy / "avro" / "Told.avsc"
    path.write_text(path.read_text().replace("What one partner", "That which one partner"))

    assert contracts.renewal(copy) == {}


def test_a_change_makes_a_version_with_an_id_of_its_own(copy: Path) -> None:
    edit(copy, "Told", name="mood", type="string", default="doc", doc="A default is kept, whatever it says.")
    following = max(contracts.lock(HERE)["Told"]) + 1

    written = contracts.renewal(copy)
    for path, text in written.items():
        (copy / path).write_bytes(text)

    locked = contracts.lock(copy)["Told"]
    assert sorted(written) == [f"avro/history/Told.{following}.avsc", "ids.lock.json"]
    assert locked[max(locked)].id == max(each.id for each in _all(contracts.lock(HERE))) + 1
    assert locked[1] == contracts.lock(HERE)["Told"][1]
    assert contracts.renewal(copy) == {}
    assert contracts.ids(contracts.lock(copy))["Told"] == locked[max(locked)].id


def _all(locked: contracts.Lock) -> list[contracts.Locked]:
    return [each for versions in locked.values() for each in versions.values()]


def test_a_change_that_can_not_read_the_past_is_refused_with_the_field(copy: Path) -> None:
    edit(copy, "Told", name="mood", type="string", doc="Without a default.")

    with pytest.raises(Misconfigured, match=r"Told\.avsc can't read .*: Told\.mood: added without a default"):
        contracts.renewal(copy)


def test_a_lock_begun_anew_is_the_same(copy: Path) -> None:
    (copy / "ids.lock.json").write_text("{}")
    shutil.rmtree(copy / "avro" / "history")
    (copy / "avro" / "history").mkdir()

    assert contracts.renewal(copy)["ids.lock.json"].startswith(
        b'{\n  "ConsentChange": {\n    "1": {\n      "id": 1416560641'
    )


def test_a_codec_reads_what_an_earlier_version_wrote(copy: Path) -> None:
    """The type hasn't the new field, which the writer's schema tells the codec to pass over."""
    before = Codec(where=copy).encode(REVISION)
    edit(copy, "RegistryRevision", name="mood", type=["null", "string"], default=None, doc="New.")
    for path, text in contracts.renewal(copy).items():
        (copy / path).write_bytes(text)
    after = Codec(where=copy)

    assert after.decode(before, RegistryRevision) == REVISION
    assert after.decode(after.encode(REVISION), RegistryRevision) == REVISION
    assert after.encode(REVISION) != before


REVISION = RegistryRevision(kind="policy", revision=3, effective_at=1, toml="name = 'x'")


def test_revisions_have_keys_of_their_own_so_that_compaction_keeps_the_history() -> None:
    assert REVISION.key == "policy/3"


def test_a_record_type_without_a_contract_can_not_be_written() -> None:
    class Stranger(Struct):
        name: str

    with pytest.raises(KeyError):
        Codec().encode(Stranger("x"))


def test_no_two_versions_have_one_id() -> None:
    ids = [each.id for versions in contracts.lock(contracts.folder()).values() for each in versions.values()]

    assert len(ids) == len(set(ids))
