"""Makes tests/golden/avro: the bytes of one full message of each record, by the current version of its contract.

Run it after a contract got a new version: `python tests/golden/make_avro.py`. Files of earlier versions stay as they
are, since what was written with them must be read for as long as a topic holds it.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from todoke.schemas import contracts
from todoke.schemas.codec import RECORDS, Codec

FOLDER = Path(__file__).parent / "avro"


def sample(kind: type[Struct]) -> Struct:
    """A value with something in every field, the same each time."""
    value: Struct = _fill(kind, kind.__name__, count(1))
    return value


def golden() -> Iterator[tuple[str, str]]:
    """Each file's name and text: the message in hex, 32 bytes a line."""
    codec, locked = Codec(), contracts.lock(contracts.folder())
    for name, kind in RECORDS.items():
        text = codec.encode(sample(kind)).hex()
        lines = [text[start : start + 64] + "\n" for start in range(0, len(text), 64)]
        yield f"{name}.{max(locked[name])}.hex", "".join(lines)


def _fill(hint: Any, name: str, numbers: Iterator[int]) -> Any:
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _fill(next(each for each in inside if each is not NoneType), name, numbers)
    if origin is Literal:
        return inside[-1]
    if origin is tuple:
        return tuple(_fill(inside[0], f"{name}-{index}", numbers) for index in range(2))
    if origin is dict:
        return {f"{name}-鍵": _fill(inside[1], name, numbers)}
    if hint is bool:
        return True
    if hint is int:
        return 1000 * next(numbers)
    if hint is str:
        return f"{name}-値"
    if hint is bytes:
        return bytes(range(0, 256, 51))
    hints = get_type_hints(hint)
    return msgspec.convert({field: _fill(hints[field], field, numbers) for field in hint.__struct_fields__}, hint)


if __name__ == "__main__":
    for name, text in golden():
        (FOLDER / name).write_text(text)
