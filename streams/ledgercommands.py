"""The commands about the ledger: `todoke ledger …`."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import click
import msgspec
from rich.table import Table

from todoke.processors.checkpoint import ED25519, ML_DSA_44, Signer, dump_signer
from todoke.processors.keys import Keyring, subject_ref
from todoke.processors.provision import gaps as missing
from todoke.schemas.errors import Misconfigured
from todoke.schemas.records import FACES, Face
from todoke.sinks.vault.vault import Listed, Vault

from . import build, providers, settings, shards
from .ledger import run as running
from .reading import Journal, Look, noted, reading
from .recording import HOLD, RELEASE
from .terminal import console

SEED_BYTES = 32
OPERATOR = "operator"


@click.group()
def ledger() -> None:
    """The provision log: records, kept and proved."""


@ledger.command()
@click.option("--shard", default=0, show_default=True, help="Which part of provision-log's partitions, counted from 0.")
def run(shard: int) -> None:
    """Run the ledger of one shard."""
    loaded = settings.load()
    keyring = providers.load(loaded.keys, loaded.namespace)
    opened = shards.ledger(loaded, keyring, shard)

    asyncio.run(
        running(
            opened, lambda metrics: shards.runner(loaded, opened, shard, keyring, metrics), loaded.host, loaded.port
        )
    )


@ledger.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--ml-dsa", is_flag=True, help="Beside each key of Ed25519 another of ML-DSA-44.")
def key(path: Path, *, ml_dsa: bool) -> None:
    """Make the private keys of every shard's log at PATH, and print the public ones."""
    loaded = settings.load()
    kinds = (ED25519, ML_DSA_44) if ml_dsa else (ED25519,)
    names = [shards.origin(loaded, each) for each in range(loaded.ledger.shards)]
    made = [Signer(name, os.urandom(SEED_BYTES), kind) for name in names for kind in kinds]
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(f"{path}: it is there already, and its keys sign logs: choose another path") from None
    with os.fdopen(handle, "w") as file:
        file.writelines(f"{dump_signer(each)}\n" for each in made)
    for each in made:
        click.echo(each.verifier().dump())


@ledger.command()
def status() -> None:
    """What each shard holds, while it runs or not."""
    table = Table("shard", "log", "entries kept", "keys of", "offsets by partition")
    loaded, keyring = _loaded()
    for shard in range(loaded.ledger.shards):
        with _reading(loaded, keyring, shard) as vault:
            reached = ", ".join(f"{place[1]}: {offset}" for place, offset in sorted(vault.offsets().items()))
            table.add_row(
                str(shard), shards.origin(loaded, shard), str(vault.next_leaf), _some(vault.months()), reached
            )
    console.print(table)


@ledger.command()
@click.option("--subject", help="Upstream's id of one person; without it, everybody's records are looked at.")
def gaps(subject: str | None) -> None:
    """List numbers that are missing among the rows of a source and a subject. Ends with 1 where there are any."""
    loaded, keyring = _loaded()
    ref = subject_ref(keyring, subject) if subject else ""
    found = people = 0
    for shard in range(loaded.ledger.shards):
        with _reading(loaded, keyring, shard) as vault:
            for theirs in [vault.listed(ref)] if ref else vault.every():
                people += bool(theirs)
                for source, numbers in missing((each.source, each.number) for each in theirs).items():
                    found += len(numbers)
                    click.echo(f"{_near(theirs, source)}: {source} lacks {_some(map(str, numbers))}")
    click.echo(f"{found} numbers missing, of {people} people")
    raise SystemExit(1 if found else 0)


@ledger.command()
@click.argument("record_id")
@click.option(
    "--show", "faces", multiple=True, type=click.Choice(FACES), default=("head", "disclosable"), show_default=True
)
@reading
def receipt(record_id: str, faces: tuple[Face, ...], look: Look) -> None:
    """Print the receipt of a record: the faces shown, and the proof that the log holds it. `todoke log verify` checks it."""
    loaded, keyring = _loaded()
    for shard in range(loaded.ledger.shards):
        with _reading(loaded, keyring, shard) as vault:
            found = vault.find(record_id)
            if found:
                made = shards.receipt(loaded, shard, vault, found, frozenset(faces))
                with _journal(loaded, keyring) as journal:
                    noted(journal, [found.record.subject_ref], look)
                click.echo(msgspec.json.encode(made))
                return
    raise Misconfigured(f"{record_id}: no shard keeps a record of that id: it was erased, or is still to come")


@ledger.command()
@click.argument("subject")
@click.option("--by", required=True, help="Who decides.")
@click.option("--ground", required=True, help="Why; no name of the person.")
def hold(subject: str, by: str, ground: str) -> None:
    """Keep every record of SUBJECT, those to come included, beyond its date, until it is released."""
    _order(HOLD, subject, by, ground)


@ledger.command()
@click.argument("subject")
@click.option("--by", required=True, help="Who decides.")
@click.option("--ground", required=True, help="Why; no name of the person.")
def release(subject: str, by: str, ground: str) -> None:
    """End a hold: records go when their date, or this month, is over."""
    _order(RELEASE, subject, by, ground)


def _order(kind: str, subject: str, by: str, ground: str) -> None:
    """Have the ledger do something: the row that says so is itself kept."""
    loaded, keyring = _loaded()
    ref, name = subject_ref(keyring, subject), str(uuid4())
    payload = msgspec.json.encode({"by": by, "ground": ground})
    with _journal(loaded, keyring) as journal:
        journal.outbox.send([journal.letter(kind, ref, (OPERATOR, name), payload, name)])
    click.echo(f"{kind} {name} is durable; the ledger acts on it when it reads it")


@contextmanager
def _journal(loaded: settings.Settings, keyring: Keyring) -> Iterator[Journal]:
    sending = build.outbox(loaded)
    try:
        topic = loaded.namespace + shards.ROWS
        yield Journal(sending, build.codec(loaded, ()), keyring, topic, build.clock, os.urandom)
    finally:
        sending.close()


def _loaded() -> tuple[settings.Settings, Keyring]:
    loaded = settings.load()
    return loaded, providers.load(loaded.keys, loaded.namespace)


@contextmanager
def _reading(loaded: settings.Settings, keyring: Keyring, shard: int) -> Iterator[Vault]:
    found = shards.vault(loaded, keyring, shard, reading=True)
    try:
        yield found
    finally:
        found.close()


def _some(names: Iterable[str], most: int = 8) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _near(theirs: list[Listed], source: str) -> str:
    """A record beside the gap, by which a person can be found who is allowed to."""
    return next(each.record_id for each in theirs if each.source == source)
