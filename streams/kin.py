"""Who belongs together: strangers who turn out to be members, subjects who are one person, people with one address.

Everybody writes first and looks afterwards: the record by compare-and-set, the aliases into the index, and only then who
else is there. So of two workers at once the one that looks last sees the other. All of it is level-triggered: a batch
that is repeated takes up, hands down and wakes again, and joining again adds nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.enrol import take_up
from todoke.processors.keys import is_orphan
from todoke.processors.merges import handed_down, members, survivor
from todoke.processors.sharing import aliases
from todoke.schemas.record import SubjectRecord, join

from .letters import Taken
from .tools import Tools
from .view import Cell, View

MOST = 100
"""With more than so many others an identifier is nobody's in particular: none of them is woken for another's word."""

Written = dict[str, SubjectRecord]


class Touched(Struct, frozen=True):
    """A subject whom somebody else's word concerns: the record then, and the event that did it.

    `names` are the registers adopted from a stranger; `whole` when every partner is concerned, since persons were joined;
    `shares` when partners have to look again, since the word of a sharer may hold back or free a grant.
    """

    record: SubjectRecord
    cause: Taken
    names: frozenset[str] = frozenset()
    whole: bool = False
    shares: bool = False


class Kin:
    """Brings together, after the records of a batch were written."""

    def __init__(self, tools: Tools, settle: Callable[[SubjectRecord], SubjectRecord]) -> None:
        """`settle` is what is done to every record before it is written, such as shredding what nobody has to hear of."""
        self.tools = tools
        self.cells = tools.view.records
        self.settle = settle

    def __call__(self, taken: Sequence[Taken], written: Mapping[str, SubjectRecord]) -> dict[str, Touched]:
        """Everybody whom the batch touches beyond the subjects that its events name, and those that were merged."""
        causes = {ref: each for each in taken for ref in each.refs}
        named = {name for each in taken for one in each.named for name in one.names}
        named |= {alias for record in written.values() for alias in aliases(record)}
        by_alias = self._by_alias(named)
        found = self._adopt(taken, by_alias)
        now = dict(written) | {ref: each.record for ref, each in found.items()}
        causes |= {ref: each.cause for ref, each in found.items()}
        joined = self._merge(taken, now, causes)
        if joined:
            self.tools.index.enlist(joined.values())
            now |= joined
            by_alias |= self._by_alias({alias for each in joined.values() for alias in aliases(each)} - by_alias.keys())
        for ref, record in joined.items():
            names = found[ref].names if ref in found else frozenset()
            found[ref] = Touched(record, causes[ref], names, whole=True)
        for ref, record in self._sharers(now, by_alias, causes).items():
            found[ref] = replace(found.get(ref, Touched(record, causes[ref])), record=record, shares=True)
        return found

    def _by_alias(self, names: Iterable[str]) -> dict[str, list[str]]:
        wanted = sorted(names)
        return dict(zip(wanted, self.tools.index.subjects(wanted), strict=True))

    def _adopt(self, taken: Sequence[Taken], by_alias: Mapping[str, list[str]]) -> dict[str, Touched]:
        """Let members have what was said by somebody known only by an identifier that is theirs.

        Who unsubscribes by e-mail before the member's first event arrives is nobody we know, and has a record of its
        own.
        """
        cells = self.cells
        sharing: dict[str, tuple[set[str], Taken]] = {}
        for name, each in {name: cause for cause in taken for one in cause.named for name in one.names}.items():
            member_refs = {ref for ref in by_alias[name] if not is_orphan(ref)}
            for orphan in (ref for ref in by_alias[name] if member_refs and is_orphan(ref)):
                sharing[orphan] = (sharing.get(orphan, (set(), each))[0] | member_refs, each)
        pieces: dict[Cell, list[SubjectRecord]] = defaultdict(list)
        causes: dict[Cell, Taken] = {}
        if not sharing:
            return {}
        orphans = cells.load([cells.cell(ref) for ref in sharing])
        for (member_refs, cause), orphan_record in zip(sharing.values(), orphans, strict=True):
            for ref in member_refs if orphan_record else ():
                assert orphan_record is not None
                pieces[cells.cell(ref)].append(SubjectRecord(ref, registers=orphan_record.registers))
                causes[cells.cell(ref)] = cause
        found = {}
        for cell, record in self._join(pieces, only_held=True).items():
            # whatever stands of it, new or not: a batch that is repeated must tell everybody again
            said = {name: each for piece in pieces[cell] for name, each in piece.registers.items()}
            names = frozenset(name for name, each in said.items() if record.registers.get(name) == each)
            if names:
                found[record.subject_ref] = Touched(record, causes[cell], names)
        return found

    def _merge(self, taken: Sequence[Taken], now: Written, causes: dict[str, Taken]) -> Written:
        """Redirect who is merged, and have every survivor take up what was said, along the whole chain.

        A record that redirects was written in one piece with the redirection, so whoever writes it later sees that, and
        whoever redirects it sees what was written before.
        """
        joined: Written = {}
        for each in taken:
            if each.change.merges:
                redirected = self._redirect(*each.refs)
                joined |= redirected
                for ref in redirected:
                    causes.setdefault(ref, each)
        waiting = [ref for ref, record in {**now, **joined}.items() if record.merged_into]
        while waiting:
            cells = self.cells
            loaded = cells.load([cells.cell(ref) for ref in dict.fromkeys(waiting)])
            pieces: dict[Cell, list[SubjectRecord]] = defaultdict(list)
            for record in loaded:
                if record is not None and record.merged_into:
                    joined[record.subject_ref] = record
                    pieces[cells.cell(record.merged_into)].append(record)
                    causes.setdefault(record.merged_into, causes[record.subject_ref])
            taken_up = self._take_up(pieces)
            joined |= taken_up
            waiting = [ref for ref, each in taken_up.items() if each.merged_into]
        joined |= self._hand_down({**now, **joined}, causes)
        return joined

    def _redirect(self, one: str, other: str) -> Written:
        """Have the two persons' records end in one: the greater reference redirects to the lesser."""
        found: Written = {}
        while True:
            here, there = self.root(one), self.root(other)
            if here == there:
                return found
            kept = survivor(here, there)
            gone = there if kept == here else here

            def change(_: Cell, held: SubjectRecord | None, gone: str = gone, kept: str = kept) -> SubjectRecord:
                record = held or SubjectRecord(gone)
                if record.merged_into:  # somebody was quicker: look again where it leads
                    return record
                return replace(record, merged_into=kept, version=record.version + 1)

            written = self.cells.update([self.cells.cell(gone)], change)
            found |= {each.subject_ref: each for each in written.values()}

    def root(self, ref: str) -> str:
        """Where a subject's redirections end."""
        found = survivors(self.tools.view, [ref]).get(ref)
        return found.subject_ref if found else ref

    def _take_up(self, pieces: Mapping[Cell, Sequence[SubjectRecord]]) -> Written:
        tools = self.tools

        def change(cell: Cell, held: SubjectRecord | None) -> SubjectRecord:
            before = held or SubjectRecord(pieces[cell][0].merged_into)
            record = before
            for piece in pieces[cell]:
                record = take_up(record, piece, tools.keyring, tools.random)
            record = self.settle(record)
            return before if record == before else replace(record, version=before.version + 1)

        return {each.subject_ref: each for each in self.cells.update(pieces, change).values()}

    def _hand_down(self, now: Written, causes: dict[str, Taken]) -> Written:
        """Tell those who were merged what their survivor knows of merges and deletions."""
        pieces: dict[Cell, list[SubjectRecord]] = {}
        for ref, record in now.items():
            if record.merges and not record.merged_into:
                for member in members(record) - {ref}:
                    pieces[self.cells.cell(member)] = [handed_down(record, member)]
                    causes.setdefault(member, causes[ref])
        return {each.subject_ref: each for each in self._join(pieces).values()}

    def _sharers(self, now: Written, by_alias: Mapping[str, list[str]], causes: dict[str, Taken]) -> Written:
        """Who shares an identifier with somebody whom the batch touches; a deletion is noted with the others."""
        shared = self._shared(now, by_alias, causes)
        refs = sorted({ref for each in shared.values() for ref in each})
        loaded = self.cells.load([self.cells.cell(ref) for ref in refs])
        records = {each.subject_ref: each for each in loaded if each}
        pieces: dict[Cell, list[SubjectRecord]] = {self.cells.cell(ref): [] for ref in records}
        for name, theirs in shared.items():
            for deleted in (records[ref] for ref in theirs if ref in records and _deleting(records[ref], name)):
                for ref in theirs & records.keys() - members(deleted):
                    piece = SubjectRecord(ref, withheld={name: deleted.erased_through})
                    pieces[self.cells.cell(ref)].append(piece)
        return {each.subject_ref: each for each in self._join(pieces).values()}

    def _shared(self, now: Written, by_alias: Mapping[str, list[str]], causes: dict[str, Taken]) -> dict[str, set[str]]:
        """By alias, all who have it, where somebody whom the batch touches is one of several."""
        shared: dict[str, set[str]] = {}
        for ref, record in now.items():
            for name in aliases(record) if not is_orphan(ref) else ():
                others = {each for each in by_alias.get(name, ()) if not is_orphan(each)} - {ref}
                if 0 < len(others) <= MOST:
                    shared.setdefault(name, set()).update({ref}, others)
                    for each in others:
                        causes.setdefault(each, causes[ref])
        return shared

    def _join(
        self, pieces: Mapping[Cell, Sequence[SubjectRecord]], *, only_held: bool = False
    ) -> dict[Cell, SubjectRecord]:
        """Join the pieces into the records; with `only_held`, of those alone that are there."""

        def change(cell: Cell, held: SubjectRecord | None) -> SubjectRecord | None:
            if held is None and (only_held or not pieces[cell]):
                return None
            before = held or SubjectRecord(pieces[cell][0].subject_ref)
            record = before
            for piece in pieces[cell]:
                record = join(record, piece)
            record = self.settle(record) if record != before else record
            return before if record == before and held else replace(record, version=before.version + 1)

        return self.cells.update(pieces, change)


