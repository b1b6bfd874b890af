"""Braze's `/users/delete` and `/v2/subscription/status/set`.

From Braze, "Delete users", "Update user's subscription group status (V2)" (braze-inc/braze-docs at 577d633 and 68b3f5d) and
"API errors and responses": 201 with `message`, minor errors in `errors`; read 2026-11-23.
"""

import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

MOST_IDS = 50
E164 = re.compile(r"\+[1-9]\d{6,14}")
DELETED = {"external_ids": "", "email_addresses": "email", "phone_numbers": "phone"}
SUBSCRIBED = ("external_ids", "emails", "phones")
PRIORITIES = {"identified", "unidentified", "most_recently_updated"}


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`groups` (ids, by comma) are those that exist, any when empty."""

    groups: str = ""


class Problem(Exception):
    """A refusal: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BrazeEmulator:
    """Keeps the last deed to each id, as hashes: of every subscription group, and of deletion."""

    faults = ("429", "429-retry-after", "500", "auth", "gone", "invalid-rows", "errors-inside", "fewer", "message")

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._token = token
        self._known = frozenset(filter(None, options.groups.split(",")))
        self._journal = journal
        self._clock = clock
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._serial = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        headers = {"retry-after": str(round(fault.after_s))} if fault and kind == "429-retry-after" else {}
        try:
            return Answer(201, self._done(call, kind))
        except Problem as problem:
            return Answer(problem.status, {"message": str(problem)}, headers)

    def replay(self, line: Mapping[str, Any]) -> None:
        self._serial += 1
        for identifier in line["identifiers"]:
            held = self._last.setdefault(identifier, {})
            held[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        return {"last": {identifier: self._last.get(identifier, {})} if identifier else self._last}

    def _done(self, call: Call, kind: str) -> dict[str, Any]:
        if kind in _PROBLEMS:
            raise Problem(*_PROBLEMS[kind])
        bearer = call.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(bearer.encode(), self._token.encode()):
            raise Problem(401, "Invalid API Key")
        try:
            body = json.loads(call.body)
            match call.method, call.path:
                case "POST", "/users/delete":
                    answer = self._delete(body, kind)
                case "POST", "/v2/subscription/status/set":
                    answer = self._subscribe(body)
                case _:
                    raise Problem(404, "Invalid URL")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Problem(400, "Bad Request") from None
        if kind == "errors-inside":
            answer["errors"] = ["one of the ids was not valid"]
        return {**answer, "message": "queued" if kind == "message" else "success"}

    def _delete(self, body: Mapping[str, Any], kind: str) -> dict[str, Any]:
        [(field, given)] = body.items()
        named = DELETED[field]
        if named:
            if any(not set(each["prioritization"]) <= PRIORITIES or not each["prioritization"] for each in given):
                raise Problem(400, "prioritization is not valid")
            given = [each[named] for each in given]
        self._apply("deletion", "deleted", field, given[1:] if kind == "fewer" else given)
        return {"deleted": len(given) - (kind == "fewer")}

    def _subscribe(self, body: Mapping[str, Any]) -> dict[str, Any]:
        for change in body["subscription_groups"]:
            listed, state = change["subscription_group_id"], change["subscription_state"]
            if state not in {"subscribed", "unsubscribed"}:
                raise Problem(400, "subscription_state is not valid")
            if self._known and listed not in self._known:
                raise Problem(400, "No subscription group with that id")
            fields = [each for each in SUBSCRIBED if each in change]
            if not fields or {"emails", "phones"} <= set(fields):
                raise Problem(400, "emails or phones, not both")
            for field in fields:
                self._apply(listed, state, field, change[field])
        return {}

    def _apply(self, listed: str, op: str, field: str, given: list[Any]) -> None:
        if not all(isinstance(each, str) and each for each in given) or len(given) > MOST_IDS:
            raise Problem(400, "1 to 50 ids, as strings")
        if field in {"phones", "phone_numbers"} and not all(E164.fullmatch(each) for each in given):
            raise Problem(400, "phones must be in E.164 format")
        line = {
            "at": self._clock(),
            "op": op,
            "request_id": f"B{self._serial + 1}",
            "account": listed,
            "scope": "",
            "identifiers": [hashed(each) for each in given],
        }
        self._journal.write(line)
        self.replay(line)


_PROBLEMS = {
    "429": (429, "Too many requests"),
    "429-retry-after": (429, "Too many requests"),
    "500": (500, "Internal Server Error"),
    "auth": (401, "Invalid API Key"),
    "gone": (404, "Not found"),
    "invalid-rows": (400, "Bad Request"),
}
