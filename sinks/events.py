"""What our own contracts say of one obligation: the body of a webhook, a line of a file, a message of a topic."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected
from todoke.schemas.identity import Identifier, IdentifierKind

from .base import Item

Form = Literal["plain", "sha256"]


class Named(NamedTuple):
    """An identifier as a partner is told it: its kind, and the canonical form or the hash of that."""

    kind: IdentifierKind
    value: str


def event(item: Item, effect: str, form: Form) -> dict[str, Any]:
    """The whole event. Raises `Rejected` where no identifier has a sound form."""
    key = "value" if form == "plain" else "sha256"
    told = named(item.identifiers, form)
    if not told:
        raise Rejected("no-usable-identifier")
    return {
        "type": f"todoke.suppression.{item.verb}",
        "timestamp": iso(item.at),
        "data": {
            "obligation_id": item.obligation_id,
            "verb": item.verb,
            "effect": effect,
            "scope": item.scope,
            "account": item.account,
            "deadline": iso(item.deadline_at),
            "reasons": list(item.reasons),
            "identifiers": [{"kind": each.kind, key: each.value} for each in told],
        },
    }


def named(given: Sequence[Identifier], form: Form) -> list[Named]:
    """The identifiers that have a sound form, in the form asked for, each once."""
    found = []
    for each in given:
        try:
            canonical = identifiers.canonical(each.kind, each.value)
        except Refused:
            continue  # one unsound identifier must not keep the sound ones from being told
        found.append(Named(each.kind, canonical if form == "plain" else identifiers.digest(canonical)))
    return list(dict.fromkeys(found))


def iso(at: int) -> str:
    """A moment in ms as RFC 3339, in UTC."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
