"""`make chaos`: many events, processes and servers killed at random meanwhile, and the checker's verdict at the end.

`--seed` plays the same events and the same deeds; how they fall together is the machine's. Ends with 0 only when green.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from tests.faults.crew import Field
from tests.faults.generator import Plan
from tests.faults.matrix import matrix
from tests.faults.mischief import KILLS, Mischief, faults
from tests.faults.runs import Run, plan, tidy
from todoke.streams.embedded.command import heeding


@click.command()
@click.option("--seed", default=1, show_default=True)
@click.option("--events", default=100_000, show_default=True)
@click.option("--kills", default=20, show_default=True, help="How many deeds end a process.")
@click.option("--rate", default=400.0, show_default=True, help="Events a second.")
@click.option("--people", default=0, help="How many people; one for fifty events where none are given.")
@click.option(
    "--patience", default=900.0, show_default=True, help="Seconds until all must be at rest after the last event."
)
@click.option("--keep", is_flag=True, help="Keep logs and journals of a green run, too.")
@click.option(
    "--matrix", "between", is_flag=True, help="Instead: stop a process between every pair of effects, in turn."
)
@click.option("--at", "only", multiple=True, help="With --matrix: only this boundary or scenario; may be repeated.")
@click.option("--nth", default=(3,), multiple=True, show_default=True, help="With --matrix: at which passing.")
def main(  # noqa: PLR0917  # one parameter an option: click's way
    seed: int,
    events: int,
    kills: int,
    rate: float,
    people: int,
    patience: float,
    only: tuple[str, ...],
    nth: tuple[int, ...],
    *,
    keep: bool,
    between: bool,
) -> None:
    """Break things at random, then check."""
    with heeding():
        if between:
            green = matrix(only, nth)
        else:
            green = chaos(plan(seed, events, rate, f"s{seed}", people), kills, patience, keep=keep)
    sys.exit(0 if green else 1)


def chaos(planned: Plan, kills: int, patience: float, *, keep: bool = False) -> bool:
    """One run; whether it was green."""
    directory, began = Path(tempfile.mkdtemp(prefix="todoke-chaos-")), time.monotonic()
    deeds = faults(planned.seed, kills)
    with Field(directory) as field, Run(field, f"chaos{planned.seed}", planned) as run:
        for name in ("worker-1", "worker-2", "dispatch-1", "dispatch-2"):
            run.crew.start(name)
        run.publish()
        mischief = Mischief(run, deeds, click.echo)
        mischief.go(planned.events)
        click.echo(f"{run.sent:>7} sent  all; waiting for rest")
        result = run.judge(patience)
    click.echo(
        f"seed {planned.seed}: {run.sent} messages of {planned.people} people, {time.monotonic() - began:.0f} s in all"
    )
    for kind, count in sorted(Counter(each.kind for each in mischief.done).items()):
        click.echo(f"  {kind:<44} {count:>9}")
    click.echo(f"  {'processes killed':<44} {sum(each.kind in KILLS for each in mischief.done):>9}")
    click.echo(f"  {'processes that ended by themselves':<44} {len(result.ended):>9}")
    click.echo(result.verdict.table())
    if result.green and not keep:
        tidy(directory)
    else:
        click.echo(f"logs, journals and the events are in {directory}")
    return result.green


if __name__ == "__main__":
    main()
