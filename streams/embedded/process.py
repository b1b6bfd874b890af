"""Processes by pid and start time, so that a recycled pid is never taken for one of ours."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

STOP_S = 20.0
BEAT_S = 0.02
PROC = Path("/proc")
GUARD = 'read -r go && exec "$@" </dev/null'
"""Waits for a word on a pipe before it becomes the command; when the pipe closes without one, it just ends."""


class Identity(Struct, frozen=True):
    """A process: its pid, and when it started, in whatever words the system has for that ("" for one that is gone)."""

    pid: int
    started: str


_children: dict[Identity, "subprocess.Popen[bytes]"] = {}  # kept to be reaped


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; None when there is none, or only its zombie."""
    started = _started_linux(pid) if PROC.joinpath("self", "stat").exists() else _started_ps(pid)
    return Identity(pid, started) if started else None


def alive(process: Identity) -> bool:
    """Whether this very process still runs."""
    child = _children.get(process)
    if child is None:
        return identify(process.pid) == process
    if child.poll() is None:
        return True  # a child keeps its pid until it is waited for, and its first thread may end before the others
    _children.pop(process, None)
    return False


@contextlib.contextmanager
def held(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[Identity]:
    """A child that becomes `command` when the block is left; never, when the block raises or this process is killed in it.

    So a child can be noted down before it does anything, and none runs that was not. It is in a session of its own, since
    the Ctrl-C of a terminal must reach us first; what it prints is appended to `log`; it works in `folder`, if any.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "sh", *command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env=dict(environ) if environ is not None else None,
        )
    assert child.stdin is not None
    found = identify(child.pid) or Identity(child.pid, "")
    _children[found] = child
    try:
        with child.stdin as pipe:
            yield found
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                pipe.write(b"go\n")
    except BaseException:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)  # it ends by itself, the pipe being closed
        raise


def spawn(command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> Identity:
    """Start a child that need not be noted down first: see `held`."""
    with held(command, log, environ) as child:
        return child


def end(process: Identity, timeout_s: float = STOP_S) -> bool:
    """SIGTERM, wait, SIGKILL to all of its session. Nothing at all when the pid is somebody else's by now.

    Whether it is gone: what another user has started, or hangs in the system, is not.
    """
    for kill, number in ((os.kill, signal.SIGTERM), (os.killpg, signal.SIGKILL)):
        if not alive(process):
            return True
        try:
            kill(process.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        deadline = time.monotonic() + timeout_s
        while alive(process) and time.monotonic() < deadline:
            time.sleep(BEAT_S)
    return not alive(process)


def _started_linux(pid: int) -> str:
    boot = ""
    try:
        # the name in parentheses may hold anything; field 3 (state) and 22 (start, in ticks since boot) come behind it
        fields = PROC.joinpath(str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    with contextlib.suppress(OSError):  # a sandbox may not tell
        boot = PROC.joinpath("sys", "kernel", "random", "boot_id").read_text().strip()
    return "" if fields[0] in "ZX" else f"{fields[19]}@{boot}"


def _started_ps(pid: int) -> str:
    words = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    environ = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # it prints local time in the local language
    listed = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    state, _, started = listed.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()
