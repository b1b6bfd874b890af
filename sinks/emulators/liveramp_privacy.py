"""LiveRamp's Privacy API, and the token endpoint of its service accounts.

From LiveRamp's Privacy API 1.0.0 (api-evangelist/liveramp `openapi/_original/liveramp-privacy-api-openapi.yml` at e06670b) and
the pages summed up there: tokens by password for 600 s, a repeat answered with 200 and the same uuid. Done `pending_s` after it came.
"""

import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid5

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

SPACE = UUID("7d9e5c2a-54a5-4c68-9a55-1f3c1b2f6c10")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
ELSEWHERE = "00000000-0000-4000-8000-000000000000"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`organization` is the only one that is known, any when empty; a token lives for `lasts_s`."""

    organization: str = ""
    pending_s: float = 0.0
    lasts_s: int = 600


class Problem(Exception):
    """A refusal: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LiveRampPrivacyEmulator:
    """Keeps requests by their uuid, and whom they were about as hashes."""

    token_path = "/authn/v1/oauth2/token"  # noqa: S105  # a path
    faults = (
        "429",
        "429-retry-after",
        "500",
        "503",
        "expired",
        "invalid",
        "failed",
        "late-failure",
        "other-request",
        "token-refused",
        "token-down",
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._secret = token
        self._options = options
        self._journal = journal
        self._clock = clock
        self._given: dict[str, int] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if call.path == self.token_path:
            return self._token(call, kind)
        headers = {"retry-after": str(round(fault.after_s))} if fault and kind == "429-retry-after" else {}
        try:
            return self._answered(call, kind)
        except Problem as problem:
            return Answer(problem.status, {"message": str(problem), "time": _iso(self._clock())}, headers)

    def replay(self, line: Mapping[str, Any]) -> None:
        if line["op"] == "failed":
            self._requests[line["request_id"]]["failed"] = True
            return
        self._requests[line["request_id"]] = {"at": line["at"], "type": line["op"], "failed": False}
        for identifier in line["identifiers"]:
            held = self._last.setdefault(identifier, {})
            held[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"requests": {each: self._status(each) for each in sorted(self._requests)}, "last": last}

    def _token(self, call: Call, kind: str) -> Answer:
        if kind == "token-down":
            return Answer(503, "try later")
        form = {name: values[0] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()}
        wanted = {"grant_type": "password", "client_id": "liveramp-api", "scope": "openid"}
        if call.method != "POST" or wanted != {name: form.get(name) for name in wanted} or not form.get("username"):
            return Answer(400, {"error": "invalid_request"})
        if kind == "token-refused" or not hmac.compare_digest(form.get("password", "").encode(), self._secret.encode()):
            return Answer(400, {"error": "invalid_grant"})
        token = f"emulated.token-{len(self._given) + 1}"
        self._given[token] = self._clock() + self._options.lasts_s * 1000
        return Answer(200, {"access_token": token, "expires_in": self._options.lasts_s, "token_type": "Bearer"})

    def _answered(self, call: Call, kind: str) -> Answer:
        if kind in _PROBLEMS:
            raise Problem(*_PROBLEMS[kind])
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        if self._given.get(token, 0) <= self._clock():
            raise Problem(401, "Invalid authorization token")
        organization = call.headers.get("lr-org-id", "")
        if not organization:
            raise Problem(400, "missing header LR-Org-ID")
        if self._options.organization and organization != self._options.organization:
            raise Problem(403, "Insufficient permissions for the organization")
        match call.method, call.path:
            case "POST", "/v1/requests":
                return self._create(call, organization, kind)
            case "GET", "/v1/requests":
                return Answer(200, {"privacy_request": self._asked(call, kind)})
        raise Problem(404, "Not found")

    def _create(self, call: Call, organization: str, kind: str) -> Answer:
        try:
            body = json.loads(call.body)
            wanted, email, maid = body["request_type"], body.get("email"), body.get("maid")
            sound = bool(EMAIL.fullmatch(email)) if maid is None else email is None and str(UUID(maid)) == maid
        except (ValueError, KeyError, TypeError, AttributeError):
            sound, wanted, email, maid = False, "", "", ""
        if not sound or wanted not in {"DELETION", "OPT_OUT"}:
            raise Problem(422, "Input Validation Error")
        who = hashed(email or maid)
        named = str(uuid5(SPACE, f"{organization}|{wanted}|{who}"))
        duplicate = named in self._requests
        if not duplicate:
            line = {
                "at": self._clock(),
                "op": wanted,
                "request_id": named,
                "account": organization,
                "scope": "",
                "identifiers": [who],
            }
            self._journal.write(line)
            self.replay(line)
        status = "FAILED" if kind == "failed" else self._status(named) if duplicate else "ACCEPTED"
        return Answer(
            200 if duplicate else 201,
            {
                "request_uuid": named,
                "status": status,
                "message": "Request acknowledged" if duplicate else "Request created successfully",
                "is_duplicate": duplicate,
            },
        )

    def _asked(self, call: Call, kind: str) -> dict[str, Any]:
        named = parse_qs(call.query).get("uuid", [""])[0]
        if named not in self._requests:
            raise Problem(404, "Privacy request not found or not accessible by this organization")
        if kind == "late-failure":
            line = {"at": self._clock(), "op": "failed", "request_id": named}
            self._journal.write(line)
            self.replay(line)
        request, status = self._requests[named], self._status(named)
        return {
            "request_uuid": ELSEWHERE if kind == "other-request" else named,
            "request_type": request["type"],
            "status": status,
            "date_received": _iso(request["at"]),
            "error_message": "Processing failed due to taro@example.com" if status == "FAILED" else None,
        }

    def _status(self, named: str) -> str:
        request = self._requests[named]
        if request["failed"]:
            return "FAILED"
        waits = self._options.pending_s * 1000 - (self._clock() - request["at"])
        return "COMPLETED" if waits <= 0 else ("ACCEPTED" if waits > self._options.pending_s * 500 else "PROCESSING")


_PROBLEMS = {
    "429": (429, "Too many requests"),
    "429-retry-after": (429, "Too many requests"),
    "500": (500, "Internal error"),
    "503": (503, "Unavailable"),
    "expired": (403, "token expired"),
    "invalid": (422, "Input Validation Error"),
}


def _iso(at: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at):%Y-%m-%dT%H:%M:%SZ}"
