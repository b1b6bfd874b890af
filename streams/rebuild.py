"""Commands about the view: how it stands, and having it read again from the topics' beginning."""

import time
from collections import Counter

import click
from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from rich.table import Table
from rich.text import Text

from todoke.schemas.errors import NotCurrent

from .build import Parts
from .epoch import UNHEALED, WIPING, Epoch, Shard
from .kept import KEPT
from .runner import consumer_config
from .terminal import console, opened
from .view import AT_ONCE

BROKER_S = 10
LOOK_S = 1.0
NOT_REBUILT = "e"  # outcomes of events


def ends(made: Parts) -> dict[str, int]:
    """Where each partition of the compacted topics ends now."""
    settings = made.settings
    group = f"{settings.namespace}todoke.reader"
    consumer = Consumer(consumer_config(settings.kafka.bootstrap, group, 6000, dict(settings.kafka.client)))
    try:
        wanted = [
            TopicPartition(made.topic(name), number, OFFSET_END)
            for name in KEPT
            for number in range(settings.kafka.partitions)
        ]
        found = consumer.offsets_for_times(wanted, timeout=BROKER_S)
    finally:
        consumer.close()
    return {f"{each.topic}/{each.partition}": each.offset for each in found if not each.error}


def page(made: Parts, found: Epoch, until: dict[str, int]) -> Table:
    """One row for each compacted topic."""
    table = Table("topic", "healed", "read", "to read", "age s", box=None)
    now = made.tools.now()
    for name in KEPT:
        theirs = {place: each for place, each in found.shards.items() if place.startswith(f"{made.topic(name)}/")}
        total = [place for place in until if place.startswith(f"{made.topic(name)}/")]
        healed = sum(each.life == found.life for each in theirs.values())
        read = sum(each.offset for each in theirs.values())
        left = sum(max(0, until[place] - theirs[place].offset) if place in theirs else until[place] for place in total)
        oldest = min((each.fresh_at for each in theirs.values()), default=0)
        age = f"{max(0, now - oldest) / 1000:.1f}" if oldest and len(theirs) == len(total) else "-"
        table.add_row(name, f"{healed} of {len(total)}", str(read), str(left), age)
    return table


def verdict(made: Parts) -> tuple[bool, Text]:
    """Whether the view is current, and a sentence that says so, or why not."""
    tools = made.tools
    try:
        age = tools.view.require_current(tools.now(), tools.stale_after_ms)
    except NotCurrent as error:
        return False, Text(str(error), style="bold red")
    return True, Text(f"current: what it knows is {age} ms old at most", style="green")


def drop(made: Parts, *, wipe: bool) -> int:
    """Void every shard, so that nobody trusts the view and the keepers read again; with `wipe`, let go of all it holds.

    How many keys went. Outcomes of events stay: no keeper brings them back.
    """
    view, gone = made.tools.view, 0
    shards, kept = view.key("shards"), f"{view.key(NOT_REBUILT)}:"
    if wipe:
        # keepers begin at once to put back what is still being let go of: none of that may pass for healed
        view.client.hset(shards, WIPING, str(Shard(WIPING)))
        names: list[bytes] = []
        for name in view.client.scan_iter(f"{view.key('')}*", count=10_000):
            if not name.startswith((kept.encode(), shards.encode())):
                names.append(name)
            if len(names) >= AT_ONCE:
                gone += int(view.client.unlink(*names))
                names.clear()
        gone += int(view.client.unlink(*names)) if names else 0
    return gone + int(view.client.delete(shards))


@click.group("view")
def view_group() -> None:
    """The view of all subjects in Valkey: how it stands, and rebuilding it."""


@view_group.command("status")
def view_status() -> None:
    """How far the keepers have healed the view, and whether it is current. Ends with 0 only when it is."""
    with opened() as made:
        found = made.tools.view.epoch()
        console.print(page(made, found, ends(made)))
        owners = Counter(each.owner for each in found.shards.values() if each.life != UNHEALED)
        memory = made.tools.view.client.info("memory")["used_memory"]
        console.print(f"healed by {len(owners)} keepers; the server holds {memory / 1e6:,.0f} MB")
        current, sentence = verdict(made)
        console.print(sentence)
    raise SystemExit(0 if current else 4)


@view_group.command("rebuild")
@click.option("--wipe", is_flag=True, help="Let go of all that the view holds first, outcomes of events excepted.")
@click.option("--execute", is_flag=True, help="Do it. Without this, only say what would be done.")
@click.option("--wait", default=600, show_default=True, help="Seconds to show progress before giving up on it.")
def view_rebuild(*, wipe: bool, execute: bool, wait: int) -> None:
    """Have the keepers read their topics again from the beginning; everybody waits, and look-ups say unknown, until then.

    Ends with 0 when the view is current again.
    """
    with opened() as made:
        until = ends(made)
        kept = "all that it holds is let go of" if wipe else "what it holds is kept, and joined with"
        click.echo(f"{sum(until.values())} messages would be read again; {kept}")
        if not execute:
            click.echo("nothing was done; --execute does it")
            return
        click.echo(f"{drop(made, wipe=wipe)} keys let go of; the view is not current, and everybody waits")
        began, current = time.monotonic(), False
        while not current and time.monotonic() < began + wait:
            time.sleep(LOOK_S)
            found = made.tools.view.epoch()
            read = sum(each.offset for each in found.shards.values())
            current, sentence = verdict(made)
            click.echo(f"{time.monotonic() - began:6.1f} s: {found.healed} of {len(until)} healed, {read} read")
        console.print(sentence)
    raise SystemExit(0 if current else 4)
