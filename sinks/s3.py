"""A store that speaks S3: signed by us, sent by the one sender, so that no second HTTP client comes in.

Sources: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)", PutObject,
HeadObject, GetObject, "Prevent object overwrites with conditional writes", as known in November 2026.
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote, urlsplit

from todoke.schemas.errors import Retry

from .base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, S3Login
from .http import retry_after

LARGEST_ANSWER = 1 << 20
OURS = "x-amz-meta-todoke-sha256"

Guard = Callable[[], None]
Call = Callable[[HttpRequest, Guard | None], Awaitable[HttpResponse]]


@asynccontextmanager
async def opened(url: str, login: S3Login, at: int, call: Call) -> AsyncIterator["S3Store"]:
    """The store at `url`, which ends in the bucket or has it in its host. Opens no connection."""
    yield S3Store(url, login, at, call)


class S3Store:
    """A bucket, or a place within."""

    def __init__(self, url: str, login: S3Login, at: int, call: Call) -> None:
        self._url = url.rstrip("/")
        self._login = login
        self._at = at
        self._call = call

    async def put(self, path: str, body: bytes, guard: Guard | None) -> bool:
        """`If-None-Match: *`: the store itself refuses to overwrite, and an object appears whole by its nature.

        What stands there is ours when it has our digest among its metadata.
        """
        digest = sha256(body).hexdigest()
        headers = {"content-type": "application/octet-stream", "if-none-match": "*", OURS: digest}
        answer = await self._send("PUT", path, headers, body, guard)
        if answer.status == 412:
            there = await self._send("HEAD", path, {})
            if there.status == 404:
                raise Retry("conflict", perhaps=False)
            _raise(there)
            return there.headers.get(OURS) == digest
        _raise(answer)
        return True

    async def get(self, path: str) -> bytes | None:
        """A key that holds nothing is 404 for those who may list the bucket, 403 for others."""
        answer = await self._send("GET", path, {})
        if answer.status == 404 and b"NoSuchBucket" not in answer.body:
            return None
        _raise(answer)
        if len(answer.body) >= LARGEST_ANSWER:
            raise Retry("answer-too-large", SOMEBODY_MUST_ACT_S, perhaps=False)
        return answer.body

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", guard: Guard | None = None
    ) -> HttpResponse:
        url = f"{self._url}/{quote(path.lstrip('/'), safe='/')}"
        signed = sign(method, url, {**headers, **_stamps(self._login, self._at, body)}, self._login)
        return await self._call(HttpRequest(method=method, url=url, headers=signed, body=body), guard)


def sign(method: str, url: str, headers: Mapping[str, str], login: S3Login) -> dict[str, str]:
    """`headers`, which name `x-amz-date` and `x-amz-content-sha256`, with `host` and the `authorization` over them all.

    The path of `url` is percent-encoded already; there is no query.
    """
    parts = urlsplit(url)
    given = {name.lower(): value.strip() for name, value in headers.items()} | {"host": parts.netloc}
    names = ";".join(sorted(given))
    lines = "".join(f"{name}:{given[name]}\n" for name in sorted(given))
    canonical = f"{method}\n{parts.path or '/'}\n{parts.query}\n{lines}\n{names}\n{given['x-amz-content-sha256']}"
    stamp = given["x-amz-date"]
    scope = f"{stamp[:8]}/{login.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{login.secret_access_key.reveal()}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{login.access_key_id.reveal()}/{scope}"
    said = f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"
    return {**given, "authorization": said}


def _stamps(login: S3Login, at: int, body: bytes) -> dict[str, str]:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
    stamps = {"x-amz-date": f"{moment:%Y%m%dT%H%M%SZ}", "x-amz-content-sha256": sha256(body).hexdigest()}
    return stamps | ({"x-amz-security-token": login.session_token.reveal()} if login.session_token else {})


def _raise(answer: HttpResponse) -> None:
    """What is no success: 5xx passes, and may have been applied; a 409 is another writer's; the rest concerns everybody.

    Nobody's stop is given up for a key that ran out or a bucket that moved.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status >= 500 or status in {408, 429}:
        raise Retry(f"http-{status}", retry_after(answer.headers), perhaps=status != 429)
    if status == 409:
        raise Retry("conflict", perhaps=False)
    if status in {401, 403}:
        raise Retry("auth", SOMEBODY_MUST_ACT_S, perhaps=False)
    raise Retry(f"http-{status}", SOMEBODY_MUST_ACT_S, perhaps=False)
