"""A log in an S3 bucket: names are created once, and the few that change are compared before they are set.

Sources: Amazon S3 API Reference and User Guide, "How to prevent object overwrites with conditional writes" (If-None-Match and
If-Match on PutObject, 409 ConditionalRequestConflict), "Using S3 Object Lock" (it wants a checksum with each PutObject),
ListObjectsV2, as known in November 2026. Signatures are those of `s3`.
"""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree as ET

from msgspec import Struct

from todoke.processors.tiles import CHECKPOINT, COSIGNED
from todoke.schemas.errors import Fenced, Misconfigured, Retry

from .base import HttpResponse, S3Login
from .s3 import sign
from .secrets import Secret, read
from .tiles import Folder, Storage
from .wire import Wire

LockMode = Literal["governance", "compliance"]
Fence = Literal["match", "claims"]
FENCES: dict[str, Fence] = {"match": "match", "claims": "claims"}
MODES: dict[str, LockMode] = {"governance": "governance", "compliance": "compliance"}
SWAPPED = (CHECKPOINT, COSIGNED)
LOCKED = ("tile/", *SWAPPED)
TURN = "x-amz-meta-todoke-turn"
BUNDLES = "tile/entries/"
TRIES = 5
TIMEOUT_S = 20.0
IDS = {"id": "env:AWS_ACCESS_KEY_ID", "secret": "env:AWS_SECRET_ACCESS_KEY"}
KNOWN = {"endpoint", "region", "id", "secret", "token", "fence", "lock", "days"}


class Lock(Struct, frozen=True):
    """What S3 Object Lock keeps, and for how many days from each write: tiles of hashes and checkpoints, never entries."""

    mode: LockMode
    days: int


