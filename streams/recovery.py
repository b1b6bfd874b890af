"""Commands by which people have things go on: replaying what was refused or given up, holding and opening lanes."""

from collections.abc import Callable
from datetime import datetime

import click

from todoke.schemas.events import INTAKE
from todoke.schemas.lanes import LaneState

from . import lanes, replay
from .terminal import console, opened

RATE = 500


@click.command("replay")
@click.option("--kind", type=click.Choice(["event", "delivery"]), help="Refused events, or given-up deliveries.")
@click.option("--reason", default="", help="Only with this reason.")
@click.option("--partner", default="", help="Only deliveries to this partner.")
@click.option("--topic", type=click.Choice(list(INTAKE)), help="Only events of this topic.")
@click.option("--letter", default="", help="Only this letter.")
@click.option(
    "--since", type=click.DateTime(replay.TIMES), metavar="TIME", help="Refused or given up then or later, in UTC."
)
@click.option(
    "--until", type=click.DateTime(replay.TIMES), metavar="TIME", help="Refused or given up before then, in UTC."
)
@click.option("--again", is_flag=True, help="Also what was replayed before.")
@click.option("--rate", type=click.IntRange(min=1), default=RATE, show_default=True, help="Letters a second.")
@click.option("--execute", is_flag=True, help="Do it. Without this, only say what would be done.")
def replaying(  # noqa: PLR0913  # one parameter an option: click's way
    *,
    kind: str | None,
    reason: str,
    partner: str,
    topic: str | None,
    letter: str,
    since: datetime | None,
    until: datetime | None,
    again: bool,
    rate: int,
    execute: bool,
) -> None:
    """Try refused events and given-up deliveries again, once the cause is mended. Says what it would do first."""
    named = {"kind": kind or "", "topic": topic or "", "partner": partner, "reason": reason, "letter_id": letter}
    wanted = replay.selection(since, until, **named)
    with opened() as made:
        found = replay.chosen(made, wanted, again=again)
        console.print(replay.page(found))
        due = [each for each, fate in found if fate == "replay"]
        if not execute:
            click.echo(f"{len(due)} of {len(found)} letters would be replayed; --execute does it")
            return
        click.echo(f"{replay.run(made, due, rate)} letters replayed")


@click.group("lanes")
def lanes_group() -> None:
    """Lanes of the partners: what waits there, and holding them."""


@lanes_group.command("list")
def lanes_list() -> None:
    """Each lane: whether it is held, by whom and why, and what waits there."""
    with opened() as made:
        console.print(lanes.page(made))


def _ordering(name: str, text: str) -> Callable[..., None]:
    @click.argument("partner")
    @click.option("--by", required=True, help="Who orders it.")
    @click.option("--ground", required=True, help="Why; no identifiers of a person.")
    def ordering(partner: str, by: str, ground: str, *, grants: bool = False) -> None:
        state: LaneState = "open" if name == "resume" else "restrictions" if grants else "paused"
        with opened() as made:
            lanes.order(made, partner, state, by=by, ground=ground)
        click.echo(f"{partner}: {SAID[state]}")

    if name == "pause":
        ordering = click.option("--grants", is_flag=True, help="Hold grants alone; restrictions go on.")(ordering)
    lanes_group.command(name, help=text)(ordering)
    return ordering


SAID: dict[LaneState, str] = {
    "open": "the lane is open; what waited goes out now",
    "restrictions": "no grant goes out until `todoke lanes resume`; restrictions go on",
    "paused": "nothing goes out until `todoke lanes resume`; obligations stand, and their deadlines run on",
}
_ordering("pause", "Hold a partner's lane, whatever its dispatchers; calls under way are finished.")
_ordering("resume", "Open a partner's lane again.")
