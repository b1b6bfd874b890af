"""Refusals: whatever does not fit, the field and the fix are said, and the value is not."""

from typing import Any, Literal

import msgspec
import pytest
from msgspec import Struct

from todoke.schemas.refusal import refusal

SECRET = "hanako.mihon@example.jp"
Way = Literal["post", "phone"]


class Inner(Struct):
    way: Way = "post"
    count: int = 0
    even: msgspec.UnsetType | int = 0


class Outer(Struct):
    name: str
    ways: dict[str, Way] = {}
    numbers: dict[Literal[1, 2], int] = {}
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    pair: tuple[int, Way] = (0, "post")
    coded: bytes = b""


def told(value: dict[str, Any]) -> tuple[str, str, str]:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert({"name": "x", **value}, Outer)
    found = refusal(Outer, error.value)
    assert SECRET not in str(found)
    return found.reason, found.field, found.fix


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"inner": {"way": SECRET}}, ("unknown-value", "inner.way", "Use one of phone, post.")),
        ({"many": [{}, {"way": SECRET}]}, ("unknown-value", "many[1].way", "Use one of phone, post.")),
        ({"ways": {SECRET: SECRET}}, ("unknown-value", "ways[]", "Use one of phone, post.")),
        ({"ways": {SECRET: 5}}, ("undecodable", "ways[]", "Expected str, got int.")),
        ({"inner": {"count": SECRET}}, ("undecodable", "inner.count", "Expected int, got str.")),
        ({"inner": SECRET}, ("undecodable", "inner", "Expected object | null, got str.")),
        ({"name": None}, ("undecodable", "name", "Expected str, got null.")),
        ({"coded": SECRET}, ("undecodable", "coded", "Use a value that the field's contract allows.")),
        ({"pair": [1, SECRET]}, ("undecodable", "pair[1]", "Use a value that the field's contract allows.")),
        ({"numbers": {7: 5}}, ("undecodable", "numbers", "Use a value that the field's contract allows.")),
    ],
)
def test_what_does_not_fit_is_named_and_mended(value: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert told(value) == expected


def test_a_missing_field_is_named_with_its_place() -> None:
    class Deep(Struct):
        inner: Outer

    for value, kind, field in (({}, Outer, "name"), ({"inner": {}}, Deep, "inner.name")):
        with pytest.raises(msgspec.ValidationError) as error:
            msgspec.convert(value, kind)

        assert refusal(kind, error.value).field == field


def test_something_else_altogether_is_a_fault_of_the_value() -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(5, Outer)

    assert refusal(Outer, error.value).field == "value"
