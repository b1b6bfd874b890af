"""One HTTP connection for who may wait: kept open, and opened again when the other side has closed it."""

import http.client
import ssl
from urllib.parse import urlsplit

from todoke.schemas.errors import Misconfigured, Retry

from .base import HttpResponse

LARGEST_ANSWER = 8 << 20


class Wire:
    """To one server. For one thread at a time."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`url` names the server; nothing is opened yet. Raises `Misconfigured`."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Misconfigured(f"{parts.scheme}://{parts.netloc}: expected http:// or https:// and a host")
        self._connection = (
            http.client.HTTPSConnection(parts.netloc, timeout=timeout_s, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
        )
        self._used = False

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> HttpResponse:
        """One call, `target` being path and query. Raises `Retry`; what it asked for may have happened all the same.

        A connection that was used before may have been closed meanwhile: only then is a call sent twice, so it must be one
        that does no harm twice.
        """
        fresh = not self._used
        self._used = True
        try:
            return self._once(method, target, headers, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if fresh or isinstance(error, TimeoutError):
                raise Retry("timeout" if isinstance(error, TimeoutError) else "connection-lost") from None
        return self.send(method, target, headers, body)

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        self._connection.close()
        self._used = False

    def _once(self, method: str, target: str, headers: dict[str, str], body: bytes) -> HttpResponse:
        self._connection.request(method, target, body=body, headers=headers)
        answer = self._connection.getresponse()
        data = answer.read(LARGEST_ANSWER + 1)
        if len(data) > LARGEST_ANSWER:
            self.close()
            raise Retry("answer-too-large")
        found = {name.lower(): value for name, value in answer.getheaders()}
        return HttpResponse(status=answer.status, headers=found, body=data)
