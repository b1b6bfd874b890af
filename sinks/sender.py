"""The one sender: takes a request of values, does the input and output, gives an answer of values.

Calls by HTTP are its own; files and topics have carriers (`files`, `topics`), behind the same list of hosts.

It writes no log line, and its errors carry codes: addresses, headers and bodies hold secrets and people (law 7).
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection

from todoke.schemas.errors import Misconfigured, Rejected, Retry

from . import files
from .base import FileRequest, HttpRequest, HttpResponse, ListRequest, Request, UploadRequest
from .settings import authority
from .topics import Topics

LARGEST_ANSWER = 1 << 20

Guard = Callable[[], None]
_guard: ContextVar[Guard | None] = ContextVar("guard", default=None)


class Sender:
    """Sends to the `hosts` given (`host:port`) and to no other. Made inside a running loop, closed by `close`."""

    def __init__(self, hosts: Collection[str], *, largest_answer: int = LARGEST_ANSWER) -> None:
        self._hosts = frozenset(hosts)
        self._largest = largest_answer
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=True),  # a common limit would let one slow partner slow all
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": "todoke", "accept-encoding": "identity"},  # so that the cap counts what arrives
            middlewares=(_once,),
            request_class=_Guarded,
            trust_env=False,
        )
        self._topics = Topics()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. May be called twice."""
        await self._session.close()
        await self._topics.close()

    async def carry(self, request: Request | UploadRequest, timeout_s: float, guard: Guard | None = None) -> Any:
        """What `request` asks for, of whichever kind: its answer is of the same kind. As `send`, and raises as it does.

        A topic's brokers tell us of each other, so the list of hosts holds for those that are asked first.
        """
        if isinstance(request, HttpRequest | UploadRequest):
            return await self.send(request, timeout_s, guard=guard)
        if isinstance(request, FileRequest):
            self._allow(authority(request.url))
            return await files.carry(request, timeout_s, guard, self._send_for)
        if isinstance(request, ListRequest):
            raise Rejected("by-hand")
        for each in request.servers:
            self._allow(authority(f"kafka://{each}"))
        return await self._topics.carry(request, timeout_s, guard)

    async def send(
        self, request: HttpRequest | UploadRequest, timeout_s: float, traceparent: str = "", guard: Guard | None = None
    ) -> HttpResponse:
        """One call, at most once. A redirect is an answer like any other; a body is cut off at the cap.

        Half of `timeout_s` at most goes into connecting, so a time-out later on is one of a call that may have arrived.
        `traceparent` is the header of W3C Trace Context, if there is one. `guard` is asked just before the first byte is
        written, when there is a connection: what it raises is raised here, and nothing was sent. Raises `Retry`: `perhaps` is false when no
        byte of the request was written, true when that isn't known. Raises `Misconfigured` for a host not listed.
        """
        host = authority(request.url)
        self._allow(host)
        headers = {**request.headers, "traceparent": traceparent} if traceparent else request.headers
        if isinstance(request, UploadRequest):
            headers = {**headers, "content-length": str(request.size)}
        _guard.set(guard)
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=_streamed(request) if isinstance(request, UploadRequest) else request.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s / 2),
            ) as response:
                body = await self._read(response)
                return HttpResponse(status=response.status, headers=_headers(response), body=body)
        except TimeoutError:
            raise Retry("timeout") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError):
            raise Retry("connection-lost") from None
        except ValueError:  # aiohttp's InvalidURL among them, and what the codec of host names raises
            raise Misconfigured(f"an address or header for {host} is unsound; correct it in settings") from None
        except aiohttp.ClientError:
            raise Retry("malformed-answer") from None

    def _allow(self, host: str) -> None:
        if host not in self._hosts:
            raise Misconfigured(f"{host or 'an address without a host'} is no host of a partner; add it to settings")

    async def _send_for(self, request: HttpRequest, timeout_s: float, guard: Guard | None) -> HttpResponse:
        return await self.send(request, timeout_s, guard=guard)

    async def _read(self, response: ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) >= self._largest:
                response.close()  # the rest is not waited for, so the connection can't be used again
                break
        return bytes(body[: self._largest])


class _Guarded(ClientRequest):
    """Asks the guard as late as this library lets us: a connection may have been long in the making."""

    async def send(self, conn: Connection) -> ClientResponse:
        if guard := _guard.get():
            try:
                guard()
            except BaseException:
                conn.release()  # nothing is wrong with the connection: who is late because of it finds it made next time
                raise
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Runs in a task of its own, a turn of the loop later; the headers wait for it in a buffer."""
        if guard := _guard.get():
            try:
                guard()
            except Exception as error:  # noqa: BLE001  # handed to whoever waits for the answer, who raises it
                assert conn.protocol is not None
                conn.protocol.set_exception(error)
                return
        await super().write_bytes(writer, conn, content_length)


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Tell a connection that never stood from one that broke, in place of aiohttp's own second attempt.

    aiohttp sends PUT and DELETE again by itself when a kept connection breaks. A call that is sent twice is one attempt
    that nobody recorded, so what would trigger it becomes ours here.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorDNSError:
        raise Retry("host-unknown", perhaps=False) from None
    except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
        raise Retry("tls", perhaps=False) from None
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
        raise Retry("not-connected", perhaps=False) from None
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise Retry("connection-lost") from None


async def _streamed(request: UploadRequest) -> AsyncIterator[bytes]:
    """The body, piece by piece."""
    yield request.head
    for each in request.pieces():
        yield each
    yield request.tail


def _headers(response: ClientResponse) -> dict[str, str]:
    """Names in lower case; a name that came twice has its values joined (RFC 9110, 5.3)."""
    joined: dict[str, str] = {}
    for name, value in response.headers.items():
        lower = name.lower()
        joined[lower] = f"{joined[lower]}, {value}" if lower in joined else value
    return joined
