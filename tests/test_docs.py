"""The documentation says what the code says: settings, variables, metrics, reasons, commands, files and tests by name."""

import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import click
import msgspec
import pytest
from msgspec import NODEFAULT, Struct

from tests.golden.make_docs import BLOCK, BLOCKS, DOCS, leaves, made
from todoke.processors import decide
from todoke.schemas import errors
from todoke.schemas.partners import Registry
from todoke.schemas.policy import Label, Policy
from todoke.streams import settings
from todoke.streams.cli import main
from todoke.streams.metrics import METRICS

ROOT = DOCS.parent
CODE = ("streams", "sinks", "processors", "schemas")
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
REQUIRED = "required"
COMMANDS = dict(leaves("todoke", main))


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(text: str, title: str) -> str:
    """What stands below a heading of the second order."""
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> dict[str, list[str]]:
    """The tables' rows by what stands in backticks in the first column."""
    found = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.MULTILINE)
    return {name: [each.strip() for each in rest.split(" | ")] for name, rest in found}


def declared(kind: type[Struct], prefix: str = "", *, toml: bool = False) -> Iterator[tuple[str, Any]]:
    """Every key of a struct and of those inside, with its default; `toml` gives tables of an array the singular."""
    for each in msgspec.structs.fields(kind):
        hint = each.type
        if get_origin(hint) in (Union, UnionType):
            hint = next(one for one in get_args(hint) if one is not NoneType)
        inner = get_args(hint)[0] if get_origin(hint) is tuple else hint
        table = isinstance(inner, type) and issubclass(inner, Struct) and inner is not Label
        if table:
            name = each.encode_name.removesuffix("s") if toml and inner is not hint else each.encode_name
            yield from declared(inner, f"{prefix}{name}.", toml=toml)
        elif each.default_factory is not NODEFAULT:
            yield prefix + each.encode_name, each.default_factory()
        else:
            yield prefix + each.encode_name, REQUIRED if each.default is NODEFAULT else each.default


def defaults(table: dict[str, list[str]]) -> dict[str, Any]:
    """What a table of keys says of their defaults."""
    found = {}
    for key, (default, *_) in table.items():
        value = REQUIRED if default == REQUIRED else tomllib.loads(f"x = {default.strip('`')}")["x"]
        found[key] = tuple(value) if isinstance(value, list) else value
    return found


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_as_it_would_be_made_now(path: Path) -> None:
    text = path.read_text("utf-8")

    assert text == made(text), "run: python -m tests.golden.make_docs"


def test_every_block_stands_in_some_page() -> None:
    standing = [found[1] for path in DOCS.rglob("*.md") for found in BLOCK.findall(path.read_text("utf-8"))]

    assert sorted(standing) == sorted(BLOCKS)


def test_every_setting_has_its_row_with_its_default() -> None:
    assert defaults(rows(section(page("settings.md"), "The file"))) == dict(declared(settings.Settings))


def test_every_key_of_a_policy_has_its_row_with_its_default() -> None:
    assert defaults(rows(section(page("settings.md"), "The policy"))) == dict(declared(Policy, toml=True))


def test_every_key_of_the_partners_has_its_row_with_its_default() -> None:
    assert defaults(rows(section(page("settings.md"), "Partners"))) == dict(declared(Registry, toml=True))


def test_every_variable_that_is_read_is_explained_and_no_other() -> None:
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".toml"}]
    text = "\n".join(path.read_text("utf-8") for path in [*files, ROOT / "tests/stack.py"])
    read = set(re.findall(r"\bTODOKE_[A-Z]+(?:_[A-Z]+)*\b(?!_)", text)) | set(settings.VARIABLES)

    assert set(rows(section(page("settings.md"), "Variables"))) == read


@pytest.mark.parametrize(
    ("name", "known"),
    [("metrics.md", {*METRICS}), ("reasons.md", {*errors.REASONS, *decide.REASONS})],
)
def test_every_metric_and_every_reason_is_listed(name: str, known: set[str]) -> None:
    assert {str(each) for each in known} <= set(rows(page(name)))


def test_every_reason_of_a_block_is_explained() -> None:
    text = (ROOT / "processors/reconcile.py").read_text() + (ROOT / "processors/plan.py").read_text()
    given = set(re.findall(r"_Blocked\(\w+, \"([a-z-]+)\"\)|blocked=\"\" if partner else \"([a-z-]+)\"", text))

    assert {one or other for one, other in given} <= set(rows(section(page("reasons.md"), "Blocked obligations")))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_in_an_expression_exists(path: Path) -> None:
    named = set(re.findall(r"\btodoke_[a-z_]+\b", path.read_text("utf-8")))

    assert {re.sub(r"_(bucket|count|sum)$", "", each) for each in named} <= {str(each) for each in METRICS}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists_with_its_options(path: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", BLOCK.sub("", path.read_text("utf-8")))
    fences = re.findall(r"^```(?:sh|console)\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    said = [each for text in [*spans, *fences] for each in re.findall(r"(?:^|[/ ])todoke ([a-z][^\n|;&]*)", text)]

    assert [each for each in said if not exists(each.split())] == []


def exists(words: list[str]) -> bool:
    """Whether `todoke` with these words is a command, or a group, and has the options."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    known = {option for each in command.params for option in each.opts} | {"--help"}
    return command is not main and all(word in known for word in words if word.startswith("-") and word != "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_every_test_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    files = re.findall(r"`((?:streams|sinks|processors|schemas|tests|helm|docs)/[\w./-]+)`", text)
    tests = set(re.findall(r"`(test_\w+)`", text))
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    known = {
        name for each in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", each.read_text())
    }

    assert [each for each in files if not (ROOT / each).exists()] == []
    assert [each for each in links if each and not (path.parent / each).exists()] == []
    assert tests - known == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_function_that_is_named_with_its_file_is_there(path: Path) -> None:
    text = path.read_text("utf-8").replace("\n", " ")
    named = re.findall(
        r"`([\w.]+)`(?:, `[\w.]+`)*(?: and `[\w.]+`)? (?:in|\()\s?`?((?:streams|sinks|processors|schemas)/[\w/]+\.py)`",
        text,
    )

    missing = [
        f"{name} in {file}"
        for name, file in named
        if not re.search(rf"\b{name.rsplit('.', 1)[-1]}\b", (ROOT / file).read_text())
    ]
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_heading_that_is_linked_to_stands_there(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", path.read_text("utf-8")):
        file, _, anchor = link.partition("#")
        if "://" not in link:
            target = (path.parent / file) if file else path
            heads = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in heads}
            assert anchor in slugs, link


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_sound_stands_alone_and_is_shown_somewhere(path: Path) -> None:
    root = ET.fromstring(path.read_text("utf-8"))
    outside = [
        value
        for each in root.iter()
        for key, value in each.attrib.items()
        if key.endswith("href") or "url(http" in value
    ]

    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in path.read_text("utf-8")
    assert outside == []
    assert any(path.name in each.read_text("utf-8") for each in PAGES)


def test_decisions_are_short_and_listed() -> None:
    records = sorted(DOCS.glob("decisions/0*.md"))
    listed = page("decisions/README.md")

    assert [each.name for each in records if each.read_text().count("\n") > 60 or each.name not in listed] == []


def test_every_metric_that_is_declared_is_set_somewhere() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "streams").rglob("*.py") if path.name != "metrics.py")
    inner = {"todoke_outcomes_total", "todoke_batch_messages", "todoke_conservation_missing"}  # by functions of metrics

    assert {str(each) for each in METRICS if f'"{each}"' not in code} == inner
