"""The port for probes and scrapes: /live, /ready, /metrics.

Live says that the process itself goes on: its loop answers and its threads make progress. It never asks a server, so a
dead broker restarts nobody. Ready says that work can be done: partitions are assigned and the view is current.
"""

import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from .metrics import Metrics

STUCK_S = 120
FATAL = 70  # EX_SOFTWARE: the supervisor starts the process again, and no offset was committed for what failed


class Health:
    """Serves the probes of one process. `live` and `ready` return what is wrong, or an empty string."""

    def __init__(self, metrics: Metrics, live: Callable[[], str], ready: Callable[[], str]) -> None:
        """Both are called on the loop, and must not block."""
        self._metrics = metrics
        self._live = live
        self._ready = ready
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one, which `port` then names."""
        app = web.Application()
        app.router.add_get("/live", self._answer_live)
        app.router.add_get("/ready", self._answer_ready)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _answer_live(self, _: web.Request) -> web.Response:
        return _answer(self._live())

    async def _answer_ready(self, _: web.Request) -> web.Response:
        return _answer(self._ready())

    async def _scrape(self, _: web.Request) -> web.Response:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})


def _answer(wrong: str) -> web.Response:
    return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")


def stuck(name: str, progress_at: float) -> str:
    """What is wrong with a thread or task that last made progress at `progress_at` (monotonic s), if anything."""
    silent = time.monotonic() - progress_at
    return f"{name} has made no progress for {silent:.0f} s" if silent > STUCK_S else ""
