"""Yahoo! JAPAN Ads' `uploadUserList` and `getUploadUserListStatus`, as far as LY's specification describes them.

From yahoojp-marketing/ads-display-api-documents at b7853768 (v19), read 2026-11-23. Not there, so chosen here: a file is
received `receive_s` after its upload and reflected `reflect_s` after that; whether it adds or replaces is `mode`; two
uploads of one second are shown with seconds apart.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from typing import Any, Literal
from urllib.parse import parse_qs

from msgspec import Struct

from . import tokens
from .server import Answer, Call, Clock, Fault, Journal, hashed

BASE = "/api/v19/AudienceListService/"
ROW = {
    "MAIL_ADDRESS_AND_PHONE_NUMBER": re.compile(r"[0-9a-f]{64}"),
    "IDFA": re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"),
    "AAID": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}
JST = timezone(timedelta(hours=9))
ERRORS = {
    "internal": ("0002", "Internal Error."),
    "frequency": ("0003", "Request frequency is too high."),
    "maintenance": ("0099", "Under maintenance."),
    "not-permitted": ("210003", "A function is not permitted this account."),
}


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`mode` says what an upload does to the list. The secret given is the refresh token; `client_secret` the client's."""

    client_secret: str = "emulated-client-secret"  # noqa: S105  # of nobody
    base_account_id: str = "1001"
    mode: Literal["overwrite", "add"] = "overwrite"
    receive_s: float = 0.0
    reflect_s: float = 0.0
    token_lasts_s: int = 3600


