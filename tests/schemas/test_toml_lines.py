"""Lines of keys against a writer that knows where it wrote, and that no tree at all breaks the reader."""

import copy
import json
import re
import tomllib
from datetime import date, datetime, time
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Registry
from todoke.schemas.policy import Path, Policy

LETTERS = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t")
TEXTS = st.one_of(
    st.text(LETTERS, max_size=8), st.sampled_from(["]", "}", "#", "=", "a = 1", '"""', "'''", "\\", ", ["])
)
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dates(date(1970, 1, 1)),
    st.datetimes(datetime(1970, 1, 1)).map(lambda each: each.replace(microsecond=0)),
    st.times().map(lambda each: each.replace(microsecond=0)),
)
KEYS = st.one_of(st.from_regex("[A-Za-z0-9_-]{1,4}", fullmatch=True), TEXTS)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(KEYS, inner, max_size=3),
            st.lists(st.dictionaries(KEYS, inner, max_size=3), min_size=1, max_size=3),
        ),
        max_leaves=8,
    ),
    max_size=4,
)


class Writer:
    """Writes a tree as TOML in any of the ways there are, and notes the line of each path."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.text = ""
        self.lines: dict[Path, int] = {}

    def choose(self, *choices: str) -> str:
        return self.random.choice(choices)

    def note(self, path: Path) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self.text.count("\n") + 1)

    def table(self, tree: dict[str, Any], path: Path, header: list[str]) -> None:
        later: list[tuple[str, Any]] = []
        for key, value in tree.items():
            apart = isinstance(value, dict) or (is_tables(value) and value)
            if apart and self.choose("apart", "inline") == "apart":
                later.append((key, value))
            else:
                self.pair([key], value, (*path, key))
                self.text += self.choose("\n", " # ] = }\n", "\r\n\n")
        for key, value in later:
            for index, each in enumerate(value if isinstance(value, list) else [value]):
                array = isinstance(value, list)
                inner: Path = (*path, key, index) if array else (*path, key)
                self.note(inner)
                names = self.choose(".", " . ").join(self.key(part) for part in [*header, key])
                self.text += f"[[{names}]]" if array else f"[ {names} ]"
                self.text += self.choose("\n", "\t# [x]\n")
                self.table(each, inner, [*header, key])

    def pair(self, keys: list[str], value: Any, path: Path) -> None:
        """`a = { b = 1 }`, or `a.b = 1` where there is one key inside."""
        if isinstance(value, dict) and len(value) == 1 and self.choose("dotted", "braces") == "dotted":
            [(key, inner)] = value.items()
            self.pair([*keys, key], inner, (*path, key))
            return
        self.note(path)
        self.text += self.choose(".", " .").join(self.key(each) for each in keys) + self.choose("=", " = ")
        self.value(value, path)

    def value(self, value: Any, path: Path) -> None:
        if isinstance(value, dict):
            self.text += "{"
            for index, (key, each) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.pair([key], each, (*path, key))
            self.text += "}"
        elif isinstance(value, list):
            self.text += "["
            for index, each in enumerate(value):
                self.text += self.choose("", "\n", " # , [\n ")
                self.note((*path, index))
                self.value(each, (*path, index))
                self.text += self.choose(",", "\n,") if index < len(value) - 1 else self.choose("", ",\n")
            self.text += "]"
        else:
            self.text += self.string(value) if isinstance(value, str) else scalar(value)

    def string(self, value: str) -> str:
        forms = [basic(value), f'"""\n{basic(value)[1:-1]}"""']
        if value == value.lstrip():  # a backslash at the end of a line eats the space that follows
            forms.append(f'"""\\\n{basic(value)[1:-1]}"""')
        if "\n" not in value and "'" not in value:
            forms.append(f"'{value}'")
        if "'''" not in value and not value.endswith("'''"):
            forms.append(f"'''\n{value}'''")
        return self.choose(*forms)

    def key(self, value: str) -> str:
        return value if re.fullmatch("[A-Za-z0-9_-]+", value) else basic(value)


def is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, dict) for each in value)


def basic(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def scalar(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    return json.dumps(value)


SEEDS = st.integers(0, 2**32)


def write(tree: dict[str, Any], seed: int) -> Writer:
    writer = Writer(seed)
    writer.table(tree, (), [])
    return writer


@given(TREES, SEEDS)
def test_every_key_table_and_element_is_found_on_the_line_where_it_stands(tree: dict[str, Any], seed: int) -> None:
    writer = write(tree, seed)
    assert tomllib.loads(writer.text) == tree  # the writer wrote what it was given

    found = toml.locate(writer.text)

    assert found == writer.lines


def singular(value: Any) -> Any:
    """What a struct is as builtins, with the keys that the file has."""
    if isinstance(value, dict):
        return {
            (key.removesuffix("s") if is_tables(each) and each else key): singular(each) for key, each in value.items()
        }
    return [singular(each) for each in value] if isinstance(value, list | tuple) else value


def bare(value: Any) -> dict[str, Any]:
    """A struct as a tree of TOML, which has no null: what isn't there is left out."""
    tree = msgspec.to_builtins(value)
    for partner in tree.get("partners", ()):
        for key in ("transfer", "related"):
            if partner[key] is None:
                del partner[key]
    trees = singular(tree)
    assert isinstance(trees, dict)
    return trees


