"""Shards of the ledger, from settings: which partitions are whose, where each keeps what it has, by which key it signs."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from todoke.processors.audit import InBatch, InLog, Receipt
from todoke.processors.audit import receipt as made
from todoke.processors.checkpoint import Signer, parse_checkpoint, parse_note, signer, verifier
from todoke.processors.commitment import show
from todoke.processors.keys import Keyring
from todoke.processors.merkle import inclusion
from todoke.processors.provision import Recorder
from todoke.processors.tiles import CHECKPOINT, hashes_of
from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured, Unproved
from todoke.schemas.records import Face
from todoke.sinks.bucket import storage
from todoke.sinks.ledger import Ledger, partitions_of
from todoke.sinks.log import Log
from todoke.sinks.vault.base import Store
from todoke.sinks.vault.vault import Kept, Vault
from todoke.sinks.witness import Policy, Witness, Witnesses

from . import build
from .cluster import QUIET
from .metrics import Metrics
from .recording import Recording, RecordingTools
from .runner import Hooks, Runner, consumer_config
from .settings import Settings

log = logging.getLogger(__name__)
ROWS = "provision-log"
ASK_S = 10.0


def origin(settings: Settings, shard: int) -> str:
    """The name of a shard's log."""
    return f"{settings.ledger.origin}/{shard}"


def signers(settings: Settings, shard: int) -> list[Signer]:
    """The keys that sign for a shard: lines of `ledger.key` with its name. Raises `Misconfigured`."""
    name = origin(settings, shard)
    lines = [each for each in _text(settings.ledger.key).splitlines() if each.strip()]
    found = [each for each in map(signer, lines) if each.name == name]
    if not found:
        raise Misconfigured(f"ledger.key: it has no key called {name}: make one with `todoke ledger key`")
    return found


def vault(settings: Settings, keyring: Keyring, shard: int, *, reading: bool = False) -> Vault:
    """A shard's vault; for `reading`, beside the process that writes it. Raises `Misconfigured`, `Fenced`."""
    if not 0 <= shard < settings.ledger.shards:
        raise Misconfigured(f"--shard {shard}: ledger.shards is {settings.ledger.shards}: they count from 0")
    return Vault(_store(settings, shard, reading=reading), keyring, os.urandom)


def _store(settings: Settings, shard: int, *, reading: bool) -> Store:
    """A folder for each shard, or a schema of the database."""
    place = settings.ledger.vault
    if place.startswith(("postgresql://", "postgres://")):
        try:
            from todoke.sinks.vault.postgres import Postgres
        except ImportError:
            raise Misconfigured("ledger.vault: the driver is missing: install todoke[postgres]") from None
        return Postgres(place, f"{settings.namespace}todoke_vault_{shard}", reading=reading)
    try:
        from todoke.sinks.vault.rocks import Rocks
    except ImportError:
        raise Misconfigured("ledger.vault: the embedded store is missing: install todoke[ledger]") from None
    return Rocks(Path(place) / str(shard), reading=reading)


def ledger(settings: Settings, keyring: Keyring, shard: int) -> Ledger:
    """A shard, open for writing and brought to one state."""
    place = storage(settings.ledger.log, os.environ, str(shard))
    guard = storage(settings.ledger.guard, os.environ, str(shard)) if settings.ledger.guard else None
    keys, watching = signers(settings, shard), witnesses(settings)
    return Ledger(vault(settings, keyring, shard), place, lambda: Log(place, guard, keys, watching))


def witnesses(settings: Settings) -> Witnesses | None:
    """Who is to cosign, None where nobody is named. Raises `Misconfigured`."""
    found, policy = (
        [],
        Policy(
            quorum=settings.ledger.quorum,
            required=settings.ledger.cosigned_only,
            every_s=settings.ledger.witness_ms / 1000,
        ),
    )
    for each in settings.ledger.witnesses:
        url, _, key = each.partition(" ")
        found.append(Witness(url, verifier(key), policy.timeout_s))
    if len({each.key for each in found}) < settings.ledger.quorum and (found or policy.required):
        raise Misconfigured(
            f"ledger.quorum: {policy.quorum} of {len(found)} witnesses can't be: name more, or ask for fewer"
        )
    return Witnesses(found, policy, time.monotonic) if found else None


