"""Reading a log from wherever it lies, for the verifier; and serving one, for others' verifiers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from todoke.processors.audit import Read
from todoke.processors.tiles import CHECKPOINT, LARGEST_FILE, known
from todoke.schemas.errors import Misconfigured, Unproved
from todoke.sinks.tiles import Folder

TRIES = 4
PAUSE_S = 0.5
TIMEOUT_S = 30.0
FOREVER = "public, max-age=31536000, immutable"
PART = 65_536


@contextmanager
def opened(place: str) -> Iterator[Read]:
    """Reads the files of the log at a URL or in a folder. Raises `Misconfigured` where it can't be reached."""
    if not place.startswith(("http://", "https://")):
        if not Path(place).is_dir():
            raise Misconfigured(f"{place}: no such folder: name one that holds a log, or a URL")
        yield Folder(Path(place)).read
        return
    with asyncio.Runner() as runner:
        session = runner.run(_session())
        try:
            yield lambda name: runner.run(_get(session, f"{place.rstrip('/')}/{name}"))
        finally:
            runner.run(session.close())


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))


async def _get(session: aiohttp.ClientSession, url: str) -> bytes | None:
    wrong = ""
    for number in range(TRIES):
        if number:
            await asyncio.sleep(PAUSE_S * 2**number)
        try:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return await _body(answer, url)
                if answer.status in (404, 410):
                    return None
                wrong = f"HTTP {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            wrong = type(error).__name__
    raise Misconfigured(f"{url}: {wrong}: it can't be read, so nothing can be said of the log: try again, or elsewhere")


async def _body(answer: aiohttp.ClientResponse, url: str) -> bytes:
    """The whole of it, but no more than any part of a log can have, however well it was packed."""
    found = bytearray()
    async for part in answer.content.iter_chunked(PART):
        found += part
        if len(found) > LARGEST_FILE:
            raise Unproved(f"{url}: it is larger than any part of a log")
    return bytes(found)


def served(place: Path) -> web.Application:
    """An application that serves the log in a folder, read-only (tlog-tiles, APIs).

    What is not there may be there soon, so nobody may remember that it wasn't.
    """
    folder = Folder(place)

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        data = await asyncio.to_thread(folder.read, name) if known(name) else None
        if data is None:
            return web.Response(
                status=404, text=f"{name[:200]}: not a part of this log\n", headers={"cache-control": "no-store"}
            )
        kind, keep = "application/octet-stream", FOREVER
        if name == CHECKPOINT:
            kind, keep = "text/plain; charset=utf-8", "no-cache"
        elif name.startswith("journal/"):
            kind = "application/json"
        found = web.Response(body=data, headers={"content-type": kind, "cache-control": keep})
        if name.startswith("tile/entries/"):
            found.enable_compression()
        return found

    app = web.Application()
    app.router.add_get("/{name:.+}", answer)
    return app
