"""Klaviyo's suppression jobs and deletion jobs.

From klaviyo/openapi: `bulk_suppress_profiles`, `get_bulk_suppress_profiles_job` (2026-04-15), `bulk_unsuppress_profiles`,
`request_profile_deletion` (2026-07-15). Not there, so chosen here: what is skipped, that a deletion of nobody is taken all
the same, the codes of errors besides their form.
"""

import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

JOBS = re.compile(r"/api/(profile-suppression-bulk-(?:create|delete)-job)s(?:/([A-Z0-9]+))?")
DELETIONS = "/api/data-privacy-deletion-jobs"
MEDIA = "application/vnd.api+json"
MOST = 100
EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
PHONE = re.compile(r"\+\d{7,15}")
_FORMS = {"email": EMAIL, "phone_number": PHONE, "id": re.compile(r"[A-Z0-9]+")}
OPS = {"profile-suppression-bulk-create-job": "suppress", "profile-suppression-bulk-delete-job": "unsuppress"}


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pending` questions about a job find it queued, then as many processing."""

    pending: int = 0


class KlaviyoEmulator:
    """Keeps profiles, which of them are suppressed, and which were made only by being suppressed, as hashes."""

    faults = (
        *("429", "429-retry-after", "500", "auth", "denied", "retired", "invalid", "202-errors"),
        *("skipped", "cancelled"),
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._token = token
        self._options = options
        self._journal = journal
        self._clock = clock
        self._profiles: set[str] = set()
        self._suppressed: set[str] = set()
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._jobs: dict[str, tuple[str, int, str, int]] = {}
        self._asked: dict[str, int] = {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if kind in _PROBLEMS:
            headers = {"retry-after": str(round(fault.after_s))} if fault and kind == "429-retry-after" else {}
            return _error(*_PROBLEMS[kind], headers)
        given = call.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Klaviyo-API-Key {self._token}".encode()):
            return _error(401, "not_authenticated")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d(\.\w+)?", call.headers.get("revision", "")):
            return _error(400, "invalid")
        jobs = JOBS.fullmatch(call.path)
        if call.method == "GET" and jobs:
            return self._show(jobs[1], jobs[2])
        if call.method != "POST" or call.headers.get("content-type", "") != MEDIA:
            return _error(405 if call.method != "POST" else 415, "method_not_allowed")
        if call.path == DELETIONS:
            return self._delete(call, kind)
        if jobs and not jobs[2]:
            return self._start(jobs[1], call, kind)
        return _error(404, "not_found")

    def replay(self, line: Mapping[str, Any]) -> None:
        op, people = line["op"], line["identifiers"]
        if line["account"]:
            self._jobs[line["request_id"]] = (line["account"], int(line["scope"]), line["status"], len(people))
        for identifier in people:
            (self._suppressed.add if op == "suppress" else self._suppressed.discard)(identifier)
            if op != "unsuppress":
                (self._profiles.discard if op == "delete" else self._profiles.add)(identifier)
            last = self._last.setdefault(identifier, {})
            last["account"] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"profiles": sorted(self._profiles), "suppressed": sorted(self._suppressed), "last": last}

    def _start(self, kind: str, call: Call, fault: str) -> Answer:
        attributes = _attributes(call, kind)
        people = attributes.get("profiles", {}).get("data", [])
        addresses = [each.get("attributes", {}).get("email", "") for each in people if each.get("type") == "profile"]
        if not 0 < len(people) <= MOST or len(addresses) != len(people) or not all(map(EMAIL.fullmatch, addresses)):
            return _error(400, "invalid")
        if fault == "202-errors":
            return Answer(202, _error(202, "internal").body)
        done = {"skipped": addresses[1:], "cancelled": []}.get(fault, addresses)
        status = "cancelled" if fault == "cancelled" else "complete"
        identity = f"01GSQPBF74KQ5YTDEP{len(self._jobs) + 1:08d}"
        line = {"at": self._clock(), "op": OPS[kind], "request_id": identity, "account": kind, "status": status}
        line |= {"scope": str(len(addresses)), "identifiers": [hashed(each) for each in done]}
        self._journal.write(line)
        self.replay(line)
        return Answer(202, self._job(identity, "queued"))

    def _delete(self, call: Call, fault: str) -> Answer:
        person = _attributes(call, "data-privacy-deletion-job").get("profile", {}).get("data", {})
        names = {**person.get("attributes", {}), **({"id": person["id"]} if person.get("id") else {})}
        if person.get("type") != "profile" or len(names) != 1 or not set(names) <= set(_FORMS):
            return _error(400, "invalid")
        [(name, value)] = names.items()
        if not _FORMS[name].fullmatch(value):
            return _error(400, "invalid")
        if fault == "202-errors":
            return Answer(202, _error(202, "internal").body)
        line = {"at": self._clock(), "op": "delete", "request_id": "", "account": "", "scope": "", "status": ""}
        line["identifiers"] = [hashed(value)]
        self._journal.write(line)
        self.replay(line)
        return Answer(202)

    def _show(self, kind: str, identity: str | None) -> Answer:
        if identity is None:
            return Answer(200, {"data": [], "links": {"self": "https://a.klaviyo.com"}})
        if identity not in self._jobs or self._jobs[identity][0] != kind:
            return _error(404, "not_found")
        self._asked[identity] = self._asked.get(identity, 0) + 1
        asked, pending = self._asked[identity], self._options.pending
        waiting = "queued" if asked <= pending else "processing" if asked <= 2 * pending else ""
        return Answer(200, self._job(identity, waiting or self._jobs[identity][2]))

    def _job(self, identity: str, status: str) -> dict[str, Any]:
        kind, total, _, done = self._jobs[identity]
        over = status == "complete"
        attributes = {
            "status": status,
            "created_at": datetime.fromtimestamp(self._clock() / 1000, UTC).isoformat(),
            "total_count": total,
            "completed_count": total if over else 0,
            "skipped_count": total - done if over else 0,
        }
        return {"data": {"type": kind, "id": identity, "attributes": attributes, "links": {"self": "https://a"}}}


_PROBLEMS: dict[str, tuple[int, str]] = {
    "429": (429, "throttled"),
    "429-retry-after": (429, "throttled"),
    "500": (500, "error"),
    "auth": (401, "not_authenticated"),
    "denied": (403, "permission_denied"),
    "retired": (410, "gone"),
    "invalid": (400, "invalid"),
}


def _attributes(call: Call, kind: str) -> dict[str, Any]:
    """The attributes of a sound document of the kind; empty for any other."""
    try:
        data = json.loads(call.body)["data"]
        found: dict[str, Any] = data["attributes"] if data["type"] == kind else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return found


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Answer:
    error = {"id": "e1", "status": status, "code": code, "title": "no", "detail": "no", "source": {"pointer": "/data"}}
    return Answer(status, {"errors": [error]}, headers or {})
