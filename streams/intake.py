"""The processor's batch: admit, merge, plan, and make everything durable before the offsets move (design, steps 1 to 4).

The order of effects is the guarantee: read, compare-and-set, obligations in the view, produce, commit. A crash between
any two repeats the batch, and each effect is a join or has a deterministic id, so repeating adds nothing.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from confluent_kafka import Message

from todoke.processors import links
from todoke.processors.admit import admit
from todoke.processors.enrol import Named, enrol, shred, won
from todoke.processors.identifiers import canonical
from todoke.processors.instants import turn
from todoke.processors.keys import aliases, orphan_ref, subject_ref
from todoke.processors.plan import (
    Cause,
    Demand,
    concerned,
    consulted,
    obligation,
    of_partner,
    of_unknown,
    supersessions,
)
from todoke.schemas.errors import NotCurrent, Refused, Retry
from todoke.schemas.events import INTAKE, Event, IdentityLink, Outcome
from todoke.schemas.identity import Identifier
from todoke.schemas.obligations import ENDED, Obligation, ask_again
from todoke.schemas.record import HELD, SubjectRecord

from . import registry
from .freshness import Freshness
from .kin import Kin, Touched, survivors
from .letters import Bad, Letters, Merged, Taken, first_appended
from .metrics import kind
from .sent import Sent
from .tools import Tools
from .view import Cell, join_with

log = logging.getLogger(__name__)
END = 2**63
ROWS = UUID("0c1c5f6e-2f52-5b0e-8f0a-7c1b61d6a9b4")


class Intake:
    """Works off batches of intake messages."""

    def __init__(self, tools: Tools, freshness: Freshness) -> None:
        """`freshness` hears of every batch that is done, so that desks know how far the view can be trusted."""
        self.tools = tools
        self.freshness = freshness
        self.letters = Letters(tools)
        self.sent = Sent()
        self.kin = Kin(tools, self._settled)
        self.names = {tools.topic(name): name for name in INTAKE}
        self.consulted = {each.name: consulted(each, tools.rules.policy) for each in tools.rules.registry.partners}

    def __call__(self, messages: Sequence[Message]) -> list[Message]:
        """One batch, whole, but for the messages returned: their schema can't be asked for now, so they have to wait.

        Raises `NotCurrent` or `Retry` when it can't go on now; then it is repeated.
        """
        tools = self.tools
        owners = tools.view.owners()
        decoded, refused, left = self._read(messages)
        taken = self._resolve(self._admitted(decoded, refused))
        merged = self._merge(taken)
        obligations = self._oblige(merged)
        outcomes = self._outcomes(merged, refused)
        letters = self.letters
        owed = self.sent.unknown(letters.obligations(obligations.values()))
        tools.outbox.send(
            [
                *letters.records(merged),
                *owed,
                *letters.directives(merged, obligations),
                *letters.rows(merged),
                *letters.dead(refused),
                *letters.outcomes(outcomes),
                *letters.superseded(self._fallen(merged)),
            ]
        )
        if tools.view.owners() != owners:
            # what was merged may be lost with the view, and be produced too late for the keeper to have brought it back
            raise NotCurrent("view: it was lost, or its keepers changed, while a batch was under way: again")
        self.sent.note(owed)
        tools.codec.forget()
        tools.metrics.batch("intake", len(messages))
        tools.metrics.outcomes(outcomes)
        tools.metrics.set("todoke_schema_waiting_messages", len(left))
        self._alarm(merged)
        # of a partition with a message that waits, only what stood before that one is worked off
        first = {_where(each): each.offset() or 0 for each in reversed(left)}
        self.freshness.done(each for each in messages if (each.offset() or 0) < first.get(_where(each), END))
        return left

    def _alarm(self, merged: Sequence[Merged]) -> None:
        """Data given although a restriction stood is a breach in the making (correctness, 21)."""
        owed: dict[str, dict[str, list[Demand]]] = {each.record.subject_ref: each.demands for each in merged}
        for each in merged:
            for one in each.taken:
                for name, holding in one.change.holdings.items():
                    # nothing is demanded where all that was given before a deletion has been shredded since
                    demands = owed[each.record.merged_into or each.record.subject_ref].get(name, ())
                    if any(demand.verb != "grant" and _stood(demand, holding.last_at) for demand in demands):
                        self.tools.metrics.count("todoke_provisions_after_restriction_total", name)
                        log.error("provision %s to %s came after a restriction", one.event.event_id, name)

    def _read(self, messages: Sequence[Message]) -> tuple[list[tuple[Message, Event]], list[Bad], list[Message]]:
        """The events that can be read, the messages that can't, and those of which nobody can say it now."""
        decoded: list[tuple[Message, Event]] = []
        refused: list[Bad] = []
        left: list[Message] = []
        for message in messages:
            try:
                decoded.append((message, self._decode(message)))
            except Refused as error:
                refused.append(Bad(message, self.names[message.topic() or ""], "", error))
            except Retry:  # of the schema registry
                left.append(message)
        return decoded, refused, left

    def _admitted(self, decoded: Sequence[tuple[Message, Event]], refused: list[Bad]) -> list[Taken]:
        """Admit each event, by the time at which its first copy was appended: a later copy of a grant counts no later."""
        names = sorted({event.event_id for _, event in decoded if event.event_id})
        noted = self.tools.index.outcomes(names)
        first = {name: each.appended_at for name, each in zip(names, noted, strict=True) if each}
        taken = []
        for message, event in decoded:
            try:
                one = self._admit(event, message, first.get(event.event_id))
            except Refused as error:
                refused.append(Bad(message, self.names[message.topic() or ""], event.event_id, error))
            else:
                first[event.event_id] = one.appended_at
                taken.append(one)
        return taken

    def _decode(self, message: Message) -> Event:
        value = message.value()
        if value is None:
            raise Refused("not-avro", "value", "An event has a value; a tombstone says nothing here.")
        if len(value) > self.tools.largest_event:
            raise Refused("too-large", "value", f"Keep an event within {self.tools.largest_event} bytes.")
        return registry.decode(self.tools.codec, self.tools.schemas, value, INTAKE[self.names[message.topic() or ""]])

    def _admit(self, event: Event, message: Message, noted: int | None) -> Taken:
        _, appended_at = message.timestamp()
        first = min(each for each in (first_appended(message), noted, appended_at) if each is not None)
        change = admit(event, self.tools.rules.policy, appended_at, first)
        named = tuple(self._named(each) for each in event.identifiers)
        refs = (subject_ref(self.tools.keyring, event.subject),) if event.subject else ()
        if isinstance(event, IdentityLink):
            if event.other_subject:
                refs = (*refs, subject_ref(self.tools.keyring, event.other_subject))
            change = links.said(event, change, named, refs)
        return Taken(event, change, named, refs, *self._place(message), first)

    def _named(self, each: Identifier) -> Named:
        found = aliases(self.tools.keyring, each.kind, canonical(each.kind, each.value))
        return Named(each.kind, found[self.tools.keyring.alias.current], each.value, found)

    def _place(self, message: Message) -> tuple[str, int, int]:
        return self.names[message.topic() or ""], message.partition() or 0, message.offset() or 0

    def _resolve(self, taken: Sequence[Taken]) -> list[Taken]:
        """Find the subjects of events that bring identifiers only; nobody known by them starts a record of its own."""
        aliases = sorted({name for each in taken if not each.refs for named in each.named for name in named.names})
        if not aliases:
            return list(taken)
        # members who come by their identifiers in this very batch are found too
        here: dict[str, set[str]] = defaultdict(set)
        for each in taken:
            for name in (name for named in each.named for name in named.names):
                here[name].update(each.refs)
        known = dict(zip(aliases, self.tools.index.subjects(aliases), strict=True))
        resolved = []
        for each in taken:
            refs = each.refs
            if not refs:
                names = {name for named in each.named for name in named.names}
                found = {ref for name in names for ref in (*known[name], *here[name])}
                refs = tuple(sorted(found)) or (self._stranger(each.event.identifiers[0]),)
            resolved.append(msgspec.structs.replace(each, refs=refs))
        return resolved

    def _stranger(self, each: Identifier) -> str:
        return orphan_ref(self.tools.keyring, each.kind, canonical(each.kind, each.value))

    def _merge(self, taken: Sequence[Taken]) -> list[Merged]:
        tools = self.tools
        by_cell: dict[Cell, list[Taken]] = defaultdict(list)
        for each in taken:
            for ref in each.refs:
                by_cell[tools.view.records.cell(ref)].append(each)
        refs = {tools.view.records.cell(ref): ref for each in taken for ref in each.refs}

        def change(cell: Cell, held: SubjectRecord | None) -> SubjectRecord:
            before = held or SubjectRecord(refs[cell])
            record = before
            # in the order of time: what came before a deletion is sealed apart from what followed, if they come together
            for each in sorted(by_cell[cell], key=lambda taken: taken.change.at):
                record = enrol(record, each.event, each.change, each.named, tools.keyring, tools.random)
            record = self._settled(record)
            return before if record == before else msgspec.structs.replace(record, version=before.version + 1)

        written = tools.view.records.update(by_cell, change)
        tools.index.enlist(record for cell, record in written.items() if any(each.named for each in by_cell[cell]))
        merged = {record.subject_ref: (record, tuple(by_cell[cell])) for cell, record in written.items()}
        kin = self.kin(taken, {ref: record for ref, (record, _) in merged.items()})
        at = tools.now()
        found = []
        for ref in dict.fromkeys([*merged, *kin]):
            touched = kin.get(ref)
            theirs = merged[ref][1] if ref in merged else ()
            record = touched.record if touched else merged[ref][0]
            last = max(theirs, key=_age) if theirs or touched is None else touched.cause
            names = touched.names if touched else frozenset()
            found.append(Merged(record, theirs, names, last, self._demands(record, theirs, touched, at)))
        tools.turns.set((each.record.subject_ref, turn(each.record, tools.rules.policy, at)) for each in found)
        return found

    def _settled(self, record: SubjectRecord) -> SubjectRecord:
        """The record, without what is to be deleted if nobody has to hear of the deletion first."""
        if record.erased_through > record.shredded_through and not self._held(record):
            return shred(record, record.erased_through)
        return record

    def _held(self, record: SubjectRecord) -> bool:
        """Whether anybody outside holds, or is assumed to hold, data of the person."""
        return bool(record.holdings) or any(concerned(record, each) for each in self.tools.rules.registry.partners)

    def _demands(
        self, record: SubjectRecord, taken: Sequence[Taken], touched: Touched | None, at: int
    ) -> dict[str, list[Demand]]:
        """What the record demands of every partner that the events concern: by a register, a holding or an identifier.

        Who was joined with others concerns everybody. Where somebody who shares an identifier spoke, partners only look
        again: nothing is demanded anew.
        """
        rules = self.tools.rules
        whole = record.merged_into != "" or (touched is not None and touched.whole)
        names = {name for each in taken for name in each.change.writes} | (touched.names if touched else frozenset())
        kinds = {named.kind for each in taken for named in each.named}
        held = {name for each in taken for name in each.change.holdings}
        shares = touched is not None and touched.shares
        found: dict[str, list[Demand]] = {}
        for each in rules.registry.partners:
            if not concerned(record, each):
                continue
            if whole or each.name in held or kinds & set(each.identifiers) or names & self.consulted[each.name]:
                found[each.name] = of_partner(record, each, rules, at)
            elif shares and each.grants:
                found[each.name] = []
        if taken or whole or names:
            for demand in of_unknown(record, rules):
                found[demand.partner] = [demand]
        return found

    def _oblige(self, merged: Iterable[Merged]) -> dict[str, Obligation]:
        """Create what the records demand, each once; what stands already is joined, so nothing steps back."""
        tools = self.tools
        at = tools.now()
        wanted: dict[Cell, Obligation] = {}
        for each in merged:
            cause = Cause("event", each.last.event.event_id, each.last.appended_at)
            ref = each.record.subject_ref
            for demand in (demand for theirs in each.demands.values() for demand in theirs):
                partner = tools.rules.registry.partner(demand.partner)
                owed = obligation(ref, demand, partner, cause, at)
                wanted[tools.view.obligations.cell(ref, owed.obligation_id)] = owed
        written = tools.view.obligations.update(wanted, join_with(wanted, ask_again))
        tools.index.track(written.values())
        created = Counter((each.partner, each.restrictive) for each in written.values() if each.opened_at == at)
        for (name, restrictive), count in created.items():
            label = kind(restrictive=restrictive)
            tools.metrics.count("todoke_obligations_created_total", name, label, by=count)
        return {each.obligation_id: each for each in written.values()}

    def _fallen(self, merged: Sequence[Merged]) -> list[tuple[Obligation, str]]:
        """What a newer obligation takes the place of at recipients that have no desk which would say so."""
        tools = self.tools
        known = {partner.name for partner in tools.rules.registry.partners}
        strangers = [
            (each, set(each.demands) - known)
            for each in merged
            if each.demands.keys() - known or each.record.merged_into
        ]
        if not strangers:
            return []
        fallen = []
        refs = [each.record.subject_ref for each, _ in strangers]
        # obligations first: what another worker has made meanwhile comes of what the records, read after them, say
        held = tools.view.obligations.all(refs, lambda _, tag: not tag or (tag[0] not in known and tag[2] not in ENDED))
        # who was merged by another worker meanwhile has been looked at by it before these obligations were there
        heirs = survivors(tools.view, refs)
        records = tools.view.records.load([tools.view.records.cell(ref) for ref in refs])
        for (each, names), owed, held_now in zip(strangers, held, records, strict=True):
            record = held_now or each.record
            ref = record.subject_ref
            heir = heirs.get(ref)
            current = {demand.partner: [demand] for demand in of_unknown(record, tools.rules)}
            unmet = [one for one in owed.values() if one.partner not in known and one.state not in ENDED]
            for name in names if heir is None else {one.partner for one in unmet}:
                standing = [one for one in unmet if one.partner == name]
                by = supersessions(current.get(name, ()), standing, ref)
                if heir is not None:
                    own = of_unknown(msgspec.structs.replace(record, merged_into=heir.subject_ref), tools.rules)
                    theirs = supersessions(of_unknown(heir, tools.rules), standing, heir.subject_ref)
                    by = {lost: theirs.get(lost, why) for lost, why in supersessions(own, standing, ref).items()}
                fallen += [(one, by[one.obligation_id]) for one in standing if one.obligation_id in by]
        return fallen

    def _outcomes(self, merged: Sequence[Merged], refused: Sequence[Bad]) -> list[Outcome]:
        at = self.tools.now()
        found: dict[str, Outcome] = {}
        for each in merged:
            for one in each.taken:
                stands = won(each.record, one.change)
                if stands or one.event.event_id not in found:
                    found[one.event.event_id] = Outcome(
                        event_id=one.event.event_id,
                        outcome="applied" if stands else "superseded",
                        reason="" if stands else "something later, or as late and stricter, had been said already",
                        subject_ref=each.record.subject_ref,
                        topic=one.topic,
                        partition=one.partition,
                        offset=one.offset,
                        appended_at=one.appended_at,
                        decided_at=at,
                        partners=tuple(sorted(each.demands)),
                    )
        for bad in refused:
            name = bad.event_id or bad.place
            where = (*self._place(bad.message), bad.message.timestamp()[1], at)
            found.setdefault(name, Outcome(name, "refused", bad.error.reason, "", *where))
        return self.tools.index.first_outcomes(list(found.values()))


def _stood(demand: Demand, given_at: int) -> bool:
    """Whether one of the demand's registers had restricted before the data was given."""
    return any(each.restrictive and not each.register.startswith(HELD) and each.at < given_at for each in demand.stamps)


def _age(taken: Taken) -> tuple[int, str]:
    return taken.appended_at, taken.event.event_id


def _where(message: Message) -> tuple[str, int]:
    return message.topic() or "", message.partition() or 0