class Bucket:
    """A prefix in a bucket.

    `fence` says how one of two writers is stopped. `claims` needs nothing but If-None-Match: whoever creates the claim with
    the next number is the one who goes on, and claims are never deleted. `match` trusts the store's If-Match, which Amazon
    documents; S3Proxy 4.1.0 and the Versity gateway over files were seen to let two racing writers in by it.
    """

    def __init__(self, url: str, login: S3Login, *, fence: Fence = "claims", lock: Lock | None = None) -> None:
        """`url` is the server's, with bucket and prefix. Opens no connection. Raises `Misconfigured`."""
        self._url = url.rstrip("/")
        self._login = login
        self._fence = fence
        self._lock = lock
        self._wire = Wire(url, TIMEOUT_S)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: TID251  # a signature of S3 is valid for 15 minutes
        self.pause: Callable[[float], None] = time.sleep

    def __repr__(self) -> str:
        return f"Bucket({self._url})"

    def read(self, name: str) -> bytes | None:
        """See `Storage`."""
        return self._newest(name)[0] if name in SWAPPED and self._fence == "claims" else self._get(name)[0]

    def create(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        answer = self._send("PUT", name, {"if-none-match": "*"}, data)
        if answer.status == 412 and self._get(name)[0] != data:
            raise Fenced(f"{name}: other bytes stand there already: another writer has been at work in {self._url}")

    def swap(self, name: str, old: bytes | None, new: bytes) -> None:
        """See `Storage`."""
        if self._fence == "claims":
            there, turn = self._newest(name)
            if there != old:
                raise _fenced(name, self._url)
            self.create(_claim(name, turn + 1), new)
            self._send("PUT", name, {TURN: str(turn + 1)}, new)
            return
        there, headers = self._get(name)
        if there != old:
            raise _fenced(name, self._url)
        answer = self._send(
            "PUT", name, {"if-none-match": "*"} if old is None else {"if-match": headers.get("etag", "")}, new
        )
        if answer.status in {404, 412} and self._get(name)[0] != new:  # ours, where a try before the last came through
            raise _fenced(name, self._url)

    def delete(self, name: str) -> None:
        """See `Storage`."""
        self._send("DELETE", name, {})

    def clear(self, name: str) -> None:
        """See `Storage`."""
        for each in list(self._list(f"{name}/")):
            self.delete(each)

    def close(self) -> None:
        """See `Storage`."""
        self._wire.close()

    def _newest(self, name: str) -> tuple[bytes | None, int]:
        """What the last claim holds, and its number: who made it may have died before it put that in its place."""
        found, headers = self._get(name)
        turn = int(headers.get(TURN, 0))
        while (after := self._get(_claim(name, turn + 1))[0]) is not None:
            found, turn = after, turn + 1
        return found, turn

    def _get(self, name: str) -> tuple[bytes | None, dict[str, str]]:
        answer = self._send("GET", name, {})
        return (None, {}) if answer.status == 404 else (answer.body, answer.headers)

    def _list(self, prefix: str) -> Iterator[str]:
        """Names below a prefix; S3 counts from the bucket's root."""
        bucket, _, root = urlsplit(self._url).path.lstrip("/").partition("/")
        whole = f"{root}/{prefix}" if root else prefix
        query = {"list-type": "2", "prefix": whole}
        while query:
            target = f"/{bucket}?" + "&".join(f"{key}={quote(query[key], safe='')}" for key in sorted(query))
            answer = self._try("GET", target, {}, b"")
            tree = ET.fromstring(answer.body)  # noqa: S314  # our own store's answer; bounded by Wire
            for each in tree.iterfind(".//{*}Contents/{*}Key"):
                yield (each.text or "").removeprefix(f"{root}/" if root else "")
            after = tree.findtext(".//{*}NextContinuationToken")
            query = {**query, "continuation-token": after} if after else {}

    def _send(self, method: str, name: str, headers: Mapping[str, str], body: bytes = b"") -> HttpResponse:
        target = f"{urlsplit(self._url).path}/{quote(name, safe='/')}"
        kept = self._kept(name, body) if method == "PUT" else {}
        return self._try(method, target, {**headers, **kept}, body)

    def _kept(self, name: str, body: bytes) -> dict[str, str]:
        """What asks for the lock."""
        if self._lock is None or not name.startswith(LOCKED) or name.startswith(BUNDLES):
            return {}
        until = self.now() + timedelta(days=self._lock.days)
        return {
            "x-amz-object-lock-mode": self._lock.mode.upper(),
            "x-amz-object-lock-retain-until-date": f"{until:%Y-%m-%dT%H:%M:%SZ}",
            "x-amz-checksum-sha256": base64.b64encode(sha256(body).digest()).decode(),
        }

    def _try(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        """A few times, since each call here does no harm twice. Raises `Retry` in the end, `Misconfigured` for a no."""
        failure = Retry("not-tried")
        for attempt in range(TRIES):
            if attempt:
                self.pause(min(0.2 * 4**attempt, 10.0))
            try:
                answer = self._wire.send(method, target, self._signed(method, target, headers, body), body)
            except Retry as error:
                failure = error
                continue
            if 200 <= answer.status < 300 or answer.status == 412:
                return answer
            if answer.status == 404 and b"NoSuchBucket" not in answer.body:
                return answer
            failure = Retry(f"http-{answer.status}")
            if answer.status == 501 or (answer.status < 500 and answer.status not in {408, 409, 429}):
                raise Misconfigured(
                    f"{self._url}: the store answers {answer.status}{_code(answer.body)}: see its policy and keys"
                )
        raise failure

    def _signed(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        stamps = {"x-amz-date": f"{self.now():%Y%m%dT%H%M%SZ}", "x-amz-content-sha256": sha256(body).hexdigest()}
        if self._login.session_token:
            stamps["x-amz-security-token"] = self._login.session_token.reveal()
        parts = urlsplit(self._url)
        return sign(method, f"{parts.scheme}://{parts.netloc}{target}", {**headers, **stamps}, self._login)


def storage(place: str, environ: Mapping[str, str], *below: str) -> Storage:
    """A folder's path, or `s3://bucket/prefix?endpoint=…&region=…`, and what lies below it. Raises `Misconfigured`.

    `id`, `secret` and `token` are references to secrets, as everywhere; `fence` is `match` or `claims`; `lock` is
    `governance` or `compliance`, with `days`.
    """
    parts = urlsplit(place)
    if parts.scheme != "s3":
        return Folder(Path(place).joinpath(*below))
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not parts.netloc or given.keys() - KNOWN or not given.get("region"):
        raise Misconfigured(
            f"s3://{parts.netloc}: expected s3://bucket/prefix?region=…, and of {', '.join(sorted(KNOWN))}"
        )
    fence, mode, days = FENCES.get(given.get("fence", "claims")), given.get("lock"), given.get("days", "")
    if fence is None:
        raise Misconfigured(f"s3://{parts.netloc}: fence is match or claims")
    if (mode is None) == days.isdecimal() or mode not in {None, *MODES}:
        raise Misconfigured(f"s3://{parts.netloc}: lock is governance or compliance, and days says for how long")
    endpoint = given.get("endpoint", f"https://s3.{given['region']}.amazonaws.com").rstrip("/")
    url = "/".join([endpoint, parts.netloc, *filter(None, [parts.path.strip("/"), *below])])
    secrets = {key: read(given.get(key, IDS[key]), f"s3://{parts.netloc}: {key}", environ) for key in IDS}
    token = read(given["token"], f"s3://{parts.netloc}: token", environ) if "token" in given else None
    login = S3Login(
        region=given["region"],
        access_key_id=Secret(secrets["id"]),
        secret_access_key=Secret(secrets["secret"]),
        session_token=Secret(token) if token else None,
    )
    lock = Lock(MODES[mode], int(days)) if mode else None
    return Bucket(url, login, fence=fence, lock=lock)


def _claim(name: str, turn: int) -> str:
    return f"{name}.claims/{turn:012d}"


def _fenced(name: str, url: str) -> Fenced:
    return Fenced(f"{name}: somebody else has written it: another writer has been at work in {url}")


def _code(body: bytes) -> str:
    """The store's code for it, which names nobody."""
    try:
        found = ET.fromstring(body).findtext("Code")  # noqa: S314  # as above
    except ET.ParseError:
        found = None
    return f" {found}" if found else ""
