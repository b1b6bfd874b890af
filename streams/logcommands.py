"""The commands about a log as an outsider has it: `todoke log …`. None of them needs settings, keys or servers of ours."""

from collections.abc import Sequence
from pathlib import Path

import click
from aiohttp import web

from todoke.processors.audit import check_receipt, verify
from todoke.processors.checkpoint import Verifier, opened, parse_checkpoint, parse_note, verifier
from todoke.processors.tiles import CHECKPOINT
from todoke.schemas.errors import Misconfigured, Unproved

from . import logfiles

KEY = click.option(
    "--key", "keys", multiple=True, required=True, help="A public key, name+id+base64, or a file of them. Repeatable."
)
ORIGIN = click.option("--origin", help="The log's name; that of the first key where it is not given.")


@click.group()
def log() -> None:
    """A log, as anybody can check it."""


@log.command("verify")
@click.argument("place", required=False)
@KEY
@ORIGIN
@click.option("--since", type=click.Path(dir_okay=False, path_type=Path), help="A checkpoint that was verified before.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the checkpoint here for next time.")
@click.option(
    "--receipt", type=click.Path(dir_okay=False, path_type=Path), help="Check one receipt; PLACE is not read."
)
def verifying(
    place: str | None,
    keys: Sequence[str],
    origin: str | None,
    since: Path | None,
    save: Path | None,
    receipt: Path | None,
) -> None:
    """Verify the log at PLACE, a URL or a folder, or a receipt. Ends with 1 at the first thing that is wrong, and names it."""
    known = _keys(keys)
    name = origin or known[0].name
    if receipt:
        found = check_receipt(_read(receipt), known, name)
        faces, hidden = ", ".join(found.values), ", ".join(found.withheld) or "nothing"
        click.echo(f"proved: record {found.values.get('head', {}).get('record_id', 'of this receipt')} ({faces})")
        click.echo(f"entry {found.index} of {name}, place {found.place} of {found.size}; withheld: {hidden}")
        return
    if place is None:
        raise Misconfigured("PLACE: name the log's URL or folder, or give --receipt")
    earlier = opened(_read(since), known, name) if since else None
    with logfiles.opened(place) as read:
        found_log = verify(read, known, name, earlier)
        click.echo(f"whole: {name}, {found_log.checkpoint.size} entries, root {found_log.checkpoint.root.hex()}")
        click.echo(
            f"read {found_log.entries} entries of {found_log.records} records and {found_log.erasures} erasures"
            + (f", after the {earlier.size} that were verified before" if earlier else "")
        )
        if save:
            data = read(CHECKPOINT) or b""
            if parse_checkpoint(parse_note(data).text) == found_log.checkpoint:
                save.write_bytes(data)
            else:
                click.echo("not saved: the log has grown meanwhile; verify again", err=True)


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
        text = each if "+" in each and not path.is_file() else _read(path).decode()
        found += [verifier(line) for line in text.splitlines() if line.strip()]
    if not found:
        raise Misconfigured("--key: no key in it: give name+id+base64, or a file with a key in each line")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unproved(f"{path}: {error.strerror}") from None
