"""Policy, partners and record rules as TOML, where a table of an array has the singular: `[[partner]]`, `[[partner.account]]`.

A text is read in three steps: its shape is held against the structs, and what doesn't fit is mended, so that the rest
is still checked; `examine` finds what can't be meant; each problem gets the line at which its key stands. All of them
are raised together.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from . import partners, recordkeeping
from . import policy as policies
from .errors import Misconfigured
from .partners import Check, Registry
from .policy import Path, Policy, Problem, closest, quoted
from .recordkeeping import RecordRules

Parsed = TypeVar("Parsed", bound=Policy | Registry | RecordRules)
Lines = dict[Path, int]


def policy(text: str, name: str) -> Policy:
    """The policy in `text`, which came from the file `name`. Raises `Misconfigured` with a line for every problem."""
    return _parse(text, name, Policy, policies.examine)


def registry(text: str, name: str, policy: Policy, connectors: Mapping[str, Check] | None = None) -> Registry:
    """The partners in `text`, which came from the file `name`, held against `policy`.

    With `connectors`, each partner's entry is held against its connector too (`partners.examine`). Raises
    `Misconfigured` with a line for every problem; none of them holds a secret.
    """
    return _parse(text, name, Registry, lambda read: partners.examine(read, policy, connectors))


def default_policy() -> Policy:
    """The policy that is shipped."""
    return policy(shipped("policy.toml"), "policy.toml")


def default_registry(connectors: Mapping[str, Check] | None = None) -> Registry:
    """The partners of the demo, under the policy that is shipped."""
    return registry(shipped("partners.toml"), "partners.toml", default_policy(), connectors)


def records(text: str, name: str) -> RecordRules:
    """The record rules in `text`, which came from the file `name`. Raises `Misconfigured` with a line for every problem."""
    return _parse(text, name, RecordRules, recordkeeping.examine)


def default_records() -> RecordRules:
    """The record rules that are shipped."""
    return records(shipped("records.toml"), "records.toml")


def shipped(name: str) -> str:
    """The text of a file that is shipped: policy.toml, partners.toml or records.toml."""
    return files(__package__ or "").joinpath("default", name).read_text("utf-8")


def _parse(text: str, name: str, kind: type[Parsed], examine: Callable[[Parsed], Iterable[Problem]]) -> Parsed:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(_unreadable(text, name, str(error))) from None
    shape = _Shape()
    read = msgspec.convert(shape.mend(kind, tree, ()), kind)
    # What was mended is no longer what its author wrote, so nothing more is said of it.
    meant = [each for each in examine(read) if not shape.faulty.intersection(_prefixes(each.path))]
    problems = [*shape.problems, *meant]
    if problems:
        raise Misconfigured(_listing(problems, tree, text, name))
    return read


def _unreadable(text: str, name: str, error: str) -> str:
    """One line for a text that is no TOML; the parser puts line and column at the end of its message."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", error)
    line, column = (place[1], f", column {place[2]}") if place else (text.count("\n") + 1, "")
    what = error[: place.start()] if place else error
    return f"{name}:{line}: not TOML{column}: {what}. Correct it there; nothing else was checked."


def _listing(problems: list[Problem], tree: Mapping[str, Any], text: str, name: str) -> str:
    lines = locate(text)
    rows = []
    for each in problems:
        line = next((lines[prefix] for prefix in reversed(_prefixes(each.path)) if prefix in lines), 1)
        rows.append((line, f"{name}:{line}: {_where(each.path, tree)}: {each.what}. {each.fix}"))
    return "\n".join(row for _, row in sorted(rows, key=lambda row: row[0]))


def _where(path: Path, tree: Any) -> str:
    """The path as people read it: `partner[2] "meta".done`, counted from 0."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            tree = tree[step] if isinstance(tree, list) else None
            name = tree.get("name") if isinstance(tree, dict) else None
            shown += f"[{step}]" + (f" {quoted(name)}" if isinstance(name, str) else "")
        else:
            tree = tree.get(step) if isinstance(tree, dict) else None
            bare = re.fullmatch("[A-Za-z0-9_-]+", step)
            shown += ("." if shown else "") + (step if bare else quoted(step))
    return shown


def _prefixes(path: Path) -> list[Path]:
    return [path[:length] for length in range(1, len(path) + 1)]


class _Form(NamedTuple):
    """What a type is called, what stands in for a value that isn't one, how one looks, and how to get there."""

    called: str
    stand_in: Any
    sample: str
    written: str


