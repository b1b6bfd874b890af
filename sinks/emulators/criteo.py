"""Criteo's contact list of an audience segment, and its token endpoint.

From Criteo's "Contact List" guide, the reference and OpenAPI text of `PATCH …/contact-list` and `GET …/statistics`
(2026-01), "Rate Limits" and "Client Credentials", read 2026-11-23 in copies of 2026. The forms of identifiers that count
as invalid are not on these pages: here whatever is no address, no hash in hex and no device id.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from . import tokens
from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = re.compile(r"/([^/]+)/marketing-solutions/audience-segments/(\d+)/contact-list(/statistics)?")
HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
DEVICE = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
TYPES = ("email", "madid", "identityLink", "gum", "phoneNumber")
MOST = 50_000


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`segments` (ids, by comma) are those that exist, any when empty."""

    api_version: str = "2026-01"
    segments: str = ""
    token_lasts_s: int = 900


class Problem(Exception):
    """An error: HTTP status, type, code."""

    def __init__(self, status: int, kind: str, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.kind = kind
        self.code = code


class CriteoEmulator:
    """Keeps the members of each segment, as hashes."""

    token_path = "/oauth2/token"  # noqa: S105  # a path
    faults = (
        *("429", "429-retry-after", "500", "expired", "denied", "gone", "invalid-rows", "errors-inside", "partial"),
        *tokens.FAULTS,
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._tokens = tokens.Tokens(clock, secret=token, lasts_s=options.token_lasts_s)
        self._options = options
        self._known = frozenset(filter(None, options.segments.split(",")))
        self._journal = journal
        self._clock = clock
        self._members: dict[str, set[str]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._serial = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        if call.path == self.token_path:
            return self._tokens.answer(call, fault)
        kind = fault.kind if fault else ""
        try:
            return Answer(200, self._judge(call, kind))
        except Problem as problem:
            return Answer(problem.status, _refusal(problem), self._headers(fault))

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
            return {"segments": within, "last": {identifier: self._last.get(identifier, {})}}
        return {"segments": {name: sorted(each) for name, each in sorted(self._members.items())}, "last": self._last}

    def _headers(self, fault: Fault | None) -> dict[str, str]:
        """The rate's: the time when a call is allowed again, in seconds since 1970, by a clock that stands still."""
        if not fault or fault.kind != "429-retry-after":
            return {}
        reset = str(1_628_249_355 + round(fault.after_s))
        limits = {"x-ratelimit-limit": "250", "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
        return {**limits, "date": "Fri, 06 Aug 2021 11:29:15 GMT"}

    def _judge(self, call: Call, fault: str) -> dict[str, Any]:
        if fault in _PROBLEMS:
            raise Problem(*_PROBLEMS[fault])
        if not self._tokens.good(call):
            raise Problem(401, "access-control", "authorization-token-invalid")
        match = PATH.fullmatch(call.path)
        if not match or match[1] != self._options.api_version:
            raise Problem(404, "validation", "route-not-found")
        segment = match[2]
        if self._known and segment not in self._known:
            raise Problem(404, "validation", "audience-invalid")
        if match[3] and call.method == "GET":
            count = len(self._members.get(segment, ()))
            attributes = {"numberOfIdentifiers": count, "numberOfMatches": count, "matchRate": 1.0}
            return {"data": {"type": "ContactlistStatistics", "attributes": attributes}, "errors": [], "warnings": []}
        if call.method != "PATCH" or match[3]:
            raise Problem(405, "validation", "method-not-allowed")
        return self._amend(segment, call, fault)

    def _amend(self, segment: str, call: Call, fault: str) -> dict[str, Any]:
        operation, kind, named = _amendment(call)
        if fault == "partial":
            named = named[: len(named) // 2]
        good = [each for each in named if _sound(kind, each)]
        if fault == "invalid-rows":
            good = good[1:]
        held = [each if HASH.fullmatch(each) else hashed(each) for each in good]
        line = {"at": self._clock(), "op": operation, "account": segment, "scope": "", "identifiers": held}
        line["request_id"] = f"C{self._serial + 1}"
        self._journal.write(line)
        self.replay(line)
        invalid = [each for each in named if each not in good]
        attributes = {
            "operation": operation,
            "contactListId": int(segment),
            "identifierType": kind,
            "nbValidIdentifiers": len(good),
            "nbInvalidIdentifiers": len(invalid),
            "sampleInvalidIdentifiers": invalid[:10],
            "requestDate": datetime.fromtimestamp(self._clock() / 1000, UTC).isoformat(),
        }
        errors = [_described("availability", "internal-error")] if fault == "errors-inside" else []
        return {"data": {"type": "ContactlistAmendment", "attributes": attributes}, "errors": errors, "warnings": []}


_PROBLEMS: dict[str, tuple[int, str, str]] = {
    "429": (429, "quota", "too-many-requests"),
    "429-retry-after": (429, "quota", "too-many-requests"),
    "500": (500, "availability", "internal-error"),
    "expired": (401, "access-control", "authorization-token-expired"),
    "denied": (403, "access-control", "user-not-authorized"),
    "gone": (404, "validation", "audience-invalid"),
}


def _described(kind: str, code: str) -> dict[str, Any]:
    return {"traceId": "0", "type": kind, "code": code, "instance": "", "title": "not accepted"}


def _refusal(problem: Problem) -> dict[str, Any]:
    return {"errors": [_described(problem.kind, problem.code)], "warnings": []}


def _amendment(call: Call) -> tuple[str, str, list[str]]:
    try:
        data = json.loads(call.body)["data"]
        attributes = data["attributes"]
        operation, kind, named = (attributes[key] for key in ("operation", "identifierType", "identifiers"))
    except (ValueError, KeyError, TypeError):
        raise Problem(400, "validation", "model-validation-error") from None
    sound = data.get("type") == "ContactlistAmendment" and operation in {"add", "remove"} and kind in TYPES
    if not sound or not isinstance(named, list) or not named or not all(isinstance(each, str) for each in named):
        raise Problem(400, "validation", "model-validation-error")
    if kind == "gum" and "gumCallerId" not in attributes:
        raise Problem(400, "validation", "missing-gum-caller-id")
    if len(named) > MOST:
        raise Problem(400, "validation", "too-many-identifiers")
    return operation, kind, named


def _sound(kind: str, identifier: str) -> bool:
    if kind == "madid":
        return bool(DEVICE.fullmatch(identifier))
    return kind != "email" or bool(HASH.fullmatch(identifier)) or "@" in identifier
