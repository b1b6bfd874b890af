"""`make bench`: the hot path against rivals on the same topic, alternating; prints the tables, and writes them down."""

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console

from . import report
from .ground import Ground
from .load import Load
from .measure import Latency, Rate, alone, latency, throughput
from .systems import ROOT, SYSTEMS, System

COMMIT_S = 0.1
"""Of Quix Streams, for latency: with 20 or 50 ms it is sooner at 100 events/s, and falls behind for good at 1,000."""

console = Console(width=110)


class Rounds:
    """The rounds of one run, and what was measured in them."""

    def __init__(self, ground: Ground, systems: list[System], load: Load, environs: tuple[dict[str, str], ...]) -> None:
        """`environs` are what systems are started with for throughput, and for latency."""
        self.ground = ground
        self.systems = systems
        self.load = load
        self.bulk, self.prompt = environs
        self.rated: dict[str, list[Rate]] = {each.name: [] for each in systems}
        self.waited: dict[tuple[str, int], list[Latency]] = {}
        self.alone: list[float] = []

    def records(self) -> None:
        """Have every system make the records."""
        count = self.ground.publish(self.load.records())
        for system in self.systems:
            first = throughput(self.ground, system, self.bulk, count, 120.0)
            console.print(f"{system.title}: {count} events into records, {first.events_s:,.0f}/s")

    def throughput(self, number: int, events: int, seconds: float) -> None:
        """All systems on the same `events`, for so many `seconds` at most."""
        self.alone.append(alone(self.bulk, min(self.load.people, 2_000), events // 5))
        console.print(f"round {number + 1}: the rules alone: {self.alone[-1]:,.0f} events/s")
        count = self.ground.publish(self.load.events(events))
        for system in self._turn(number):
            found = throughput(self.ground, system, self.bulk, count, seconds)
            self.rated[system.name].append(found)
            said = f"{found.events_s:,.0f} events/s, {found.cpu_per_thousand:.3f} s CPU per 1,000"
            console.print(f"round {number + 1}: {system.title}: {said}")

    def latency(self, number: int, rates: tuple[tuple[int, float], ...]) -> None:
        """All systems at each (events a second, seconds)."""
        for system in self._turn(number):
            if not system.latency:
                continue
            found = latency(self.ground, system, self.prompt, self.load, rates)
            for (rate, _), each in zip(rates, found, strict=True):
                self.waited.setdefault((system.name, rate), []).append(each)
                said = f"{rate}/s: p50 {each.p50:.1f} ms, p99 {each.p99:.1f} ms"
                console.print(f"round {number + 1}: {system.title}: {said}")

    def _turn(self, number: int) -> list[System]:
        first = number % len(self.systems)
        return [*self.systems[first:], *self.systems[:first]]


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
    ground = Ground(asked.directory)
    started = time.monotonic()
    try:
        environs = ground.environ(0.005, 0.5), ground.environ(0.0, COMMIT_S)
        run = Rounds(ground, systems, Load(seed=42, people=people), environs)
        run.records()
        for number in range(rounds):
            if asked.skip != "throughput":
                run.throughput(number, events, seconds)
            if asked.skip != "latency":
                run.latency(number, rates)
    finally:
        ground.stop()
    spent = time.monotonic() - started
    made = report.Report(run.rated, run.waited, run.alone, people, events, rounds, spent, os.cpu_count() or 0)
    report.show(made, console)
    if not asked.quick and not asked.only and not asked.skip:
        report.write(made, ROOT / "docs" / "performance.md")


OTHERS = ("dispatch", "ledger")
"""Benches of their own, by the first argument."""

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in OTHERS:
        import_module(f"bench.{sys.argv.pop(1)}").main()
    else:
        main()
