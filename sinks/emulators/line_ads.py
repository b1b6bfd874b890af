"""LINE Ads' custom audiences: `upload` and `upload-job`, as far as its pages describe them.

From the LINE Ads Management API 3.12.0.1 ("Authentication", "CustomAudiences", "Errors"), read 2026-11-23 in
transcriptions. Not on those pages, so chosen here: a job is done `work_s` after its upload; a failed one changes nothing;
three jobs under way for one ad account are too many; an empty file is taken.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = re.compile(r"/api/v3/adaccounts/([^/]+)/custom-audiences/(?:upload|(\d+)/upload-job)")
ROWS = {
    "HASHED_EMAIL": re.compile(r"[0-9a-f]{64}"),
    "HASHED_PHONE_NUMBER": re.compile(r"[0-9a-f]{64}"),
    "IFA": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
}
CLOCKS_APART_S = 900
AT_ONCE = 3


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`work_s` is how long a job takes. The secret given is the secret key; the access key is `access_key`."""

    access_key: str = "LINEADSAMPLE"
    work_s: float = 0.0


class LineEmulator:
    """Keeps the members of each audience, as hashes, and the jobs that put them there."""

    faults = ("429", "429-retry-after", "500", "auth", "forbidden", "400", "garbled", "job-failed", "job-lost")

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._secret = token
        self._options = options
        self._journal = journal
        self._clock = clock
        self._members: dict[str, list[str]] = {}
        self._jobs: list[dict[str, Any]] = []

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if fault and kind in {"429", "429-retry-after"}:
            return Answer(429, "", {"retry-after": str(round(fault.after_s))} if kind == "429-retry-after" else {})
        refusal = {"500": 500, "auth": 401, "forbidden": 403, "400": 400}.get(kind)
        if refusal:
            return _errors(refusal, f"EMULATED_{kind.upper()}")
        match = PATH.fullmatch(call.path)
        if not match:
            return _errors(404, "NOT_FOUND")
        if not self._signed(call):
            return _errors(401, "INVALID_SIGNATURE")
        self._finish()
        if kind == "garbled":
            return Answer(200, '{"jobs": [')
        if match[2]:
            return self._listed(match[2]) if call.method == "GET" else _errors(400, "METHOD")
        return self._upload(match[1], call, kind) if call.method == "POST" else _errors(400, "METHOD")

    def replay(self, line: Mapping[str, Any]) -> None:
        members = self._members.get(line["account"], []) if line["op"] == "add" else []
        self._members[line["account"]] = sorted({*members, *line["identifiers"]})

    def state(self, identifier: str) -> dict[str, Any]:
        self._finish()
        if identifier:
            return {"audiences": sorted(name for name, each in self._members.items() if identifier in each)}
        return {"audiences": self._members, "jobs": [_shown(each) for each in self._jobs]}

    def _signed(self, call: Call) -> bool:
        """The four lines, signed; the day and the header agree; the clock is right to a quarter of an hour."""
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        try:
            head, payload, signature = token.split(".")
            header = json.loads(base64.urlsafe_b64decode(head))
            date = parsedate_to_datetime(call.headers.get("date", ""))
            wanted = base64.urlsafe_b64decode(payload).decode().split("\n")
        except ValueError:
            return False
        media = call.headers.get("content-type", "").partition(";")[0] if call.body else ""
        body = b"" if media == "multipart/form-data" else call.body
        mac = hmac.new(self._secret.encode(), f"{head}.{payload}".encode(), hashlib.sha256).digest()
        return (
            kind == "Bearer"
            and header == {"alg": "HS256", "kid": self._options.access_key, "typ": "text/plain"}
            and wanted == [hashlib.sha256(body).hexdigest(), media, date.strftime("%Y%m%d"), call.path]
            and hmac.compare_digest(base64.urlsafe_b64encode(mac).decode(), signature)
            and abs(self._clock() / 1000 - date.replace(tzinfo=UTC).timestamp()) <= CLOCKS_APART_S
        )

    def _upload(self, account: str, call: Call, fault: str) -> Answer:
        media = call.headers.get("content-type", "")
        form: Any = message_from_bytes(f"Content-Type: {media}\r\n\r\n".encode() + call.body)
        fields: dict[str, bytes] = {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True) or b""
            for part in (form.get_payload() if form.is_multipart() else [])
        }
        audience, action, kind = (fields.get(name, b"").decode() for name in ("id", "action", "idType"))
        if "file" not in fields or action not in {"ADD", "REPLACE"} or kind not in ROWS or not audience.isdecimal():
            return _errors(400, "INVALID_PARAMETER")
        rows = fields["file"].decode().split()
        if not all(ROWS[kind].fullmatch(each) for each in rows):
            return _errors(400, "INVALID_FILE")
        working = [each for each in self._jobs if each["state"] == "WORKING" and each["type"] == "DIFF_REPLACE"]
        if action == "REPLACE" and sum(each["ad_account"] == account for each in working) >= AT_ONCE:
            return Answer(429, "")
        if fault != "job-lost":
            self._jobs.append(
                {
                    "ad_account": account,
                    "audience": audience,
                    "id": 9000 + len(self._jobs),
                    "type": f"DIFF_{action}",
                    "state": "WORKING",
                    "rows": [each if kind != "IFA" else hashed(each) for each in rows],
                    "created": self._clock(),
                    "fails": fault == "job-failed",
                }
            )
        self._finish()
        return Answer(202, {"id": audience, "functionType": f"{kind}_UPLOAD", "status": "IN_PROGRESS"})

    def _finish(self) -> None:
        """Carry out the jobs whose time has come."""
        for job in self._jobs:
            if job["state"] != "WORKING" or job["created"] + self._options.work_s * 1000 > self._clock():
                continue
            job["state"] = "FAILED" if job["fails"] else "FINISHED"
            if not job["fails"]:
                line = {
                    "at": self._clock(),
                    "op": "add" if job["type"] == "DIFF_ADD" else "replace",
                    "request_id": str(job["id"]),
                    "account": job["audience"],
                    "scope": "",
                    "identifiers": job["rows"],
                }
                self._journal.write(line)
                self.replay(line)

    def _listed(self, audience: str) -> Answer:
        return Answer(200, {"jobs": [_shown(each) for each in self._jobs if each["audience"] == audience]})


def _shown(job: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "audienceGroupId": int(job["audience"]),
        "audienceGroupJobId": job["id"],
        "name": "list.csv",
        "type": job["type"],
        "jobStatus": job["state"],
        "audienceCount": len(job["rows"]),
        "created": datetime.fromtimestamp(job["created"] / 1000, UTC).isoformat(),
    }
    return shown | ({"failedType": "INTERNAL_ERROR"} if job["state"] == "FAILED" else {})


def _errors(status: int, reason: str) -> Answer:
    return Answer(status, {"errors": [{"reason": reason, "property": ""}]})
