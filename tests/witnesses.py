"""A real witness: litewitness, with its key in an ssh-agent, as its operators run it."""

import base64
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from tests.stores import running
from todoke.processors.checkpoint import COSIGNED_ED25519, Verifier
from todoke.streams.embedded import ports

TOOLS = Path(__file__).parents[1] / ".tools" / "go"
MODULE = "filippo.io/torchwood/cmd/litewitness@v0.9.0"
NAME = "witness.example/w1"


class Running(NamedTuple):
    """A witness that runs: its address, its key, and its database."""

    url: str
    key: Verifier
    database: Path

    def knows(self, key: Verifier) -> None:
        """Have it take checkpoints of a log, as its `witnessctl add-log` and `add-key` do."""
        empty = base64.b64encode(sha256(b"").digest()).decode()
        database = sqlite3.connect(self.database, timeout=10)
        with database:
            database.execute("INSERT OR IGNORE INTO log VALUES (?, 0, ?)", (key.name, empty))
            database.execute("INSERT INTO key VALUES (?, ?)", (key.name, key.dump()))
        database.close()


@contextmanager
def litewitness(folder: Path) -> Iterator[Running]:
    """The witness for as long as the block takes; skips, with the reason, where it can't be had."""
    program = _program()
    socket, database, port = folder / "agent", folder / "witness.db", ports.free(1)[0]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    said = subprocess.run(["ssh-keygen", "-lf", folder / "key"], check=True, capture_output=True, text=True).stdout
    public = load_ssh_public_key((folder / "key.pub").read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    with running(["ssh-agent", "-D", "-a", str(socket)], folder / "agent.log"):
        _wait(socket.exists)
        environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", folder / "key"], check=True, env=environ)
        command = [program, "-name", NAME, "-db", str(database), "-ssh-agent", str(socket), "-key", said.split()[1]]
        with running([*command, "-listen", f"127.0.0.1:{port}"], folder / "witness.log"):
            _wait(lambda: _listens(port))
            yield Running(
                f"http://127.0.0.1:{port}", Verifier(NAME, COSIGNED_ED25519, public.public_bytes_raw()), database
            )


def _program() -> str:
    if not all(map(shutil.which, ("ssh-agent", "ssh-add", "ssh-keygen"))):
        pytest.skip("no ssh-agent on the PATH: apt install openssh-client")
    found = shutil.which("litewitness", path=f"{TOOLS}:{os.environ.get('PATH', '')}")
    if found:
        return found
    if not shutil.which("go"):
        pytest.skip("neither litewitness nor go is on the PATH")
    done = subprocess.run(
        ["go", "install", MODULE], env={**os.environ, "GOBIN": str(TOOLS)}, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("litewitness can't be built here: go says no")
    return str(TOOLS / "litewitness")


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(done: object) -> None:
    assert callable(done)
    for _ in range(400):
        if done():
            return
        time.sleep(0.025)
    pytest.fail("it doesn't start")
