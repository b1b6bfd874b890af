"""What a worker looks at unasked, in the partitions that it owns: whose turn has come, and everybody after a change of rules.

The turns come first. A sweep goes over every subject of a partition twice, restrictions before grants, at a pace, and
notes after each stretch how far it is, so that whoever owns the partition next goes on from there (correctness, 20). A
partition that was swept under newer rules is left alone.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import TopicPartition
from msgspec import Struct

from .review import Review
from .tools import Tools
from .view import Cell, View

log = logging.getLogger(__name__)
STEP_MS = 200
STRETCH = 1000
DONE = "done"
RESTRICTIONS, GRANTS = "restrictions", "grants"


class Mark(Struct, frozen=True):
    """How far the sweep of one partition is: the rules' revision, the view's run, the pass, and the cursor in it."""

    revision: int
    run: str
    stage: str
    cursor: int

    def text(self) -> bytes:
        """As it stands in the view; nothing before the first sweep."""
        return f"{self.revision} {self.run} {self.stage} {self.cursor}".encode() if self.revision else b""

    @staticmethod
    def of(raw: bytes | None) -> "Mark":
        """The inverse of `text`; without any, nothing was ever swept."""
        if raw is None:
            return Mark(0, "", RESTRICTIONS, 0)
        revision, run, stage, cursor = raw.decode().split(" ")
        return Mark(int(revision), run, stage, int(cursor))


class Patrol:
    """The turns and the sweep of one worker."""

    def __init__(self, tools: Tools, pace: int) -> None:
        """`pace` is how many subjects a second a sweep may look at."""
        self.tools = tools
        self.turns = tools.turns
        self.review = Review(tools)
        self.pace = pace
        self.partitions: tuple[int, ...] = ()
        self.stepped_at = 0
        self.ahead_at = 0

    def moved(self, partitions: Iterable[TopicPartition]) -> None:
        """The partitions of `receipts` that this worker has now: they are keyed as subjects are."""
        self.partitions = tuple(sorted(each.partition for each in partitions))

    def step(self) -> None:
        """A little of what there is to do. Raises `NotCurrent` and `Retry`, then it is repeated."""
        now = self.tools.now()
        if now - self.stepped_at < STEP_MS or not self.partitions:
            return
        self.stepped_at = now
        self._turns(now)
        if now >= self.ahead_at:
            self._sweep(now)

    def _turns(self, now: int) -> None:
        refs = self.turns.due(self.partitions, now, STRETCH)
        if refs:
            self.turns.move((each.ref, each.raw, each.turn) for each in self.review(refs, "time"))

    def _sweep(self, now: int) -> None:
        """One stretch of one sweep: partitions that are equally far are swept together, in one walk over the view."""
        view, revision = self.tools.view, self.tools.rules.revision
        run = view.epoch().life
        marks = dict(progress(self.tools, self.partitions))
        behind = {place: mark for place, mark in marks.items() if not _done(mark, revision)}
        self.tools.metrics.set("todoke_sweep_partitions", len(behind))
        if not behind:
            return
        started = {
            place: mark if (mark.revision, mark.run) == (revision, run) else Mark(revision, run, RESTRICTIONS, 0)
            for place, mark in behind.items()
        }
        least = min(started.values(), key=lambda mark: (mark.stage == GRANTS, mark.cursor))
        together = frozenset(place for place, mark in started.items() if mark == least)
        if least.cursor == 0 and least.stage == RESTRICTIONS:
            log.info("sweep: revision %s begins in %s partitions", revision, len(together))
        cursor, keys = view.client.scan(least.cursor, match=view.records.cell("*").key, count=STRETCH)
        refs = [
            ref for ref in (key.decode().rsplit(":", 1)[1] for key in keys) if self.turns.partition(ref) in together
        ]
        if refs:
            seen = self.review(refs, "policy", restrictive=least.stage == RESTRICTIONS)
            self.turns.set((each.ref, each.turn) for each in seen)
        stage = least.stage if cursor else GRANTS if least.stage == RESTRICTIONS else DONE
        self._note({place: marks[place] for place in together}, Mark(revision, run, stage, cursor))
        self.ahead_at = now + len(refs) * 1000 // self.pace

    def _note(self, before: Mapping[int, Mark], mark: Mark) -> None:
        """Move the marks on; refused in a view that was lost meanwhile, where the walk has seen nothing."""
        view = self.tools.view
        cells = {place: _cell(view, place) for place in before}
        view.swap([(cells[place], old.text(), mark.text()) for place, old in before.items()])


def _done(mark: Mark, revision: int) -> bool:
    return mark.revision > revision or (mark.revision == revision and mark.stage == DONE)


def progress(tools: Tools, partitions: Sequence[int]) -> list[tuple[int, Mark]]:
    """How far the sweep of each partition is."""
    raw = tools.view.raw([_cell(tools.view, each) for each in partitions])
    return list(zip(partitions, map(Mark.of, raw), strict=True))


def _cell(view: View, partition: int) -> Cell:
    return Cell(view.key("sweep"), str(partition))
