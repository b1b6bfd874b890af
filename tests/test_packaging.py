"""What is shipped: everything in the four folders, and todoke/ alone in site-packages."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("processors", "schemas", "sinks", "streams")
# In a process of its own: a build backend works in the current directory, and is free to change it.
BUILD = "import sys; from hatchling.build import build_{0} as build; print(build(sys.argv[1]))"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from the checkout and unpacked."""
    target = tmp_path_factory.mktemp("sdist")
    archive = build("sdist", ROOT, target)
    subprocess.run(
        [sys.executable, "-m", "tarfile", "--extract", str(archive), str(target)], check=True, stderr=subprocess.DEVNULL
    )
    return next(each for each in target.iterdir() if each.is_dir())


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel that is built from the source distribution, as an installer does it."""
    with ZipFile(build("wheel", sdist, tmp_path_factory.mktemp("wheel"))) as archive:
        return set(archive.namelist())


def build(kind: str, source: Path, target: Path) -> Path:
    """Have hatchling build, offline."""
    command = [sys.executable, "-c", BUILD.format(kind), str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return target / done.stdout.split()[-1]


def files(root: Path) -> set[str]:
    """Every file of the four folders that is not a compiled one."""
    found = (each for folder in FOLDERS for each in (root / folder).rglob("*"))
    return {each.relative_to(root).as_posix() for each in found if each.is_file() and "__pycache__" not in each.parts}


def test_the_wheel_holds_todoke_and_its_metadata_only(wheel: set[str]) -> None:
    roots = {name.split("/")[0].split("-")[0] for name in wheel}

    assert roots == {"todoke"}


def test_the_wheel_ships_every_file_of_the_four_folders(wheel: set[str]) -> None:
    shipped = {name.removeprefix("todoke/") for name in wheel if name.startswith("todoke/")}

    assert files(ROOT) == shipped


def test_the_wheel_ships_the_contracts_beside_the_code(wheel: set[str]) -> None:
    suffixes = {Path(name).suffix for name in wheel}

    assert {".py", ".typed", ".avsc", ".toml"} <= suffixes


def test_the_wheel_brings_the_licence_and_the_command(wheel: set[str]) -> None:
    metadata = {name.split("dist-info/")[1] for name in wheel if "dist-info/" in name}

    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= metadata


def test_the_source_distribution_meets_each_file_once(sdist: Path) -> None:
    assert files(ROOT) == files(sdist)
    assert not (sdist / ".editable").exists()
