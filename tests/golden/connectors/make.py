"""Writes the golden requests of every connector: `python -m tests.golden.connectors.make`, then read the difference."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tests.contracts.rows import AT, partner, rows
from todoke.schemas.identity import Identifier
from todoke.sinks.base import FileRequest, HttpRequest, Item, Request, TopicRequest, UploadRequest
from todoke.sinks.connectors import CONNECTORS
from todoke.sinks.swaps import Swapped

REFERENCE = "7001:41"
HERE = Path(__file__).parent


def text(request: Request) -> str:
    """A request as readable JSON; logins are no part of it."""
    return json.dumps(parts(request), indent=2, ensure_ascii=False) + "\n"


def parts(request: Request) -> dict[str, Any]:
    """What of a request is shown, by its kind."""
    match request:
        case HttpRequest():
            head = {"method": request.method, "url": request.url, "headers": request.headers}
            return {**head, "body": body(request.body)}
        case FileRequest():
            return {"url": request.url, "files": {each.path: body(each.body) for each in request.files}}
        case TopicRequest():
            messages = [{"key": each.key.decode(), "value": body(each.value)} for each in request.messages]
            return {"url": request.url, "servers": request.servers, "messages": messages}
    return {"recipients": request.recipients, "file": {request.file.path: body(request.file.body)}}


class Rows(Struct, frozen=True):
    """A short list on its way to a partner that takes whole ones."""

    text: bytes
    rows: int

    @property
    def size(self) -> int:
        return len(self.text)

    def pieces(self) -> Iterator[bytes]:
        yield self.text


def cargo(built: Swapped, *people: Sequence[Identifier]) -> Rows:
    """The list of these people, as the swaps make it."""
    rows = sorted({row for each in people for row in built.rows(each)})
    return Rows(built.header + b"".join(row + b"\n" for row in rows), len(rows))


def sent(upload: UploadRequest) -> HttpRequest:
    """An upload with its body in one piece."""
    whole = upload.head + b"".join(upload.pieces()) + upload.tail
    assert len(whole) == upload.size
    return HttpRequest(method=upload.method, url=upload.url, headers=upload.headers, body=whole)


def swap(built: Swapped, items: Sequence[Item]) -> str:
    """A swap to a list of the items: what is asked before it, the upload, and the question about its job."""
    before = built.before("main", AT)
    shown = {"before": parts(before)} if before else {}
    reference = REFERENCE if before else built.reference("main", None)
    shown["upload"] = parts(sent(built.upload("main", cargo(built, *(each.identifiers for each in items)), AT)))
    assert built.polls is not None
    shown["question"] = parts(built.polls.ask([reference], AT))
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def body(data: bytes) -> Any:
    """Text as it is; what is packed by gzip, as the values in it."""
    if not data.startswith(b"\x1f\x8b"):
        return data.decode()
    packed, values = gzip.decompress(data), []
    while packed:
        size = next(size for size in range(1, len(packed) + 1) if whole(packed[:size]))
        values.append(msgspec.msgpack.decode(packed[:size]))
        packed = packed[size:]
    return values


def whole(data: bytes) -> bool:
    """Whether this is one value of MessagePack."""
    try:
        msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, ValueError):
        return False
    return True


def golden(connector: str) -> dict[Path, str]:
    """Every golden file of one connector and what it must hold."""
    made, row = {}, rows()[connector]
    for case in row.cases:
        entry = partner(connector, **case.settings)
        named = {**entry.secrets, **{name: f"env:{name.upper()}" for name in case.secrets}}
        entry = replace(entry, identifiers=case.kinds or entry.identifiers, secrets=named)
        built = CONNECTORS[connector].build(entry, {**row.secrets, **case.secrets})
        shown = swap(built, case.items) if isinstance(built, Swapped) else text(built.request(case.items, AT))
        made[HERE / connector / f"{case.name}.json"] = shown
    return made


def main() -> None:
    """Write them all."""
    for connector in CONNECTORS:
        (HERE / connector).mkdir(exist_ok=True)
        for path, content in golden(connector).items():
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
