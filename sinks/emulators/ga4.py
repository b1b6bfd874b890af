"""Google Analytics' `properties/{n}:submitUserDeletion` of the Admin API v1alpha, with `properties/{n}` to read.

From the reference of both methods (2026), AIP-193 for errors, and the error page of the User Deletion API v3 for quotas that
come as 403. Not on these pages: whether an unknown user is an error. Here it is none.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from . import tokens
from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = re.compile(r"/v1alpha/properties/(\d+)(:submitUserDeletion)?")
FIELDS = frozenset({"userId", "clientId", "appInstanceId", "userProvidedData"})
PHONE = re.compile(r"\+\d{7,15}")
EMAIL = re.compile(r"[^\s@A-Z]+@[^\s@A-Z]+")
GMAIL = frozenset({"gmail.com", "googlemail.com"})


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`properties` (numbers, by comma) are those that exist, any when empty.

    With `refresh_token` the secret given is the client's, not a service account.
    """

    properties: str = ""
    refresh_token: str = ""
    token_lasts_s: int = 3600


class AnalyticsEmulator:
    """Keeps which users of which property are to be deleted, as hashes, and up to when."""

    token_path = "/token"  # noqa: S105  # a path
    faults = (
        *("429", "429-retry-after", "403-quota", "403-day", "500", "expired", "denied", "invalid", "200-empty"),
        *tokens.FAULTS,
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        lasts_s, refresh = options.token_lasts_s, options.refresh_token
        if refresh:
            self._tokens = tokens.Tokens(clock, secret=token, refresh=refresh, lasts_s=lasts_s)
        else:
            self._tokens = tokens.Tokens(clock, account=token, lasts_s=lasts_s)
        self._known = frozenset(filter(None, options.properties.split(",")))
        self._journal = journal
        self._clock = clock
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._serial = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        if call.path == self.token_path:
            return self._tokens.answer(call, fault)
        kind = fault.kind if fault else ""
        if kind in _PROBLEMS:
            headers = {"retry-after": str(round(fault.after_s))} if fault and kind == "429-retry-after" else {}
            return Answer(_PROBLEMS[kind][0], _error(*_PROBLEMS[kind]), headers)
        if not self._tokens.good(call):
            return Answer(401, _error(401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"))
        match = PATH.fullmatch(call.path)
        if not match or (self._known and match[1] not in self._known):
            return Answer(404, _error(404, "NOT_FOUND", ""))
        if call.method == "GET" and not match[2]:
            return Answer(200, {"name": f"properties/{match[1]}", "displayName": "a shop"})
        if call.method != "POST" or not match[2]:
            return Answer(404, _error(404, "NOT_FOUND", ""))
        return self._submit(match[1], call, kind)

    def replay(self, line: Mapping[str, Any]) -> None:
        self._serial += 1
        for identifier in line["identifiers"]:
            last = self._last.setdefault(identifier, {})
            last[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        return {"last": {identifier: self._last.get(identifier, {})} if identifier else self._last}

    def _submit(self, number: str, call: Call, fault: str) -> Answer:
        try:
            body = json.loads(call.body)
        except ValueError:
            body = None
        if not isinstance(body, dict) or len(body) != 1 or not set(body) <= FIELDS:
            return Answer(400, _error(400, "INVALID_ARGUMENT", ""))
        [(field, value)] = body.items()
        if not isinstance(value, str) or not value or (field == "userProvidedData" and not _normal(value)):
            return Answer(400, _error(400, "INVALID_ARGUMENT", ""))
        if fault == "200-empty":
            return Answer(200, {})
        now = self._clock()
        line = {"at": now, "op": "delete", "request_id": f"D{self._serial + 1}", "account": number, "scope": field}
        line["identifiers"] = [hashed(value)]
        self._journal.write(line)
        self.replay(line)
        moment = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Answer(200, {"deletionRequestTime": moment})


_PROBLEMS: dict[str, tuple[int, str, str]] = {
    "429": (429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
    "429-retry-after": (429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
    "403-quota": (403, "", "userRateLimitExceeded"),
    "403-day": (403, "", "quotaExceeded"),
    "500": (500, "INTERNAL", ""),
    "expired": (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"),
    "denied": (403, "PERMISSION_DENIED", ""),
    "invalid": (400, "INVALID_ARGUMENT", ""),
}


def _normal(value: str) -> bool:
    """Whether it is in the form that the reference asks for; what Google does with another form is not said."""
    local, _, domain = value.partition("@")
    return bool(PHONE.fullmatch(value) or (EMAIL.fullmatch(value) and not (domain in GMAIL and "." in local)))


def _error(code: int, status: str, reason: str) -> dict[str, Any]:
    """The newer form has a status and details; one without a status is the older form."""
    error: dict[str, Any] = {"code": code, "message": "not accepted"}
    if status:
        error["status"] = status
        if reason:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            error["details"] = [{"@type": kind, "reason": reason, "domain": "googleapis.com"}]
    else:
        error["errors"] = [{"domain": "usageLimits", "reason": reason, "message": "not accepted"}]
    return {"error": error}
