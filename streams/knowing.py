"""What a desk must know of each subject before it decides: its own state, and those who belong to it.

The common case, a subject of its own whose identifiers nobody shares, costs two round trips for all of them together.
Every one is a guarded read (`View.read`): nothing is decided on a view that was lost.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.enrol import shred
from todoke.processors.reconcile import Known
from todoke.processors.sharing import aliases, together
from todoke.schemas.directives import Directive
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.record import SubjectRecord, names_of
from todoke.schemas.told import Told, join

from .kept import letter
from .kin import MOST, survivors
from .outbox import Letter
from .tools import Tools
from .view import Cell, Command, View, Wanted, join_with


def known_of(view: View, refs: Sequence[str], partner: str = "") -> list[Known]:
    """What the view knows of each subject, in order; only what concerns one `partner`, where it is named.

    A person has obligations at every partner, most of them ended long ago: who asks for one should not pay for all.
    """
    owed, said = (_owed_by(partner), _said_to(partner)) if partner else (None, None)
    records = view.records.load([view.records.cell(ref) for ref in refs])
    names = [sorted(aliases(record)) if record else [] for record in records]
    commands: list[Command] = []
    for ref, theirs in zip(refs, names, strict=True):
        # of many, so many are as good as all; before what was told, since who lets go has bequeathed that before
        commands += [("SRANDMEMBER", view.key("a", name), MOST + 2) for name in theirs]
        commands += [view.obligations.whole(ref), view.told.whole(ref)]
    answers = iter(view.read(commands))
    obligations: list[tuple[Obligation, ...]] = []
    told: list[dict[str, Told]] = []
    others: list[list[str]] = []
    crowded: list[frozenset[str]] = []
    for ref, theirs in zip(refs, names, strict=True):
        sets = [{each.decode() for each in next(answers)} - {ref} for _ in theirs]
        obligations.append(tuple(view.obligations.fields(next(answers), owed).values()))
        told.append(view.told.fields(next(answers), said))
        crowded.append(frozenset(name for name, found in zip(theirs, sets, strict=True) if len(found) > MOST))
        others.append(sorted({each for found in sets if len(found) <= MOST for each in found}))
    heirs = survivors(view, [each.subject_ref for each in records if each and each.merged_into])
    shared = _others(view, sorted({ref for each in others for ref in each}), said)
    known = []
    for place, record in enumerate(records):
        kin = [shared[ref] for ref in others[place] if ref in shared]
        heard = together(told[place], record, ((each.record, each.told) for each in kin)) if record else told[place]
        known.append(
            Known(
                record,
                obligations[place],
                heard,
                sharers=tuple(each.record for each in kin),
                survivor=heirs.get(refs[place]),
                crowded=crowded[place],
                carried_out=frozenset(name for each in kin for name in each.ended),
            )
        )
    return known


class _Other(Struct, frozen=True):
    record: SubjectRecord
    ended: frozenset[str]
    told: tuple[Told, ...]


def _owed_by(partner: str) -> Wanted:
    return lambda _, tag: not tag or tag[0] == partner


def _said_to(partner: str) -> Wanted:
    return lambda key, _: key.startswith(f"{partner}|")


def _others(view: View, refs: Sequence[str], said: Wanted | None) -> dict[str, _Other]:
    """What counts of each of those who share something."""
    if not refs:
        return {}
    found = {}
    for ref, each in zip(refs, view.all(refs, said, lambda _, tag: not tag), strict=True):
        if each.record is not None:
            ended = {name for name, (_, _, state) in each.tags.items() if state in ENDED}
            ended |= {name for name, owed in each.obligations.items() if owed.state in ENDED}
            found[ref] = _Other(each.record, frozenset(ended), tuple(each.told.values()))
    return found


def bequeathed(tools: Tools, records: Sequence[SubjectRecord], through: Sequence[int]) -> list[Letter]:
    """Have what partners were told of identifiers that are about to be shredded count for those who share them.

    Else whoever stays would only know of its own calls, and take a partner that has just deleted the identifier for one
    that holds its grant. Written to the view here; the letters make it durable.
    """
    view = tools.view
    names = [sorted(aliases(record) - aliases(shred(record, at))) for record, at in zip(records, through, strict=True)]
    sets = iter(tools.index.subjects([name for theirs in names for name in theirs]))
    heirs = [
        (record, name, [ref for ref in next(sets) if ref != record.subject_ref])
        for record, theirs in zip(records, names, strict=True)
        for name in theirs
    ]
    heirs = [each for each in heirs if 0 < len(each[2]) <= MOST]
    news: dict[Cell, Told] = {}
    held = view.told.all([record.subject_ref for record, _, _ in heirs])
    for (record, name, refs), told in zip(heirs, held, strict=True):
        same = names_of(record, {name})
        for each in (each for each in told.values() if each.alias in same):
            for ref in refs:
                mine = replace(each, subject_ref=ref, alias=name)  # the name under which the heir has it
                cell = view.told.cell(ref, mine.key)
                news[cell] = join(news[cell], mine) if cell in news else mine
    written = view.told.update(news, join_with(news, join))
    tools.index.refer(written.values())
    return [letter(tools, each) for each in written.values()]


def freed(tools: Tools, causes: Iterable[tuple[Obligation, SubjectRecord | None]]) -> list[Letter]:
    """Wake-ups for those who share an identifier with somebody who may stand in their way no more, at one partner.

    Each cause is an obligation of that other subject, and the record with the identifiers that they may share.
    """
    wanted = [
        (owed, record, sorted(aliases(record)))
        for owed, record in causes
        if record is not None and (partner := tools.rules.registry.partner(owed.partner)) is not None and partner.grants
    ]
    sets = iter(tools.index.subjects([alias for _, _, theirs in wanted for alias in theirs]) if wanted else ())
    letters = {}
    for owed, record, theirs in wanted:
        for refs in [next(sets) for _ in theirs]:
            for ref in set(refs) - {record.subject_ref} if len(refs) <= MOST else ():
                directive = Directive(
                    subject_ref=ref,
                    partner=owed.partner,
                    cause="event",
                    event_id=owed.event_id,
                    stamps=(),
                    obligations=(),
                    restrictive=False,
                    appended_at=owed.appended_at,
                    deadline_at=0,
                    registry_revision=tools.rules.revision,
                )
                topic = tools.topic(f"directives.{owed.partner}")
                letters[ref, owed.partner] = Letter(topic, ref, tools.codec.encode(directive))
    return list(letters.values())


def freed_by(tools: Tools, obligations: Sequence[Obligation]) -> list[Letter]:
    """Wake-ups for those who share an identifier with the subject of an obligation, at its partner."""
    if not obligations:
        return []
    cells = tools.view.records
    records = cells.load([cells.cell(each.subject_ref) for each in obligations])
    return freed(tools, zip(obligations, records, strict=True))