_FORMS: dict[Any, _Form] = {
    str: _Form("text", "", '"…"', "Put it in quotes."),
    int: _Form("a whole number", 1, "1", "Write digits alone, without quotes."),
    bool: _Form("true or false", stand_in=False, sample="false", written="Write true or false, without quotes."),
    tuple: _Form("a list", (), '["…"]', "Put it in brackets."),
    dict: _Form("a table", {}, "{ … }", "Write it as a table, or in braces."),
}
_GOT = {str: "text", bool: "true or false", int: "a whole number", float: "a fraction", list: "a list", dict: "a table"}


class _Shape:
    """Walks a tree along its type, notes what doesn't fit, and puts something in its place that does.

    `problems` never quote a value, except one that should be from a list of words; `faulty` are the paths mended.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.faulty: set[Path] = set()

    def mend(self, kind: Any, value: Any, path: Path) -> Any:
        """`value` as `msgspec.convert` takes it for `kind`: itself, where nothing is wrong."""
        origin, inner = get_origin(kind) or kind, get_args(kind)
        if origin is UnionType:  # a struct, or None when the key isn't there
            return self.mend(inner[0], value, path)
        if origin is Any:
            return value
        if origin is Literal:
            return self._word(inner, value, path)
        if origin is tuple and isinstance(value, list):
            return [self.mend(inner[0], each, (*path, index)) for index, each in enumerate(value)]
        if origin is dict and isinstance(value, dict):
            return self._mapping(inner, value, path)
        if issubclass(origin, Struct):
            if isinstance(value, dict):
                return self._table(origin, value, path)
            origin = dict
        elif type(value) is origin:
            return value
        fix = f"Write it as [[{_header(path)}]]." if _of_tables(kind) else _FORMS[origin].written
        self._note(path, f"expected {_FORMS[origin].called}, got {_got(value)}", fix)
        return _stand_in(kind)

    def _note(self, path: Path, what: str, fix: str) -> None:
        self.problems.append(Problem(path, what, fix))
        self.faulty.add(path)

    def _word(self, words: tuple[str, ...], value: Any, path: Path) -> str:
        if value in words:
            return str(value)
        said = isinstance(value, str)
        near = closest(value, words) if said else ""
        key = f"{path[-1]} = " if isinstance(path[-1], str) else ""
        fix = f"Write {key}{quoted(near)}." if near else "Choose one of them."
        self._note(path, f"expected one of {', '.join(words)}, got {quoted(value) if said else _got(value)}", fix)
        return near or words[0]

    def _mapping(self, inner: tuple[Any, ...], value: dict[str, Any], path: Path) -> dict[str, Any]:
        key_kind, value_kind = inner
        words = get_args(key_kind)
        written = self._keys(value, words, path) if words else {key: key for key in value}
        return {key: self.mend(value_kind, value[given], (*path, given)) for key, given in written.items()}

    def _table(self, kind: type[Struct], value: dict[str, Any], path: Path) -> dict[str, Any]:
        fields = _fields(kind)
        written = self._keys(value, [*fields], path)
        mended = {}
        for key, field in fields.items():
            if key in written:
                mended[field.encode_name] = self.mend(field.type, value[written[key]], (*path, written[key]))
            elif field.required:
                self._note((*path, key), "missing", _added((*path, key), field.type))
                mended[field.encode_name] = _stand_in(field.type)
        return mended

    def _keys(self, value: dict[str, Any], keys: Sequence[str], path: Path) -> dict[str, str]:
        """Each known key that is there, and how it was written; an unknown one counts as that which it is close to."""
        written = {key: key for key in value if key in keys}
        for key in value:
            if key not in keys:
                near = closest(key, keys)
                fix = f"Write {near}." if near else f"Take it out; there is {', '.join(keys)}."
                self._note((*path, key), "unknown key", fix)
                if near and near not in written:
                    written[near] = key
                    self.faulty.add((*path, near))
        return written


def _got(value: Any) -> str:
    return _GOT.get(type(value), "a date or time")


def _of_tables(kind: Any) -> bool:
    inner = get_args(kind)
    return get_origin(kind) is tuple and isinstance(inner[0], type) and issubclass(inner[0], Struct)


@cache
def _fields(kind: type[Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a struct, by the key that the file has."""
    fields = msgspec.structs.fields(kind)
    return {each.encode_name.removesuffix("s") if _of_tables(each.type) else each.encode_name: each for each in fields}


