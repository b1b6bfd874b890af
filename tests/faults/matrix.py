"""`make chaos ARGS=--matrix`: a process is killed, and stopped and continued, between every pair of effects; and the named accidents.

Ends with 0 when every run is green. `--at` chooses boundaries or scenarios, `--nth` the passings at which they strike.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from tests.faults.crew import Field
from tests.faults.launch import BOUNDARIES, SIGNALS
from tests.faults.mutate import row
from tests.faults.runs import Result, tidy
from tests.faults.scenarios import SCENARIOS, bounded

PATIENCE_S = 120.0


def matrix(only: tuple[str, ...], nth: tuple[int, ...]) -> bool:
    """Whether all of it was green."""
    directory, began, wrong = Path(tempfile.mkdtemp(prefix="todoke-matrix-")), time.monotonic(), []
    with Field(directory) as field:
        for name, result in _runs(field, only, nth):
            wrong += [] if result.green else [name]
            row(name, "green" if result.green else "RED", result)
    click.echo(f"{time.monotonic() - began:.0f} s; wrong: {', '.join(wrong) or 'none'}")
    if wrong:
        click.echo(f"logs and journals are in {directory}")
    else:
        tidy(directory)
    return not wrong


def _runs(field: Field, only: tuple[str, ...], nth: tuple[int, ...]) -> Iterator[tuple[str, Result]]:
    for name, scenario in SCENARIOS.items():
        if not only or name in only:
            yield name, scenario(field, (), PATIENCE_S)
    for boundary in BOUNDARIES:
        for how in SIGNALS:
            for passing in nth:
                if not only or boundary in only:
                    stop = f"{boundary}:{passing}:{how}"
                    yield stop, bounded(field, (f"--stop={stop}",), PATIENCE_S)
