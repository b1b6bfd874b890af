"""Kills a writer with SIGKILL before each of its file operations in turn, and opens the log again each time.

Run as a process of its own, with one thread, so that it can fork: python -m tests.sinks.killing FOLDER
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.sinks.test_log import ENTRIES, SIGNER, whole
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder

OPERATIONS = {"open", "write", "flush", "fsync", "rename", "mkdir", "unlink", "rmdir", "flock", "close", "scandir"}
STEPS = (3, 252, 1, 2, 255, 2)
TOTAL = sum(STEPS)


def kill_before(number: int) -> None:
    """This process ends before its nth file operation from here on."""
    left = [number]

    def watch(_: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in OPERATIONS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)


def write(place: Path, told: int) -> None:
    """Publish in steps, and say after each how many entries are acknowledged."""
    log = Log(Folder(place / "log"), Folder(place / "guard"), [SIGNER])
    for step in STEPS:
        size = log.publish(ENTRIES[log.size : log.size + step]).size
        os.write(told, size.to_bytes(2, "big"))
    log.close()


def killed(place: Path, number: int) -> tuple[bool, int]:
    """Whether the writer was killed, and how many entries it had acknowledged until then."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        kill_before(number)
        write(place, writing)
        sys.setprofile(None)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        acknowledged = said.read()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.waitstatus_to_exitcode(status) == 0, f"operation {number}: the writer failed"
    return os.WIFSIGNALED(status), int.from_bytes(acknowledged[-2:], "big")


def main(folder: Path) -> None:
    """Print how many times it was killed."""
    number, dead = 0, True
    while dead:
        place = folder / str(number)
        dead, acknowledged = killed(place, number)
        again = Log(Folder(place / "log"), Folder(place / "guard"), [SIGNER])
        assert again.size >= acknowledged, (
            f"operation {number}: {acknowledged} were acknowledged, {again.size} are there"
        )
        assert (place / "log" / "checkpoint").read_bytes() == (place / "guard" / "checkpoint").read_bytes()
        again.publish(ENTRIES[again.size : TOTAL])
        again.close()
        assert whole(place / "log") == ENTRIES[:TOTAL], f"operation {number}: the log says something else"
        shutil.rmtree(place)
        number += 1
    print(number - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
