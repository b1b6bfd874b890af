"""`todoke demo`: the whole way on real parts, from events to evidence, ending with sums that must be exact."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient
from msgspec import Struct
from rich.console import Console
from rich.live import Live
from rich.table import Table

from todoke.processors.balance import Balance, balance
from todoke.processors.keys import subject_ref
from todoke.schemas.directives import Directive
from todoke.schemas.obligations import Obligation
from todoke.streams import build, cluster, people, settings, story, topics
from todoke.streams.embedded.command import telling
from todoke.streams.embedded.stack import Addresses, Plan, start
from todoke.streams.outbox import Letter
from todoke.streams.snapshot import Topics

from . import report, shop
from .cast import Cast

PATIENCE_S = 90.0
BEAT_S = 0.5


class Show(Struct, frozen=True):
    """What the demo is asked for: the generator's seed, how many members, and how many messages a second."""

    seed: int = 20240701
    members: int = 1200
    rate: int = 250


@contextlib.contextmanager
def staged(directory: Path, console: Console) -> Iterator[tuple[Cast, Addresses]]:
    """The stack and the cast in `directory`, all ended on leaving."""
    with telling(console) as tell:
        stack = start(directory / "stack", Plan(fresh=True), tell)
    cast = Cast(directory, stack.addresses)
    try:
        yield cast, stack.addresses
    finally:
        cast.end()
        stack.stop()


def run(directory: Path, show: Show, console: Console, *, keep: bool = False) -> bool:
    """Play the demo; whether its balance was exact. With `keep`, everything stays up until Ctrl-C."""
    began = time.monotonic()
    with staged(directory, console) as (cast, addresses):
        console.print(f"[bold]stack[/] Kafka {addresses.bootstrap}, Valkey {addresses.redis_url}")
        cast.emulators()
        with _environment(cast.environ):
            loaded = settings.load()
            rules = build.rules(loaded)
        names = [partner.name for partner in rules.registry.partners]
        made_topics = _topics(loaded, names)
        probes = cast.roles()
        console.print(f"[bold]ready[/] {len(made_topics)} topics, {len(cast.actors)} processes")
        made = build.parts(loaded)
        try:
            sent = _publish(made, show, cast, console)
            found = _finish(made, cast, console, sent)
            _print(made, found, console)
        finally:
            made.outbox.close()
        console.print(f"{time.monotonic() - began:.0f} s in all; logs in {directory}")
        if keep:
            _keep(cast, probes, console)
        return found.exact and not found.pending


def _topics(loaded: settings.Settings, partners: list[str]) -> list[topics.Change]:
    admin = AdminClient({"bootstrap.servers": loaded.kafka.bootstrap})
    return cluster.apply(admin, topics.wanted(loaded, partners))


def _publish(made: build.Parts, show: Show, cast: Cast, console: Console) -> int:
    """Send the generator's messages at the rate asked for, and show how far partners are."""
    messages = list(shop.messages(show.seed, show.members, made.tools.now(), made.tools.codec))
    console.print(f"[bold]publishing[/] {len(messages)} messages of {show.members} members, {show.rate} a second")
    beat = max(1, int(show.rate * BEAT_S / 5))
    with Live(_standing(made, 0, len(messages)), console=console, transient=True, auto_refresh=False) as live:
        began = time.monotonic()
        for first in range(0, len(messages), beat):
            part = messages[first : first + beat]
            made.outbox.send([Letter(made.topic(each.topic), each.key, each.value) for each in part])
            cast.check()
            live.update(_standing(made, first + len(part), len(messages)), refresh=True)
            time.sleep(max(0.0, began + (first + len(part)) / show.rate - time.monotonic()))
    return len(messages)


def _finish(made: build.Parts, cast: Cast, console: Console, sent: int) -> Balance:
    """Wait until nothing is under way any more, or patience ends; then the balance, from the topics alone."""
    reader = Topics(made.settings, made.tools.codec)
    deadline = time.monotonic() + PATIENCE_S
    with Live(_standing(made, sent, sent), console=console, transient=True, auto_refresh=False) as live:
        while True:
            found = balance(reader.snapshot(), made.tools.rules, made.tools.now())
            if (found.exact and not found.pending) or time.monotonic() > deadline:
                return found
            for _ in range(4):
                cast.check()
                live.update(_standing(made, sent, sent), refresh=True)
                time.sleep(BEAT_S / 2)


def _standing(made: build.Parts, sent: int, total: int) -> Table:
    table = Table("published", "partner", "pending", "oldest", box=None)
    names = [partner.name for partner in made.tools.rules.registry.partners]
    now = made.tools.now()
    for place, (name, standing) in enumerate(made.tools.index.standing(names).items()):
        age = f"{(now - standing.oldest_at) / 1000:.1f} s" if standing.pending else "-"
        table.add_row(f"{sent}/{total}" if place == 0 else "", name, str(standing.pending), age)
    return table


def _print(made: build.Parts, found: Balance, console: Console) -> None:
    reader = Topics(made.settings, made.tools.codec)
    owed = list(reader.latest("obligations", Obligation).values())
    directives: dict[str, int] = {}
    for partner in made.tools.rules.registry.partners:
        directives |= report.directed(reader.values(f"directives.{partner.name}", Directive))
    ref = subject_ref(made.tools.keyring, shop.PROTAGONIST)
    person = people.subject_page(story.of_subject(made.tools, ref, reader), ref)
    pages = [
        report.partners(owed, directives),
        report.blocked(owed),
        report.letters(reader.letters()),
        f"[bold]One person's story[/]: {shop.PROTAGONIST}",
        person,
        "[bold]Balance[/], computed from the topics",
        people.balance_page(found),
    ]
    console.print(report.page(pages))


def _keep(cast: Cast, probes: dict[str, int], console: Console) -> None:
    console.print("[bold]kept up[/]; Ctrl-C ends it. In another terminal:")
    for name in ("TODOKE_CONFIG", "TODOKE_KEYS", "TODOKE_KAFKA", "TODOKE_REDIS", "TODOKE_REPLICATION"):
        console.print(f"export {name}={cast.environ[name]}", soft_wrap=True, highlight=False)
    for role, port in probes.items():
        console.print(f"{role}: http://127.0.0.1:{port}/metrics", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            cast.check()
            time.sleep(1)


@contextlib.contextmanager
def _environment(environ: dict[str, str]) -> Iterator[None]:
    """This process sees what its children see: the registry's `env:` settings are read from there."""
    before = dict(os.environ)
    os.environ.update(environ)
    os.environ.pop("TODOKE_PORT", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