def recorder(settings: Settings) -> Recorder:
    """What makes records of rows, by the rules that the settings name."""
    path = settings.ledger.rules
    if not path:
        return Recorder(toml.default_records())
    return Recorder(toml.records(build.read(path), path))


def receipt(settings: Settings, shard: int, vault: Vault, kept: Kept, faces: frozenset[Face]) -> Receipt:
    """The receipt of a record, with these faces shown. Raises `Unproved` where its entry is not published yet."""
    read = storage(settings.ledger.log, os.environ, str(shard)).read
    signed = read(CHECKPOINT) or b""
    size = parse_checkpoint(parse_note(signed).text).size if signed else 0
    if kept.leaf >= size:
        raise Unproved("log: the record's entry is kept and not published yet: try again in a moment")
    path, many = vault.path(kept.leaf, kept.place)
    batch = InBatch(kept.place, many, path, vault.entries(kept.leaf, 1)[0])
    inside = InLog(kept.leaf, inclusion(kept.leaf, size, hashes_of(size, read)), signed)
    return made(show(kept.record, kept.salt, faces), batch, inside)


def runner(settings: Settings, opened: Ledger, shard: int, keyring: Keyring, metrics: Metrics) -> Runner:
    """The consumer of a shard's partitions, from where its vault has got to."""
    client = dict(settings.kafka.client)
    topic = settings.namespace + ROWS
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap, **client}, logger=QUIET)
    partitions = len(admin.list_topics(topic, timeout=ASK_S).topics[topic].partitions)
    reached = opened.vault.offsets()
    fixed = [
        TopicPartition(topic, each, reached.get((topic, each), 0))
        for each in partitions_of(shard, settings.ledger.shards, partitions)
    ]
    keep = settings.ledger.keep_rows_ms
    tools = RecordingTools(
        codec=build.codec(settings, ()),
        keyring=keyring,
        metrics=metrics,
        now=build.clock,
        cut=lambda offsets: cut(admin, offsets, build.clock() - keep),
        publish_s=settings.ledger.publish_ms / 1000,
    )
    recording = Recording(opened, recorder(settings), tools)
    group = f"{settings.namespace}todoke.ledger.{shard}"
    config = consumer_config(settings.kafka.bootstrap, group, settings.worker.session_timeout_ms, client)
    hooks = Hooks(idle=recording.idle, fixed=fixed)
    return Runner(f"ledger {shard}", config, [topic], recording, settings.ledger.batch, hooks)


def cut(admin: AdminClient, offsets: Mapping[tuple[str, int], int], before: int) -> None:
    """Let go of rows that are durable here and older than `before` (ms): a vault's backup may be as old as that."""
    places = {TopicPartition(*place): OffsetSpec.for_timestamp(before) for place in offsets}
    if not places:
        return
    wanted = []
    for place, future in admin.list_offsets(places).items():
        try:
            first = future.result(ASK_S).offset
        except KafkaException as error:
            log.warning("%s/%d: not cut this time: %s", place.topic, place.partition, error.args[0].name())
            continue
        durable = offsets[place.topic, place.partition]
        wanted.append(TopicPartition(place.topic, place.partition, durable if first < 0 else min(first, durable)))
    for place, done in (admin.delete_records(wanted) if wanted else {}).items():
        try:
            done.result(ASK_S)
        except KafkaException as error:  # rows stay longer than they should, and nothing is lost
            log.error("%s/%d: rows can't be let go: %s", place.topic, place.partition, error.args[0].name())  # noqa: TRY400


def _text(reference: str) -> str:
    """What `file:PATH` or `env:NAME` holds. Raises `Misconfigured`; no message holds it."""
    kind, _, name = reference.partition(":")
    if kind == "file":
        return build.read(name)
    if kind == "env" and os.environ.get(name):
        return os.environ[name]
    raise Misconfigured("ledger.key: expected file:PATH, or env:NAME of a variable that is set")
