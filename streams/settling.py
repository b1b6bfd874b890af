"""The obligations' batch: receipts in, states out (design: only receipts come back, and they close, never decide)."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from confluent_kafka import Message

from todoke.processors.enrol import shred
from todoke.processors.plan import NOTHING, demands, identify
from todoke.schemas.errors import Refused
from todoke.schemas.obligations import ENDED, Obligation, settle
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import ERASED, SubjectRecord, base, contains

from .due import Due, entries
from .kept import SUBJECT_HEADER, letter
from .kin import survivors
from .knowing import bequeathed, freed, freed_by
from .metrics import kind
from .outbox import Letter
from .patrol import Patrol
from .tools import Tools
from .view import Cell

log = logging.getLogger(__name__)
SWEEP = 1000
ON_ITS_WAY_MS = 600_000


class Settling:
    """Applies receipts to obligations, and shreds who asked to be deleted once every partner has evidence."""

    def __init__(  # five by place, since the last is its guest
        self, tools: Tools, keep_ended_ms: int, due: Due, lane_partitions: int, patrol: Patrol
    ) -> None:
        """Ended obligations are forgotten, with a tombstone, after `keep_ended_ms`.

        `lane_partitions` is how many partitions a lane has, to find the due-queue of a subject. `patrol` gets a turn
        between batches.
        """
        self.patrol = patrol
        self.tools = tools
        self.keep_ended_ms = keep_ended_ms
        self.due = due
        self.lane_partitions = lane_partitions
        self.swept_at = 0

    def __call__(self, messages: Sequence[Message]) -> list[Message]:
        """One batch of receipts, whole, but for the messages returned: what they are about is still on its way.

        Raises `NotCurrent` or `Retry`, then it is repeated.
        """
        tools = self.tools
        receipts = [(receipt, message) for message in messages if (receipt := self._decode(message))]
        by_cell: dict[Cell, list[Receipt]] = defaultdict(list)
        unowed = self._unowed([each for each, _ in receipts if each.kind == "superseded"])
        for each, _ in receipts:
            if each.receipt_id not in unowed:
                by_cell[self._place(each)].append(each)
        before: dict[Cell, Obligation | None] = {}

        def change(cell: Cell, held: Obligation | None) -> Obligation | None:
            before[cell] = held
            after = held
            for receipt in by_cell[cell]:
                after = settle(after, receipt) if after else None
            return after

        written = tools.view.obligations.update(by_cell, change)
        # a worker made it, was seen by a desk, and died before it was durable: nobody else's receipts wait for it
        early = {cell for cell in by_cell.keys() - written.keys() if not self._forgotten(by_cell[cell])}
        tools.index.track(written.values())
        reopened = [(by_cell[cell], each) for cell, each in written.items() if _opened_again(by_cell[cell], each)]
        by_people = [each for receipts, each in reopened if any(one.by for one in receipts)]
        deletes = [each for each in written.values() if each.verb == "delete" and each.state in ENDED]
        # a permission of the same person may have waited for the deletion (correctness, 3)
        again = [each for each in tools.view.obligations.load(list(unowed.values())) if each] if unowed else []
        self.due.wake(entries([*by_people, *deletes, *again], self.lane_partitions, tools.now() * 1000))
        # a desk that opened it again has set a time, or has died before it did
        self.due.remind(entries([each for _, each in reopened], self.lane_partitions, tools.now() * 1000))
        deleted = {each.subject_ref for each in deletes}
        letters = [letter(tools, each) for each in written.values()]
        tools.outbox.send([*letters, *self._freed(written.values()), *self._shredded(deleted)])
        for cell, after in written.items():
            self._measure(before[cell], after)
        tools.metrics.batch("settling", len(messages))
        self.idle()
        return [message for each, message in receipts if self._place(each) in early] if early else []

    def _unowed(self, receipts: Sequence[Receipt]) -> dict[str, Cell]:
        """Of receipts that name what takes an obligation's place, those that name what nobody owes, by their ids.

        A desk saw it in the view, and both the view and the worker that made it were lost before it was durable: what
        gave way to it stands, and is looked at again.
        """
        named = [each for each in receipts if each.reference != NOTHING]
        if not named:
            return {}
        view = self.tools.view
        found = view.raw([view.obligations.cell(each.subject_ref, each.reference) for each in named])
        missing = [each for each, raw in zip(named, found, strict=True) if raw is None]
        heirs = survivors(view, [each.subject_ref for each in missing]) if missing else {}
        merged = [each for each in missing if each.subject_ref in heirs]
        theirs = view.raw(
            [view.obligations.cell(heirs[each.subject_ref].subject_ref, each.reference) for each in merged]
        )
        owed = {each.receipt_id for each, raw in zip(merged, theirs, strict=True) if raw is not None}
        return {each.receipt_id: self._place(each) for each in missing if each.receipt_id not in owed}

    def _place(self, receipt: Receipt) -> Cell:
        return self.tools.view.obligations.cell(receipt.subject_ref, receipt.obligation_id)

    def idle(self) -> None:
        """Show what is pending, and forget what ended long ago."""
        self.patrol.step()
        now = self.tools.now()
        if now - self.swept_at < 1000:
            return
        self.swept_at = now
        self.tools.metrics.set("todoke_view_current", self.tools.view.is_current(now, self.tools.stale_after_ms))
        self.measure_standing()
        overdue = set(self.tools.index.overdue_deletes(now, SWEEP))
        self.tools.outbox.send(self._shredded(overdue))
        self.tools.index.settled_deletes(now, overdue)
        self._forget(now)

    def _forget(self, now: int) -> None:
        """Let go of what ended long ago and is demanded no more; what still is, is the answer to its demand."""
        tools = self.tools
        ended = tools.index.ended_before(now - self.keep_ended_ms, SWEEP)
        refs = sorted({ref for ref, _ in ended})
        records = tools.view.records.load([tools.view.records.cell(ref) for ref in refs])
        wanted = {
            identify(record.subject_ref, demand)
            for record in records
            if record
            for demand in demands(record, tools.rules, now)
        }
        for ref, name in ended:
            if name in wanted:
                tools.index.keep(ref, name, now)
                continue
            headers = ((SUBJECT_HEADER, ref.encode()),)
            tools.outbox.send([Letter(tools.topic("obligations"), name, None, headers)])
            tools.index.forget([(ref, name)])

    def measure_standing(self) -> None:
        """Set the gauges of what is pending per partner, and since when."""
        names = [partner.name for partner in self.tools.rules.registry.partners]
        for name, standing in self.tools.index.standing(names).items():
            self.tools.metrics.set("todoke_obligations_pending", standing.pending, name)
            self.tools.metrics.set("todoke_obligations_oldest_timestamp_seconds", standing.oldest_at / 1000, name)

    def _decode(self, message: Message) -> Receipt | None:
        try:
            return self.tools.codec.decode(message.value() or b"", Receipt)
        except Refused as error:  # nobody outside writes receipts: a bug of ours, kept in its topic for 90 days
            log.error("receipt %s/%s does not decode: %s", message.partition(), message.offset(), error.reason)  # noqa: TRY400
            self.tools.metrics.count("todoke_letters_total", "receipt", error.reason)
            return None

    def _forgotten(self, receipts: Iterable[Receipt]) -> bool:
        """Whether the obligation is not on its way any more: it was forgotten, or lost with a view before it was durable."""
        if any(each.at > self.tools.now() - ON_ITS_WAY_MS for each in receipts):
            return False
        log.error("receipts name an obligation that nobody holds: passed over")
        self.tools.metrics.count("todoke_letters_total", "receipt", "unknown-obligation")
        return True

    def _shredded(self, subjects: set[str]) -> list[Letter]:
        """Shred the identifiers of those whose last delete has ended, or has run out of time (correctness, 3)."""
        tools, now = self.tools, self.tools.now()
        refs = sorted(subjects)
        if not refs:
            return []
        cells = tools.view.records
        through: dict[Cell, int] = {}
        held = cells.load([cells.cell(ref) for ref in refs])
        owed = tools.view.obligations.all(refs, lambda _, tag: not tag or tag[1] == "delete")
        every = [[each for each in theirs.values() if each.verb == "delete"] for theirs in owed]
        for ref, record, deletes in zip(refs, held, every, strict=True):
            standing = [each for each in deletes if each.state not in ENDED and each.deadline_at > now]
            known = record is not None and all(contains(record, each.stamps) for each in deletes)
            if record is None or not known or not self._all_asked(record, deletes):
                continue
            # no further than what partners were asked to delete: a newer deletion has obligations of its own to come
            asked = max((one.at for each in deletes for one in each.stamps if base(one.register) == ERASED), default=0)
            if not standing and asked:
                through[cells.cell(ref)] = asked
        before = {each.subject_ref: each for each in held if each}
        # the deletes that stood in the way of those who share an identifier do so no more
        ends = [one for deletes in every for one in deletes if self._cell(one) in through]
        freeing = freed(tools, ((one, before.get(one.subject_ref)) for one in ends))
        doomed = [each for each in before.values() if cells.cell(each.subject_ref) in through]
        tools.outbox.send(bequeathed(tools, doomed, [through[cells.cell(each.subject_ref)] for each in doomed]))

        def change(cell: Cell, record: SubjectRecord | None) -> SubjectRecord | None:
            if record is None or record.shredded_through >= through[cell]:
                return record  # done already; it is produced all the same, since that may not have been
            return shred(record, through[cell])

        written = cells.update(through, change)
        for record in written.values():
            old = {name for each in before[record.subject_ref].identifiers.values() for name in each.names}
            kept = {name for each in record.identifiers.values() for name in each.names}
            tools.index.delist(record.subject_ref, old - kept)
        return [*freeing, *(letter(tools, each) for each in written.values())]

    def _all_asked(self, record: SubjectRecord, deletes: Iterable[Obligation]) -> bool:
        """Whether every deletion that the record demands has its obligation: one partner may be done before another's is made."""
        made = {each.obligation_id for each in deletes if each.state != "superseded"}
        wanted = demands(record, self.tools.rules, self.tools.now())
        return all(identify(record.subject_ref, each) in made for each in wanted if each.verb == "delete")

    def _cell(self, owed: Obligation) -> Cell:
        return self.tools.view.records.cell(owed.subject_ref)

    def _freed(self, written: Iterable[Obligation]) -> list[Letter]:
        """Wake-ups for sharers of whom a deletion was carried out, or was freed by time alone: no event wakes them."""
        ended = [each for each in written if each.state in ENDED]
        ended = [each for each in ended if each.verb == "delete" or (each.verb == "grant" and each.cause == "time")]
        return freed_by(self.tools, ended)

    def _measure(self, before: Obligation | None, after: Obligation) -> None:
        label = kind(restrictive=after.restrictive)
        for name, at in after.grades.items():
            if before is None or name not in before.grades:
                seconds = max(0, at - after.appended_at) / 1000
                self.tools.metrics.observe("todoke_propagation_seconds", seconds, after.partner, label, name)
                self.tools.metrics.count("todoke_receipts_total", after.partner, label, name)
        if before is not None and before.state in ENDED and after.state not in ENDED:
            self.tools.metrics.count("todoke_obligations_reopened_total", after.partner, after.reopened)
        if after.state in ENDED and (before is None or before.state not in ENDED):
            self.tools.metrics.count("todoke_obligations_ended_total", after.partner, after.state)


def _opened_again(receipts: Iterable[Receipt], owed: Obligation) -> bool:
    """Whether it is to be told anew; not when it was given up at once, since it had been told often enough."""
    given_up = bool(owed.blocked) and owed.blocked_at >= owed.reopened_at
    return owed.state not in ENDED and not given_up and any(each.kind == "reopened" for each in receipts)
