"""What was measured, as tables: on the screen, and in docs/performance.md between its marks."""

import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from .measure import Latency, Rate
from .systems import RIVALS, SYSTEMS

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
LIBRARIES = (
    "faust-streaming",
    "aiokafka",
    "confluent-kafka",
    "redis",
    "hiredis",
    "fastavro",
    "msgspec",
    "cryptography",
)


class Report(Struct, frozen=True):
    """One run of the bench."""

    rated: dict[str, list[Rate]]
    waited: dict[tuple[str, int], list[Latency]]
    alone: list[float]
    people: int
    events: int
    rounds: int
    seconds: float
    cores: int


def show(made: Report, console: Console) -> None:
    """Print both tables."""
    for title, header, rows in _tables(made):
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def write(made: Report, path: Path) -> None:
    """Put the tables between the marks of the page."""
    text = path.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text("\n".join([f"{before}{BEGIN}", "", *_page(made), f"{END}{after}"]))


def _tables(made: Report) -> list[tuple[str, list[str], list[list[str]]]]:
    found = []
    titles = {each.name: each.title for each in SYSTEMS}
    ours = made.rated.get("todoke", [])
    if any(made.rated.values()):
        rows = []
        for name, rates in made.rated.items():
            ratio = ""
            if name != "todoke" and ours and rates:
                pairs = [mine.events_s / theirs.events_s for mine, theirs in zip(ours, rates, strict=True)]
                ratio = f"{_median(pairs)} ({min(pairs):.2f} to {max(pairs):.2f})"
            cpu = statistics.median(each.cpu_per_thousand for each in rates)
            rows.append([titles[name], _spread([each.events_s for each in rates], "{:,.0f}"), f"{cpu:.3f}", ratio])
        if made.alone:
            rows.append(["The rules alone: no Kafka, no store", _spread(made.alone, "{:,.0f}"), "", ""])
        header = ["", "events/s, median (min to max)", "CPU s per 1,000", "Todoke is faster by, median (min to max)"]
        found.append(("Throughput", header, rows))
    if made.waited:
        rows = [
            [
                titles[name],
                f"{rate:,}",
                _spread([each.p50 for each in waits], "{:,.1f}"),
                _spread([each.p99 for each in waits], "{:,.1f}"),
                f"{max(each.late for each in waits):.1%}",
            ]
            for (name, rate), waits in sorted(
                made.waited.items(), key=lambda each: (each[0][1], list(titles).index(each[0][0]))
            )
        ]
        header = ["", "events/s", "p50 ms, median (min to max)", "p99 ms, median (min to max)", "not done in time"]
        found.append(("Latency, event to directive, open loop", header, rows))
    return found


def _page(made: Report) -> list[str]:
    lines = [
        f"{made.rounds} alternating rounds, {made.people:,} people with records, {made.events:,} events a round.",
        f"{made.seconds / 60:.0f} minutes. {_machine(made.cores)}.",
        f"{_versions()}.",
        "",
    ]
    for title, header, rows in _tables(made):
        lines += [f"### {title}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return lines


def _machine(cores: int) -> str:
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{cores} cores ({model}), {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _versions() -> str:
    ours = ", ".join(f"{name} {version(name)}" for name in LIBRARIES if _has(name))
    command = [
        str(RIVALS),
        "-c",
        "from importlib.metadata import version as v; print(v('quixstreams'), v('confluent-kafka'))",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    theirs = f"; quixstreams {said[0]} with confluent-kafka {said[1]}" if len(said) == 2 else ""
    return f"{ours}{theirs}"


def _has(name: str) -> bool:
    try:
        version(name)
    except ImportError:
        return False
    return True


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}"


def _spread(values: Sequence[float], form: str) -> str:
    say: Callable[[float], str] = form.format
    return f"{say(statistics.median(values))} ({say(min(values))} to {say(max(values))})"
