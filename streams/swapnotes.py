"""What is written down of the swap of a list, before it is sent and after: the audience's told-state, and everybody's.

The order is the guarantee, as with calls (`notes`): all of it is durable before the list is sent.
"""

from uuid import uuid5

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.jobs import Ask
from todoke.processors.keys import seal_for_log
from todoke.processors.swaps import AUDIENCES, begin
from todoke.schemas.events import LogRow
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told, note

from .audiences import Audiences
from .cutting import SOME, Cut, require_same
from .desk import Desk
from .due import entries
from .kept import letter
from .knowing import freed_by
from .notes import NOTES, Ending, Try
from .outbox import Letter
from .quota import CALL
from .view import Cell

MINUTE_MS = 60_000
CUT_LASTS_MS = 15 * MINUTE_MS
"""So old a list may be when it is sent. Whoever is on it, and said stop since, is in the next."""
BEGIN_MS = MINUTE_MS
"""Within this time after it was noted a swap is sent, or not at all."""
SLACK_MS = 10 * MINUTE_MS
"""A person's job is given up so long after the swap's, which has been judged by then."""


class Swap(Struct, frozen=True):
    """A swap that may be sent: its name, what it is of, every attempt at it, and how late it may start (ms)."""

    name: str
    reference: str
    cut: Cut
    attempt: Attempt
    tries: tuple[Try, ...]
    start_by: int


class SwapNotes:
    """Writes for one partner's audiences."""

    def __init__(self, desk: Desk, audiences: Audiences, job_ms: int, first_ms: int) -> None:
        """`job_ms` is how long a job may take effect, `first_ms` how long after a call it is asked about first."""
        self.desk = desk
        self.tools = desk.tools
        self.partner = desk.partner
        self.audiences = audiences
        self.job_ms = job_ms
        limits = desk.partner.limits
        self.call_ms = BEGIN_MS + limits.timeout_ms + limits.lingers_ms
        self.first_ms = max(self.call_ms, first_ms)

    def begun(self, cut: Cut, known: frozenset[str], reference: str) -> Swap | None:
        """Make the swap and every attempt of it durable; None when another has begun since the cut.

        Raises `NotCurrent` in a view that was lost since the cut: then nothing is sent.
        """
        tools, started_at, name = self.tools, self.tools.now(), self.tools.random(CALL // 2).hex()
        reference = f"{reference}:{name}"  # else what is said of a swap would be said of the next, too
        until = started_at + self.job_ms + SLACK_MS
        ends_by = until + self.call_ms
        attempt = Attempt(str(cut.spool.rows), started_at, ends_by, reference=reference, awaited_until=until)
        cell = self.audiences.cell(cut.account)

        def change(_: Cell, held: Told | None) -> Told | None:
            return begin(held or self.audiences.blank(cut.account), known, name, attempt)

        written = tools.view.told.update([cell], change).get(cell)
        if written is None or name not in written.attempts:
            return None
        # one call to the quota's eyes: its attempts begin with its name
        tries = tuple(
            Try(call, f"{name}{place:04x}", started_at, ends_by, reference, until)
            for place, call in enumerate(cut.calls)
        )
        swap = Swap(name, reference, cut, attempt, tries, min(started_at + BEGIN_MS, cut.at + CUT_LASTS_MS))
        owed = [each.obligation for each in cut.calls]
        refs = {each.subject_ref for each in owed} | {AUDIENCES}
        ask = Ask(reference, started_at, until)
        self.desk.polling.jobs.expect([(ref, ask) for ref in sorted(refs)], {reference: started_at + self.first_ms})
        letters = [letter(tools, written), *self.desk.notes.begun(tries, tools.random), self._row("swap-intent", swap)]
        letters += freed_by(
            tools, [each.obligation for each in cut.calls if each.shared and each.obligation.verb == "grant"]
        )
        self.desk.said.send(letters)
        require_same(tools.view, cut.owners)
        return swap

    def ended(self, swap: Swap, ending: Ending) -> None:
        """Write down how the upload ended. Whatever isn't known yet is asked about as a job."""
        tools, cut = self.tools, swap.cut
        ended = replace(swap.attempt, ended_at=ending.ended_at, grade=ending.grade, refused=ending.refused)
        cell, name = self.audiences.cell(cut.account), swap.name
        overrun = ending.ended_at > swap.attempt.ends_by and not ending.refused
        if overrun:  # its process slept, and others have swapped meanwhile: it counts as begun only now
            until = ending.ended_at + self.job_ms + SLACK_MS
            ended = replace(ended, started_at=ending.ended_at, ends_by=until, awaited_until=until)
            name += "-late"

        def change(_: Cell, held: Told | None) -> Told:
            return note(held or self.audiences.blank(cut.account), name, ended)

        written = tools.view.told.update([cell], change)
        letters, _ = self.desk.notes.ended([(each, ending) for each in swap.tries], tools.random)
        letters += [letter(tools, each) for each in written.values()]
        self.desk.said.send([*letters, self._row("swap-outcome", swap, ending)])
        grants = [each.obligation for each in cut.calls if not each.obligation.restrictive]
        # after a permission the record is read again
        self.desk.due.hasten(entries(grants, self.desk.place.lane_partitions, tools.now() * 1000))
        if overrun:
            self._reopen(swap, ending.ended_at)
        if ending.grade >= Evidence.accepted:
            self.audiences.used(cut.account)
            tools.metrics.set("todoke_swap_rows", cut.spool.rows, self.partner.name, cut.account)

    def _reopen(self, swap: Swap, at: int) -> None:
        """What others closed since this cut may be undone by its list: open it again, and ask about this job first."""
        tools, account, ask = self.tools, swap.cut.account, Ask(swap.reference, at, at + self.job_ms + SLACK_MS)
        self.desk.polling.jobs.expect([(AUDIENCES, ask)], {swap.reference: at + self.first_ms})
        pairs, cells = tools.index.ended_since(swap.cut.at), tools.view.obligations
        undone = [
            each
            for start in range(0, len(pairs), SOME)
            for each in cells.load([cells.cell(*pair) for pair in pairs[start : start + SOME]])
            if each and (each.partner, each.account, each.state) == (self.partner.name, account, "done")
        ]
        undone = [replace(each, generation=each.round + 1) for each in undone if each.restrictive]
        letters = [self.desk.notes.receipt(each, "reopened", tools.now(), "overtaken") for each in undone]
        self.desk.said.send(letters)
        self.desk.due.wake(entries(undone, self.desk.place.lane_partitions, tools.now() * 1000))

    def _row(self, kind: str, swap: Swap, ending: Ending | None = None) -> Letter:
        """What the log keeps of a swap as a whole: where its list was cut, and how long it was."""
        cut, tools = swap.cut, self.tools
        row_id = str(uuid5(NOTES, f"{kind}\x1f{swap.name}"))
        facts = {
            "swap": swap.name,
            "account": cut.account,
            "reference": swap.reference,
            "rows": cut.spool.rows,
            "contains": len(cut.calls),
            "cut_at": cut.at,
            "offsets": cut.offsets,
        }
        facts |= {"grade": ending.grade, "reason": ending.reason} if ending else {}
        row = LogRow(
            row_id=row_id,
            kind=kind,
            subject_ref=AUDIENCES,
            source=f"dispatch/{self.partner.name}",
            number=0,
            at=ending.ended_at if ending else swap.attempt.started_at,
            cause=swap.name,
            partner=self.partner.name,
            payload=seal_for_log(tools.keyring, row_id, msgspec.json.encode(facts), tools.random),
        )
        return Letter(tools.topic("provision-log"), AUDIENCES, tools.codec.encode(row))
