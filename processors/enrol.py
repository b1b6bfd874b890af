"""From an admitted event to the piece of record that it adds: registers, sealed identifiers, holdings, its row's number.

What comes out is joined to the record, so enrolling twice, or at two workers at once, adds nothing twice.
"""

from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from todoke.schemas.events import Event
from todoke.schemas.record import (
    AGE,
    ERASED,
    Key,
    Register,
    SealedIdentifier,
    Stamp,
    SubjectRecord,
    identities,
    join,
    stamp,
)

from .admit import Change
from .keys import Keyring, Random, new_key, open_key, seal_identifier


class Named(Struct, frozen=True):
    """An identifier with its canonical form's keyed hash, and the hashes under every alias key at hand by generation."""

    kind: str
    alias: str
    value: str
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Every hash that means this identifier (double look-up)."""
        return frozenset((self.alias, *self.aliases.values()))

    def __repr__(self) -> str:
        """Kind and alias: the value stays inside."""
        return f"Named({self.kind!r}, {self.alias!r})"


def enrol(
    record: SubjectRecord, event: Event, change: Change, named: Sequence[Named], keyring: Keyring, random: Random
) -> SubjectRecord:
    """`record` joined with what `event` adds. The version is left to the writer."""
    keys, identifiers = _identifiers(record, change, named, keyring, random)
    numbered = event.event_id in record.rows
    delta = SubjectRecord(
        subject_ref=record.subject_ref,
        registers=change.writes,
        keys=keys,
        identifiers=identifiers,
        holdings=change.holdings,
        rows={} if numbered else {event.event_id: record.row_count + 1},
        row_count=record.row_count if numbered else record.row_count + 1,
    )
    return join(record, delta)


def stamps(change: Change) -> tuple[Stamp, ...]:
    """The stamps of everything that a change writes."""
    return tuple(stamp(name, register) for name, register in sorted(change.writes.items()))


def won(record: SubjectRecord, change: Change) -> bool:
    """Whether what the change decides stands in the record: else something later has superseded it.

    An age that comes along decides nothing by itself, and is said again with every event: it counts where it is all there is.
    """
    decided = {name: each for name, each in change.writes.items() if name != AGE} or change.writes
    return all(_stands(record, name, each) for name, each in decided.items())


def shred(record: SubjectRecord, through: int) -> SubjectRecord:
    """The record with every key and identifier destroyed that came at or before `through` (ms): none opens again."""
    doomed = {name for name, key in record.keys.items() if key.created_at <= through}
    counts = dict(record.identifiers_shredded)
    for group in identities(record.identifiers.values()):
        if all(each.generation in doomed for each in group):
            counts[group[0].kind] = counts.get(group[0].kind, 0) + 1
    marker = SubjectRecord(record.subject_ref, shredded_through=through, identifiers_shredded=counts)
    return join(record, marker)


def _stands(record: SubjectRecord, name: str, write: Register) -> bool:
    held = record.registers.get(name)
    return held is not None and held.rank == write.rank


def _identifiers(
    record: SubjectRecord, change: Change, named: Sequence[Named], keyring: Keyring, random: Random
) -> tuple[dict[str, Key], dict[str, SealedIdentifier]]:
    """Seal what is not yet sealed in the event's era: what came before a deletion is shredded apart from what follows.

    Never under a key younger than the event: a deletion yet to come may fall between the two, and would miss it.
    """
    erased = max(record.erased_through, change.writes[ERASED].at if ERASED in change.writes else 0)
    if not named or change.at <= record.shredded_through:
        return {}, {}
    era = {name: key for name, key in record.keys.items() if (key.created_at > erased) == (change.at > erased)}
    found = _found(record, named)
    held = {name for each in record.identifiers.values() if each.generation in era for name in each.names}
    fresh = [each for each in named if held.isdisjoint(each.names)]
    if not fresh:
        return {}, found
    older = [(key.created_at, name) for name, key in era.items() if key.created_at <= change.at]
    if older:
        generation = max(older)[1]
        key = era[generation]
    else:
        generation, key = new_key(keyring, record.subject_ref, change.at, random)
    data_key = open_key(keyring, record.subject_ref, generation, key)
    sealed = {
        f"{each.alias}.{generation}": SealedIdentifier(
            kind=each.kind,
            alias=each.alias,
            generation=generation,
            sealed=seal_identifier(data_key, record.subject_ref, each.kind, each.value, random),
            aliases=each.aliases,
        )
        for each in fresh
    }
    return {generation: key}, found | sealed


def _found(record: SubjectRecord, named: Sequence[Named]) -> dict[str, SealedIdentifier]:
    """What the record holds already of `named`, with the hashes that it lacks under newer alias keys."""
    return {
        name: replace(held, aliases=held.aliases | each.aliases)
        for name, held in record.identifiers.items()
        for each in named
        if each.kind == held.kind
        and not each.names.isdisjoint(held.names)
        and not each.aliases.items() <= held.aliases.items()
    }
