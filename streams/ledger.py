"""The ledger's process: one shard, its consumer, and the port for probes."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from todoke.sinks.ledger import Ledger

from .health import FATAL, Health, stuck
from .metrics import Metrics
from .runner import Runner

log = logging.getLogger(__name__)
LOOK_S = 0.5


async def run(opened: Ledger, made: Callable[[Metrics], Runner], host: str, port: int) -> None:
    """Record until SIGTERM or SIGINT. A consumer that ends by itself ends the process, for its supervisor to start again."""
    metrics = Metrics()
    runner = await asyncio.to_thread(made, metrics)
    health = Health(metrics, lambda: stuck(runner.name, runner.progress_at), lambda: runner.waiting)
    await health.start(host, port)
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    runner.start()
    log.info("%s: %d entries in the log %s", runner.name, opened.log.size, opened.log.origin)
    while runner.alive and not done.is_set():
        try:
            await asyncio.wait_for(done.wait(), LOOK_S)
        except TimeoutError:
            continue
    if not done.is_set():
        log.critical("%s ended by itself; the process ends", runner.name)
        os._exit(FATAL)
    await asyncio.to_thread(runner.stop)
    await asyncio.to_thread(opened.publish)
    await health.stop()
    opened.close()
