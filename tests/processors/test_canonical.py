"""What is committed to has one form: that of RFC 8785, as another implementation of it has it, for all that records hold."""

import re
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from todoke.processors.commitment import canonical

SAFE = 2**53 - 1
NAMES = st.text(st.characters(max_codepoint=0x7F), max_size=12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | TEXTS
VALUES = st.dictionaries(
    NAMES, st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))
)


@settings(max_examples=400)
@given(VALUES)
def test_what_records_hold_is_written_as_rfc_8785_has_it(value: dict[str, Any]) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_every_character_is_written_as_rfc_8785_has_it() -> None:
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for begin in range(0, len(every), 4096):
        value = {"text": "".join(every[begin : begin + 4096])}
        assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {"\ue000": 1, "\U0001f600": 2},  # RFC 8785 sorts by UTF-16
        {"share": 0.5, "whole": 1.0},  # and writes 1.0 as 1
    ],
)
def test_where_it_departs_from_rfc_8785_no_record_goes(value: dict[str, Any]) -> None:
    assert canonical(value) != rfc8785.dumps(value)


@pytest.mark.parametrize("value", [{"large": 2**53}, {"nobody": float("nan")}, {"nobody": float("inf")}])
def test_what_rfc_8785_refuses_is_written_all_the_same(value: dict[str, Any]) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        rfc8785.dumps(value)
    assert re.fullmatch(rb'\{"\w+":(9007199254740992|null)\}', canonical(value))