def _header(path: Path) -> str:
    return ".".join(step for step in path if isinstance(step, str))


def _added(path: Path, kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return f"Add {path[-1]}, one of {', '.join(get_args(kind))}."
    if _of_tables(kind):
        return f"Add [[{_header(path)}]]."
    return f"Add {path[-1]} = {_FORMS.get(origin, _FORMS[dict]).sample}."


def _stand_in(kind: Any) -> Any:
    """The least value of a type; a struct's is a table with what it must have."""
    origin = get_origin(kind) or kind
    if origin is Literal:
        return get_args(kind)[0]
    if isinstance(origin, type) and issubclass(origin, Struct):
        return {each.encode_name: _stand_in(each.type) for each in _fields(origin).values() if each.required}
    return _FORMS[origin].stand_in


def locate(text: str) -> Lines:
    """The line on which each key, table and element of `text` first stands; `text` must be valid TOML 1.0."""
    scan = _Scan(text)
    scan.statements()
    return scan.lines


_TOKEN = re.compile(
    r"""
    (?P<gap>[ \t\r]+|\#[^\n]*)
    | \"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\])*" | '[^']*'   # text, the long forms first
    | [\[\]{}=,.\n]
    | [^\s\[\]{}=,.\#"']+                                                      # bare keys, numbers, dates
    """,
    re.VERBOSE | re.DOTALL,
)


class _Scan:
    """Follows the grammar (toml.io/en/v1.0.0) no further than to know which key stands where."""

    def __init__(self, text: str) -> None:
        self.lines: Lines = {}
        self.tokens: list[tuple[str, int]] = []
        self.at = 0
        self.latest: dict[Path, int] = {}  # the last element of each array of tables
        line = 1
        for match in _TOKEN.finditer(text):
            if match["gap"] is None:
                self.tokens.append((match[0], line))
            line += match[0].count("\n")
        self.tokens.append(("", line))

    def statements(self) -> None:
        table: Path = ()
        while self.next():
            if self.next() == "\n":
                self.take()
            elif self.next() == "[":
                table = self.header()
            else:
                self.pair(table)

    def next(self) -> str:
        return self.tokens[self.at][0]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][0]

    def note(self, path: Path, line: int) -> None:
        for prefix in _prefixes(path):
            self.lines.setdefault(prefix, line)

    def header(self) -> Path:
        line = self.tokens[self.at][1]
        self.take()
        array = self.next() == "["
        *parents, last = self.key()
        path: Path = ()
        for part in parents:
            path = self.inside((*path, part))
        path = (*path, last)
        if array:
            self.latest[path] = self.latest.get(path, -1) + 1
            self.take()
        self.take()
        path = self.inside(path)
        self.note(path, line)
        return path

    def inside(self, path: Path) -> Path:
        return (*path, self.latest[path]) if path in self.latest else path

    def key(self) -> list[str]:
        parts = []
        while self.next() not in {"=", "]"}:
            token = self.take()
            if token[0] in "\"'":
                parts.append(str(tomllib.loads(f"text = {token}")["text"]))
            elif token not in {".", "["}:
                parts.append(token)
        return parts

    def pair(self, table: Path) -> None:
        line = self.tokens[self.at][1]
        path = (*table, *self.key())
        self.take()
        self.note(path, line)
        self.value(path)

    def value(self, path: Path) -> None:
        opening = self.next()
        if opening not in {"[", "{"}:
            while self.next() not in {"", "\n", ",", "]", "}"}:
                self.take()
            return
        self.take()
        index = 0
        while self.next() not in {"]", "}"}:
            if self.next() in {"\n", ","}:
                self.take()
            elif opening == "{":
                self.pair(path)
            else:
                self.note((*path, index), self.tokens[self.at][1])
                self.value((*path, index))
                index += 1
        self.take()
