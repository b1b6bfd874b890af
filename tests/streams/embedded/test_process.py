"""Processes: told apart by pid and start time, noted down before they do anything, ended without taking another for one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from todoke.streams.embedded import process
from todoke.streams.embedded.process import Identity

DYING = """
import os, signal, sys
from pathlib import Path
from todoke.streams.embedded import process
with process.held(["touch", sys.argv[1]], Path(os.devnull)) as child:
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
STUBBORN = 'trap "" TERM; sleep 60 & echo $!; while :; do wait; done'


def eventually(done: Callable[[], object], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def test_a_process_is_itself_and_nobody_else(sleeper: subprocess.Popen[bytes]) -> None:
    me, other = process.identify(os.getpid()), process.identify(sleeper.pid)

    assert me is not None
    assert other is not None
    assert me != other
    assert process.alive(me)
    assert process.alive(other)


def test_a_zombie_is_gone() -> None:
    with subprocess.Popen(["true"]) as child:
        eventually(lambda: process.identify(child.pid) is None)


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_where_there_is_no_proc_ps_tells_the_same(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROC", Path("/nowhere"))
    before = process.identify(sleeper.pid)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    after = process.identify(sleeper.pid)
    sleeper.kill()

    assert before is not None
    assert before == after
    eventually(lambda: not process.alive(before))


def test_a_recycled_pid_is_not_ended(sleeper: subprocess.Popen[bytes]) -> None:
    process.end(Identity(sleeper.pid, "another time"), timeout_s=0.1)

    assert sleeper.poll() is None


def test_what_ignores_sigterm_is_killed_with_its_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = process.spawn(["sh", "-c", STUBBORN], log)
    eventually(log.read_text)
    child = process.identify(int(log.read_text()))

    process.end(started, timeout_s=0.3)

    assert child is not None
    assert not process.alive(started)
    eventually(lambda: not process.alive(child))


def test_a_spawned_process_prints_into_its_log_and_sees_its_environment(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")

    started = process.spawn(["sh", "-c", 'echo "$WORD"; cat'], log, {**os.environ, "WORD": "hello"})

    eventually(lambda: not process.alive(started))
    assert log.read_text() == "before\nhello\n"


def test_a_command_that_does_not_exist_says_so_in_its_log(tmp_path: Path) -> None:
    started = process.spawn(["/no/such/program"], tmp_path / "log")

    eventually(lambda: not process.alive(started))
    assert "/no/such/program" in (tmp_path / "log").read_text()


def test_a_child_never_runs_when_noting_it_down_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="disk full"),
        process.held(["touch", str(tmp_path / "ran")], tmp_path / "log") as child,
    ):
        raise OSError("disk full")

    eventually(lambda: not process.alive(child))
    assert not (tmp_path / "ran").exists()


def test_a_child_never_runs_when_its_parent_is_killed_before_noting_it_down(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path / "ran")], stdout=subprocess.PIPE, check=False)

    assert done.returncode == -signal.SIGKILL
    eventually(lambda: process.identify(int(done.stdout)) is None)
    assert not (tmp_path / "ran").exists()
