"""What partners report by themselves: `POST /callbacks/{partner}`, on a port of its own, since it is open to the outside.

A connector verifies the signature over the bytes as they came, before anybody parses them. What it believes goes the way
of all answers; the partner is told 202 when that is durable, and anything else makes it report again. Nothing of a report
is ever logged.
"""

import asyncio
import logging
from collections.abc import Mapping

import redis
from aiohttp import web

from todoke.schemas.errors import NotCurrent, Rejected, Retry
from todoke.sinks.base import Outcome

from .answers import final
from .metrics import Metrics
from .polling import Polling
from .settings import Callbacks

log = logging.getLogger(__name__)
READ_S = 10
"""For sending a report that is within the limit; who takes longer is cut off."""
AT_ONCE = 32
"""Reports in hand; others wait."""
LATER_S = "30"
UNSURE = (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError)


class Reports:
    """The port where the partners of one process report. It listens only if one of them does."""

    def __init__(self, settings: Callbacks, metrics: Metrics, desks: Mapping[str, Polling]) -> None:
        """`desks` are what waits for reports, by partner."""
        self.settings = settings
        self.metrics = metrics
        self.desks = {name: each for name, each in desks.items() if each.reports}
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._hands = asyncio.Semaphore(AT_ONCE)

    async def start(self) -> None:
        """Listen; port 0 takes a free one, which `port` then names."""
        if not self.desks:
            return
        app = web.Application(client_max_size=self.settings.largest)
        app.router.add_post("/callbacks/{partner}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.settings.host, self.settings.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening, once the reports in hand are written down."""
        if self._runner:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        desk = self.desks.get(request.match_info["partner"])
        if desk is None:
            return web.Response(status=404)
        async with self._hands:
            status, outcome = await self._judge(desk, request)
        self.metrics.count("todoke_callbacks_total", desk.partner.name, outcome)
        return web.Response(status=status, headers={"retry-after": LATER_S} if status == 503 else {})

    async def _judge(self, desk: Polling, request: web.Request) -> tuple[int, str]:
        """The status that the partner gets, and what the metrics call it."""
        try:
            async with asyncio.timeout(READ_S):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return 413, "too-large"
        except (TimeoutError, ConnectionError):
            return 408, "refused"
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            reader = desk.exchange.connector.callbacks
            assert reader is not None  # those without one are not in the table
            said = dict(reader.read(headers, body, desk.tools.now()))
        except Rejected as error:
            log.warning("%s: a report was refused: %s", desk.partner.name, error.reason)
            return 403, "refused"
        answers: dict[str, Outcome] = {name: each for name, each in said.items() if name and final(each)}
        if not answers:
            return 202, "nothing-new"
        try:
            known = await asyncio.to_thread(desk.answers.take, answers)
        except UNSURE as error:
            log.warning("%s: a report has to come again: %s", desk.partner.name, type(error).__name__)
            return 503, "later"
        return (202, "taken") if known else (404, "unknown-reference")
