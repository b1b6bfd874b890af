"""The commands about a log as an outsider has it: `todoke log …`. None of them needs settings, keys or servers of ours."""

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path

import click
from aiohttp import web
from msgspec import Struct

from todoke.processors.audit import check_receipt, verify
from todoke.processors.checkpoint import Verifier, opened, parse_checkpoint, parse_note, verifier
from todoke.processors.merkle import leaf_hash
from todoke.processors.tiles import CHECKPOINT
from todoke.processors.tlogproof import HEADER, check, parse, prove
from todoke.schemas.errors import Misconfigured

from . import logfiles

FILE = click.Path(dir_okay=False, path_type=Path)
UNJUDGED = 2


class Trust(Struct, frozen=True):
    """Whose word counts, and of which log."""

    keys: list[Verifier]
    origin: str


class Judging(click.Group):
    """Ends with 1 where something is wrong, and with 2 where nothing could be said: no key, no answer, a wrong option."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Misconfigured as error:
            found = click.ClickException(str(error))
            found.exit_code = UNJUDGED
            raise found from None


def trusting(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options --key and --origin, as one value, `trust`."""

    @click.option(
        "--key", "keys", multiple=True, required=True, help="A public key, or a file of them. May be repeated."
    )
    @click.option("--origin", help="The log's name; that of the first key where it is not given.")
    @wraps(command)
    def with_trust(keys: Sequence[str], origin: str | None, **options: object) -> None:
        known = _keys(keys)
        command(trust=Trust(known, origin or known[0].name), **options)

    return with_trust


@click.group(cls=Judging)
def log() -> None:
    """A log, as anybody can check it."""


@log.command("verify")
@click.argument("place", required=False)
@trusting
@click.option("--since", type=FILE, help="A checkpoint that was verified before.")
@click.option("--save", type=FILE, help="Keep the checkpoint here for next time.")
@click.option("--receipt", type=FILE, help="Check one receipt or .tlog-proof; PLACE is not read.")
@click.option("--minimum", default=0, show_default=True, help="The log's published minimum index, if it is pruned.")
def verifying(
    place: str | None, trust: Trust, since: Path | None, save: Path | None, receipt: Path | None, minimum: int
) -> None:
    """Verify the log at PLACE, a URL or a folder, or a receipt. Ends with 1 at the first thing that is wrong, and names it;
    with 2 where nothing can be said.
    """
    if receipt:
        for line in _judged(_read(receipt), trust):
            click.echo(line)
        return
    if place is None:
        raise Misconfigured("PLACE: name the log's URL or folder, or give --receipt")
    earlier = opened(_read(since), trust.keys, trust.origin) if since else None
    with logfiles.opened(place) as read:
        found = verify(read, trust.keys, trust.origin, earlier, minimum=minimum)
        click.echo(f"whole: {trust.origin}, {found.checkpoint.size} entries, root {found.checkpoint.root.hex()}")
        before = found.checkpoint.size - found.entries
        unread = f", after the {before} that were verified before" if earlier else f", after {before} that may be gone"
        click.echo(
            f"read {found.entries} entries of {found.records} records and {found.erasures} erasures"
            + (unread if before else "")
        )
        if save:
            data = read(CHECKPOINT) or b""
            if parse_checkpoint(parse_note(data).text) == found.checkpoint:
                save.write_bytes(data)
            else:
                click.echo("not saved: the log has grown meanwhile; verify again", err=True)


@log.command("prove")
@click.argument("place")
@click.argument("index", type=click.IntRange(0))
@trusting
def proving(place: str, index: int, trust: Trust) -> None:
    """Print the proof (C2SP tlog-proof) that the log at PLACE has the entry INDEX; the entry is its extra data.

    A record's own receipt is printed by `todoke ledger receipt`.
    """
    with logfiles.opened(place) as read:
        click.echo(prove(read, trust.keys, trust.origin, index).dump(), nl=False)


def _judged(data: bytes, trust: Trust) -> Iterator[str]:
    """What a receipt, or a proof with its entry as extra data, proves."""
    if data.startswith(HEADER.encode()):
        entry = parse(data).extra
        if entry is None:
            raise Misconfigured(
                "proof: it doesn't bring its entry as extra data, so there is nothing to hold it against"
            )
        proof, checkpoint = check(data, leaf_hash(entry), trust.keys, trust.origin)
        yield f"proved: entry {proof.index} of {trust.origin}, among {checkpoint.size}"
        yield entry.decode(errors="backslashreplace")
        return
    found = check_receipt(data, trust.keys, trust.origin)
    faces, hidden = ", ".join(found.values), ", ".join(found.withheld) or "nothing"
    yield f"proved: record {found.values.get('head', {}).get('record_id', 'of this receipt')} ({faces})"
    yield f"entry {found.index} of {trust.origin}, place {found.place} of {found.size}; withheld: {hidden}"


@log.command("serve")
@click.argument("place", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8460, show_default=True)
def serving(place: Path, host: str, port: int) -> None:
    """Serve the log in the folder PLACE over HTTP, read-only, as C2SP tlog-tiles has it."""
    web.run_app(logfiles.served(place), host=host, port=port, access_log=None, print=click.echo)


def _keys(given: Sequence[str]) -> list[Verifier]:
    found = []
    for each in given:
        path = Path(each)
        text = each if "+" in each and not path.is_file() else _read(path).decode(errors="replace")
        found += [verifier(line) for line in text.splitlines() if line.strip()]
    if not found:
        raise Misconfigured("--key: no key in it: give name+id+base64, or a file with a key in each line")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from None
