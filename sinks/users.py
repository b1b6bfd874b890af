"""Who a person is at a partner that knows people by an id of its own customer's: one kind of ours stands for it."""

from typing import Literal

from todoke.processors import identifiers
from todoke.schemas.errors import Refused

from .base import Item

UserId = Literal["member_id", "email", "cookie_id"]
"""The kinds that a shop may have given to such a partner as its user id. Which it was, only the shop knows."""


def ids(item: Item, kind: UserId) -> list[str]:
    """The user ids of an item, each once: ids as they are, addresses in lower case. What has no sound form is left out."""
    found: dict[str, None] = {}
    for each in item.identifiers:
        if each.kind != kind:
            continue
        try:
            found[identifiers.canonical(each.kind, each.value)] = None
        except Refused:
            continue
    return list(found)