class YahooJapanEmulator:
    """Keeps the members of each list, as hashes, and the jobs that put them there."""

    token_path = "/oauth/v1/token"  # noqa: S105  # a path
    faults = (
        *("429", "429-retry-after", "500", "503", "expired", "denied", *ERRORS, "value-failed", "garbled"),
        *("invalid-file", "job-failed", *tokens.FAULTS),
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._tokens = tokens.Tokens(clock, secret=options.client_secret, refresh=token, lasts_s=options.token_lasts_s)
        self._options = options
        self._journal = journal
        self._clock = clock
        self._members: dict[str, list[str]] = {}
        self._jobs: list[dict[str, Any]] = []

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        if call.path == self.token_path:
            return self._tokens.answer(call, fault)
        kind = fault.kind if fault else ""
        if refusal := self._refusal(call, fault, kind):
            return refusal
        if call.headers.get("x-z-base-account-id") != self._options.base_account_id or call.method != "POST":
            return Answer(400, {"errors": [_error("0001", "Invalid Request.")], "rid": "r"})
        self._carry_out()
        match call.path.removeprefix(BASE):
            case "uploadUserList":
                return self._upload(call, kind)
            case "getUploadUserListStatus":
                return self._status(call)
        return Answer(404, "")

    def _refusal(self, call: Call, fault: Fault | None, kind: str) -> Answer | None:
        if fault and kind in {"429", "429-retry-after"}:
            return Answer(429, "", {"retry-after": str(round(fault.after_s))} if kind == "429-retry-after" else {})
        if kind == "500":
            return Answer(500, {"errors": [_error("0002", "Internal Error.")], "rid": "r"})
        if kind == "503":
            return Answer(503, {"errors": [_error("0099", "Under maintenance.")], "rid": "r"})
        if kind == "denied":
            return Answer(403, {"errors": [_error("0111", "Authentication failed.")], "rid": "r"})
        if kind == "expired" or not self._tokens.good(call):
            return Answer(401, {"errors": [_error("0111", "Authentication failed.")], "rid": "r"})
        if kind == "garbled":
            return Answer(200, '{"rval": {')
        if kind in ERRORS:
            return Answer(200, {"errors": [_error(*ERRORS[kind])], "rid": "r", "rval": None})
        return None

    def replay(self, line: Mapping[str, Any]) -> None:
        members = self._members.get(line["account"], []) if line["op"] == "add" else []
        self._members[line["account"]] = sorted({*members, *line["identifiers"]})

    def state(self, identifier: str) -> dict[str, Any]:
        self._carry_out()
        if identifier:
            return {"audiences": sorted(name for name, each in self._members.items() if identifier in each)}
        return {"audiences": self._members, "jobs": [_job(each) for each in self._jobs]}

    def _upload(self, call: Call, fault: str) -> Answer:
        query = {name: values[0] for name, values in parse_qs(call.query).items()}
        media = call.headers.get("content-type", "")
        form: Any = message_from_bytes(f"Content-Type: {media}\r\n\r\n".encode() + call.body)
        parts = form.get_payload() if form.is_multipart() else []
        files = [each.get_payload(decode=True) or b"" for each in parts]
        missing = {"accountId", "audienceListId", "uploadType", "compressType"} - query.keys()
        if missing or len(files) != 1 or query["uploadType"] not in ROW or query["compressType"] != "NONE":
            return _page([{"operationSucceeded": False, "errors": [_error("V0001", "Invalid value.")]}])
        if fault == "value-failed":
            return _page([{"operationSucceeded": False, "errors": [_error("110005", "Not a valid id.")]}])
        rows = files[0].decode().split()
        sound = all(ROW[query["uploadType"]].fullmatch(each) for each in rows)
        job = {
            "id": hashed(f"{len(self._jobs)}")[:12],
            "list": query["audienceListId"],
            "type": query["uploadType"],
            "submitted": max(self._clock(), *(each["submitted"] + 1000 for each in self._jobs), 0),
            "at": self._clock(),
            "state": "RECEIVING",
            "rows": [hashed(each) if query["uploadType"] in {"IDFA", "AAID"} else each for each in rows],
            "ends": "INVALID_FILE" if fault == "invalid-file" or not sound else "RECEIVED",
        }
        job["ends"] = "FAILED" if fault == "job-failed" else job["ends"]
        self._jobs.append(job)
        self._carry_out()
        return _page([{"operationSucceeded": True, "errors": None, "uploadJob": _job(job)}])

    def _status(self, call: Call) -> Answer:
        try:
            selector = json.loads(call.body)
            number = int(selector["audienceListId"])
            most = int(selector.get("numberResults", 10))
        except (ValueError, KeyError, TypeError):
            return Answer(200, {"errors": [_error("0001", "Invalid Request.")], "rid": "r"})
        found = [each for each in reversed(self._jobs) if each["list"] == str(number)]
        wanted = selector.get("uploadJobIds")
        shown = [each for each in found if not wanted or each["id"] in wanted][:most]
        values = [{"operationSucceeded": True, "errors": None, "uploadJob": _job(each)} for each in shown]
        return Answer(
            200, {"errors": None, "rid": "r", "rval": {"totalNumEntries": len(found), "values": values or None}}
        )

    def _carry_out(self) -> None:
        """Receive, then reflect, what is due."""
        now, options = self._clock(), self._options
        for job in self._jobs:
            received = job["at"] + options.receive_s * 1000
            if job["state"] == "RECEIVING" and received <= now:
                job["state"] = job["ends"]
            if job["state"] == "RECEIVED" and received + options.reflect_s * 1000 <= now and not job.get("reflected"):
                job["reflected"] = True
                line = {
                    "at": now,
                    "op": "add" if options.mode == "add" else "replace",
                    "request_id": job["id"],
                    "account": job["list"],
                    "scope": "",
                    "identifiers": job["rows"],
                }
                self._journal.write(line)
                self.replay(line)


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    submitted = datetime.fromtimestamp(job["submitted"] / 1000, UTC).astimezone(JST)
    return {
        "uploadJobId": job["id"],
        "audienceListId": int(job["list"]),
        "uploadType": job["type"],
        "uploadSubmitDate": submitted.strftime("%Y%m%d%H%M%S"),
        "receivedDate": submitted.strftime("%Y%m%d%H%M%S") if job["state"] == "RECEIVED" else None,
        "jobStatus": job["state"],
        "uploadSource": "API",
    }


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "details": [{"requestKey": "file", "requestValue": "taro.yamada"}]}


def _page(values: list[dict[str, Any]]) -> Answer:
    return Answer(200, {"errors": None, "rid": "r", "rval": {"values": values}})
