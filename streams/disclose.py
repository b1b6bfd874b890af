"""`todoke disclose`: what a person is owed of the records about them, with a receipt for each, into a folder."""

import os
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Protocol, get_args
from uuid import uuid4

import click
import msgspec
from msgspec import Struct

from todoke.processors.disclosure import DECISIONS, Disclosure, Language, as_csv, as_json, disclose
from todoke.processors.keys import subject_ref
from todoke.processors.provision import day_of
from todoke.schemas.errors import Misconfigured
from todoke.schemas.policy import Label, Policy
from todoke.schemas.recordkeeping import Reader, RecordRules
from todoke.schemas.records import Face, Record

from . import build, shards, story
from .kin import person
from .reading import Journal, Look, noted, reading
from .settings import Settings
from .terminal import opened

FORMATS = ("json", "csv", "pdf")
RECEIPTS = "receipts"
OWN: frozenset[Face] = frozenset({"head", "disclosable"})
WHOLE: frozenset[Face] = OWN | {"internal"}


class Found(Struct, frozen=True):
    """A record, and the receipt that proves it (JSON): `proof` makes it with these faces shown."""

    record: Record
    proof: bytes

    def __repr__(self) -> str:
        """Its name alone."""
        return f"Found({self.record.record_id})"


class Keeper(Protocol):
    """Who keeps records."""

    def of(self, subject_refs: Sequence[str], faces: frozenset[Face]) -> Iterable[Found]:
        """Every record of these subjects, with a receipt that shows these faces. Raises `Unproved` where there is none yet."""
        ...


class Vaults(Struct, frozen=True):
    """The vaults of all shards, read beside the processes that write them."""

    made: build.Parts

    def of(self, subject_refs: Sequence[str], faces: frozenset[Face]) -> Iterable[Found]:
        """See `Keeper`."""
        loaded = self.made.settings
        for shard in range(loaded.ledger.shards):
            vault = shards.vault(loaded, self.made.tools.keyring, shard, reading=True)
            try:
                for ref in subject_refs:
                    for kept in vault.of(ref):
                        receipt = shards.receipt(loaded, shard, vault, kept, faces)
                        yield Found(kept.record, msgspec.json.encode(receipt))
            finally:
                vault.close()


class Wanted(Struct, frozen=True):
    """What is wanted: for whom, on which day (JST, ISO), in which forms, and decisions by record id."""

    reader: Reader
    partner: str
    day: str
    formats: tuple[str, ...]
    language: Language
    withheld: dict[str, str]


@click.command("disclose")
@click.argument("subject")
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder, made anew."
)
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), default=("json",), show_default=True)
@click.option("--language", type=click.Choice(get_args(Language)), default="ja", show_default=True)
@click.option(
    "--reader", type=click.Choice(get_args(Reader)), default="subject", show_default=True, help="An agent is a subject."
)
@click.option("--partner", default="", help="Which partner reads; its own records alone.")
@click.option("--withhold", multiple=True, help="RECORD=GROUND: a record that may not be disclosed, and why.")
@reading
def disclosing(  # noqa: PLR0913, PLR0917  # one parameter an option: click's way
    subject: str,
    folder: Path,
    formats: tuple[str, ...],
    language: Language,
    reader: Reader,
    partner: str,
    withhold: tuple[str, ...],
    look: Look,
) -> None:
    """Disclose the records of provision about SUBJECT (APPI Art. 33(5)), each with a receipt of the log."""
    with opened() as made:
        operator = made.settings.operator
        if not operator.name or not operator.contact:
            raise Misconfigured("operator: name or contact is missing: say who answers, and whom to write to")
        if (reader == "partner") != bool(partner):
            raise Misconfigured("--partner: goes with --reader partner: name the partner that reads")
        day = day_of(made.tools.now())
        wanted = Wanted(reader, partner, day, formats, language, _decisions(withhold))
        name = subject_ref(made.tools.keyring, subject)
        refs = story.refs(person(made.tools.view, name), name)
        rules = shards.recorder(made.settings).rules
        shown, files = prepared(Vaults(made), refs, rules, wanted, (made.settings, made.tools.rules.policy))
        noted(Journal.of(made.tools), refs, look)
        written(folder, files)
        click.echo(f"{len(shown.lines)} records disclosed into {folder}, with {len(files) - len(formats)} receipts")
        for left in shown.left_out:
            click.echo(f"left out: {left.count} {left.what}: {left.label.en} ({left.law})")


def prepared(
    keeper: Keeper, refs: Sequence[str], rules: RecordRules, wanted: Wanted, who: tuple[Settings, Policy]
) -> tuple[Disclosure, dict[str, bytes]]:
    """The disclosure, and the files that it is: no file's name says whose they are."""
    settings, policy = who
    date.fromisoformat(wanted.day)
    found = list(keeper.of(refs, WHOLE if wanted.reader in {"auditor", "commission", "desk"} else OWN))
    records = [each.record for each in found if not each.record.expires or each.record.expires > wanted.day]
    shown = disclose(
        records, rules, wanted.reader, wanted.day, partner=wanted.partner, withheld=wanted.withheld
    )  # fmt: skip
    number = f"{wanted.day.replace('-', '')}-{uuid4().hex[:8]}"
    ids = {each.record_id for each in shown.lines}
    files = {f"{RECEIPTS}/{each.record.record_id}.json": each.proof for each in found if each.record.record_id in ids}
    for name in wanted.formats:
        files[f"disclosure-{number}.{name}"] = _formed(name, shown, number, wanted.language, settings, policy)
    return shown, files


def _formed(name: str, shown: Disclosure, number: str, language: Language, settings: Settings, policy: Policy) -> bytes:
    operator = settings.operator
    if name == "json":
        about = {"number": number, "operator": operator.name, "address": operator.address, "contact": operator.contact}
        return as_json(shown, about)
    if name == "csv":
        return as_csv(shown, language)
    try:
        from .disclosurepdf import Letterhead, as_pdf
    except ImportError:
        raise Misconfigured("--format pdf: its library is missing: install todoke[pdf]") from None
    head = Letterhead(operator.name, operator.address, operator.representative, operator.contact, operator.font)
    names: dict[str, Label] = {each.name: each.label for each in policy.items}
    names |= {each.name: each.label for each in policy.purposes}
    return as_pdf(shown, head, number, language, names)


def written(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files into a folder that isn't there yet, for their owner alone."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Misconfigured(f"--to: {folder} is there already: name a new folder") from None
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)


def _decisions(given: Sequence[str]) -> dict[str, str]:
    pairs = dict(each.partition("=")[::2] for each in given)
    if wrong := set(pairs.values()) - set(DECISIONS):
        raise Misconfigured(
            f"--withhold: {', '.join(sorted(wrong)) or 'no ground'}: use RECORD=GROUND, of {', '.join(DECISIONS)}"
        )
    return pairs
