"""From what msgspec says of a value that doesn't fit its type to a refusal that names the field, never the value."""

import re
from typing import Any

import msgspec
from msgspec import Struct, inspect

from .errors import Refused

PLACE = re.compile(r" - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`$")
MISSING = re.compile(r"^Object missing required field `(?P<field>\w+)`")
TYPES = re.compile(r"^Expected `[^`]*`, got `\w+`")


def refusal(kind: type[Struct], error: msgspec.ValidationError) -> Refused:
    """The refusal that `error` means for a value of `kind`: unknown-value for a closed list, else undecodable."""
    said = str(error)
    place = PLACE.search(said)
    path = place["path"].replace("[...]", "[]") if place else ""
    if missing := MISSING.match(said):
        return Refused("undecodable", f"{path}.{missing['field']}".lstrip("."), "Give the field: it has no default.")
    if types := TYPES.match(said):
        return Refused("undecodable", path or "value", f"{types[0].replace('`', '')}.")
    choices = _choices(inspect.type_info(kind), [each for each in re.split(r"\.|(?=\[)", path) if each])
    fix = f"Use one of {', '.join(choices)}." if choices else "Use a value that the field's contract allows."
    return Refused("unknown-value" if choices else "undecodable", path or "value", fix)


def _choices(info: Any, path: list[str]) -> list[str]:
    """The closed list at `path`, empty when there is none."""
    if isinstance(info, inspect.UnionType):
        return next((found for each in info.types if (found := _choices(each, path))), [])
    if not path:
        return [str(each) for each in info.values] if isinstance(info, inspect.LiteralType) else []
    step, *rest = path
    if isinstance(info, inspect.StructType):
        return next((_choices(each.type, rest) for each in info.fields if each.name == step), [])
    if isinstance(info, inspect.VarTupleType):
        return _choices(info.item_type, rest)
    if isinstance(info, inspect.DictType):
        return _choices(info.value_type, rest)
    return []
