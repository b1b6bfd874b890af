"""`make mutants`: breaks the product in every way of the table, and shows that the checker notices. Ends with 0 when it always does.

Each scenario runs on the sound product and must be green, and each mutant on its scenario, with the same patience, and must be red.
"""

import sys
import tempfile
import time
from pathlib import Path

import click

from tests.faults.crew import Field
from tests.faults.mutants import named
from tests.faults.runs import Result, tidy
from tests.faults.scenarios import SCENARIOS
from todoke.streams.embedded.command import heeding

PATIENCE_S = 120.0


@click.command()
@click.argument("names", nargs=-1)
@click.option("--sound/--no-sound", default=True, help="Whether the sound product is run, too.")
def main(names: tuple[str, ...], *, sound: bool) -> None:
    """Run all mutants, or those NAMED."""
    wanted = named(names)
    directory = Path(tempfile.mkdtemp(prefix="todoke-mutants-"))
    began, wrong = time.monotonic(), []
    with heeding(), Field(directory) as field:
        for scenario in dict.fromkeys(each.scenario for each in wanted.values()) if sound else ():
            result = SCENARIOS[scenario](field, (), PATIENCE_S)
            wrong += [] if result.green else [scenario]
            row(f"sound: {scenario}", "green" if result.green else "RED", result)
        for name, each in wanted.items():
            try:
                result = SCENARIOS[each.scenario](field, (f"--mutant={name}",), PATIENCE_S)
            except TimeoutError as error:  # it did not even get as far as the scenario's next step
                click.echo(f"{name:<36} killed    {error}")
                continue
            # not to be at rest in time is no proof: a slow machine isn't either
            alive = not any(each.kind != "not at rest" for each in result.verdict.findings)
            wrong += [name] if alive else []
            row(name, "SURVIVED" if alive else "killed", result)
    click.echo(f"{len(wanted)} mutants, {time.monotonic() - began:.0f} s; wrong: {', '.join(wrong) or 'none'}")
    if wrong:
        click.echo(f"logs and journals are in {directory}")
    else:
        tidy(directory)
    sys.exit(1 if wrong else 0)


def row(name: str, verdict: str, result: Result) -> None:
    """One line of the table: what it is called, how it ended, and the first kinds of finding."""
    kinds = list(dict.fromkeys(f"{each.law}: {each.kind}" for each in result.verdict.findings))
    click.echo(f"{name:<36} {verdict:<9} {result.seconds:>4.0f} s  {'; '.join(kinds[:4])}")


if __name__ == "__main__":
    main()
