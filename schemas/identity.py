"""Identifiers of people: the one value that must never be printed."""

from typing import Any, Literal, get_args

from msgspec import Struct

IdentifierKind = Literal["email", "phone", "member_id", "cookie_id", "idfa", "gaid", "line_id", "postal_address"]

KINDS: tuple[IdentifierKind, ...] = get_args(IdentifierKind)


class Identifier(Struct, frozen=True):
    """One identifier of a person, as upstream gave it. Its repr never prints the value (law 7)."""

    kind: IdentifierKind
    value: str

    def __repr__(self) -> str:
        """Show the kind alone."""
        return f"Identifier(kind={self.kind!r}, value=…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Keep rich from reading the fields by itself."""
        return [("kind", self.kind)]
