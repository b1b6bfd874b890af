"""A Valkey of one test's own: to be killed, rolled back and promoted, which the shared one may not be."""

import subprocess
import time
from pathlib import Path
from typing import Self

import redis

from todoke.streams.embedded import ports, valkey

START_S = 30.0


class Server:
    """Opened as a context. Keeps nothing on disk but what `save` is told to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (self.port,) = ports.free(1)
        self.url = f"redis://{ports.HOST}:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start it, with the snapshot that lies in its directory, if any."""
        options = ["--port", str(self.port), "--bind", ports.HOST, "--save", "", "--maxmemory-policy", "noeviction"]
        self._process = subprocess.Popen(
            [str(valkey.binary()), *options], cwd=self.directory, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while valkey.answer(self.port) is None:
            assert time.monotonic() < deadline, "valkey did not come up"
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
