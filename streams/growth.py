"""More partitions for topics in which keys have a place: with everything stopped, keys that move take their values along.

A compacted topic overwrites a key only within its partition. So after growth the old copy of a key that has moved would
lie on for ever, an erased person's among them, and a reader would find two. Here each such copy is joined into the value
at its new place, durably, and then gets a tombstone where it lay. Breaking off anywhere and starting again is harmless.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from confluent_kafka.admin import AdminClient, NewPartitions

from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured, Retry
from todoke.schemas.obligations import join as join_obligations
from todoke.schemas.record import join as join_records
from todoke.schemas.told import join as join_told

from . import build, settings
from .cluster import TIMEOUT_S, connect, result
from .kept import MOVED
from .outbox import Letter, Outbox
from .settings import Settings
from .snapshot import Topics
from .topics import TOPICS, Wanted, names, partition_of, wanted

CHUNK = 1000
JOINS: dict[str, Callable[[Any, Any], Any]] = {
    "consent-state": join_records,
    "obligations": join_obligations,
    "told": join_told,
}
"""How two copies of a key become one. Elsewhere the copy at the key's own place stands, since it is newer."""


def grow(loaded: Settings, codec: Codec) -> list[str]:
    """Give every topic as many partitions as the settings say, and move the keys; a line for each thing done.

    Raises `Misconfigured` while anybody reads in a group of ours, or where a topic would have to shrink.
    """
    partners = [partner.name for partner in build.rules(loaded).registry.partners]
    admin = connect(loaded.kafka)
    groups = ["intake", "settling", "keeper", *(f"dispatch.{name}" for name in partners)]
    _require_silence(admin, [f"{loaded.namespace}todoke.{name}" for name in groups])
    said = [
        f"{name}: {before} partitions, now {after}" for name, before, after in _more(admin, wanted(loaded, partners))
    ]
    reader, outbox = Topics(loaded, codec), build.outbox(loaded)
    try:
        for topic in TOPICS:
            for name in names(topic, "", partners) if topic.cleanup == "compact" else []:
                moved = _move(name, JOINS.get(topic.name), reader, outbox)
                if moved:
                    said.append(f"{loaded.namespace}{name}: {moved} keys moved")
    finally:
        outbox.close()
    return said


def _require_silence(admin: AdminClient, groups: Sequence[str]) -> None:
    """Ask by name: a list leaves out, without a word, what we may not see."""
    answers = admin.describe_consumer_groups(list(groups), request_timeout=TIMEOUT_S)
    busy = [name for name, future in answers.items() if result(name, future).members]
    if busy:
        raise Misconfigured(f"groups {', '.join(busy)}: have members: stop every worker and dispatcher first")


def _more(admin: AdminClient, topics: Sequence[Wanted]) -> list[tuple[str, int, int]]:
    """Add partitions where there are too few: name, how many before, how many now."""
    there = admin.list_topics(timeout=TIMEOUT_S).topics
    found = [(each, len(there[each.name].partitions)) for each in topics if each.name in there]
    for each, count in found:
        if count > each.partitions and not each.grows:
            raise Misconfigured(
                f"{each.name}: has {count} partitions, {each.setting} says {each.partitions}: "
                f"no topic can shrink: set it to {count}"
            )
    fewer = [(each, count) for each, count in found if count < each.partitions]
    if fewer:
        asked = [NewPartitions(each.name, each.partitions) for each, _ in fewer]
        for name, future in admin.create_partitions(asked, request_timeout=TIMEOUT_S).items():
            result(name, future)
        _await(admin, {each.name: each.partitions for each, _ in fewer})
    return [(each.name, count, each.partitions) for each, count in fewer]


def _await(admin: AdminClient, counts: Mapping[str, int]) -> None:
    """Wait until the cluster tells of what was added: its metadata travels behind the answer."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        there = admin.list_topics(timeout=TIMEOUT_S).topics
        late = [name for name, count in counts.items() if len(there[name].partitions) < count]
        if not late:
            return
        if time.monotonic() > deadline:
            raise Retry(f"{', '.join(late)}: the new partitions don't show yet: run `todoke topics grow` again")
        time.sleep(0.1)


def _move(name: str, join: Callable[[Any, Any], Any] | None, reader: Topics, outbox: Outbox) -> int:
    """Move what lies where its key no longer belongs; how many keys. Keeps those of one topic in memory."""
    count, codec = len(reader.partitions(name)), reader.codec
    astray: dict[tuple[bytes, int], bytes | None] = {}
    for message in reader.read(name):
        key, partition = message.key() or b"", message.partition() or 0
        if partition_of(key, count) != partition:
            astray[key, partition] = message.value()
    copies = {place: value for place, value in astray.items() if value is not None}
    keys = {key for key, _ in copies}
    home: dict[bytes, bytes | None] = {}
    for message in reader.read(name) if keys else ():
        key = message.key() or b""
        if key in keys and partition_of(key, count) == message.partition():
            home[key] = message.value()
    for (key, _), value in sorted(copies.items()):
        if key not in home:
            home[key] = value
        elif join is not None and home[key] is not None:  # a tombstone at home is newer, and stands
            home[key] = codec.encode(join(codec.decode(home[key] or b""), codec.decode(value)))
    topic = reader.namespace + name
    # by number: a producer with old metadata would choose the old place, and the tombstone would fall on the value
    settled = [
        Letter(topic, key, value, (), partition_of(key, count)) for key, value in home.items() if value is not None
    ]
    gone = [Letter(topic, key, None, ((MOVED, b"1"),), partition) for key, partition in copies]
    for letters in (settled, gone):  # every value is durable at its new place before any is removed from its old one
        for start in range(0, len(letters), CHUNK):
            outbox.send(letters[start : start + CHUNK])
    return len(keys)


@click.command("grow")
def topics_grow() -> None:
    """Give every topic the partitions that the settings say, and move its keys; nothing else may run meanwhile."""
    loaded = settings.load()
    said = grow(loaded, build.codec(loaded, [partner.name for partner in build.rules(loaded).registry.partners]))
    for line in said:
        click.echo(line)
    click.echo("done" if said else "every topic has its partitions, and every key its place")