def survivors(view: View, refs: Sequence[str]) -> Written:
    """The record in which the redirections of each subject end, of those alone that redirect."""
    ends = {ref: ref for ref in refs}
    found: Written = {}
    waiting = set(refs)
    while waiting:
        asked = sorted(waiting)
        loaded = dict(zip(asked, view.records.load([view.records.cell(ref) for ref in asked]), strict=True))
        waiting = set()
        for ref, end in ends.items():
            record = loaded.get(end)
            if record is not None and record.merged_into:
                ends[ref] = record.merged_into
                waiting.add(record.merged_into)
            elif record is not None and end != ref:
                found[ref] = record
    return found


def person(view: View, ref: str) -> SubjectRecord | None:
    """The record that speaks for a subject: its own, or that of whom it was merged into."""
    return person_aged(view, ref)[0]


def person_aged(view: View, ref: str) -> tuple[SubjectRecord | None, int]:
    """The same, and the age (ms) of what the view knows."""
    (record,), age = view.records.load_aged([view.records.cell(ref)])
    return (survivors(view, [ref]).get(ref, record) if record and record.merged_into else record), age


def _deleting(record: SubjectRecord, alias: str) -> bool:
    """Whether a deletion that is not yet carried out speaks of an identifier."""
    through = record.erased_through
    if through <= record.shredded_through:
        return False
    keys = record.keys
    return any(
        alias in each.names and each.generation in keys and keys[each.generation].created_at <= through
        for each in record.identifiers.values()
    )
