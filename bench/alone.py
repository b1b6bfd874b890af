"""The rules alone: one thread, records as bytes in a dict, nothing sent and nothing kept. Nobody who applies them is faster.

`make bench` runs it once a round, in a process of its own: `python -m bench.alone PEOPLE EVENTS` prints events a second.
"""

import sys
import time

from todoke.schemas.record import SubjectRecord

from .load import Load
from .rules import Kernel, Seen


def main() -> None:
    """Make the records, then time the events."""
    people, count = int(sys.argv[1]), int(sys.argv[2])
    kernel, load = Kernel("alone."), Load(seed=42, people=people)
    records: dict[str, bytes] = {}

    def step(value: bytes, now: int) -> None:
        event = kernel.decode(value)
        ref = kernel.ref(event)
        held = records.get(ref)
        before = kernel.codec.decode(held, SubjectRecord) if held else None
        record, _ = kernel(event, Seen((0, 0), now), before, now)
        records[ref] = kernel.codec.encode(record)

    for event in load.records():
        step(kernel.codec.encode(event), time.time_ns() // 1_000_000)
    values = [kernel.codec.encode(event) for event in load.events(count)]
    began = time.perf_counter()
    for value in values:
        step(value, time.time_ns() // 1_000_000)
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
