"""The rules alone: one thread, records as bytes in a dict, nothing sent and nothing kept. Nobody who applies them is faster.

`make bench` runs it once a round, in a process of its own: `python -m bench.alone PEOPLE EVENTS` prints events a second.
"""

import sys
import time

from .load import Load
from .rules import Kernel


def main() -> None:
    """Make the records, then time the events."""
    people, count = int(sys.argv[1]), int(sys.argv[2])
    kernel, load = Kernel("alone."), Load(seed=42, people=people)
    records: dict[str, bytes] = {}

    def step(key: str, value: bytes) -> None:
        records[key], _ = kernel.step(value, records.get(key), (0, 0), time.time_ns() // 1_000_000)

    for event in load.records():
        step(event.subject or "", kernel.codec.encode(event))
    pairs = [(event.subject or "", kernel.codec.encode(event)) for event in load.events(count)]
    began = time.perf_counter()
    for key, value in pairs:
        step(key, value)
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
