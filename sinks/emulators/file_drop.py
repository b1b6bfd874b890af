"""A partner that takes files: an S3 store, and behind it somebody who reads each file once its checksum is there.

From Amazon S3's API Reference: PutObject with `If-None-Match`, GetObject, HeadObject, "Error Responses", and "Authenticating
Requests (AWS Signature Version 4)"; and from docs/partners/file_drop.md, whose acknowledgements it writes under `ack/`.
"""

import csv
import hashlib
import hmac
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/[\w-]+/s3/aws4_request), ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
META = "x-amz-meta-"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`access_key_id` is the only one that is known; files are acknowledged `pending_s` after their checksum came."""

    access_key_id: str = "AKIAEMULATED"
    pending_s: float = 0.0


class Problem(Exception):
    """A refusal: status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status


class FileDropEmulator:
    """Keeps objects; of people the journal has hashes alone."""

    faults = (
        "429",
        "503",
        "503-retry-after",
        "500",
        "auth",
        "no-bucket",
        "moved",
        "conflict",
        "rejected-rows",
        "failed",
        "unreadable",
        "other-file",
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._secret = token
        self._options = options
        self._journal = journal
        self._clock = clock
        self._objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self._read: dict[str, dict[str, Any]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        headers = {"retry-after": str(round(fault.after_s))} if fault and kind == "503-retry-after" else {}
        try:
            self._authenticate(call, kind)
            return self._answered(call, kind)
        except Problem as problem:
            body = "" if call.method == "HEAD" else f"<Error><Code>{problem}</Code><Key>{call.path}</Key></Error>"
            return Answer(problem.status, body, headers)

    def replay(self, line: Mapping[str, Any]) -> None:
        self._read[line["file"]] = {"sha256": line["sha256"], "at": line["at"], "requests": line["requests"]}
        for identifier, deed in line["identifiers"].items():
            self._last.setdefault(identifier, {})[deed["account"]] = {**deed, "at": line["at"]}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"files": sorted(self._read), "objects": sorted(self._objects), "last": last}

    def _answered(self, call: Call, kind: str) -> Answer:
        folder, _, name = call.path.rpartition("/")
        if folder.endswith("/ack") and call.method in {"GET", "HEAD"}:
            return self._acknowledged(name.removesuffix(".ack"), kind)
        match call.method:
            case "PUT":
                return self._put(call)
            case "GET" | "HEAD" if call.path in self._objects:
                body, metadata = self._objects[call.path]
                return Answer(200, body.decode() if call.method == "GET" else "", metadata)
        raise Problem(404, "NoSuchKey")

    def _put(self, call: Call) -> Answer:
        if call.headers.get("if-none-match") == "*" and call.path in self._objects:
            raise Problem(412, "PreconditionFailed")
        metadata = {name: value for name, value in call.headers.items() if name.startswith(META)}
        self._objects[call.path] = (call.body, metadata)
        if call.path.endswith(".sha256"):
            self._take(call.path.removesuffix(".sha256"))
        return Answer(200, "", {"etag": f'"{hashlib.md5(call.body, usedforsecurity=False).hexdigest()}"'})

    def _take(self, path: str) -> None:
        """Read a file that is complete; one whose checksum is wrong is left alone."""
        body, checksum = self._objects.get(path, (b"", {}))[0], self._objects[f"{path}.sha256"][0].decode()[:64]
        if hashlib.sha256(body).hexdigest() != checksum:
            return
        deeds = {}
        for row in csv.DictReader(io.StringIO(body.decode(), newline="")):
            value = row["identifier"]
            held = value if re.fullmatch(r"[0-9a-f]{64}", value) else hashed(value)
            deeds[held] = {"op": row["effect"], "request_id": row["request_id"], "account": row["account"]}
        line = {
            "at": self._clock(),
            "op": "file",
            "file": path.rpartition("/")[2],
            "sha256": checksum,
            "requests": sorted({each["request_id"] for each in deeds.values()}),
            "identifiers": deeds,
        }
        self._journal.write(line)
        self.replay(line)

    def _acknowledged(self, name: str, kind: str) -> Answer:
        known = self._read.get(name)
        if known is None or self._clock() - known["at"] < self._options.pending_s * 1000:
            raise Problem(404, "NoSuchKey")
        said: dict[str, Any] = {"file": name, "sha256": known["sha256"], "status": "processed", "rejected": []}
        match kind:
            case "rejected-rows":
                said["rejected"] = [{"request_id": known["requests"][0], "reason": "unknown-person"}]
            case "failed":
                said["status"] = "failed"
            case "other-file":
                said["sha256"] = "0" * 64
            case "unreadable":
                return Answer(200, json.dumps(said)[:-9])
        return Answer(200, json.dumps(said))

    def _authenticate(self, call: Call, kind: str) -> None:
        """Signature version 4, computed anew from what came."""
        if kind in _PROBLEMS:
            raise Problem(*_PROBLEMS[kind])
        found = CREDENTIAL.fullmatch(call.headers.get("authorization", ""))
        if not found or found[1] != self._options.access_key_id:
            raise Problem(403, "InvalidAccessKeyId")
        scope, names, signature = found[2], found[3], found[4]
        if hashlib.sha256(call.body).hexdigest() != call.headers.get("x-amz-content-sha256"):
            raise Problem(400, "XAmzContentSHA256Mismatch")
        stated = "\n".join(f"{name}:{call.headers.get(name, '').strip()}" for name in names.split(";"))
        wanted = [call.method, call.path, call.query, stated, "", names, call.headers["x-amz-content-sha256"]]
        date = call.headers.get("x-amz-date", "")
        digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
        key = ("AWS4" + self._secret).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        if not hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), signature):
            raise Problem(403, "SignatureDoesNotMatch")


_PROBLEMS = {
    "429": (429, "TooManyRequests"),
    "503": (503, "SlowDown"),
    "503-retry-after": (503, "SlowDown"),
    "500": (500, "InternalError"),
    "auth": (403, "AccessDenied"),
    "no-bucket": (404, "NoSuchBucket"),
    "moved": (301, "PermanentRedirect"),
    "conflict": (409, "ConditionalRequestConflict"),
}
