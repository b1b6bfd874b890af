"""The servers that tests use: those that variables name, else Docker's, else the embedded stack."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from todoke.streams.embedded import kafka, ports, valkey
from todoke.streams.embedded.stack import START_S, Addresses, Plan, Stack

NAMED = ("TODOKE_TEST_KAFKA", "TODOKE_TEST_REDIS")
KAFKA_IMAGE = f"apache/kafka:{kafka.VERSION}"
VALKEY_IMAGE = "valkey/valkey:9"


@contextlib.contextmanager
def provide(directory: Path) -> Iterator[Addresses]:
    """Kafka and Valkey for one session of tests; `directory` is where the embedded ones live, and nobody else's.

    `TODOKE_TEST_KAFKA` with `TODOKE_TEST_REDIS`, else containers where a Docker engine answers, else embedded.
    """
    named = [os.environ.get(name) for name in NAMED]
    if any(named):
        yield _named(directory, *named)
    elif _docker():
        with _containers(directory) as addresses:
            yield addresses
    else:
        stack = Stack.start(directory, Plan(fresh=True, quick=True))
        try:
            yield stack.addresses
        finally:
            stack.stop()


def _named(directory: Path, bootstrap: str | None, redis_url: str | None) -> Addresses:
    if not bootstrap or not redis_url:
        raise pytest.UsageError(f"{' and '.join(NAMED)} go together: set both, or neither")
    return Addresses(bootstrap, redis_url, directory)


def _docker() -> bool:
    """Whether a Docker engine answers; asked by its command, which leaves no socket behind when there is none."""
    command = shutil.which("docker")
    if command is None:
        return False
    try:
        return subprocess.run([command, "info"], capture_output=True, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def _containers(directory: Path) -> Iterator[Addresses]:
    """Apache's own image with the properties of the embedded broker, under the port that it advertises."""
    from testcontainers.core.container import DockerContainer  # comes with testcontainers, and is slow to import

    port, controller, valkey_port = ports.free(3)
    settings = kafka.properties(Path("/tmp/kafka"), port, controller)  # a path in the container
    settings["listeners"] = settings["listeners"].replace(f"PLAINTEXT://{ports.HOST}", "PLAINTEXT://0.0.0.0")
    broker = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port)
    for key, value in settings.items():
        broker = broker.with_env(f"KAFKA_{key.upper().replace('.', '_')}", value)
    store = DockerContainer(VALKEY_IMAGE).with_bind_ports(6379, valkey_port)
    with broker, store:
        _await(lambda: kafka.answer(port) is not None and valkey.answer(valkey_port) is not None)
        yield Addresses(f"{ports.HOST}:{port}", f"redis://{ports.HOST}:{valkey_port}/0", directory)


def _await(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        assert time.monotonic() < deadline, f"{KAFKA_IMAGE} or {VALKEY_IMAGE} did not come up"
        time.sleep(0.2)
