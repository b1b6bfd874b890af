"""Suppression lists, for vendors that read Kafka."""

from msgspec import Struct

from .identity import IdentifierKind


class SuppressionEntry(Struct, frozen=True, kw_only=True):
    """One identifier that one partner must leave alone. Key: its hash, in the form that the partner itself computes.

    `kind` says what was hashed, `scopes` for which purposes and channels it must not be used, `listed_at` (ms) since when
    the entry has this form. `scopes` is never empty: null in its place takes the identifier off the list.
    """

    kind: IdentifierKind
    scopes: tuple[str, ...]
    listed_at: int
