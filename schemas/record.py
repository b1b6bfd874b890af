"""The subject record: registers that merge by event time, and what is known of one person.

The record is a join semilattice: `join` is commutative, associative and idempotent, so order of arrival, duplicates,
replays and two workers at once all end in the same record. At equal times the restrictive side wins (law 2).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

Value = TypeVar("Value")

ERASED = "erased"
AGE = "age"
EVERYTHING = "*"
HELD = "holding/"
OF = "of/"
MERGE = "merge/"
CLAIM = "claim/"
ROWS_KEPT = 64


@lru_cache(4096)
def purpose_register(regime: str, purpose: str) -> str:
    """Name of the register that holds a purpose's decision under one regime."""
    return f"purpose/{regime}/{purpose}"


@lru_cache(4096)
def channel_register(channel: str, scope: str = EVERYTHING) -> str:
    """Name of the register that holds a channel's state for one list of it."""
    return f"channel/{channel}/{scope}"


@lru_cache(4096)
def suspension_register(scope: str) -> str:
    """Name of the register that holds whether use, or provision, is suspended."""
    return f"suspension/{scope}"


def of_merged(ref: str, name: str) -> str:
    """Where a survivor keeps what the subject `ref`, merged into it, said in the register `name`."""
    return name if name.startswith(OF) else f"{OF}{ref}/{name}"


def base(name: str) -> str:
    """The name of a register without whose it was: `of/<ref>/purpose/appi/x` is `purpose/appi/x`."""
    return name.split("/", 2)[2] if name.startswith(OF) else name


class Stamp(Struct, frozen=True, order=True):
    """The name of one write to one register: enough to ask whether a record contains it."""

    register: str
    at: int
    restrictive: bool
    event_id: str


class Register(Struct, frozen=True):
    """A last-writer-wins cell: what was said, when (ms UTC), and by which event.

    `until` (ms, 0 for none) ends a suspension or a grant; `policy_version` and `ground` are kept for the reasons.
    """

    value: str
    at: int
    restrictive: bool
    event_id: str
    until: int = 0
    policy_version: str = ""
    ground: str = ""

    @property
    def rank(self) -> tuple[int, bool, str, str, int, str, str]:
        """Total order of writes: time, then the restrictive side, then something that never ties by accident."""
        return (self.at, self.restrictive, self.event_id, self.value, self.until, self.policy_version, self.ground)


def by_number(generation: str) -> tuple[int, str]:
    """The order of a key's generations: by the number that ends the name, so w2 comes before w10; then by name."""
    digits = generation[len(generation.rstrip("0123456789")) :]
    return int(digits) if digits else -1, generation


class Key(Struct, frozen=True):
    """One generation of a subject's data key, wrapped. `created_at` is the effective time of the event it came with."""

    wrapped: bytes
    wrapping: str
    created_at: int


class SealedIdentifier(Struct, frozen=True):
    """An identifier that only the subject's key opens; `generation` names that key.

    `alias` is the keyed hash under which it was written first, and its name for good: told-state is kept under it.
    `aliases` are the hashes by which it is found, by generation of the alias key; rotation adds to them.
    """

    kind: str
    alias: str
    generation: str
    sealed: bytes
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Every hash that means this identifier."""
        return frozenset((self.alias, *self.aliases.values()))


class Holding(Struct, frozen=True):
    """What one recipient was given: first and last day's instant (ms) and the data items' codes."""

    first_at: int
    last_at: int
    items: tuple[str, ...] = ()


class Merge(Struct, frozen=True, order=True):
    """That two subjects are one person: since when (effective time, ms), and by which event."""

    at: int
    event_id: str


class Claim(Struct, frozen=True):
    """Whether an identifier is a subject's to be granted by: said by a link or an unlink, when (ms), by which event."""

    linked: bool
    at: int
    event_id: str

    @property
    def rank(self) -> tuple[int, bool, str]:
        """Total order: time, then the unlink."""
        return (self.at, not self.linked, self.event_id)


