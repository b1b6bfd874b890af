"""`python -m bench.memory`: the memory of one worker over two million events, sampled, with its slope."""

import argparse
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .ground import Ground
from .judge import Judge
from .load import Load
from .systems import ROOT, SYSTEMS, Running

PIECE = 20_000
PATIENCE_S = 600.0
WARM = 0.25
"""The share of the events after which caches are full; the slope is taken over the rest."""


def main() -> None:
    """Publish in pieces, each when the last one is done, and sample after each."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--directory", type=Path, default=ROOT / ".tools" / "bench-ground")
    asked = parser.parse_args()
    ground, load, system = Ground(asked.directory), Load(42, asked.people), SYSTEMS[0]
    samples: list[tuple[int, float]] = []
    try:
        log = ground.directory / "memory.log"
        with (
            Judge(ground.servers, system.namespace, [], keep=False) as judge,
            Running(system, ground.environ(0.005, 0.5), log) as running,
        ):
            wanted = ground.publish(load.records())
            judge.until(wanted, PATIENCE_S, running.check)
            for count in range(0, asked.events, PIECE):
                wanted += ground.publish(load.events(min(PIECE, asked.events - count)))
                judge.until(wanted, PATIENCE_S, running.check)
                samples.append((count + PIECE, running.memory_mb()))
    finally:
        ground.stop()
    late = [each for each in samples if each[0] > WARM * asked.events]
    table = Table("events", "resident MB", title="Memory of one worker", title_justify="left")
    for count, megabytes in samples[:: max(1, len(samples) // 20)]:
        table.add_row(f"{count:,}", f"{megabytes:.0f}")
    console = Console()
    console.print(table)
    if len(late) > 1:
        slope = statistics.linear_regression([each[0] / 1e6 for each in late], [each[1] for each in late]).slope
        console.print(f"slope after the first {WARM:.0%}: {slope:+.1f} MB per million events")


if __name__ == "__main__":
    main()
