"""Amplitude's `/api/2/deletions/users`: a calendar of jobs, each with the users that one project wants deleted.

From "User Privacy API" (version 1), amplitude/amplitude-docs at 02c8383. Not on that page, so chosen here: a job is for the
seventh day after its first request; an unknown id is listed in `invalid_ids` as it came; errors have `error` in the body.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = "/api/2/deletions/users"
MOST = 100
AHEAD = timedelta(days=7)
WINDOW = timedelta(days=184)


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pending` questions find the job in staging, then as many submitted; `known` (ids, by comma) exist, any when empty.

    The secret given is the project's secret key; its API key is `api_key`.
    """

    api_key: str = "emulated-api-key"
    pending: int = 0
    known: str = ""


class AmplitudeEmulator:
    """Keeps the users of each day's job, as hashes."""

    faults = ("429", "429-retry-after", "500", "auth", "400", "200-errors", "unknown-user", "removed", "wrong-order")

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._pair = f"{options.api_key}:{token}"
        self._options = options
        self._known = frozenset(filter(None, options.known.split(",")))
        self._journal = journal
        self._clock = clock
        self._jobs: dict[str, dict[str, dict[str, str]]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._asked = 0
        self._reversed = False

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if fault and kind in {"429", "429-retry-after"}:
            headers = {"retry-after": str(round(fault.after_s))} if kind == "429-retry-after" else {}
            return Answer(429, {"error": "Exceeded rate limit"}, headers)
        if kind == "500":
            return Answer(500, "try later")
        if kind == "auth" or not self._allowed(call):
            return Answer(401, {"error": "Invalid API key"})
        if kind == "400":
            return Answer(400, {"error": "bad request"})
        if call.path != PATH:
            return Answer(404, "not found")
        self._reversed = self._reversed or kind == "wrong-order"
        match call.method:
            case "POST":
                return self._schedule(call, kind)
            case "GET":
                return self._list(call)
        return Answer(405, "no")

    def replay(self, line: Mapping[str, Any]) -> None:
        job = self._jobs.setdefault(line["account"], {})
        for identifier in line["identifiers"]:
            if line["op"] == "removed":
                job.pop(identifier, None)
                continue
            requested = datetime.fromtimestamp(line["at"] / 1000, UTC).date().isoformat()
            job.setdefault(identifier, {"requester": line["scope"], "requested_on_day": requested})
            last = self._last.setdefault(identifier, {})
            last["project"] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        jobs = {day: sorted(users) for day, users in sorted(self._jobs.items())}
        return {"jobs": jobs, "last": {identifier: self._last.get(identifier, {})} if identifier else self._last}

    def _allowed(self, call: Call) -> bool:
        kind, _, encoded = call.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded)
        except ValueError:
            return False
        return kind.lower() == "basic" and hmac.compare_digest(given, self._pair.encode())

    def _schedule(self, call: Call, fault: str) -> Answer:
        try:
            body = json.loads(call.body)
        except ValueError:
            body = None
        given = body.get("user_ids", []) if isinstance(body, dict) else None
        if not isinstance(given, list) or not 0 < len(given) <= MOST or "amplitude_ids" in body:
            return Answer(400, {"error": "bad request"})
        if fault == "200-errors":
            return Answer(200, {"error": "internal"})
        unknown = [each for each in given if self._known and str(each) not in self._known]
        if fault == "unknown-user" and not unknown:
            unknown = given[:1]
        lenient = any(body.get(name) in {True, "true"} for name in ("ignore_invalid_id", "ignore_invalid_ids"))
        if unknown and not (lenient or body.get("delete_from_org") in {True, "true"}):
            return Answer(400, {"error": "unknown users"})
        day = self._day()
        users = [hashed(str(each)) for each in given if each not in unknown]
        self._write("delete", day, users, str(body.get("requester", "")))
        told = self._job(day, {user: self._jobs.get(day, {}).get(user, {}) for user in users}, "staging")
        if fault == "removed":
            self._write("removed", day, users, "")
        return Answer(200, told | ({"invalid_ids": unknown} if unknown else {}))

    def _write(self, op: str, day: str, users: list[str], requester: str) -> None:
        line = {"at": self._clock(), "op": op, "request_id": requester, "account": day, "scope": requester}
        line["identifiers"] = users
        self._journal.write(line)
        self.replay(line)

    def _day(self) -> str:
        return (datetime.fromtimestamp(self._clock() / 1000, UTC).date() + AHEAD).isoformat()

    def _list(self, call: Call) -> Answer:
        query = parse_qs(call.query)
        try:
            first, last = (date.fromisoformat(query[name][0]) for name in ("start_day", "end_day"))
        except (KeyError, ValueError):
            return Answer(400, {"error": "bad request"})
        if last < first or last - first > WINDOW:
            return Answer(400, {"error": "bad request"})
        self._asked += 1
        status = ("done", "submitted", "staging")[
            (self._asked <= self._options.pending) + (self._asked <= 2 * self._options.pending)
        ]
        days = [day for day in sorted(self._jobs) if first <= date.fromisoformat(day) <= last]
        jobs = [self._job(day, self._jobs[day], status) for day in days]
        return Answer(200, jobs[::-1] if self._reversed else jobs)

    def _job(self, day: str, users: Mapping[str, Mapping[str, str]], status: str) -> dict[str, Any]:
        """Users have numbers here, made of the hash; a stranger's request stands before and after ours."""
        stranger = {"amplitude_id": 1, "requester": "somebody", "requested_on_day": day}
        own = [{"amplitude_id": int(user[:12], 16), **entry} for user, entry in users.items()]
        if self._reversed:
            own = [stranger, *own[::-1]]
        elif status != "staging":
            own = [*own, stranger]
        job: dict[str, Any] = {"day": day, "status": status, "amplitude_ids": own}
        if status == "done":
            job["active_scrub_done_date"] = day
        return job
