"""The house rules that no tool knows: where things stand, what no file may say, and what must agree with what."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = ("streams", "sinks", "processors", "schemas")
LONGEST = 400
TARGETS = 12
THIRD_PARTIES = {
    "schemas": {"fastavro", "msgspec"},
    "processors": {"cryptography", "fastavro", "msgspec", "phonenumbers"},
}
# Written so that they don't find themselves.
UNFINISHED = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X)\b|raise NotImplemente[d]Error")
REGISTRY = re.compile(
    r"https?://[\w.-]*(pyp[i]\.|pythonhoste[d]|maven|npmj[s]|prox[y]\.golang|crate[s]\.io|deb\.debia[n])"
)
MACHINE = re.compile(r"(^|[^\w.-])/(wor[k]|roo[t]|home/[a-z]\w*|Users/[a-z]\w*)/")
IMPORT_ALL = """
import importlib, pkgutil, sys
import todoke
for module in pkgutil.walk_packages(todoke.__path__, "todoke."):
    importlib.import_module(module.name)
print(*sorted(sys.modules))
"""


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the checkout, but for what .gitignore names."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()} | {".git", ".editable"}
    for top in ROOT.iterdir():
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and not ignored.intersection(path.relative_to(ROOT).parts):
                try:
                    yield path.relative_to(ROOT), path.read_text("utf-8")
                except UnicodeDecodeError:
                    continue


def found(pattern: re.Pattern[str], *, suffixes: tuple[str, ...] = ()) -> list[str]:
    """Where a pattern occurs, as path:line."""
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        if not suffixes or path.suffix in suffixes
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def modules(*folders: str) -> list[Path]:
    """The Python files of some folders."""
    return sorted(each for folder in folders for each in (ROOT / folder).rglob("*.py"))


def absolute_imports(path: Path) -> set[str]:
    """First names of what a file imports absolutely."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_every_module_is_imported_without_a_bare_second_copy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {f"todoke.{folder}" for folder in FOLDERS} <= imported
    assert not imported.intersection(FOLDERS)


def test_these_tests_import_no_folder_by_its_bare_name() -> None:
    guilty = [str(each) for each in modules("tests") if absolute_imports(each).intersection(FOLDERS)]

    assert guilty == []
    assert not set(sys.modules).intersection(FOLDERS)


def test_imports_go_one_way_and_the_inner_rooms_touch_nothing_outside() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", THIRD_PARTIES)
def test_the_inner_rooms_use_few_libraries(folder: str) -> None:
    used = {name for path in modules(folder) for name in absolute_imports(path)}

    assert used - set(sys.stdlib_module_names) - {"todoke"} <= THIRD_PARTIES[folder]


def test_no_module_outgrows_its_budget() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in modules(*FOLDERS, "tests")}

    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}


def test_nothing_is_left_unfinished() -> None:
    assert found(UNFINISHED) == []


def test_no_file_names_a_registry_host() -> None:
    assert found(REGISTRY) == []
    assert found(re.compile(r"-(index|trusted|find)-(url|host|links)\b"), suffixes=(".txt",)) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert found(MACHINE) == []


def test_the_last_version_of_the_changelog_is_the_one_installed() -> None:
    headings = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert headings[0] == version("todoke")


def test_the_chart_is_of_the_same_version() -> None:
    chart = dict(
        re.findall(r"^(version|appVersion): (\S+)$", (ROOT / "helm/todoke/Chart.yaml").read_text(), re.MULTILINE)
    )

    assert chart == {"version": version("todoke"), "appVersion": version("todoke")}


def test_the_makefile_is_short_and_each_target_is_explained() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    prose = "\n".join(text for path, text in texts() if path.suffix == ".md")

    assert len(phony.split()) <= TARGETS
    assert [target for target in phony.split() if f"`make {target}" not in prose] == []


@pytest.mark.parametrize(("file", "extras"), [("requirements.txt", ()), ("requirements-dev.txt", ("embedded", "test"))])
def test_the_pins_are_what_the_project_asks_for(file: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    held = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    wanted = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    wanted += [line.partition(" #")[0] for line in held if not line.startswith("#")]
    lines = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(), re.MULTILINE)
    pins = {name.lower().replace("_", "-"): pinned for name, pinned in lines}

    asked = {each.name.lower(): each.specifier for each in map(Requirement, wanted)}
    assert {name: spec for name, spec in asked.items() if name not in pins or pins[name] not in spec} == {}
