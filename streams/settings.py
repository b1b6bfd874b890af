"""Settings: one TOML file and a few variables over it, read once and validated.

Where a value stands in both, the variable wins. Nothing else of Todoke reads the environment, but for secrets of
partners, which their registry names.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from todoke.schemas.errors import Misconfigured

LEAST_BOUND_MS = 2_000  # marks of the intake are renewed twice a second, and a call has a second to start


class Kafka(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cluster. `client` is handed to librdkafka: SASL, TLS and all else that it knows.

    A value of `env:NAME` or `file:PATH` there is read from that variable or file, so that no password stands in it.
    """

    bootstrap: str = "127.0.0.1:9092"
    client: dict[str, str | int | bool] = field(default_factory=dict)
    replication: int = 3
    in_sync: int = 2
    partitions: int = 12
    lane_partitions: int = 6

    def __repr__(self) -> str:
        """Where, and no more: `client` may hold a password."""
        return f"Kafka(bootstrap={self.bootstrap!r})"


class Redis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The view's Valkey or Redis, as a URL: `rediss://user:password@host:port/0?ssl_ca_certs=…` for TLS."""

    url: str = "redis://127.0.0.1:6379/0"

    def __repr__(self) -> str:
        """Nothing: the URL may hold a password."""
        return "Redis(…)"


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The schema registry. Without a URL, schema ids come from the checked-in lock."""

    url: str = ""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Where, and no more."""
        return f"Registry(url={self.url!r})"


class Worker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How processors read. Sizes in messages and bytes, times in ms."""

    batch: int = 1000
    largest_event: int = 262_144
    session_timeout_ms: int = 6000
    keep_outcomes_ms: int = 90 * 86_400_000
    keep_ended_ms: int = 30 * 86_400_000
    stale_after_ms: int = 60_000
    permission_bound_ms: int = 5_000
    pulse_ms: int = 12 * 3_600_000
    sweep_per_second: int = 2000


class Callbacks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where dispatchers hear what partners report by themselves, if any does. `largest` is a report's size in bytes."""

    host: str = "0.0.0.0"  # noqa: S104  # partners are outside
    port: int = 9465
    largest: int = 65_536


class Ledger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the ledger keeps records and their log. Each shard has a vault, a log and a guard of its own, in a folder below.

    `vault` may also be a PostgreSQL, `postgresql://user@host/database?passfile=PATH`: then each shard has a schema.
    `origin` is the log's name for good; `key` holds its private keys, a line for each shard. `rules` is a file of record
    rules, those shipped where it is empty. `log` and `guard` may also be `s3://bucket/prefix?region=…` (docs/log-operations.md).
    Each of `witnesses` is a URL, a space and a key; `quorum` of them are enough, asked every `witness_ms`, and with
    `cosigned_only` no checkpoint is shown that lacks them. Times are in ms: how long entries may wait for a checkpoint, and how long rows
    stay in `provision-log` after they are durable here, which is how old a backup of the vault may be.
    """

    vault: str = "ledger/vault"
    log: str = "ledger/log"
    guard: str = "ledger/guard"
    origin: str = "todoke.example/provisions"
    key: str = "file:log.key"
    rules: str = ""
    shards: int = 1
    batch: int = 2000
    publish_ms: int = 1000
    witnesses: tuple[str, ...] = ()
    quorum: int = 1
    cosigned_only: bool = False
    witness_ms: int = 60_000
    keep_rows_ms: int = 7 * 86_400_000


class Operator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers a person: the letterhead of a disclosure. `font` is a TrueType file to embed in it."""

    name: str = ""
    address: str = ""
    representative: str = ""
    contact: str = ""
    font: str = ""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. `namespace` goes before every topic, group and key, so that installations can share servers."""

    namespace: str = ""
    keys: str = "file:keys.toml"
    policy: str = ""
    partners: str = ""
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    registry: Registry = Registry()
    worker: Worker = Worker()
    callbacks: Callbacks = Callbacks()
    ledger: Ledger = Ledger()
    operator: Operator = Operator()
    host: str = "0.0.0.0"  # noqa: S104  # probes and scrapes come from outside the pod
    port: int = 9464


VARIABLES: dict[str, tuple[str, ...]] = {
    "TODOKE_NAMESPACE": ("namespace",),
    "TODOKE_KEYS": ("keys",),
    "TODOKE_POLICY": ("policy",),
    "TODOKE_PARTNERS": ("partners",),
    "TODOKE_KAFKA": ("kafka", "bootstrap"),
    "TODOKE_REDIS": ("redis", "url"),
    "TODOKE_REGISTRY": ("registry", "url"),
    "TODOKE_REGISTRY_USER": ("registry", "user"),
    "TODOKE_REGISTRY_PASSWORD": ("registry", "password"),
}
"""Variables, and the setting that each overrides. `TODOKE_CONFIG` names the file."""


def load(environ: Mapping[str, str] | None = None, path: Path | None = None) -> Settings:
    """The settings of this process. Raises `Misconfigured` that names the file or variable, the key, and the fix."""
    environ = os.environ if environ is None else environ
    path = path or (Path(environ["TODOKE_CONFIG"]) if "TODOKE_CONFIG" in environ else None)
    tree = _file(path) if path else {}
    for variable, keys in VARIABLES.items():
        if variable in environ:
            node = tree
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = environ[variable]
    for variable in ("TODOKE_REPLICATION", "TODOKE_PORT"):
        if variable in environ:
            _number(tree, variable, environ[variable])
    _reveal(tree.get("kafka", {}).get("client", {}), environ)
    try:
        found = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        where = path or "environment"
        raise Misconfigured(f"{where}: {error}: see docs/settings.md for every key") from None
    if found.worker.permission_bound_ms < LEAST_BOUND_MS:
        fix = f"give it {LEAST_BOUND_MS} at least, or no permission is ever told"
        raise Misconfigured(f"worker.permission_bound_ms: {found.worker.permission_bound_ms}: {fix}")
    return found


def _reveal(client: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put the values in the places that only name where they are."""
    for key, value in client.items():
        scheme, _, name = str(value).partition(":")
        if scheme == "env":
            if not environ.get(name):
                raise Misconfigured(f"kafka.client.{key}: the variable {name} is not set: set it, or name another")
            client[key] = environ[name]
        elif scheme == "file":
            try:
                client[key] = Path(name).read_text().strip()
            except OSError as error:
                raise Misconfigured(f"kafka.client.{key}: {name}: {error.strerror}") from None


def _number(tree: dict[str, Any], variable: str, text: str) -> None:
    if not text.isdecimal():
        raise Misconfigured(f"{variable}: expected a whole number: set it to one, or unset it")
    if variable == "TODOKE_PORT":
        tree["port"] = int(text)
    else:
        kafka = tree.setdefault("kafka", {})
        kafka["replication"] = int(text)
        kafka["in_sync"] = max(1, int(text) - 1)


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise Misconfigured(f"TODOKE_CONFIG: {path}: no such file: name one that exists, or unset it") from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{path}: {error}: correct the TOML there") from None
