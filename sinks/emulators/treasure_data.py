"""Treasure Data's import of records with an id: `PUT /v3/table/import_with_id/{db}/{table}/{id}/msgpack.gz`.

From treasure-data/td-client-python (`tdclient/import_api.py`, `api.py` at d634bb8) and td-client-ruby's specification of the same call
(`spec/td/client/import_api_spec.rb` at 0ae4bf1). That an id counts once is what fluent-plugin-td sends it for.
"""

import gzip
import hmac
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .server import Answer, Call, Clock, Fault, Journal, hashed

PATH = re.compile(r"/v3/table/import_with_id/([a-z0-9_]+)/([a-z0-9_]+)/([0-9a-f]{8,64})/msgpack\.gz")


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`table` is the only one there is, as database/table; any when empty."""

    table: str = ""


class TreasureDataEmulator:
    """Keeps rows by import; of people the journal has hashes alone."""

    faults = (
        "429",
        "429-retry-after",
        "500",
        "503",
        "auth",
        "denied",
        "no-table",
        "bad-record",
        "too-large",
        "no-json",
    )

    def __init__(self, token: str, options: Options, journal: Journal, clock: Clock) -> None:
        self._token = token
        self._options = options
        self._journal = journal
        self._clock = clock
        self._imports: dict[str, int] = {}
        self._last: dict[str, dict[str, dict[str, Any]]] = {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        headers = {"retry-after": str(round(fault.after_s))} if fault and kind == "429-retry-after" else {}
        if kind in _PROBLEMS:
            return _error(*_PROBLEMS[kind], headers)
        if not hmac.compare_digest(call.headers.get("authorization", "").encode(), f"TD1 {self._token}".encode()):
            return _error(401, "Authentication failed")
        found = PATH.fullmatch(call.path)
        if call.method != "PUT" or not found:
            return _error(404, "Resource not found")
        database, table, unique = found.groups()
        if self._options.table and self._options.table != f"{database}/{table}":
            return _error(404, f"Table {table} does not exist")
        try:
            records = _unpacked(gzip.decompress(call.body))
            lines = [self._line(each, unique) for each in records]
        except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error, struct.error):
            return _error(400, "broken record")
        if unique not in self._imports:
            for line in lines:
                self._journal.write(line)
                self.replay(line)
        if kind == "no-json":
            return Answer(200, "<html>ok</html>")
        return Answer(200, {"unique_id": unique, "database": database, "table": table, "elapsed_time": 0.01})

    def replay(self, line: Mapping[str, Any]) -> None:
        self._imports[line["import"]] = self._imports.get(line["import"], 0) + 1
        for identifier in line["identifiers"]:
            held = self._last.setdefault(identifier, {})
            held[line["account"]] = {key: line[key] for key in ("op", "at", "request_id")}

    def state(self, identifier: str) -> dict[str, Any]:
        last = {identifier: self._last.get(identifier, {})} if identifier else self._last
        return {"imports": dict(sorted(self._imports.items())), "last": last}

    def _line(self, record: Mapping[str, Any], unique: str) -> dict[str, Any]:
        if not isinstance(record["time"], int):
            raise TypeError
        value = record["identifier"]
        return {
            "at": self._clock(),
            "op": record["effect"],
            "request_id": record["request_id"],
            "account": record["account"],
            "scope": record["scope"],
            "import": unique,
            "identifiers": [value if re.fullmatch(r"[0-9a-f]{64}", value) else hashed(value)],
        }


def _unpacked(data: bytes) -> list[dict[str, Any]]:
    """The maps of MessagePack that follow one another."""
    records, at = [], 0
    while at < len(data):
        record, at = _value(data, at)
        if not isinstance(record, dict):
            raise TypeError
        records.append(record)
    return records


def _value(data: bytes, at: int) -> tuple[Any, int]:
    """One value and where the next begins: maps, strings and whole numbers, which is all that is sent here."""
    head, at = data[at], at + 1
    if head <= 0x7F:
        return head, at
    if head & 0xF0 == 0x80 or head == 0xDE:
        (count,) = struct.unpack_from(">H", data, at) if head == 0xDE else (head & 0x0F,)
        at += 2 * (head == 0xDE)
        found = {}
        for _ in range(count):
            key, at = _value(data, at)
            found[key], at = _value(data, at)
        return found, at
    if head & 0xE0 == 0xA0 or head in _LENGTHS:
        form = _LENGTHS.get(head)
        size = struct.unpack_from(form, data, at)[0] if form else head & 0x1F
        at += struct.calcsize(form) if form else 0
        text = data[at : at + size]
        if len(text) != size:
            raise ValueError
        return text.decode(), at + size
    form = _NUMBERS[head]
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)


_LENGTHS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_PROBLEMS = {
    "429": (429, "Too many requests"),
    "429-retry-after": (429, "Too many requests"),
    "500": (500, "Internal server error"),
    "503": (503, "Service unavailable"),
    "auth": (401, "Authentication failed"),
    "denied": (403, "Access denied"),
    "no-table": (404, "Table does not exist"),
    "bad-record": (422, "broken record: taro.yamada@example.com"),
    "too-large": (413, "Request entity too large"),
}


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {"error": message, "severity": "error"}, headers or {})
