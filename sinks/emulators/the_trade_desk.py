"""The Trade Desk's `/data/deletion-optout/{advertiser,thirdparty,merchant}`.

From `.speakeasy/out.openapi.yaml` and the README of thetradedesk/ttd-data-python at 43cecba (2026-07-15); that lines count
from 1 is from its `client.py`. The largest request is not on these pages: an option here. Nor is what an opt-out leaves
behind: here a device that is opted out is marked so, and a deletion takes the mark away with the rest.
"""

import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = re.compile(r"/data/deletion-optout/(advertiser|thirdparty|merchant)")
HOLDERS = {"advertiser": ("AdvertiserId", str), "thirdparty": ("DataProviderId", str), "merchant": ("MerchantId", int)}
COMMON = {"Items", "DataLoadTraceId", "RequestType"}
ALLOWED = {
    "advertiser": {"AdvertiserId", "DataProviderId"},
    "thirdparty": {"DataProviderId", "BrandId"},
    "merchant": {"MerchantId"},
}
KINDS = frozenset(
    ["TDID", "DAID", "UID2", "UID2Token", "RampID", "CoreID", "EUID", "EUIDToken", "ID5", "NetID", "FirstID"]
) | {"UtiqID", "MerkuryID", "IqviaPPID"}
DEVICE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`largest` is the size in bytes above which the answer is 413; `holders` (ids, by comma) exist, any when empty."""

    largest: int = 1_000_000
    holders: str = ""


class TradeDeskEmulator:
    """Keeps what was asked of each device id, as hashes of its lower-case form."""

    faults = (
        *("429", "429-retry-after", "500", "503", "auth", "denied", "too-large", "invalid-rows"),
        *("line-unknown", "wrong-order"),
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._token = token
        self._options = options
        self._known = frozenset(filter(None, options.holders.split(",")))
        self._journal = journal
        self._clock = clock
        self._last: dict[str, dict[str, dict[str, Any]]] = {}
        self._serial = 0

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        if fault and kind in {"429", "429-retry-after"}:
            headers = {"retry-after": str(round(fault.after_s))} if kind == "429-retry-after" else {}
            return Answer(429, {"FailedLines": []}, headers)
        if kind in _REFUSALS:
            return _REFUSALS[kind]
        if not hmac.compare_digest(call.headers.get("ttd-auth", "").encode(), self._token.encode()):
            return _REFUSALS["auth"]
        if len(call.body) > self._options.largest:
            return _REFUSALS["too-large"]
        match = PATH.fullmatch(call.path)
        if not match or call.method != "POST":
            return Answer(404, "Not Found")
        return self._judge(match[1], call, kind)

    def replay(self, line: Mapping[str, Any]) -> None:
        self._serial += 1
        for identifier in line["identifiers"]:
            last = self._last.setdefault(identifier, {})
            last[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        return {"last": {identifier: self._last.get(identifier, {})} if identifier else self._last}

    def _judge(self, holder: str, call: Call, fault: str) -> Answer:
        try:
            body = json.loads(call.body)
        except ValueError:
            return Answer(400, {"FailedLines": []})
        key, kind = HOLDERS[holder]
        sound = isinstance(body, dict) and not set(body) - ALLOWED[holder] - COMMON and isinstance(body.get(key), kind)
        if (
            not sound
            or body.get("RequestType") not in {"OptOut", "Deletion"}
            or not isinstance(body.get("Items"), list)
        ):
            return Answer(400, {"FailedLines": []})
        identity = str(body[key])
        if not body["Items"] or (self._known and identity not in self._known):
            return Answer(400, {"FailedLines": []})
        failed = {number: _code(item) for number, item in enumerate(body["Items"], 1) if _code(item)}
        if fault in {"invalid-rows", "line-unknown"}:
            failed[1] = "InvalidUserId" if fault == "invalid-rows" else "Unknown"
        taken = [item for number, item in enumerate(body["Items"], 1) if number not in failed]
        self._apply(f"{holder}/{identity}", body["RequestType"], taken)
        told = [_line(key, identity, number, code) for number, code in sorted(failed.items())]
        if fault == "wrong-order":
            told.reverse()
        return Answer(200, {"FailedLines": told})

    def _apply(self, account: str, op: str, items: list[dict[str, str]]) -> None:
        line = {"at": self._clock(), "op": op, "request_id": f"D{self._serial + 1}", "account": account, "scope": ""}
        line["identifiers"] = [hashed(value.lower()) for item in items for value in item.values()]
        self._journal.write(line)
        self.replay(line)


_REFUSALS: dict[str, Answer] = {
    "500": Answer(500),
    "503": Answer(503, "request dropped"),
    "auth": Answer(401, "Unauthorized"),
    "denied": Answer(403, "Forbidden"),
    "too-large": Answer(413, "Request Entity Too Large"),
}


def _code(item: object) -> str:
    """What is wrong with a line; empty when nothing is."""
    if not isinstance(item, dict) or len(item) != 1 or not set(item) <= KINDS:
        return "ItemDeserializationError"
    [(kind, value)] = item.items()
    if not isinstance(value, str) or not value or (kind in {"TDID", "DAID"} and not DEVICE.fullmatch(value)):
        return "InvalidUserId"
    return ""


def _line(key: str, identity: str, number: int, code: str) -> dict[str, Any]:
    return {key: identity, "ItemNumber": str(number), "ErrorCode": code, "Message": "not accepted", "TDID": None}
