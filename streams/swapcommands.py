"""`todoke swaps`: lists that are swapped whole, and a person's word about one that waits for it."""

import click
import msgspec
from rich.table import Table

from todoke.processors.keys import seal_for_log
from todoke.processors.swaps import AUDIENCES, begun_at, standing_rows, under_way
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import LogRow
from todoke.schemas.partners import Partner
from todoke.schemas.told import Told
from todoke.sinks.connectors import CONNECTORS
from todoke.sinks.swaps import SwapConfig

from .audiences import Audiences
from .outbox import Letter
from .story import clock
from .terminal import console, opened
from .tools import Tools


@click.group("swaps")
def swaps_group() -> None:
    """Audiences of partners that only take whole lists."""


@swaps_group.command("list")
def swaps_list() -> None:
    """The last list of each audience, the swap under way, and who has waited longest."""
    with opened() as made:
        console.print(swaps_page(made.tools))


@swaps_group.command("allow")
@click.option("--partner", required=True)
@click.option("--account", required=True)
@click.option("--rows", required=True, type=click.IntRange(min=0), help="How short the next list may be.")
@click.option("--by", required=True, help="Who says so.")
@click.option("--ground", required=True, help="Why a list of this length is right.")
def swaps_allow(partner: str, account: str, rows: int, by: str, ground: str) -> None:
    """Let the next list of an audience be as short as ROWS: the first, an empty or a sharply shorter one. For a day."""
    with opened() as made:
        allow(made.tools, (partner, account), rows, by=by, ground=ground)
        click.echo(f"{partner} {account}: its next list may have {rows} rows; noted in the provision log")


def swaps_page(tools: Tools) -> Table:
    """What `todoke swaps list` shows."""
    table = Table(
        "partner", "account", "begun (UTC)", "rows", "state", "oldest stop (UTC)", "waits for a person", box=None
    )
    for partner in swapped(tools.rules.registry.partners):
        audiences = Audiences(tools.view, partner.name)
        accounts = [each.name for each in partner.accounts]
        for account, told in zip(accounts, audiences.told(accounts), strict=True):
            begun, rows = begun_at(told), standing_rows(told)
            refused, oldest = audiences.refused(account), audiences.waiting(account).restricted_at
            table.add_row(
                partner.name,
                account,
                clock(begun) if begun else "never",
                "-" if rows is None else str(rows),
                _state(told, tools.now()),
                clock(oldest) if oldest else "-",
                f"{refused.reason}: {refused.rows} rows" if refused else "-",
            )
    return table


def _state(told: Told | None, at: int) -> str:
    """What became of the last swap."""
    if out := under_way(told, at):
        return f"under way: {', '.join(each.reference for each in out.values())}"
    last = max(told.attempts.values(), key=lambda each: each.started_at) if told and told.attempts else None
    if last is None:
        return "none yet"
    return "not taken" if last.refused else "failed" if last.failed else "finished"


def swapped(partners: tuple[Partner, ...]) -> list[Partner]:
    """The partners whose lists are swapped."""
    return [
        each for each in partners if (maker := CONNECTORS.get(each.connector)) and issubclass(maker.config, SwapConfig)
    ]


def allow(tools: Tools, audience: tuple[str, str], rows: int, *, by: str, ground: str) -> None:
    """Note a person's word, in the log first. Raises `Misconfigured` for an audience (partner, account) that isn't one."""
    name, account = audience
    partner = next((each for each in swapped(tools.rules.registry.partners) if each.name == name), None)
    if partner is None:
        raise Misconfigured(f"--partner {name}: no partner of this name takes whole lists: see `todoke swaps list`")
    if all(each.name != account for each in partner.accounts):
        known = ", ".join(each.name for each in partner.accounts)
        raise Misconfigured(f"--account {account}: no account of {name}: use one of {known}")
    row_id = tools.random(16).hex()
    facts = {"act": "list-allowed", "account": account, "rows": rows, "by": by, "ground": ground}
    row = LogRow(
        row_id=row_id,
        kind="person-act",
        subject_ref=AUDIENCES,
        source="people",
        number=0,
        at=tools.now(),
        cause=account,
        partner=name,
        payload=seal_for_log(tools.keyring, row_id, msgspec.json.encode(facts), tools.random),
    )
    tools.outbox.send([Letter(tools.topic("provision-log"), AUDIENCES, tools.codec.encode(row))])
    Audiences(tools.view, name).allow(account, rows)
