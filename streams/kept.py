"""What is kept in compacted topics and in the view: where each value lives in both, and what it is found by.

A message carries beside its value what the view's indexes need of it, as a header. So the keeper puts a million records
back without decoding one. The header is written here alone, from the value that it travels with; where it is missing or
of another layout, the value itself is asked.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from todoke.processors.instants import turn
from todoke.schemas.codec import Codec
from todoke.schemas.obligations import Obligation
from todoke.schemas.obligations import join as join_obligations
from todoke.schemas.policy import Policy
from todoke.schemas.record import SubjectRecord
from todoke.schemas.record import join as join_records
from todoke.schemas.told import Told
from todoke.schemas.told import join as join_told

from .index import references
from .outbox import Letter
from .tools import Tools
from .view import Cell, Cells, View

Value = TypeVar("Value", bound=Struct)
INDEX_HEADER = "todoke-index-1"
"""Its number rises with every change of what stands in it."""
MOVED = "todoke-moved"
"""On the tombstone of a key whose value has another partition since its topic grew: nothing is gone."""
SUBJECT_HEADER = "todoke-subject"
"""Whose obligation a tombstone removes."""


class RecordIndex(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a record is found by, and when (ms, 0 for never) to look at it again though nobody says anything.

    Aliases are keyed hashes, which the value holds, too.
    """

    aliases: tuple[str, ...]
    turn: int


class ObligationIndex(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an obligation is found by. `ended_at` is 0 while it stands; times in ms."""

    subject_ref: str
    partner: str
    restrictive: bool
    delete: bool
    ended_at: int
    appended_at: int
    deadline_at: int


class ToldIndex(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the subject of a told-state is found by when partners report: the names of jobs. Without any, no header."""

    references: tuple[str, ...]


def of_record(record: SubjectRecord, policy: Policy, written_at: int) -> RecordIndex:
    """The index data of a record that was written at `written_at` (ms)."""
    return RecordIndex(_names(record), turn(record, policy, written_at))


def of_obligation(each: Obligation) -> ObligationIndex:
    """The index data of an obligation."""
    return ObligationIndex(
        each.subject_ref,
        each.partner,
        each.restrictive,
        each.verb == "delete",
        each.ended_at,
        each.appended_at,
        each.deadline_at,
    )


def letter(tools: Tools, value: SubjectRecord | Obligation | Told) -> Letter:
    """The message by which a kept value reaches its topic."""
    at = turn(value, tools.rules.policy, tools.now()) if isinstance(value, SubjectRecord) else 0
    return message(tools.topic, tools.codec, value, at)


def message(
    topic: Callable[[str], str], codec: Codec, value: SubjectRecord | Obligation | Told, turn_at: int = 0
) -> Letter:
    """The same, for a record whose next turn (ms, 0 for never) is known."""
    raw = codec.encode(value)
    if isinstance(value, Told):
        names = references(value)
        found = ((INDEX_HEADER, msgspec.msgpack.encode(ToldIndex(names))),) if names else ()
        return Letter(topic("told"), f"{value.subject_ref}|{value.key}", raw, found)
    if isinstance(value, Obligation):
        headers = ((INDEX_HEADER, msgspec.msgpack.encode(of_obligation(value))),)
        return Letter(topic("obligations"), value.obligation_id, raw, headers)
    index = RecordIndex(_names(value), turn_at)
    return Letter(topic("consent-state"), value.subject_ref, raw, ((INDEX_HEADER, msgspec.msgpack.encode(index)),))


def _names(record: SubjectRecord) -> tuple[str, ...]:
    return tuple(sorted({name for each in record.identifiers.values() for name in each.names}))


class Kept(Generic[Value]):
    """One compacted topic: where its values live in the view, and how two of them join."""

    def __init__(
        self, cells: Cells[Value], cell: Callable[[Value], Cell], join: Callable[[Value, Value], Value]
    ) -> None:
        """`cell` is a value's address in the view."""
        self.cells = cells
        self.cell = cell
        self.join = join


def kept(view: View) -> dict[str, Kept[Any]]:
    """What is kept, by topic."""
    return {
        "consent-state": Kept[SubjectRecord](
            view.records, lambda each: view.records.cell(each.subject_ref), join_records
        ),
        "obligations": Kept[Obligation](
            view.obligations,
            lambda each: view.obligations.cell(each.subject_ref, each.obligation_id),
            join_obligations,
        ),
        "told": Kept[Told](view.told, lambda each: view.told.cell(each.subject_ref, each.key), join_told),
    }


KEPT = ("consent-state", "obligations", "told")
