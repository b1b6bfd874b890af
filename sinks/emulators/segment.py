"""Segment's `/regulations` of the Public API.

From "User Deletion and Suppression" (segmentio/segment-docs at 0091055) and the models of segmentio/public-api-sdk-python at
061e400. Not there, so chosen here: the names of places, and that a refused token gets 401 with `errors`.
"""

import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

ONE = re.compile(r"/regulations/([A-Za-z0-9]+)")
MOST = 5000
DELETIONS = frozenset({"SUPPRESS_WITH_DELETE", "SUPPRESS_WITH_DELETE_INTERNAL", "DELETE_ONLY", "DELETE_INTERNAL"})
TYPES = DELETIONS | {"SUPPRESS_ONLY", "UNSUPPRESS"}
MEDIA = frozenset({"application/json", "application/vnd.segment.v1+json"})


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pending` questions about a regulation get INITIALIZED, then as many RUNNING; `quota` users are taken, any when 0."""

    pending: int = 0
    quota: int = 0


class SegmentEmulator:
    """Keeps who is suppressed and who was deleted, as hashes, and every regulation with its status."""

    faults = (
        *("429", "429-retry-after", "429-quota", "500", "auth", "denied", "422", "200-errors"),
        *("partial", "unsupported", "late-failure", "invalid"),
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._token = token
        self._options = options
        self._journal = journal
        self._clock = clock
        self._suppressed: set[str] = set()
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._regulations: dict[str, tuple[str, str, int]] = {}
        self._asked: dict[str, int] = {}
        self._users = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if kind.startswith("429"):
            return _throttled(fault)
        if kind in _REFUSALS:
            return _error(*_REFUSALS[kind])
        given = call.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _error(*_REFUSALS["auth"])
        one = ONE.fullmatch(call.path)
        if call.method == "GET" and one:
            return self._show(one[1])
        if call.path != "/regulations":
            return _error(404, "not-found")
        if call.method == "GET":
            known = [{"id": identity, "status": each[1]} for identity, each in self._regulations.items()]
            return Answer(200, {"data": {"regulations": known, "pagination": {"current": "MA==", "totalEntries": 1}}})
        return self._regulate(call, kind)

    def replay(self, line: Mapping[str, Any]) -> None:
        op, done = line["op"], line["scope"] == "FINISHED" or line["scope"] == "FAILED-THERE"
        self._users += len(line["identifiers"])
        self._regulations[line["request_id"]] = (op, line["scope"], line["at"])
        if not done:
            return
        for identifier in line["identifiers"]:
            (self._suppressed.discard if op == "UNSUPPRESS" else self._suppressed.add)(identifier)
            last = self._last.setdefault(identifier, {})
            last["workspace"] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"suppressed": sorted(self._suppressed), "regulations": len(self._regulations), "last": last}

    def _regulate(self, call: Call, fault: str) -> Answer:
        try:
            body = json.loads(call.body)
        except ValueError:
            body = None
        subjects = body.get("subjectIds") if isinstance(body, dict) else None
        media = call.headers.get("content-type", "").split(";")[0]
        if (
            call.method != "POST"
            or media not in MEDIA
            or not isinstance(subjects, list)
            or not 0 < len(subjects) <= MOST
            or not all(isinstance(each, str) and each for each in subjects)
            or body.get("subjectType") != "USER_ID"
            or body.get("regulationType") not in TYPES
        ):
            return _error(422, "validation-failure")
        if self._options.quota and self._users + len(subjects) > self._options.quota:
            return _throttled(Fault(kind="429-quota"))
        if fault == "200-errors":
            return Answer(200, {"errors": [{"type": "internal", "message": "not done"}]})
        identity = f"1qJk{len(self._regulations) + 1:023d}"
        line = {"at": self._clock(), "op": body["regulationType"], "request_id": identity, "account": "workspace"}
        line |= {"scope": _STATUS.get(fault, "FINISHED"), "identifiers": [hashed(each) for each in subjects]}
        self._journal.write(line)
        self.replay(line)
        return Answer(200, {"data": {"regulateId": identity}})

    def _show(self, identity: str) -> Answer:
        regulation = self._regulations.get(identity)
        if regulation is None:
            return _error(404, "not-found")
        op, ended, at = regulation
        self._asked[identity] = self._asked.get(identity, 0) + 1
        waiting = (self._asked[identity] <= self._options.pending) + (
            self._asked[identity] <= 2 * self._options.pending
        )
        overall, places = _PLACES[ended] if op in DELETIONS else (ended.partition("-")[0], [])
        status = {0: overall, 1: "RUNNING", 2: "INITIALIZED"}[waiting]
        streams = [_place(index, status if waiting else each) for index, each in enumerate(places)]
        shown = {
            "id": identity,
            "workspaceId": "w1",
            "overallStatus": status,
            "createdAt": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
            "streamStatus": [{"id": "segment", "destinationStatus": streams}],
        }
        return Answer(200, {"data": {"regulation": shown}})


_REFUSALS = {
    "500": (500, "internal"),
    "auth": (401, "unauthorized"),
    "denied": (403, "forbidden"),
    "422": (422, "validation-failure"),
}
_STATUS = {
    "partial": "PARTIAL_SUCCESS",
    "unsupported": "FAILED-THERE",
    "late-failure": "FAILED",
    "invalid": "INVALID",
}
_PLACES = {
    "FINISHED": ("FINISHED", ["FINISHED", "FINISHED"]),
    "PARTIAL_SUCCESS": ("PARTIAL_SUCCESS", ["FINISHED", "FAILED"]),
    "FAILED-THERE": ("FAILED", ["FINISHED", "NOT_SUPPORTED"]),
    "FAILED": ("FAILED", ["FAILED", "FAILED"]),
    "INVALID": ("INVALID", []),
}
"""Of deletions: the whole, then each place. A failure of the whole hides what was done at Segment itself."""


def _place(index: int, status: str) -> dict[str, str]:
    return {"name": f"place-{index}", "id": str(index), "status": status, "errString": "" if status else "not done"}


def _throttled(fault: Fault | None) -> Answer:
    """`429-quota` has a reset of the quota, against a date that stands still, for tests."""
    headers = {}
    if fault and fault.kind == "429-retry-after":
        headers = {"retry-after": str(round(fault.after_s))}
    if fault and fault.kind == "429-quota":
        headers = {
            "date": "Thu, 01 Jan 2026 00:00:00 GMT",
            "x-regulation-ratelimit-remaining": "0",
            "x-regulation-ratelimit-quota-reset": "2026-01-01T02:00:00.000Z",
        }
    return Answer(429, {"errors": [{"type": "too-many-requests", "message": "slow down"}]}, headers)


def _error(status: int, kind: str) -> Answer:
    return Answer(status, {"errors": [{"type": kind, "message": "not accepted"}]})
