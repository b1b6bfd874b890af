"""Who a person is at a partner that takes plain names of one kind; what its customer gave it as user id may be any kind."""

from typing import Literal

from todoke.processors import identifiers
from todoke.schemas.errors import Refused
from todoke.schemas.identity import IdentifierKind

from .base import Item

UserId = Literal["member_id", "email", "cookie_id"]
"""The kinds that a shop may have given to such a partner as its user id. Which it was, only the shop knows."""


def ids(item: Item, kind: IdentifierKind) -> list[str]:
    """The identifiers of that kind, canonical and each once, in order. What has no sound form is left out."""
    found: dict[str, None] = {}
    for each in item.identifiers:
        if each.kind != kind:
            continue
        try:
            found[identifiers.canonical(each.kind, each.value)] = None
        except Refused:
            continue
    return list(found)
