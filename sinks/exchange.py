"""A connector and the sender, brought together: calls, questions and tokens of one partner.

A token is got once for all who call at the same time, kept while it is good, and got anew once when the partner takes it no
longer. It is kept in memory alone: a process that starts asks for one.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

from msgspec.structs import replace

from todoke.schemas.errors import Expired, Retry

from .base import Connector, HttpRequest, Item, Outcome, Request, UploadRequest
from .sender import Guard, Sender

Answer = TypeVar("Answer")
MARGIN_S = 60.0
"""A token is taken for dead so long before it is, or half of its life before where it lives shorter than twice that."""


class Exchange:
    """One partner's connector on the one sender of the process."""

    def __init__(self, connector: Connector, sender: Sender, timeout_s: float) -> None:
        """Every call is given up after `timeout_s`, that for a token too."""
        self.connector = connector
        self.sender = sender
        self.timeout_s = timeout_s
        self._token = ""
        self._dies_at = 0.0
        self._asking = asyncio.Lock()

    async def call(
        self, items: Sequence[Item], now: Callable[[], int], guard: Guard | None = None
    ) -> Sequence[Outcome]:
        """What became of `items` by one call; `now` is the time in ms, `guard` as the sender's. Raises as verdicts do."""
        return await self._exchange(
            lambda: self.connector.request(items, now()),
            lambda answer: self.connector.verdict(items, answer),
            now,
            guard,
        )

    async def ask(self, references: Sequence[str], now: Callable[[], int]) -> Sequence[Outcome | None]:
        """What became of earlier calls; the connector has `polls`. Raises `Retry`."""
        polls = self.connector.polls
        assert polls is not None
        return await self._exchange(
            lambda: polls.ask(references, now()), lambda answer: polls.read(references, answer), now
        )

    async def probe(self, now: Callable[[], int]) -> None:
        """The call that changes nothing; the connector has a `probe`. Raises `Retry` or `Rejected`."""
        probe = self.connector.probe
        assert probe is not None
        await self._exchange(lambda: probe.ask(now()), probe.read, now)

    async def enter(self, now: Callable[[], int]) -> None:
        """Get a token, where the partner needs one, and nothing else. Raises `Retry`."""
        await self._good(now, "")

    async def put(
        self,
        request: Callable[[], Request | UploadRequest],
        read: Callable[[Any], Answer],
        now: Callable[[], int],
        guard: Guard | None,
    ) -> Answer:
        """A call that concerns no item, such as the swap of a whole list: what `read` makes of its answer, and raises."""
        return await self._exchange(request, read, now, guard)

    async def _exchange(
        self,
        ask: Callable[[], Request | UploadRequest],
        read: Callable[[Any], Answer],
        now: Callable[[], int],
        guard: Guard | None = None,
    ) -> Answer:
        token = await self._good(now, "")
        try:
            return read(await self._send(ask(), token, guard))
        except Expired:
            if self.connector.access is None:
                raise
        token = await self._good(now, token)
        return read(await self._send(ask(), token, guard))

    async def _send(self, request: Request | UploadRequest, token: str, guard: Guard | None) -> Any:
        if token and isinstance(request, HttpRequest | UploadRequest):
            request = replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})
        return await self.sender.carry(request, self.timeout_s, guard)

    async def _good(self, now: Callable[[], int], dead: str) -> str:
        """A token that is good, other than `dead`; empty where the partner needs none."""
        access = self.connector.access
        if access is None:
            return ""
        async with self._asking:
            if not self._token or self._token == dead or monotonic() >= self._dies_at:
                self._token = ""
                asked = monotonic()
                try:
                    found = access.read(await self.sender.send(access.ask(now()), self.timeout_s))
                except Retry as error:
                    # however the question for a token ended, the partner was told of nobody
                    raise Retry(error.reason, error.after, perhaps=False) from None
                lasts = found.lasts_ms / 1000
                self._token, self._dies_at = found.value, asked + lasts - min(MARGIN_S, lasts / 2)
            return self._token
