"""An endpoint of Standard Webhooks, as a careful partner would build it.

From Standard Webhooks 1.0.0 (spec/standard-webhooks.md of standard-webhooks/standard-webhooks at b2fa7b8): "Verifying
signatures", "Webhook headers", "Delivery success and failure"; the event and the receipt from docs/partners/webhook.md.
"""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

TOLERANCE_S = 300  # the spec asks for "some allowable tolerance"; its own libraries take five minutes


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`previous` is a second secret that is still good; `receipts` answers with signed receipts."""

    previous: str = ""
    receipts: bool = False
    tolerance_s: int = TOLERANCE_S


class WebhookEmulator:
    """Keeps the last effect of each hashed identifier, account and scope."""

    faults = ("429", "429-retry-after", "500", "auth", "gone", "invalid-rows", "bad-receipt")

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._secrets = [_secret(token), *([_secret(options.previous)] if options.previous else [])]
        self._options = options
        self._journal = journal
        self._clock = clock
        self._seen: set[str] = set()
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._duplicates = 0
        self._serial = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        if fault and fault.kind in _REFUSALS:
            return _REFUSALS[fault.kind](fault)
        if call.method != "POST":
            return Answer(405, {"error": "POST expected"})
        if not self._authentic(call):
            return Answer(401, {"error": "signature or timestamp not accepted"})
        try:
            event = json.loads(call.body)
            line = self._line(call.headers["webhook-id"], event)
        except (ValueError, KeyError, TypeError):
            return Answer(400, {"error": "event not understood"})
        if line["request_id"] in self._seen:
            self._duplicates += 1
        else:
            self._journal.write(line)
            self.replay(line)
        return self._receipt(event["data"], line, fault)

    def replay(self, line: Mapping[str, Any]) -> None:
        self._serial += 1
        self._seen.add(line["request_id"])
        for identifier in line["identifiers"]:
            held = self._last.setdefault(identifier, {})
            held[f"{line['account']}|{line['scope']}"] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"last": last, "events": len(self._seen), "duplicates": self._duplicates}

    def _authentic(self, call: Call) -> bool:
        identity = call.headers.get("webhook-id", "")
        stamp = call.headers.get("webhook-timestamp", "")
        if not identity or "." in identity or not stamp.isdecimal():
            return False
        if abs(self._clock() / 1000 - int(stamp)) > self._options.tolerance_s:
            return False
        signed = identity.encode() + b"." + stamp.encode() + b"." + call.body
        wanted = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in self._secrets]
        for part in call.headers.get("webhook-signature", "").split(" "):
            version, _, encoded = part.partition(",")
            if version == "v1" and any(hmac.compare_digest(each, _bytes(encoded)) for each in wanted):
                return True
        return False

    def _line(self, identity: str, event: dict[str, Any]) -> dict[str, Any]:
        data = event["data"]
        effect = {"grant": "granted", "withdraw": "withdrawn", "suspend": "suspended", "delete": "deleted"}[
            data["verb"]
        ]
        named = [each["sha256"] if "sha256" in each else hashed(each["value"]) for each in data["identifiers"]]
        if not named or event["type"] != "todoke.suppression." + data["verb"]:
            raise ValueError
        return {
            "at": self._clock(),
            "op": effect,
            "request_id": identity,
            "account": data["account"],
            "scope": data["scope"],
            "identifiers": named,
        }

    def _receipt(self, data: dict[str, Any], line: dict[str, Any], fault: Fault | None) -> Answer:
        if not self._options.receipts:
            return Answer(204)
        receipt = {
            "obligation_id": data["obligation_id"],
            "effect": line["op"],
            "status": "processed",
            "reference": f"R-{self._serial}",
        }
        body = json.dumps({"receipt": receipt})
        stamp = str(self._clock() // 1000)
        secret = b"not the secret that was agreed on" if fault and fault.kind == "bad-receipt" else self._secrets[0]
        text = f"{line['request_id']}.{stamp}.{body}".encode()
        mac = base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()
        headers = {"webhook-id": line["request_id"], "webhook-timestamp": stamp, "webhook-signature": f"v1,{mac}"}
        return Answer(200, body, {**headers, "content-type": "application/json"})


_REFUSALS: dict[str, Callable[[Fault], Answer]] = {
    "429": lambda _: Answer(429, {"error": "too many requests"}),
    "429-retry-after": lambda fault: Answer(
        429, {"error": "too many requests"}, {"retry-after": str(math.ceil(fault.after_s))}
    ),
    "500": lambda _: Answer(500, {"error": "internal"}),
    "auth": lambda _: Answer(401, {"error": "signature or timestamp not accepted"}),
    "gone": lambda _: Answer(410, {"error": "gone"}),
    "invalid-rows": lambda _: Answer(422, {"error": "identifiers not understood"}),
}


def _secret(text: str) -> bytes:
    """Spec, "Symmetric": Base64 behind `whsec_`."""
    encoded = text.split("whsec_", 1)[-1]
    return base64.b64decode(encoded + "==")


def _bytes(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""
