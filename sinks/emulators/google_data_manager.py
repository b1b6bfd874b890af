"""Google's Data Manager API v1, as far as its pages describe it: `audienceMembers` and `requestStatus`.

From the references of audienceMembers.remove and .ingest, AudienceMember, Destination, requestStatus.retrieve and
ErrorReason, and the guides "Format user data", "Limits and quotas", "Understand API errors" (one bad record refuses the
request) and "Diagnostics", read 2026-11-23 in copies of 2026. The order of field violations' reasons is not on them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from msgspec import Struct

from . import tokens
from .server import Answer, Call, Clock, Fault, Journal, hashed

SHA256 = re.compile(r"[0-9a-f]{64}")
DEVICE = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
MOST = 10_000
MOST_DESTINATIONS = 10
MOST_IDENTIFIERS = 10
METHODS = {"/v1/audienceMembers:remove": "remove", "/v1/audienceMembers:ingest": "add"}
STATUS = "/v1/requestStatus:retrieve"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pending` questions get PROCESSING first; `audiences` (ids, by comma) are those that exist, any when empty.

    With `refresh_token` the secret given is the client's, not a service account.
    """

    pending: int = 0
    audiences: str = ""
    refresh_token: str = ""
    token_lasts_s: int = 3600


class Problem(Exception):
    """An error: HTTP status, canonical status, reason, the field at fault."""

    def __init__(self, code: int, status: str, reason: str, field: str = "", quota: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.status = status
        self.reason = reason
        self.field = field
        self.quota = quota


class GoogleEmulator:
    """Keeps the members of each audience, as hashes, and what became of each request."""

    token_path = "/token"  # noqa: S105  # a path
    faults = (
        *("429", "429-retry-after", "429-day", "500", "expired", "denied", "unknown-list", "invalid-rows"),
        *("late-failure", "partial", "status-lost", *tokens.FAULTS),
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        lasts_s, refresh = options.token_lasts_s, options.refresh_token
        if refresh:
            self._tokens = tokens.Tokens(clock, secret=token, refresh=refresh, lasts_s=lasts_s)
        else:
            self._tokens = tokens.Tokens(clock, account=token, lasts_s=lasts_s)
        self._options = options
        self._known = frozenset(filter(None, options.audiences.split(",")))
        self._journal = journal
        self._clock = clock
        self._members: dict[str, set[str]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._statuses: dict[str, list[tuple[str, str]]] = {}
        self._asked: dict[str, int] = {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        if call.path == self.token_path:
            return self._tokens.answer(call, fault)
        kind = fault.kind if fault else ""
        try:
            return Answer(200, self._judge(call, kind))
        except Problem as problem:
            headers = {"date": "Thu, 01 Jan 2026 00:00:00 GMT"} if kind == "429-day" else {}  # stands still, for tests
            if fault and kind == "429-retry-after":
                headers = {"retry-after": str(round(fault.after_s))}
            return Answer(problem.code, _error(problem), headers)

    def replay(self, line: Mapping[str, Any]) -> None:
        members = self._members.setdefault(line["account"], set())
        (members.update if line["op"] == "add" else members.difference_update)(line["identifiers"])
        for identifier in line["identifiers"]:
            last = self._last.setdefault(identifier, {})
            last[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}
        self._statuses.setdefault(line["request_id"], []).append((line["account"], line["status"]))

    def state(self, identifier: str) -> dict[str, Any]:
        if identifier:
            within = sorted(name for name, members in self._members.items() if identifier in members)
            return {"audiences": within, "last": {identifier: self._last.get(identifier, {})}}
        return {"audiences": {name: sorted(each) for name, each in sorted(self._members.items())}, "last": self._last}

    def _judge(self, call: Call, fault: str) -> dict[str, Any]:
        if fault in _PROBLEMS:
            raise Problem(*_PROBLEMS[fault])
        if not self._tokens.good(call):
            raise Problem(401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED")
        if call.method == "GET" and call.path == STATUS:
            return self._retrieve(call)
        if call.method == "POST" and call.path in METHODS:
            return self._apply(METHODS[call.path], call, fault)
        raise Problem(404, "NOT_FOUND", "NOT_FOUND")

    def _apply(self, op: str, call: Call, fault: str) -> dict[str, Any]:
        body = _parsed(call)
        accounts = self._destinations(body)
        named = _members(body)
        if op == "add" and body.get("termsOfService", {}).get("customerMatchTermsOfServiceStatus") != "ACCEPTED":
            raise Problem(400, "INVALID_ARGUMENT", "TERMS_AND_CONDITIONS_NOT_SIGNED", "terms_of_service")
        if body.get("validateOnly"):
            return {}
        identity = f"AB{len(self._statuses) + 1:08d}-{self._clock():x}"
        for number, account in enumerate(accounts):
            status, done = "SUCCESS", named
            if fault == "late-failure":
                status, done = "FAILED", []
            elif fault == "partial" and number == 0:
                status, done = "PARTIAL_SUCCESS", named[: len(named) // 2]
            line = {"at": self._clock(), "op": op, "request_id": identity, "account": account, "scope": ""}
            line |= {"identifiers": done, "status": status}
            self._journal.write(line)
            self.replay(line)
        return {"requestId": identity}

    def _destinations(self, body: Mapping[str, Any]) -> list[str]:
        given = body.get("destinations")
        if not isinstance(given, list) or not given:
            raise Problem(400, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", "destinations")
        if len(given) > MOST_DESTINATIONS:
            raise Problem(400, "INVALID_ARGUMENT", "TOO_MANY_DESTINATIONS", "destinations")
        accounts = []
        for index, each in enumerate(given):
            operating = each.get("operatingAccount", {})
            audience = str(each.get("productDestinationId", ""))
            if not operating.get("accountId") or not operating.get("accountType") or not audience:
                raise Problem(400, "INVALID_ARGUMENT", "INVALID_DESTINATION", f"destinations[{index}]")
            if self._known and audience not in self._known:
                raise Problem(400, "INVALID_ARGUMENT", "INVALID_USER_LIST_ID", f"destinations[{index}]")
            accounts.append(f"{operating['accountId']}/{audience}")
        return accounts

    def _retrieve(self, call: Call) -> dict[str, Any]:
        identity = parse_qs(call.query).get("requestId", [""])[0]
        statuses = self._statuses.get(identity)
        if statuses is None:
            raise Problem(404, "NOT_FOUND", "NOT_FOUND")
        self._asked[identity] = self._asked.get(identity, 0) + 1
        waiting = self._asked[identity] <= self._options.pending
        return {"requestStatusPerDestination": [_told(*each, waiting=waiting) for each in statuses]}


_PROBLEMS: dict[str, tuple[int, str, str, str, str]] = {
    "429": (429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", "", "IngestionMutateRequestsPerMinutePerProject"),
    "429-retry-after": (
        429,
        "RESOURCE_EXHAUSTED",
        "RATE_LIMIT_EXCEEDED",
        "",
        "IngestionMutateRequestsPerMinutePerProject",
    ),
    "429-day": (429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", "", "IngestionMutateRequestsPerDayPerProject"),
    "500": (500, "INTERNAL", "INTERNAL_ERROR", "", ""),
    "expired": (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED", "", ""),
    "denied": (403, "PERMISSION_DENIED", "PERMISSION_DENIED", "", ""),
    "unknown-list": (400, "INVALID_ARGUMENT", "INVALID_USER_LIST_ID", "destinations[0]", ""),
    "invalid-rows": (400, "INVALID_ARGUMENT", "INVALID_SHA256_FORMAT", "audience_members[0].user_data", ""),
    "status-lost": (404, "NOT_FOUND", "NOT_FOUND", "", ""),
}


def _error(problem: Problem) -> dict[str, Any]:
    reason = "INVALID_ARGUMENT" if problem.field else problem.reason
    info: dict[str, Any] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "datamanager.googleapis.com",
    }
    if problem.quota:
        info["metadata"] = {"quota_limit": problem.quota, "service": "datamanager.googleapis.com"}
    details = [info]
    if problem.field:
        violation = {"field": problem.field, "description": "not accepted", "reason": problem.reason}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    return {
        "error": {"code": problem.code, "message": "not accepted", "status": problem.status, "details": details},
    }


def _told(account: str, status: str, *, waiting: bool) -> dict[str, Any]:
    operating, _, audience = account.partition("/")
    told: dict[str, Any] = {
        "destination": {"operatingAccount": {"accountId": operating}, "productDestinationId": audience},
        "requestStatus": "PROCESSING" if waiting else status,
    }
    if not waiting and status != "SUCCESS":
        counts = [{"recordCount": "1", "reason": "PROCESSING_ERROR_REASON_INTERNAL_ERROR"}]
        told["errorInfo"] = {"errorCounts": counts}
    return told


def _parsed(call: Call) -> dict[str, Any]:
    try:
        body = json.loads(call.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "INVALID_ARGUMENT", "INVALID_FORMAT", "body")
    return body


def _members(body: Mapping[str, Any]) -> list[str]:
    """Every identifier of every member, hashed. One that is unsound, or a second type of data, refuses all."""
    members = body.get("audienceMembers")
    if not isinstance(members, list) or not members:
        raise Problem(400, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", "audience_members")
    if len(members) > MOST:
        raise Problem(400, "INVALID_ARGUMENT", "TOO_MANY_AUDIENCE_MEMBERS", "audience_members")
    types = {key for member in members for key in member if key.endswith("Data")}
    if len(types) != 1:
        raise Problem(400, "INVALID_ARGUMENT", "MULTIPLE_DATA_TYPES_NOT_ALLOWED", "audience_members")
    if "userData" in types and body.get("encoding") not in {"HEX", "BASE64"}:
        raise Problem(400, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", "encoding")
    return [each for index, member in enumerate(members) for each in _identifiers(index, member)]


def _identifiers(index: int, member: Mapping[str, Any]) -> list[str]:
    field = f"audience_members[{index}]"
    if "userData" in member:
        pairs = [pair for each in member["userData"].get("userIdentifiers", []) for pair in each.items()]
        sound = all(key in {"emailAddress", "phoneNumber"} and SHA256.fullmatch(value) for key, value in pairs)
        reason, found = "INVALID_SHA256_FORMAT", [value for _, value in pairs]
    elif "mobileData" in member:
        given = member["mobileData"].get("mobileIds", [])
        sound = all(DEVICE.fullmatch(each) for each in given)
        reason, found = "INVALID_MOBILE_ID_FORMAT", [hashed(each) for each in given]
    else:
        given = member["userIdData"].get("userId", "")
        reason, sound, found = "REQUIRED_FIELD_MISSING", bool(given), [hashed(given)]
    if not sound or not found:
        raise Problem(400, "INVALID_ARGUMENT", reason, field)
    if len(found) > MOST_IDENTIFIERS:
        raise Problem(400, "INVALID_ARGUMENT", "TOO_MANY_USER_IDENTIFIERS", field)
    return found
