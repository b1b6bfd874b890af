"""Carries `FileRequest`: files into a partner's store and out of it, whole or not at all.

What the two kinds of store have in common stands here; `sftp` and `s3` say how each puts and gets one file.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from todoke.schemas.errors import Retry

from . import s3, sftp
from .base import FileRequest, FileResponse, HttpRequest, HttpResponse, S3Login

Guard = Callable[[], None]
Send = Callable[[HttpRequest, float, Guard | None], Awaitable[HttpResponse]]


class Store(Protocol):
    """A partner's place for files."""

    async def put(self, path: str, body: bytes, guard: Guard | None) -> bool:
        """Put a file; false when another stands there. The `guard` is asked as late as can be: before it appears.

        Raises `Retry`: `perhaps` is true when the file may be there all the same.
        """
        ...

    async def get(self, path: str) -> bytes | None:
        """A small file, None where there is none. Raises `Retry`."""
        ...


async def carry(request: FileRequest, timeout_s: float, guard: Guard | None, send: Send) -> FileResponse:
    """Put, then get. Once the first file stands, the others follow without the guard: what has begun is made whole.

    Raises `Retry`, with `perhaps` as soon as a file may be there.
    """
    begun = False
    try:
        async with asyncio.timeout(timeout_s), _opened(request, timeout_s, send) as store:
            for each in request.files:
                if not await store.put(each.path, each.body, None if begun else guard):
                    return FileResponse(taken=each.path)
                begun = True
            found = {path: body for path in request.wanted if (body := await store.get(path)) is not None}
            return FileResponse(found=found)
    except TimeoutError:
        raise Retry("timeout", perhaps=bool(request.files)) from None
    except Retry as error:
        if begun and not error.perhaps:
            raise Retry(error.reason, error.after) from None
        raise


def _opened(request: FileRequest, timeout_s: float, send: Send) -> AbstractAsyncContextManager[Store]:
    if isinstance(request.login, S3Login):
        return s3.opened(request.url, request.login, request.at, lambda call, guard: send(call, timeout_s, guard))
    return sftp.opened(request.url, request.login, timeout_s / 2)
