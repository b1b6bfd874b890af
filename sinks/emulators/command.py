"""What `todoke emulate` runs: an emulator in the foreground, until it is told to stop."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

from . import Place, serve
from .server import Clock


def run(
    name: str,
    token: str,
    clock: Clock,
    *,
    place: Place | None = None,
    options: Mapping[str, str] | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then close the connections and the journal. Raises `Misconfigured`."""

    async def until_told() -> None:
        serving = asyncio.ensure_future(serve(name, token, clock, place=place, options=options, ready=ready))
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, serving.cancel)
        with suppress(asyncio.CancelledError):
            await serving

    asyncio.run(until_told())
