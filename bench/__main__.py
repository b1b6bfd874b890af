"""`make bench`: the hot path against rivals on the same topic, alternating; prints the tables, and writes them down."""

import argparse
import os
import time
from pathlib import Path

from rich.console import Console

from . import report
from .ground import Ground
from .load import Load
from .measure import Latency, Rate, latency, throughput
from .systems import ROOT, SYSTEMS

console = Console(width=110)


def main() -> None:
    """Set the ground, make the records, then rounds in which the order of the systems moves on by one."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about three minutes, and too short to be quoted")
    parser.add_argument("--rounds", type=int, default=0, help="5, or 2 with --quick")
    parser.add_argument("--only", default="", help="names of systems, with commas")
    parser.add_argument("--skip", default="", help="throughput or latency")
    parser.add_argument("--directory", type=Path, default=ROOT / ".tools" / "bench-ground")
    asked = parser.parse_args()
    rounds = asked.rounds or (2 if asked.quick else 5)
    people, events, seconds = (1_000, 6_000, 6.0) if asked.quick else (10_000, 30_000, 10.0)
    rates = ((100, 3.0), (1000, 3.0)) if asked.quick else ((100, 8.0), (1000, 6.0))
    systems = [each for each in SYSTEMS if not asked.only or each.name in asked.only.split(",")]
    rated: dict[str, list[Rate]] = {each.name: [] for each in systems}
    waited: dict[tuple[str, int], list[Latency]] = {}
    ground = Ground(asked.directory)
    started = time.monotonic()
    try:
        load = Load(seed=42, people=people)
        count = ground.publish(load.records())
        for system in systems:
            first = throughput(ground, system, ground.environ(0.005, 0.5), count, 120.0)
            console.print(f"{system.title}: {count} events into records, {first.events_s:,.0f}/s")
        for number in range(rounds):
            turn = [*systems[number % len(systems) :], *systems[: number % len(systems)]]
            if asked.skip != "throughput":
                count = ground.publish(load.events(events))
                for system in turn:
                    rated[system.name].append(throughput(ground, system, ground.environ(0.005, 0.5), count, seconds))
                    console.print(
                        f"round {number + 1}: {system.title}: {rated[system.name][-1].events_s:,.0f} events/s, "
                        f"{rated[system.name][-1].cpu_per_thousand:.3f} s CPU per 1,000"
                    )
            if asked.skip != "latency":
                for system in turn:
                    if not system.latency:
                        continue
                    found = latency(ground, system, ground.environ(0.0, 0.02), load, rates)
                    for (rate, _), each in zip(rates, found, strict=True):
                        waited.setdefault((system.name, rate), []).append(each)
                        said = f"{rate}/s: p50 {each.p50:.1f} ms, p99 {each.p99:.1f} ms"
                        console.print(f"round {number + 1}: {system.title}: {said}")
    finally:
        ground.stop()
    made = report.Report(rated, waited, people, events, rounds, time.monotonic() - started, os.cpu_count() or 0)
    report.show(made, console)
    if not asked.quick and not asked.only and not asked.skip:
        report.write(made, ROOT / "docs" / "performance.md")


if __name__ == "__main__":
    main()
