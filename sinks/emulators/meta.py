"""Meta's `/{custom_audience_id}/users`, as far as its pages describe it.

From Meta's "Customer File Custom Audiences" (adding, removing, hashing, response), the reference "Custom Audience Users"
(v25.0: parameters, return type, error codes), "Login Security" (proof of the app secret, five minutes) and "Rate Limits"
(usage headers, minutes), read 2026-11-23 in copies of 2026. The statuses of errors are not on those pages: 400 here.
"""

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = re.compile(r"/(v\d+\.\d+)/(\d+)/users")
SHA256 = re.compile(r"[0-9a-f]{64}")
DEVICE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PLAIN_KEYS = ("EXTERN_ID", "MADID")
HASHED_KEYS = ("EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI", "CT", "ST", "ZIP", "COUNTRY")
MOST_ROWS = 10_000
PROOF_LASTS_S = 300


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`app_secret` makes the proof compulsory; `audiences` (ids, by comma) are those that exist, any when empty."""

    app_secret: str = ""
    api_version: str = "v25.0"
    audiences: str = ""


class Problem(Exception):
    """An error of the Graph API: code, subcode, message."""

    def __init__(self, code: int, message: str, subcode: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.subcode = subcode


class MetaEmulator:
    """Keeps the members of each audience, as hashes."""

    faults = ("429", "429-retry-after", "500", "auth", "flagged", "gone", "invalid-rows", "partial")

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._token = token
        self._options = options
        self._known = frozenset(filter(None, options.audiences.split(",")))
        self._journal = journal
        self._clock = clock
        self._members: dict[str, set[str]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._serial = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if kind in _PROBLEMS:
            return self._error(Problem(*_PROBLEMS[kind]), kind, fault)
        try:
            return Answer(200, self._users(call, kind))
        except Problem as problem:
            return self._error(problem, kind, fault)

    def replay(self, line: Mapping[str, Any]) -> None:
        self._serial += 1
        members = self._members.setdefault(line["account"], set())
        (members.update if line["op"] == "add" else members.difference_update)(line["identifiers"])
        for identifier in line["identifiers"]:
            last = self._last.setdefault(identifier, {})
            last[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        if identifier:
            within = sorted(name for name, members in self._members.items() if identifier in members)
            return {"audiences": within, "last": {identifier: self._last.get(identifier, {})}}
        return {"audiences": {name: sorted(each) for name, each in sorted(self._members.items())}, "last": self._last}

    def _users(self, call: Call, fault: str) -> dict[str, Any]:
        match = PATH.fullmatch(call.path)
        if not match or call.method not in {"POST", "DELETE"}:
            raise Problem(100, "Unsupported request", 33)
        version, audience = match.groups()
        if version != self._options.api_version:
            raise Problem(2635, "You are calling a deprecated version of the Ads API")
        parameters = _parameters(call)
        self._authorize(call, parameters)
        if self._known and audience not in self._known:
            raise Problem(100, "Object does not exist", 33)
        removing = "DELETE" in {call.method, parameters.get("method", "").upper()}
        if not removing:
            self._session(parameters)
        schema, rows = _payload(parameters)
        if fault == "partial":
            rows = rows[: len(rows) // 2]
        good = [row for row in rows if _sound(schema, row)]
        if fault == "invalid-rows":
            good = good[1:]
        self._apply(audience, "remove" if removing else "add", schema, good)
        kept = set(map(id, good))  # by identity: comparing ten thousand rows with each other takes seconds
        invalid = [row for row in rows if id(row) not in kept]
        return {
            "audience_id": audience,
            "session_id": str(7_000_000_000 + self._serial),
            "num_received": len(rows),
            "num_invalid_entries": len(invalid),
            "invalid_entry_samples": {str(index): json.dumps(row) for index, row in enumerate(invalid[:100])},
        }

    def _apply(self, audience: str, op: str, schema: list[str], rows: list[list[str]]) -> None:
        cells = [(key, cell) for row in rows for key, cell in zip(schema, row, strict=True) if cell]
        line = {
            "at": self._clock(),
            "op": op,
            "request_id": f"T{self._serial + 1}",
            "account": audience,
            "scope": "",
            "identifiers": [hashed(cell) if key in PLAIN_KEYS else cell for key, cell in cells],
        }
        self._journal.write(line)
        self.replay(line)

    def _authorize(self, call: Call, parameters: Mapping[str, str]) -> None:
        kind, _, value = call.headers.get("authorization", "").partition(" ")
        token = value if kind.lower() in {"bearer", "oauth"} else parameters.get("access_token", "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise Problem(190, "Invalid OAuth 2.0 Access Token")
        if not self._options.app_secret:
            return
        stamp = parameters.get("appsecret_time", "")
        if stamp and (not stamp.isdecimal() or abs(self._clock() / 1000 - int(stamp)) > PROOF_LASTS_S):
            raise Problem(100, "Invalid appsecret_proof: its time has passed")
        text = f"{token}|{stamp}" if stamp else token
        wanted = hmac.new(self._options.app_secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, parameters.get("appsecret_proof", "")):
            raise Problem(100, "Invalid appsecret_proof provided in the API argument")

    def _session(self, parameters: Mapping[str, str]) -> None:
        """The guide calls the session required for adding, and its number a positive one of 64 bits."""
        try:
            session = json.loads(parameters.get("session", ""))
            sound = 0 < session["session_id"] < 1 << 63 and session["batch_seq"] >= 1 and "last_batch_flag" in session
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise Problem(100, "Invalid parameter: session")

    def _error(self, problem: Problem, kind: str, fault: Fault | None) -> Answer:
        error: dict[str, Any] = {"message": str(problem), "type": "OAuthException", "code": problem.code}
        if problem.subcode:
            error["error_subcode"] = problem.subcode
        error["fbtrace_id"] = f"A{self._serial}"
        headers = {}
        if kind == "429-retry-after" and fault:
            minutes = math.ceil(fault.after_s / 60)
            usage = {"type": "custom_audience", "call_count": 100, "total_cputime": 9, "total_time": 9}
            usage["estimated_time_to_regain_access"] = minutes
            headers["x-business-use-case-usage"] = json.dumps({"1": [usage]})
        return Answer(500 if kind == "500" else 400, {"error": error}, headers)


_TOO_MANY = (80003, "There have been too many calls to this ad-account. Wait a bit and try again", 0)
_PROBLEMS = {
    "429": _TOO_MANY,
    "429-retry-after": _TOO_MANY,
    "500": (2, "An unexpected error has occurred", 0),
    "auth": (190, "Invalid OAuth 2.0 Access Token", 0),
    "flagged": (100, "Invalid parameter", 1713230),
    "gone": (100, "Object does not exist", 33),
}


def _parameters(call: Call) -> dict[str, str]:
    """Of the query, then of the body: a form, or JSON whose objects count as if they were strings in a form."""
    found = dict(parse_qsl(call.query))
    if call.headers.get("content-type", "").startswith("application/json"):
        try:
            body = json.loads(call.body)
        except ValueError:
            raise Problem(100, "Invalid parameter") from None
        pairs = body.items() if isinstance(body, dict) else []
        return {**found, **{key: each if isinstance(each, str) else json.dumps(each) for key, each in pairs}}
    return {**found, **dict(parse_qsl(call.body.decode("utf-8", "replace")))}


def _payload(parameters: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    try:
        payload = json.loads(parameters.get("payload", ""))
        schema, rows = payload["schema"], payload["data"]
    except (ValueError, KeyError, TypeError):
        raise Problem(100, "Invalid parameter: payload") from None
    if not isinstance(schema, list) or not schema or not all(key in PLAIN_KEYS + HASHED_KEYS for key in schema):
        raise Problem(100, "Invalid parameter: schema")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(schema) for row in rows):
        raise Problem(100, "Invalid parameter: data")
    if len(rows) > MOST_ROWS:
        raise Problem(105, "The number of parameters exceeded the maximum for this operation")
    return schema, rows


def _sound(schema: list[str], row: list[str]) -> bool:
    """Whether every cell has the form that the guide demands of its key, and one of them is there."""
    return any(row) and all(_cell(key, cell) for key, cell in zip(schema, row, strict=True) if cell != "")


def _cell(key: str, cell: object) -> bool:
    if not isinstance(cell, str):
        return False
    if key == "EXTERN_ID":
        return True
    return bool((DEVICE if key == "MADID" else SHA256).fullmatch(cell))
