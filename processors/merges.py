"""Subjects that turn out to be one person: who redirects to whom, what the survivor takes up, and what then holds.

Nothing that a subject said is overwritten. The survivor keeps it beside its own, under `of/<ref>/`, and what holds for
the person is worked out from all of it and the times of the merges. So any order of events and merges ends the same.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from todoke.schemas.record import (
    AGE,
    ERASED,
    EVERYTHING,
    MERGE,
    OF,
    Merge,
    Register,
    Stamp,
    SubjectRecord,
    base,
    of_merged,
    purpose_register,
    stamp,
)

PURPOSE = "purpose/"
Said = dict[str, Register]


class _Write(Struct, frozen=True):
    ref: str
    name: str
    register: Register


def pair(one: str, other: str) -> str:
    """The name of a merge of two subjects, whichever way round it was said."""
    return "/".join(sorted((one, other)))


def survivor(one: str, other: str) -> str:
    """Which of two subjects keeps the person's record: the lesser reference, so that no chain ever closes in a ring."""
    return min(one, other)


def members(record: SubjectRecord) -> frozenset[str]:
    """Every subject that is this person, as far as the record knows."""
    return frozenset({record.subject_ref, *(ref for each in record.merges for ref in each.split("/"))})


def moved(record: SubjectRecord, to: str) -> SubjectRecord:
    """What the subject `to` takes up of a record that redirects to it; identifiers are sealed anew apart from this."""
    return SubjectRecord(
        to,
        registers={
            of_merged(record.subject_ref, name): each
            for name, each in record.registers.items()
            if not name.startswith(f"{OF}{to}/")  # handed down from there
        },
        holdings=record.holdings,
        merges=record.merges,
        claims=record.claims,
        withheld=record.withheld,
    )


def handed_down(record: SubjectRecord, to: str) -> SubjectRecord:
    """What a merged subject `to` must know of its survivor: its deletions, since `to` deletes its own identifiers."""
    told = {
        of_merged(record.subject_ref, name): each for name, each in record.registers.items() if base(name) == ERASED
    }
    own = of_merged(to, ERASED)
    return SubjectRecord(to, registers={name: each for name, each in told.items() if name != own}, merges=record.merges)


def holds(record: SubjectRecord, piece: SubjectRecord) -> bool:
    """Whether the record has taken up all that was said in `piece`."""
    said = all(
        (held := record.registers.get(name)) is not None and held.rank >= each.rank
        for name, each in piece.registers.items()
        if base(name) != AGE or each.at > record.shredded_through
    )
    return said and piece.merges.keys() <= record.merges.keys()


def stamps(record: SubjectRecord, name: str) -> Iterator[Stamp]:
    """The stamps of every write that can have a say in what a register holds for the person."""
    if not record.merges:
        if name in record.registers:
            yield stamp(name, record.registers[name])
        return
    for each, register in record.registers.items():
        if base(each) == name:
            yield stamp(each, register)


def merge_stamps(record: SubjectRecord) -> tuple[Stamp, ...]:
    """The stamps of the merges: an answer that another merge changes is another decision."""
    return tuple(
        Stamp(f"{MERGE}{name}", each.at, restrictive=True, event_id=each.event_id)
        for name, each in sorted(record.merges.items())
    )


def effective(record: SubjectRecord) -> Mapping[str, Register]:
    """What holds for the person: each register as time, and the merges, left it.

    Until two subjects were merged, each spoke for itself. At the merge the restrictive side wins wherever a restriction
    stood on either; from then on they speak with one voice, so a later grant counts again.
    """
    if not record.merges:
        return record.registers
    homes = {ref: ref for ref in members(record)}
    writes = [_write(record, name, each) for name, each in record.registers.items()]
    homes |= {each.ref: each.ref for each in writes}
    held: dict[str, Said] = {ref: {} for ref in homes}
    events: list[tuple[int, int, str, _Write | Merge]] = [(each.register.at, 0, "", each) for each in writes]
    events += [(each.at, 1, name, each) for name, each in record.merges.items()]
    for at, _, name, event in sorted(events, key=lambda each: each[:3]):
        if isinstance(event, _Write):
            said = held[homes[event.ref]]
            before = said.get(event.name)
            said[event.name] = event.register if before is None else max(before, event.register, key=_rank)
        else:
            _unite(homes, held, at, *name.split("/"))
    latest = max(each[0] for each in events)
    for ref in sorted(homes):  # merges come with what they bring, so all are one by now: else the strictest of them
        _unite(homes, held, latest, record.subject_ref, ref)
    return held[homes[record.subject_ref]]


def _write(record: SubjectRecord, name: str, register: Register) -> _Write:
    ref = name.split("/", 2)[1] if name.startswith(OF) else record.subject_ref
    return _Write(ref, base(name), register)


def _unite(homes: dict[str, str], held: dict[str, Said], at: int, one: str, other: str) -> None:
    kept, gone = sorted((homes[one], homes[other]))
    if kept == gone:
        return
    held[kept] = _joint(held[kept], held.pop(gone), at)
    homes.update({ref: kept for ref, home in homes.items() if home == gone})


def _joint(one: Said, other: Said, at: int) -> Said:
    """What two sides hold together from `at` (ms) on."""
    erased = max((side[ERASED].at for side in (one, other) if ERASED in side), default=0)
    joint: Said = {}
    for name in one.keys() | other.keys():
        both = [side[name] for side in (one, other) if name in side]
        standing = [each for each in both if _stands(name, each, at, erased)]
        last = max(both, key=_rank)
        if standing:
            strictest = max(standing, key=_strictness)
            joint[name] = (
                strictest if last is strictest else replace(strictest, at=at if last not in standing else last.at)
            )
        else:
            joint[name] = last
    for side, facing in ((one, other), (other, one)):
        for name, each in side.items():
            blanket = _blanket(facing, name)
            if blanket and each.value == "granted" and _blanket(side, name) is None and joint[name] is each:
                joint[name] = Register("withdrawn", at, restrictive=True, event_id=blanket.event_id)
    return joint


def _stands(name: str, register: Register, at: int, erased: int) -> bool:
    """Whether a restriction is in force at `at` (ms); an age said before a deletion is forgotten."""
    over = 0 < register.until <= at or (name == AGE and register.at <= erased)
    return register.restrictive and not over


def _blanket(said: Said, name: str) -> Register | None:
    """The "withdraw everything" by which one side denies a purpose that it has not granted since."""
    if not name.startswith(PURPOSE):
        return None
    regime = name.split("/")[1]
    everything, own = said.get(purpose_register(regime, EVERYTHING)), said.get(name)
    return everything if everything and (own is None or everything.at >= own.at) else None


def _rank(register: Register) -> tuple[int, bool, str, str, int, str, str]:
    return register.rank


def _strictness(register: Register) -> tuple[bool, int, str, tuple[int, bool, str, str, int, str, str]]:
    """The suspension that lasts longest, the younger age; else the later."""
    return (register.until == 0, register.until, _birth(register), register.rank)


def _birth(register: Register) -> str:
    return register.value if register.value[:1].isdigit() else ""
