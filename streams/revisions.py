"""Revisions of the policy and of the partners, as the `registry` topic holds them (correctness, 20).

A revision is published once, before the processes that know it start; its number never comes again with another text.
Whoever starts with an older text than the newest refuses to, so nobody decides by rules that were replaced.
"""

import tomllib
from collections.abc import Iterator, Mapping

import click
from msgspec import Struct
from rich.table import Table

from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Rules
from todoke.schemas.registry import RegistryRevision, RuleKind

from . import build
from .build import Parts
from .outbox import Letter
from .patrol import DONE, progress
from .settings import Settings, load
from .snapshot import Topics
from .story import clock
from .terminal import console, opened


class Text(Struct, frozen=True):
    """One text of this process: its number and where it stands."""

    revision: int
    toml: str
    where: str


Newest = Mapping[RuleKind, RegistryRevision]


def mine(settings: Settings) -> dict[RuleKind, Text]:
    """What a process with these settings decides by."""
    rules = build.rules(settings)
    numbers: dict[RuleKind, int] = {"policy": rules.policy.revision, "partners": rules.registry.revision}
    return {kind: Text(numbers[kind], *named) for kind, named in build.texts(settings).items()}


def newest(settings: Settings, codec: Codec) -> Newest:
    """The newest revision of each kind that was published."""
    found: dict[RuleKind, RegistryRevision] = {}
    for each in Topics(settings, codec).latest("registry", RegistryRevision).values():
        if each.kind not in found or each.revision > found[each.kind].revision:
            found[each.kind] = each
    return found


def require(made: Parts) -> None:
    """Raise `Misconfigured` unless this process knows the newest revision of each kind, where any was published."""
    in_force = newest(made.settings, made.tools.codec)
    for kind, text in mine(made.settings).items():
        published = in_force.get(kind)
        if published is None:
            continue
        _unchanged(kind, text, published)
        if text.revision > published.revision:
            raise Misconfigured(
                f"{text.where}: revision {text.revision} is not published: run `todoke registry publish`"
            )


def unpublished(settings: Settings, in_force: Newest, at: int) -> dict[RuleKind, RegistryRevision]:
    """What there is to publish. Raises `Misconfigured` for a number that went back, or came again with another text."""
    found: dict[RuleKind, RegistryRevision] = {}
    for kind, text in mine(settings).items():
        before = in_force.get(kind)
        if before is not None:
            _unchanged(kind, text, before)
        if before is None or text.revision > before.revision:
            found[kind] = RegistryRevision(kind=kind, revision=text.revision, effective_at=at, toml=text.toml)
    return found


def publish(settings: Settings, codec: Codec, *, dry_run: bool = False) -> list[str]:
    """Publish what there is to publish, durably, and say what it changes. `dry_run` only says."""
    in_force = newest(settings, codec)
    found = unpublished(settings, in_force, build.clock())
    outbox = build.outbox(settings)
    try:
        topic = f"{settings.namespace}registry"
        outbox.send([Letter(topic, each.key, codec.encode(each)) for each in found.values() if not dry_run])
    finally:
        outbox.close()
    return [
        f"{kind} {each.revision}: {line}" for kind, each in found.items() for line in changes(in_force.get(kind), each)
    ]


def _unchanged(kind: RuleKind, text: Text, published: RegistryRevision) -> None:
    number = published.revision
    if text.revision < number:
        fix = f"deploy the {kind} of revision {number}; to go back to an older text, give it a new number"
        raise Misconfigured(f"{text.where}: revision {text.revision}, but {number} is in force: {fix}")
    if text.revision == number and text.toml != published.toml:
        raise Misconfigured(f"{text.where}: revision {number} was published with another text: raise `revision`")


def changes(before: RegistryRevision | None, revision: RegistryRevision) -> Iterator[str]:
    """What a revision changes, by name."""
    if before is None:
        yield "the first to be published"
        return
    old, new = _names(before.toml, revision.kind), _names(revision.toml, revision.kind)
    for what, names in new.items():
        held = old.get(what, {})
        yield from (f"{what} {name}: added" for name in names if name not in held)
        yield from (f"{what} {name}: changed" for name in names if name in held and held[name] != names[name])
        yield from (f"{what} {name}: removed" for name in held if name not in names)


def _names(text: str, kind: RuleKind) -> dict[str, dict[str, object]]:
    """The named tables of a text; read as plain TOML, since an older text need not be valid any more."""
    tree = tomllib.loads(text)
    wanted = ("partner",) if kind == "partners" else ("regime", "version", "purpose", "channel", "role")
    return {what: {str(each.get("name")): each for each in tree.get(what, [])} for what in wanted}


def rules_page(made: Parts) -> Table:
    """What is in force, what this process knows, and how far the sweep is."""
    table = Table("rules", "published", "since (UTC)", "here", box=None)
    published = newest(made.settings, made.tools.codec)
    for kind, text in mine(made.settings).items():
        each = published.get(kind)
        row = (str(each.revision), clock(each.effective_at)) if each else ("-", "-")
        table.add_row(kind, *row, str(text.revision))
    marks = progress(made.tools, range(made.settings.kafka.partitions))
    done = sum(_swept(made.tools.rules, mark.revision, mark.stage) for _, mark in marks)
    table.add_row("sweep", f"{done} of {len(marks)} partitions", "", str(made.tools.rules.revision))
    return table


def _swept(rules: Rules, revision: int, stage: str) -> bool:
    return revision > rules.revision or (revision == rules.revision and stage == DONE)


@click.group("registry")
def registry_group() -> None:
    """Revisions of the policy and of the partners."""


@registry_group.command("publish")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def registry_publish(*, dry_run: bool) -> None:
    """Publish the policy and the partners at hand as revisions, before the processes that know them start."""
    loaded = load()
    codec = build.codec(loaded, [partner.name for partner in build.rules(loaded).registry.partners])
    said = publish(loaded, codec, dry_run=dry_run)
    for line in said:
        click.echo(line)
    if not said:
        click.echo("nothing to publish: what is in force is what is here")
    elif dry_run:
        click.echo("not published: --dry-run")
    else:
        click.echo("published; workers that start with it sweep every subject, restrictions first")


@registry_group.command("status")
def registry_status() -> None:
    """What is in force, what is here, and how far the sweep is."""
    with opened() as made:
        console.print(rules_page(made))
