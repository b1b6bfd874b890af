"""A real schema registry for tests: Apicurio, fetched once from Maven Central, kept between a stop and a start."""

import os
import time
from pathlib import Path

from todoke.streams.embedded import apicurio, ports, process
from todoke.streams.embedded.parts import Place, silent
from todoke.streams.embedded.process import Identity

START_S = 90.0


class Apicurio:
    """One registry. What can't be fetched raises `Missing`, so that no test passes without it."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder, tuple(ports.free(apicurio.PORTS)), quick=True)
        self.url = apicurio.url(self.place.ports[0])
        self.running: Identity | None = None
        apicurio.prepare(self.place, silent)

    def start(self) -> None:
        environ = {**os.environ, **apicurio.environ(self.place, keep=True)}
        log = self.place.folder / "log"
        self.running = process.spawn(apicurio.command(self.place), log, environ)
        deadline = time.monotonic() + START_S
        while not apicurio.answers(self.place.ports[0]):
            assert process.alive(self.running), log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)

    def stop(self) -> None:
        if self.running:
            assert process.end(self.running)
            self.running = None