class SubjectRecord(Struct, frozen=True):
    """All that is known of one subject. `version` serves compare-and-set alone; two records may share one.

    A merged subject's record redirects to `merged_into`, which keeps the merged one's registers under `of/<ref>/`, and in
    `merges` the pairs of subjects that are one person. `claims`, by kind and alias, is what links and unlinks said;
    `withheld`, by alias, is until when (ms) grants count no more for an identifier that somebody else had deleted.
    """

    subject_ref: str
    version: int = 0
    registers: dict[str, Register] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    identifiers: dict[str, SealedIdentifier] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    row_count: int = 0
    shredded_through: int = 0
    identifiers_shredded: dict[str, int] = field(default_factory=dict)
    merged_into: str = ""
    merges: dict[str, Merge] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)

    @property
    def erased_through(self) -> int:
        """The deletion watermark in ms, of whichever subject of the person; 0 when no deletion was ever admitted."""
        erased = self.registers.get(ERASED)
        if self.merges:
            return max((each.at for name, each in self.registers.items() if base(name) == ERASED), default=0)
        return erased.at if erased else 0


def stamp(name: str, register: Register) -> Stamp:
    """The stamp of what `register` holds now."""
    return Stamp(name, register.at, register.restrictive, register.event_id)


def contains(record: SubjectRecord, stamps: Iterable[Stamp]) -> bool:
    """Whether the record already contains every write named: containment, not counting (correctness, 7)."""
    return all(_contains(record, each) for each in stamps)


def _contains(record: SubjectRecord, wanted: Stamp) -> bool:
    if wanted.register.startswith(HELD):
        holding = record.holdings.get(wanted.register.removeprefix(HELD))
        return (holding.last_at if holding else record.shredded_through) >= wanted.at
    if wanted.register.startswith(MERGE):  # of two events that say the same merge, the earlier counts
        merge = record.merges.get(wanted.register.removeprefix(MERGE))
        return merge is not None and (merge.at, merge.event_id) <= (wanted.at, wanted.event_id)
    if wanted.register.startswith(CLAIM):
        claim = record.claims.get(wanted.register.removeprefix(CLAIM))
        return claim.rank >= (wanted.at, wanted.restrictive, wanted.event_id) if claim else _gone(record, wanted)
    register = record.registers.get(wanted.register)
    if register is None:
        return base(wanted.register) == AGE and _gone(record, wanted)
    return (register.at, register.restrictive, register.event_id) >= (wanted.at, wanted.restrictive, wanted.event_id)


def join(one: SubjectRecord, other: SubjectRecord) -> SubjectRecord:
    """The least record that contains both. Raises ValueError when they are of two subjects."""
    if one.subject_ref != other.subject_ref:
        raise ValueError("expected two records of one subject, got two subjects")
    through = max(one.shredded_through, other.shredded_through)
    return normalise(
        SubjectRecord(
            subject_ref=one.subject_ref,
            version=max(one.version, other.version),
            registers=_union(one.registers, other.registers, _later),
            keys=_union(one.keys, other.keys, _one_key),
            identifiers=_union(one.identifiers, other.identifiers, _either),
            # a stale copy's holding must not widen one that was given anew since the shredding
            holdings=_union(_held_since(one, through), _held_since(other, through), _both),
            rows=_union(one.rows, other.rows, max),
            row_count=max(one.row_count, other.row_count),
            shredded_through=through,
            identifiers_shredded=_union(one.identifiers_shredded, other.identifiers_shredded, max),
            merged_into=min(filter(None, (one.merged_into, other.merged_into)), default=""),
            merges=_union(one.merges, other.merges, min),
            claims=_union(one.claims, other.claims, _later_claim),
            withheld=_union(one.withheld, other.withheld, max),
        )
    )


