"""The two measurements: how many events a second, and how long from an event's intended time to its directives."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from .ground import Ground
from .judge import Judge
from .load import Load
from .systems import ROOT, Running, System

PROBE_S = 180.0
GRACE_S = 5.0
WARM_S = 3.0
WARM_MOST = 8


class Rate(Struct, frozen=True):
    """Events a second, judged from outside, and the CPU time (s) of the system's process for each thousand."""

    events_s: float
    cpu_per_thousand: float
    events: int


class Latency(Struct, frozen=True):
    """Percentiles of one open loop, in ms; `late` is the share of events that were not done when patience ended."""

    p50: float
    p99: float
    late: float


def throughput(ground: Ground, system: System, environ: dict[str, str], events: int, seconds: float) -> Rate:
    """Have a system work off what lies on the topic.

    Counted from when a tenth was done (of all, or of what was done in the time) to the last: so starting is left out,
    and the first batch or commit, for all alike.
    """
    log = ground.directory / f"{system.name}.log"
    with Judge(ground.servers, system.namespace, ground.lanes) as judge, Running(system, environ, log) as running:
        judge.until(1, PROBE_S, running.check)
        before = running.cpu_s()
        seen = judge.events
        judge.until(events, seconds, running.check)
        time.sleep(0.2)  # the last directives
        used, counted = running.cpu_s() - before, judge.events - seen
    whole = judge.events >= events
    if not whole:
        ground.skip(system)
    times = sorted(judge.done(ground.codec).values())
    if len(times) < 20:
        raise RuntimeError(f"{system.name}: {len(times)} events done; its log is {log}")
    start = times[len(times) // 10]
    rest = sum(1 for at in times if at > start)
    span = times[-1] - start or math.inf  # all at once: too little work to say anything
    return Rate(rest / span, 1000 * used / max(counted, 1), len(times))


def latency(
    ground: Ground, system: System, environ: dict[str, str], load: Load, rates: Sequence[tuple[int, float]]
) -> list[Latency]:
    """Publish at each (rate, seconds) by a schedule that waits for nobody, and time each event from its due time."""
    log = ground.directory / f"{system.name}.log"
    found = []
    due: dict[str, float] = {}
    spans: list[tuple[float, float]] = []
    with Judge(ground.servers, system.namespace, ground.lanes) as judge, Running(system, environ, log) as running:
        deadline = time.monotonic() + PROBE_S
        while not judge.events and time.monotonic() < deadline:
            running.check()
            ground.publish(load.events(1))
            time.sleep(0.25)
        for rate, seconds in rates:
            _warm(ground, load, rate, judge)
            began = time.monotonic()
            _open_loop(ground, load, rate, seconds, due)
            spans.append((began, time.monotonic()))
            _quiet(judge)
        ended = time.monotonic()
    done = judge.done(ground.codec)
    for began, until in spans:
        mine = {name: at for name, at in due.items() if began <= at <= until}
        waits = sorted(done.get(name, ended) - at for name, at in mine.items())
        late = sum(1 for name in mine if name not in done) / len(mine)
        found.append(Latency(1000 * quantile(waits, 0.5), 1000 * quantile(waits, 0.99), late))
    ground.skip(system)
    return found


def _warm(ground: Ground, load: Load, rate: int, judge: Judge) -> None:
    """Publish at `rate` until a system that has just started keeps up: what it had to restore is not what is measured.

    One that never does is measured as it is.
    """
    for _ in range(WARM_MOST):
        before = judge.events
        _open_loop(ground, load, rate, WARM_S, {})
        _quiet(judge)
        if judge.events - before >= int(rate * WARM_S):
            return


def alone(environ: dict[str, str], people: int, events: int) -> float:
    """Events a second of the rules by themselves: see `bench.alone`."""
    command = [sys.executable, "-m", "bench.alone", str(people), str(events)]
    env = {**os.environ, **environ}
    return float(subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout)


def _quiet(judge: Judge) -> None:
    """Wait until nothing has come for a second, or patience ends."""
    patience = time.monotonic() + GRACE_S
    seen, since = judge.events, time.monotonic()
    while time.monotonic() < patience and time.monotonic() - since < 1:
        if judge.events != seen:
            seen, since = judge.events, time.monotonic()
        time.sleep(0.05)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value at or below which that share of the values lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _open_loop(ground: Ground, load: Load, rate: int, seconds: float, due: dict[str, float]) -> None:
    events = list(islice(load.events(int(rate * seconds)), int(rate * seconds)))
    coded = [(each.event_id, each.subject or "", ground.codec.encode(each)) for each in events]
    start = time.monotonic() + 0.05
    for number, (name, key, value) in enumerate(coded):
        at = start + number / rate
        due[name] = at
        wait = at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        ground.send(key, value)
