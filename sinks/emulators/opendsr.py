"""A processor of OpenDSR requests, in three dialects, that signs what it says.

From opengdpr/opengdpr specification.md 2.0 at 6c080e2 (sections 5 to 9); mParticle, "Data Subject Request API Version 3"
(mParticle/docs at 27fe863: dictionary of identities, errors); AppsFlyer, "OpenDSR Requests API" (copy of 2026: types, codes).
A request is done `pending_s` after it came. `/reports/{id}` shows the callback that would be sent, headers and raw body.
"""

import base64
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

ROOTS = {"2.0": "/v2", "mparticle": "/v3", "appsflyer": "/api/gdpr/v1"}
NOUNS = {"2.0": "requests", "mparticle": "requests", "appsflyer": "opendsr_requests"}
VERSIONS = {"2.0": "2.0", "mparticle": "3.0", "appsflyer": "0.1"}
COMMON = {"android_advertising_id", "fire_advertising_id", "ios_advertising_id", "microsoft_advertising_id"}
SPECIFIED = COMMON | {"controller_customer_id", "android_id", "email", "ios_vendor_id", "microsoft_publisher_id"}
TYPES = {
    "2.0": SPECIFIED | {"roku_publisher_id", "roku_advertising_id"},
    "mparticle": SPECIFIED | {"roku_publishing_id", "roku_advertising_id"},
    "appsflyer": COMMON | {"appsflyer_id", "customer_user_id", "idfv"},
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
SHA256 = re.compile(r"[0-9a-f]{64}")
ELSEWHERE = "00000000-0000-4000-8000-000000000000"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`password` makes it Basic authentication; `properties` (by comma) are AppsFlyer's apps, any when empty."""

    dialect: str = "2.0"
    domain: str = "processor.example"
    password: str = ""
    properties: str = ""
    pending_s: float = 0.0


class Problem(Exception):
    """A refusal: status, message, AppsFlyer's code."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class OpenDsrEmulator:
    """Keeps requests by their id, and who was erased as hashes."""

    faults = (
        "429",
        "429-retry-after",
        "500",
        "auth",
        "exists",
        "conflict",
        "invalid",
        "other-request",
        "late-failure",
        "wrong-signature",
        "wrong-domain",
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._options = options
        self._known = frozenset(filter(None, options.properties.split(",")))
        plain = base64.b64encode(f"{token}:{options.password}".encode()).decode()
        self._authorization = f"Basic {plain}" if options.password else f"Bearer {token}"
        self._journal = journal
        self._clock = clock
        self._requests: dict[str, dict[str, Any]] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._key = _key()
        self._pem = _certificate(self._key, options.domain, clock())

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        root = ROOTS[self._options.dialect]
        if call.path in {f"{root}/discovery", "/cert.pem"}:
            return self._public(call.path)
        try:
            status, body = self._answered(call, kind)
        except Problem as problem:
            status, body = problem.status, self._error(problem)
        raw = json.dumps(body, separators=(",", ":"))
        headers = self._signed(raw.encode(), kind)
        if kind == "429-retry-after" and fault:
            headers["retry-after"] = str(round(fault.after_s))
        return Answer(status, raw, headers)

    def replay(self, line: Mapping[str, Any]) -> None:
        if line["op"] == "cancelled":
            self._requests[line["request_id"]]["cancelled"] = True
            return
        self._requests[line["request_id"]] = {"at": line["at"], "cancelled": False, "url": line["url"]}
        for identifier in line["identifiers"]:
            held = self._last.setdefault(identifier, {})
            held[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"requests": {each: self._status(each) for each in sorted(self._requests)}, "last": last}

    def _answered(self, call: Call, kind: str) -> tuple[int, dict[str, Any]]:
        if kind in _PROBLEMS:
            raise Problem(*_PROBLEMS[kind])
        if not hmac.compare_digest(call.headers.get("authorization", "").encode(), self._authorization.encode()):
            raise Problem(401, "The credentials provided in the request are not valid.")
        path = f"{ROOTS[self._options.dialect]}/{NOUNS[self._options.dialect]}"
        rest = call.path.removeprefix(path).strip("/")
        if call.path.startswith("/reports/"):
            return 200, self._report(call.path.removeprefix("/reports/"))
        if not call.path.startswith(path) or (call.method, bool(rest)) not in {("POST", False), ("GET", True)}:
            raise Problem(404, "Not found")
        if call.method == "GET":
            return 200, self._asked(rest, kind)
        request = self._request(call)
        if kind == "conflict":
            raise Problem(409, "There is an in progress request with the same identities, extensions and type.", "e215")
        if kind == "exists":
            raise Problem(400, "Subject request already exists.", "e213")
        named = ELSEWHERE if kind == "other-request" else request["subject_request_id"]
        return 201, {
            "controller_id": "4308",
            "expected_completion_time": _iso(self._clock() + 86_400_000),
            "received_time": _iso(self._clock()),
            "encoded_request": base64.b64encode(call.body).decode(),
            "subject_request_id": named,
        }

    def _asked(self, named: str, kind: str) -> dict[str, Any]:
        if named not in self._requests:
            raise self._unknown()
        if kind == "late-failure":
            line = {"at": self._clock(), "op": "cancelled", "request_id": named}
            self._journal.write(line)
            self.replay(line)
        return {
            "controller_id": "4308",
            "expected_completion_time": _iso(self._clock() + 86_400_000),
            "subject_request_id": ELSEWHERE if kind == "other-request" else named,
            "request_status": self._status(named),
            "api_version": VERSIONS[self._options.dialect],
        }

    def _report(self, named: str) -> dict[str, Any]:
        url = self._requests.get(named, {}).get("url", "")
        shown = {"status_callback_url": url} if self._options.dialect != "mparticle" else {}
        return {**self._asked(named, ""), **shown}

    def _status(self, named: str) -> str:
        request = self._requests[named]
        words = {"appsflyer": ("canceled", "in-progress")}.get(self._options.dialect, ("cancelled", "in_progress"))
        if request["cancelled"]:
            return words[0]
        waits = self._options.pending_s * 1000 - (self._clock() - request["at"])
        return "completed" if waits <= 0 else ("pending" if waits > self._options.pending_s * 500 else words[1])

    def _request(self, call: Call) -> dict[str, Any]:
        """The request, checked as the texts demand and applied. A repeat is refused, as mParticle's page says."""
        try:
            request: dict[str, Any] = json.loads(call.body)
            named = request["subject_request_id"]
            if str(UUID(named)) != named or UUID(named).version != 4:
                raise Problem(400, "subject_request_id is not a UUID v4", "e313")
            self._judge(request)
            values = [self._held(*each) for each in self._identities(request)]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Problem(400, "Invalid data was detected", "e326") from None
        if named in self._requests:
            raise Problem(400, "Subject request already exists.", "e213")
        line = {
            "at": self._clock(),
            "op": "deleted",
            "request_id": named,
            "account": request.get("property_id", ""),
            "scope": "",
            "identifiers": values,
            "url": next(iter(request.get("status_callback_urls", [])), ""),
        }
        self._journal.write(line)
        self.replay(line)
        return request

    def _judge(self, request: Mapping[str, Any]) -> None:
        dialect = self._options.dialect
        if request["api_version"] != VERSIONS[dialect]:
            raise Problem(400, "Invalid API version", "e312")
        if request["subject_request_type"] != "erasure":
            raise Problem(400, "Invalid subject_request_type", "e322")
        if not TIME.fullmatch(request["submitted_time"]):
            raise Problem(400, "Invalid submitted_time format", "e314")
        if len(request.get("status_callback_urls", [])) > 3:
            raise Problem(400, "Invalid status_callback_url length", "e315")
        if dialect != "appsflyer" and request["regulation"] not in {"gdpr", "ccpa"}:
            raise Problem(400, "regulation is not supported")
        if dialect == "appsflyer" and self._known and request["property_id"] not in self._known:
            raise Problem(400, "AppID is incorrect or does not belong to your account", "e411")

    def _identities(self, request: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        given = request["subject_identities"]
        if self._options.dialect == "mparticle":
            found = [(name, each["value"], each["encoding"]) for name, each in given.items()]
        else:
            found = [(each["identity_type"], each["identity_value"], each["identity_format"]) for each in given]
        if not found:
            raise Problem(400, "Invalid subject_identities length", "e324")
        if self._options.dialect == "appsflyer":
            other = "android_advertising_id" if request["property_id"].startswith("id") else "ios_advertising_id"
            if any(name == other for name, _, _ in found):
                raise Problem(400, "Application platform does not match identity types", "e319")
        return found

    def _held(self, name: str, value: str, form: str) -> str:
        if name not in TYPES[self._options.dialect]:
            raise Problem(400, "Invalid identity_type", "e318")
        if form == "raw" and value:
            return hashed(value)
        if form == "sha256" and self._options.dialect == "2.0" and SHA256.fullmatch(value):
            return value
        raise Problem(400, "Invalid subject_identities value", "e325")

    def _unknown(self) -> Problem:
        if self._options.dialect == "appsflyer":
            return Problem(400, "Request not found", "e214")
        return Problem(404, "The specified subject request id could not be found.")

    def _error(self, problem: Problem) -> dict[str, Any]:
        error: dict[str, Any] = {"code": problem.status, "message": str(problem)}
        if self._options.dialect == "appsflyer" and problem.code:
            error["af_gdpr_code"] = problem.code
        return error if self._options.dialect == "mparticle" else {"error": error}

    def _public(self, path: str) -> Answer:
        if path == "/cert.pem":
            return Answer(200, self._pem)
        types = [{"identity_type": each, "identity_format": "raw"} for each in sorted(TYPES[self._options.dialect])]
        return Answer(
            200,
            {
                "api_version": VERSIONS[self._options.dialect],
                "supported_identities": types,
                "supported_subject_request_types": ["erasure"],
                "processor_certificate": f"https://{self._options.domain}/cert.pem",
            },
        )

    def _signed(self, raw: bytes, kind: str) -> dict[str, str]:
        signature = self._key.sign(raw + b"x" * (kind == "wrong-signature"), padding.PKCS1v15(), hashes.SHA256())
        domain = "elsewhere.example" if kind == "wrong-domain" else self._options.domain
        return {
            "content-type": "application/json",
            "x-opendsr-processor-domain": domain,
            "x-opendsr-signature": base64.b64encode(signature).decode(),
        }


_PROBLEMS: dict[str, tuple[int, str] | tuple[int, str, str]] = {
    "429": (429, "Too many requests have been submitted."),
    "429-retry-after": (429, "Too many requests have been submitted."),
    "500": (500, "Internal problem"),
    "auth": (401, "The credentials provided in the request are not valid."),
    "invalid": (400, "Invalid data was detected", "e325"),
}


@cache
def _key() -> rsa.RSAPrivateKey:
    """Made once in a process: it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _certificate(key: rsa.RSAPrivateKey, domain: str, at: int) -> str:
    """One by itself, good from a day before `at` (ms) for a year: an authority would issue a real one."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, domain)])
    begins = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=366))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _iso(at: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at):%Y-%m-%dT%H:%M:%SZ}"
