"""`python -m bench.codecs`: what a message of each kind costs to write and to read."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from fastavro import parse_schema, schemaless_writer
from rich.console import Console
from rich.table import Table

from todoke.schemas import contracts
from todoke.schemas.codec import Codec
from todoke.schemas.record import SubjectRecord
from todoke.streams import keyfile

from .load import Load
from .rules import KEYS, Kernel, Seen

ROUNDS, TIMES = 7, 300


def main() -> None:
    """Coded over and over; the best of some rounds, in process time."""
    schemas = contracts.current(contracts.folder())
    table = Table("", "bytes", "write µs", "read µs", title="Codec", title_justify="left")
    for name, value in sorted(_travelling().items()):
        parsed = parse_schema(schemas[name])
        raw = Codec().encode(value)

        def plain(value: msgspec.Struct, parsed: Any = parsed) -> None:
            schemaless_writer(BytesIO(), parsed, msgspec.to_builtins(value, builtin_types=(bytes,)))

        # not by the codec, which remembers what it has just written
        costs = [_best(plain, [value] * TIMES), _best(Codec().decode, [raw] * TIMES)]
        table.add_row(name, str(len(raw)), *(f"{each:.1f}" for each in costs))
    Console().print(table)


def _travelling() -> dict[str, msgspec.Struct]:
    """One value of each kind that a worker reads or writes for an event, taken from some work."""
    with tempfile.TemporaryDirectory() as folder:
        keyfile.create(Path(folder) / "keys.toml")
        os.environ[KEYS] = str(Path(folder) / "keys.toml")
        kernel = Kernel("bench.")
    found: dict[str, msgspec.Struct] = {}
    records: dict[str, SubjectRecord] = {}
    load, now = Load(42, 20), time.time_ns() // 1_000_000
    for offset, event in enumerate([*load.records(), *load.events(200)]):
        ref = kernel.ref(event)
        records[ref], letters = kernel(event, Seen((0, offset), now), records.get(ref), now)
        made: list[msgspec.Struct] = [kernel.codec.decode(letter.value or b"") for letter in letters]
        found |= {type(each).__name__: each for each in (event, records[ref], *made)}
    return found


def _best(step: Callable[[Any], object], values: Sequence[Any]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for each in values:
            step(each)
        best = min(best, time.process_time_ns() - started)
    return best / len(values) / 1000


if __name__ == "__main__":
    main()
