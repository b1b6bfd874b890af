"""Reading a log from wherever it lies, for the verifier; and serving one, for others' verifiers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from todoke.processors.audit import Read
from todoke.processors.tiles import CHECKPOINT
from todoke.schemas.errors import Misconfigured, Unproved
from todoke.sinks.tiles import Folder

TRIES = 4
PAUSE_S = 0.5
TIMEOUT_S = 30.0
FOREVER = "public, max-age=31536000, immutable"
ROOTS = frozenset({"tile", "journal"})


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
                    return await answer.read()
                if answer.status in (404, 410):
                    return None
                wrong = f"HTTP {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            wrong = type(error).__name__
    raise Unproved(f"{url}: {wrong}: it can't be read, so nothing can be said of it")


def served(place: Path) -> web.Application:
    """An application that serves the log in a folder, read-only (tlog-tiles, "HTTP headers" and "Paths")."""
    folder = Folder(place)

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        parts = name.split("/")
        known = name == CHECKPOINT or (parts[0] in ROOTS and all(each.replace(".", "a").isalnum() for each in parts))
        data = await asyncio.to_thread(folder.read, name) if known and ".." not in name else None
        if data is None:
            raise web.HTTPNotFound
        if name == CHECKPOINT:
            headers = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-cache"}
        else:
            kind = "application/json" if parts[0] == "journal" else "application/octet-stream"
            headers = {"content-type": kind, "cache-control": FOREVER}
        return web.Response(body=data, headers=headers)

    app = web.Application()
    app.router.add_get("/{name:.+}", answer)
    return app
