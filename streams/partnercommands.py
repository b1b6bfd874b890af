"""`todoke partners`: who they are, and whether each could be told now."""

import asyncio
import os
import sys
from collections.abc import Iterable

import click
import redis
from rich.table import Table

from todoke.schemas.errors import Misconfigured, NotCurrent, TodokeError
from todoke.schemas.partners import Partner

from . import build, settings
from .partnerchecks import Coverage, Finding, coverage, covered, examine, limits
from .terminal import console, opened
from .worklist import partners_worklist

MOST = 100_000


@click.group("partners")
def partners_group() -> None:
    """Partners of the registry."""


@partners_group.command("list")
def partners_list() -> None:
    """Who they are, what they are told, and what counts as done."""
    table = Table("partner", "role", "basis", "connector", "accounts and scopes", "identifiers", "done", box=None)
    for each in build.rules(settings.load()).registry.partners:
        accounts = "; ".join(f"{account.name}: {', '.join(account.scopes)}" for account in each.accounts)
        kinds = ", ".join(each.identifiers)
        table.add_row(each.name, each.role, each.legal_basis, each.connector, accounts, kinds, each.done)
    console.print(table)


@partners_group.command("check")
@click.argument("names", nargs=-1, metavar="[PARTNER]...")
@click.option("--offline", is_flag=True, help="Only hold policy and partners against the rules; ask nobody.")
@click.option("--most", default=MOST, show_default=True, help="Count identifiers of so many people at most.")
def partners_check(names: tuple[str, ...], most: int, *, offline: bool) -> None:
    """Hold policy and partners against the rules, then try each partner: secrets, hosts, reachability, credentials, limits,
    and how many known people it could be told of. Tells partners of nobody. Ends with 1 when something is wrong.
    """
    found = build.rules(settings.load())
    count = len(found.registry.partners)
    click.echo(f"policy {found.policy.name} revision {found.policy.revision}, {count} partners: no problem found")
    if offline:
        return
    partners = chosen(found.registry.partners, names)
    results = asyncio.run(_examined(partners))
    known = _coverage(partners, most)
    table = Table("partner", "what", "state", "found", box=None)
    wrong = False
    for partner, findings in zip(partners, results, strict=True):
        last = known if isinstance(known, Finding) else covered(known, partner)
        for each in (*findings, limits(partner), last):
            wrong = wrong or each.state == "wrong"
            table.add_row(partner.name, each.what, each.state, each.text)
    console.print(table)
    sys.exit(1 if wrong else 0)


def chosen(partners: Iterable[Partner], names: Iterable[str]) -> list[Partner]:
    """Those named, or all. Raises `Misconfigured` for a name that none of them has."""
    by_name = {each.name: each for each in partners}
    unknown = sorted(set(names) - by_name.keys())
    if unknown:
        raise Misconfigured(f"{', '.join(unknown)}: no such partner: use one of {', '.join(by_name)}")
    return [each for name, each in by_name.items() if not names or name in names]


partners_group.add_command(partners_worklist)


async def _examined(partners: Iterable[Partner]) -> list[list[Finding]]:
    return await asyncio.gather(*(examine(each, os.environ, build.clock) for each in partners))


def _coverage(partners: list[Partner], most: int) -> Coverage | Finding:
    """What the view says, or why it says nothing."""
    try:
        with opened() as made:
            return coverage(made.tools.view, partners, most)
    except NotCurrent as error:
        return Finding("identifiers", "unknown", str(error))
    except (TodokeError, redis.ConnectionError, redis.TimeoutError) as error:
        text = str(error) if isinstance(error, TodokeError) else "redis.url: no answer"
        return Finding("identifiers", "unknown", text)