def normalise(record: SubjectRecord) -> SubjectRecord:
    """Drop what a shredding has destroyed, so that no join brings it back (correctness, 3 and 4)."""
    through = record.shredded_through
    rows = record.rows
    if len(rows) > ROWS_KEPT:
        kept = sorted(rows.items(), key=lambda row: (row[1], row[0]))[-ROWS_KEPT:]
        rows = dict(kept)
    if not through:
        return record if rows is record.rows else replace(record, rows=rows)
    keys = {name: key for name, key in record.keys.items() if key.created_at > through}
    return replace(
        record,
        keys=keys,
        identifiers={name: each for name, each in record.identifiers.items() if each.generation in keys},
        holdings=_held_since(record, through),
        registers={name: each for name, each in record.registers.items() if each.at > through or base(name) != AGE},
        claims={name: each for name, each in record.claims.items() if each.at > through},
        withheld={alias: at for alias, at in record.withheld.items() if at > through},
        rows=rows,
    )


def identities(sealed: Iterable[SealedIdentifier]) -> list[tuple[SealedIdentifier, ...]]:
    """What is sealed, by the identifier that it is: one kind, and a hash in common under whichever alias key.

    One identifier may be sealed on both sides of a deletion, and be named by two workers under two alias keys.
    """
    groups: list[tuple[set[tuple[str, str]], tuple[SealedIdentifier, ...]]] = []
    for each in sealed:
        names = {(each.kind, name) for name in each.names}
        theirs: tuple[SealedIdentifier, ...] = ()
        rest = []
        for group in groups:
            if names.isdisjoint(group[0]):
                rest.append(group)
            else:
                names |= group[0]
                theirs += group[1]
        groups = [*rest, (names, (*theirs, each))]
    return [group for _, group in groups]


def names_of(record: SubjectRecord, names: Iterable[str]) -> frozenset[str]:
    """`names` of one identifier, with every other name by which the record knows it."""
    wanted = frozenset(names)
    held = (each.names for each in record.identifiers.values())
    return wanted.union(*(each for each in held if not each.isdisjoint(wanted)))


def same(one: SubjectRecord, other: SubjectRecord) -> bool:
    """Whether two records say the same, whatever their versions."""
    return replace(one, version=0) == replace(other, version=0)


def _union(
    one: Mapping[str, Value], other: Mapping[str, Value], pick: Callable[[Value, Value], Value]
) -> dict[str, Value]:
    if not other:
        return dict(one)
    merged = dict(one)
    for name, theirs in other.items():
        ours = merged.get(name)
        merged[name] = theirs if ours is None else pick(ours, theirs)
    return merged


def _gone(record: SubjectRecord, wanted: Stamp) -> bool:
    return wanted.at <= record.shredded_through


def _held_since(record: SubjectRecord, through: int) -> dict[str, Holding]:
    return {name: each for name, each in record.holdings.items() if each.last_at > through}


def _later(ours: Register, theirs: Register) -> Register:
    return ours if ours.rank >= theirs.rank else theirs


def _later_claim(ours: Claim, theirs: Claim) -> Claim:
    return ours if ours.rank >= theirs.rank else theirs


def _one_key(ours: Key, theirs: Key) -> Key:
    """One generation has one key; rewrapping under a newer wrapping key is the only change it can see."""
    return max(ours, theirs, key=lambda key: (by_number(key.wrapping), key.wrapped, key.created_at))


def _either(ours: SealedIdentifier, theirs: SealedIdentifier) -> SealedIdentifier:
    """Two workers may have sealed the same value twice under the same key: both open, so any fixed choice does."""
    one = max(ours, theirs, key=lambda each: (each.sealed, each.kind))
    return one if ours.aliases == theirs.aliases else replace(one, aliases=_union(ours.aliases, theirs.aliases, max))


def _both(ours: Holding, theirs: Holding) -> Holding:
    return Holding(
        first_at=min(ours.first_at, theirs.first_at),
        last_at=max(ours.last_at, theirs.last_at),
        items=tuple(sorted({*ours.items, *theirs.items})),
    )
