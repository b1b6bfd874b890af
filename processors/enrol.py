"""From an admitted event to the piece of record that it adds: registers, sealed identifiers, holdings, its row's number.

What comes out is joined to the record, so enrolling twice, or at two workers at once, adds nothing twice.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from todoke.schemas.events import Event
from todoke.schemas.record import (
    AGE,
    ERASED,
    Claim,
    Key,
    Register,
    SealedIdentifier,
    Stamp,
    SubjectRecord,
    identities,
    join,
    names_of,
    stamp,
)

from .admit import Change
from .keys import Keyring, Random, new_key, open_identifier, open_key, seal_identifier
from .merges import moved


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
    writes = change.writes
    if event.subject is None and record.claims and not any(claimed(record, each.kind, each.names) for each in named):
        # found by what is theirs no more: a stop counts all the same, a permission is somebody else's
        writes = {name: each for name, each in writes.items() if each.restrictive}
    numbered = event.event_id in record.rows
    delta = SubjectRecord(
        subject_ref=record.subject_ref,
        registers=writes,
        keys=keys,
        identifiers=identifiers,
        holdings=change.holdings,
        merges=change.merges,
        claims=change.claims,
        rows={} if numbered else {event.event_id: record.row_count + 1},
        row_count=record.row_count if numbered else record.row_count + 1,
    )
    return join(record, delta)


def take_up(record: SubjectRecord, merged: SubjectRecord, keyring: Keyring, random: Random) -> SubjectRecord:
    """`record` joined with all of `merged`, which redirects to it, its identifiers sealed anew for the survivor.

    Each keeps the era of its key, so a deletion on either side shreds what it would have shredded. What has been taken up
    already is not sealed again. Raises `Unopened`.
    """
    record = join(record, moved(merged, record.subject_ref))
    for name, key in sorted(merged.keys.items(), key=lambda each: (each[1].created_at, each[0])):
        theirs = [each for _, each in sorted(merged.identifiers.items()) if each.generation == name]
        change = Change("take-up", key.created_at, {}, {})
        missing = [each for each in theirs if not _held(record, each, change.at)]
        if missing:
            data_key = open_key(keyring, merged.subject_ref, name, key)
            named = [
                Named(
                    each.kind,
                    each.alias,
                    open_identifier(data_key, merged.subject_ref, each.kind, each.sealed),
                    each.aliases,
                )
                for each in missing
            ]
            keys, identifiers = _identifiers(record, change, named, keyring, random)
            record = join(record, SubjectRecord(record.subject_ref, keys=keys, identifiers=identifiers))
    return record


def claim_of(record: SubjectRecord, kind: str, names: Iterable[str]) -> Claim | None:
    """What a link or an unlink said last of an identifier, under whichever of its names; None where none did."""
    if not record.claims:
        return None
    said = (record.claims.get(f"{kind}/{name}") for name in names_of(record, names))
    return max((each for each in said if each), key=lambda each: each.rank, default=None)


def claimed(record: SubjectRecord, kind: str, names: Iterable[str]) -> bool:
    """Whether grants of the subject may be told for an identifier: until it is unlinked, and once it is linked again."""
    claim = claim_of(record, kind, names)
    return claim is None or claim.linked


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


def _held(record: SubjectRecord, identifier: SealedIdentifier, at: int) -> bool:
    """Whether the record has the identifier, by all its names, in the era of `at` (ms), or has shredded it."""
    if at <= record.shredded_through:
        return True
    erased = record.erased_through
    return any(
        identifier.names <= each.names and (record.keys[each.generation].created_at > erased) == (at > erased)
        for each in record.identifiers.values()
        if each.generation in record.keys
    )


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
