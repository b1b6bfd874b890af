"""Apicurio Registry, in memory: a schema registry for tests and for trying one. No part of the stack that `todoke up` starts.

It speaks Confluent's REST subset under `PATH`. What it holds is gone when it ends, unless it is given a file.
"""

import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

from . import jars, kafka
from .jars import Jar
from .parts import Place, Progress
from .ports import HOST
from .state import locked

NAME = "apicurio"
PORTS = 2  # for clients, and for its management
JAVA = 21  # the oldest that runs it
VERSION = "3.3.3"
ARCHIVE = Jar(
    "io.apicurio",
    "apicurio-registry-app",
    VERSION,
    158_577_952,
    "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    "all",
    "tar.gz",
)
PATH = "/apis/ccompat/v7"
OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-XX:-UsePerfData")


def prepare(place: Place, progress: Progress) -> None:
    """Fetch and unpack it, once. Raises `Missing`."""
    kafka.require(kafka.java(), JAVA)
    place.folder.mkdir(parents=True, exist_ok=True)
    if _home().exists():
        return
    jars.fetch(progress, "Apicurio Registry", [ARCHIVE])
    with (
        locked(jars.cache() / "lock", progress, "waiting for another process that unpacks Apicurio Registry"),
        jars.unfinished() as folder,
    ):
        if not _home().exists():
            with tarfile.open(ARCHIVE.path) as archive:
                archive.extractall(folder / NAME, filter="data")
            (folder / NAME).rename(_home())
    ARCHIVE.path.unlink(missing_ok=True)  # 160 MB that nobody reads again


def command(place: Place) -> list[str]:
    """In the foreground; `environ` says where it listens. With a file, what it holds outlives it."""
    return [str(kafka.java()), *OPTIONS, f"-Djava.io.tmpdir={place.folder}", "-jar", str(_home() / "quarkus-run.jar")]


def environ(place: Place, *, keep: bool = False) -> Mapping[str, str]:
    """Its settings: loopback only, in memory unless it is to `keep` what it holds in its folder."""
    port, management = place.ports
    found = {
        "QUARKUS_HTTP_HOST": HOST,
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_MANAGEMENT_HOST": HOST,
        "QUARKUS_MANAGEMENT_PORT": str(management),
    }
    if keep:
        found["APICURIO_DATASOURCE_URL"] = f"jdbc:h2:file:{place.folder / 'held'}"
    return found


def url(port: int) -> str:
    """What `registry.url` says."""
    return f"http://{HOST}:{port}{PATH}"


def answers(port: int) -> bool:
    """Whether it takes requests."""
    try:
        with urllib.request.urlopen(f"{url(port)}/subjects", timeout=5) as answer:  # noqa: S310  # our own http
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _home() -> Path:
    return jars.cache() / f"{NAME}-{VERSION}"
