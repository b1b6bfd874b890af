"""The commands about keys: `todoke keys …`. None of them shows a key."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from confluent_kafka.admin import AdminClient
from rich.table import Table

from todoke.processors.keys import RINGS, Keyring
from todoke.schemas.errors import Misconfigured
from todoke.schemas.record import SubjectRecord, by_number

from . import build, destruction, keychecks, keyfile, rewrap, settings
from .cluster import observe
from .snapshot import Topics
from .terminal import console, opened

PATH = click.Path(dir_okay=False, path_type=Path)
RING = click.Choice(RINGS)


@contextmanager
def _opened() -> Iterator[tuple[build.Parts, Topics]]:
    """The parts, whichever keyring this is: these commands are how a wrong one is put right."""
    with opened(checked=False) as made:
        yield made, Topics(made.settings, made.tools.codec)


@click.group()
def keys() -> None:
    """Keys: make, rotate, retire, destroy."""


@keys.command()
@click.argument("path", type=PATH)
def new(path: Path) -> None:
    """Make a new keyring at PATH."""
    keyfile.create(path)
    click.echo(f"new keyring in {path}: keep a copy where only keys are kept; without it nothing opens again")


@keys.command()
@click.argument("ring", type=RING)
@click.argument("path", type=PATH)
def add(ring: str, path: Path) -> None:
    """Add a generation of RING to the keyring at PATH; it is used once `todoke keys use` says so."""
    keyring, name = keyfile.add(keyfile.read(path), ring)
    keyfile.rewrite(path, keyring)
    click.echo(
        f"{ring}.{name} added: back the keyring up, give it to every process, then `todoke keys use {ring} {name}`"
    )


@keys.command()
@click.argument("ring", type=RING)
@click.argument("name")
@click.argument("path", type=PATH)
def use(ring: str, name: str, path: Path) -> None:
    """Make NAME, which every process has, the current generation of RING in the keyring at PATH."""
    keyfile.rewrite(path, keyfile.use(keyfile.read(path), ring, name))
    after = "rows and letters are sealed under it from then on" if ring == "log" else "then `todoke keys rewrap`"
    click.echo(f"{ring}.{name} is current: give the keyring to every process; {after}")


@keys.command()
@click.argument("ring", type=RING)
@click.argument("name")
@click.argument("path", type=PATH)
def remove(ring: str, name: str, path: Path) -> None:
    """Take NAME, which is retired, out of the keyring at PATH: it is gone for good with the last copy."""
    keyfile.rewrite(path, keyfile.remove(keyfile.read(path), ring, name))
    click.echo(f"{ring}.{name} removed: destroy the copies of it in backups of the keyring, too")


@keys.command()
@click.argument("path", type=PATH)
@click.argument("target", type=PATH)
@click.option("--kms-key", required=True, help="Id, ARN or alias of a symmetric key of AWS KMS.")
def seal(path: Path, target: Path, kms_key: str) -> None:
    """Seal the keyring at PATH under a key of AWS KMS, into TARGET, for `keys = "aws-kms:TARGET"`."""
    from . import kms

    text = kms.sealed(keyfile.read(path), kms_key, settings.load().namespace)
    target.write_text(text)
    click.echo(
        f"sealed into {target}: try it with `todoke keys status`, then put the plain file where only keys are kept"
    )


@keys.command("rewrap")
@click.option("--rate", default=500, show_default=True, type=click.IntRange(1), help="Subjects a second at most.")
def rewrap_command(rate: int) -> None:
    """Take every subject to the current wrapping and alias keys. May be stopped and run again: it does what is left."""
    with _opened() as (made, topics):
        keychecks.establish(made.tools, topics)
        last = rewrap.run(made.tools, topics, rate, lambda each: click.echo(_progress(each), err=True))
        click.echo(f"{last.done} of {last.found} subjects renewed; see `todoke keys status`")
        if last.failed:
            raise Misconfigured(f"keys: {last.failed} subjects could not be opened, and are left as they were")


@keys.command()
@click.option("--rows", is_flag=True, help="Read the provision log and the dead letters, too.")
def status(*, rows: bool) -> None:
    """Whether anything still needs each generation: subjects, and with --rows sealed rows and letters."""
    with _opened() as (made, topics):
        found = rewrap.needed(made.tools, topics)
        sealed = rewrap.sealed(topics) if rows else None
        table = Table("key", "state", "needed by", "", box=None)
        for row in _rows(made.tools.keyring, found.by, sealed):
            table.add_row(*row)
        console.print(table)
        click.echo(f"{found.subjects} subjects")


@keys.command()
@click.argument("ring", type=RING)
@click.argument("name")
@click.option("--lost", is_flag=True, help="Although something needs it: the key is lost, and what it opens with it.")
def retire(ring: str, name: str, *, lost: bool) -> None:
    """Note that nothing needs NAME of RING any more, so that a keyring without it is accepted."""
    with _opened() as (made, topics):
        full, keyring = f"{ring}.{name}", made.tools.keyring
        if name == getattr(keyring, ring).current:
            raise Misconfigured(f"keys: {full} is the current one: `todoke keys add` and `use` another first")
        count = 0
        if not lost:
            found = rewrap.sealed(topics) if ring == "log" else rewrap.needed(made.tools, topics).by
            count = found.get(full, 0)
        if count:
            raise Misconfigured(
                f"keys: {full} is needed by {count}: run `todoke keys rewrap`, or wait for the rows to go"
            )
        keychecks.retire(made.tools, topics, full)
        click.echo(f"{full} is retired: `todoke keys remove {ring} {name} PATH`, and give the keyring to every process")


@keys.command("destruction")
def destruction_command() -> None:
    """The longest time until nothing of a shredded person can be opened, from what cluster and view have set."""
    with _opened() as (made, _):
        loaded = made.settings
        admin = AdminClient({"bootstrap.servers": loaded.kafka.bootstrap, **loaded.kafka.client})
        names = {name: loaded.namespace + name for name in (*destruction.OPENED, *destruction.INTAKE)}
        there = observe(admin, names.values())
        configs = {name: there[full].config for name, full in names.items() if full in there}
        copies = [*destruction.topics(configs, loaded.worker.pulse_ms), destruction.view(made.tools.view.client)]
        table = Table("where", "opened by", "gone", "because", box=None)
        for each in copies:
            table.add_row(each.where, each.opened_by, destruction.said(each.gone_after), each.because)
        console.print(table)
        in_topics = copies[:-1]
        click.echo(
            f"topics, without the log keys: {destruction.said(destruction.longest(in_topics, without_log=True))}"
        )
        click.echo(f"topics, with the log keys: {destruction.said(destruction.longest(in_topics, without_log=False))}")
        click.echo("T is the shredding; backups of any of these last as long as you keep them")


@keys.command()
@click.argument("file", type=click.File("wb"))
def shredded(file: "click.utils.LazyFile") -> None:
    """Write into FILE what has been shredded, without names: kept apart from backups, it outlives them."""
    with _opened() as (made, topics):
        found = list(rewrap.marks(made.tools, topics))
        file.writelines(msgspec.json.encode(each) + b"\n" for each in found)
        click.echo(f"{len(found)} subjects", err=True)


@keys.command()
@click.argument("file", type=click.File("rb"))
def reshred(file: "click.utils.LazyFile") -> None:
    """Shred again what FILE, written by `todoke keys shredded`, names: after a restore from an older backup."""
    decoder = msgspec.json.Decoder(SubjectRecord)
    try:
        found = [decoder.decode(line) for line in file]
    except msgspec.MsgspecError:
        raise Misconfigured("FILE: expected what `todoke keys shredded` writes") from None
    with _opened() as (made, topics):
        keychecks.establish(made.tools, topics)
        changed = rewrap.shred_again(made.tools, found)
        click.echo(f"{changed} of {len(found)} subjects had come back, and are shredded again")


def _rows(keyring: Keyring, subjects: dict[str, int], sealed: dict[str, int] | None) -> Iterator[tuple[str, ...]]:
    yield "reference", "for ever", "everybody", ""
    counts = subjects | (sealed or {})
    held = {f"{ring}.{name}": each for ring, each in keyring.rings() for name in each.keys}
    for full in sorted(held.keys() | counts.keys(), key=lambda each: (each.partition(".")[0], by_number(each))):
        ring, _, name = full.partition(".")
        if name == "?":
            yield full, "not named", str(counts[full]), "`todoke keys rewrap`" if ring == "alias" else ""
        elif full not in held:
            yield full, "MISSING", str(counts[full]), "bring it back from the backup of the keys"
        elif ring == "log" and sealed is None:
            yield full, "current" if name == held[full].current else "old", "?", "ask with --rows"
        elif name == held[full].current:
            yield full, "current", str(counts.get(full, 0)), ""
        else:
            free = full not in counts
            newer = by_number(name) > by_number(held[full].current)
            todo = f"`todoke keys retire {ring} {name}`" if free else "`todoke keys rewrap`" if ring != "log" else ""
            yield full, "waiting" if newer else "old", str(counts.get(full, 0)), "" if newer else todo


def _progress(each: rewrap.Progress) -> str:
    return f"partition {each.partition} of {each.partitions}: {each.done} of {each.found} renewed, {each.failed} failed"