SHIPPED: dict[type, dict[str, Any]] = {Policy: bare(toml.default_policy()), Registry: bare(toml.default_registry())}


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_what_is_shipped_is_read_back_from_every_way_to_write_it(seed: int) -> None:
    policy, registry = (write(SHIPPED[kind], seed).text for kind in (Policy, Registry))

    assert toml.policy(policy, "policy.toml") == toml.default_policy()
    assert toml.registry(registry, "partners.toml", toml.default_policy()) == toml.default_registry()


@st.composite
def spoilt(draw: st.DrawFn, kind: type) -> dict[str, Any]:
    """A tree that is shipped, with up to three of its values replaced, keys renamed, or entries taken out."""
    tree = copy.deepcopy(SHIPPED[kind])
    for _ in range(draw(st.integers(0, 3))):
        node: Any = tree
        while True:
            step = draw(st.sampled_from([*node] if isinstance(node, dict) else range(len(node))))
            inside = node[step]
            if not isinstance(inside, dict | list) or not inside or draw(st.integers(0, 3)) == 0:
                break
            node = inside
        act = draw(st.sampled_from(["replace", "remove", "rename"]))
        if act == "replace":
            node[step] = draw(st.one_of(SCALARS, st.sampled_from([[], {}, [{}], [1], "", -1, 0, 2**70])))
        elif act == "rename" and isinstance(node, dict):
            node[draw(KEYS)] = node.pop(step)
        elif len(node) > 1:
            del node[step]
    return tree


@pytest.mark.parametrize("kind", [Policy, Registry])
@settings(deadline=None)
@given(data=st.data(), seed=SEEDS)
def test_whatever_stands_in_a_file_is_read_or_told_line_by_line(kind: type, data: st.DataObject, seed: int) -> None:
    writer = write(data.draw(spoilt(kind)), seed)

    try:
        if kind is Policy:
            toml.policy(writer.text, "x.toml")
        else:
            toml.registry(writer.text, "x.toml", toml.default_policy())
    except Misconfigured as error:
        told = str(error).split("\n")
    else:
        told = []

    last = writer.text.count("\n") + 1
    numbers = [int(match[1]) for each in told if (match := re.match(r"x\.toml:(\d+): \S", each))]
    assert len(numbers) == len(told)
    assert numbers == sorted(numbers)
    assert all(1 <= each <= last for each in numbers)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "a = 1\nb = = 2\n",
            "x.toml:2: not TOML, column 5: Invalid value. Correct it there; nothing else was checked.",
        ),
        (
            "a = 1\nb = [",
            "x.toml:2: not TOML: Invalid value (at end of document). Correct it there; nothing else was checked.",
        ),
    ],
)
def test_a_text_that_is_no_toml_is_told_where_it_stops_being(text: str, says: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        toml.policy(text, "x.toml")

    assert str(raised.value) == says
