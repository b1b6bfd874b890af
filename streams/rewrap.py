"""Taking subjects from old key generations to the current ones, while everything runs.

What has to be done is read from `consent-state`, not from the view: what a run that died has written into the view but
not produced is found again. So a run needs no notes of its own to be resumed: it does what is left. Each subject goes by
the view's compare-and-set and is produced as the view then holds it, as intake does, so the keeper agrees.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import redis
from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.keys import log_generation
from todoke.processors.rotation import Needed, mark, needs, renew, stale
from todoke.schemas.errors import NotCurrent, Refused, Retry, Unopened
from todoke.schemas.events import DeadLetter, LogRow
from todoke.schemas.record import SubjectRecord
from todoke.schemas.record import join as join_records

from .kept import letter
from .snapshot import Topics
from .tools import Tools
from .view import Cell

TOPIC = "consent-state"
CHUNK = 200
PATIENCE = 60


class Progress(Struct, frozen=True):
    """How far a run has come: subjects renewed of those that needed it so far found, and those that could not be."""

    partition: int
    partitions: int
    found: int
    done: int
    failed: int


Report = Callable[[Progress], None]
Sleep = Callable[[float], None]


def run(tools: Tools, topics: Topics, rate: int, report: Report, sleep: Sleep = time.sleep) -> Progress:
    """Renew every subject that needs it, `rate` of them a second at most; the last progress.

    What can't be opened is counted as failed and left as it is. Holds the names of one partition's subjects in memory.
    """
    partitions = topics.partitions(TOPIC)
    progress = Progress(0, len(partitions), 0, 0, 0)
    for place, partition in enumerate(partitions, 1):
        waiting = sorted(_waiting(tools, topics, partition))
        progress = replace(progress, partition=place, found=progress.found + len(waiting))
        report(progress)
        for start in range(0, len(waiting), CHUNK):
            began = time.monotonic()
            chunk = waiting[start : start + CHUNK]
            failed = _patiently(lambda refs=chunk: _renew(tools, refs), sleep)  # type: ignore[misc]  # bound now
            done = progress.done + len(chunk) - failed
            progress = replace(progress, done=done, failed=progress.failed + failed)
            report(progress)
            sleep(max(0.0, len(chunk) / rate - (time.monotonic() - began)))
    return progress


def needed(tools: Tools, topics: Topics) -> Needed:
    """What the last copy of each subject still needs. Holds one partition's answers in memory."""
    found: Counter[str] = Counter()
    subjects = 0
    for partition in topics.partitions(TOPIC):
        last = {ref: needs(record, tools.keyring) for ref, record in _records(tools, topics, partition)}
        subjects += len(last)
        found.update(name for names in last.values() for name in names)
    return Needed(subjects, dict(found))


def sealed(topics: Topics) -> dict[str, int]:
    """How many rows and letters there are that only each generation of the log key opens."""
    found: Counter[str] = Counter()
    found.update(log_generation(row.payload) for row in topics.values("provision-log", LogRow))
    found.update(
        log_generation(letter.sealed_value)
        for letter in topics.values("dead-letters", DeadLetter)
        if letter.sealed_value
    )
    return {f"log.{name or '?'}": count for name, count in found.items()}


def marks(tools: Tools, topics: Topics) -> Iterator[SubjectRecord]:
    """What has been shredded, subject by subject: to be kept apart from the backups that it outlives."""
    for partition in topics.partitions(TOPIC):
        last = {ref: mark(record) for ref, record in _records(tools, topics, partition) if record.shredded_through}
        yield from last.values()


def shred_again(tools: Tools, found: Sequence[SubjectRecord], sleep: Sleep = time.sleep) -> int:
    """Join marks into what an older backup brought back, and produce it; how many subjects lost something by it."""
    changed = 0
    for start in range(0, len(found), CHUNK):
        chunk = {tools.view.records.cell(each.subject_ref): each for each in found[start : start + CHUNK]}
        changed += _patiently(lambda wanted=chunk: _join(tools, wanted), sleep)  # type: ignore[misc]  # bound now
    return changed


def _join(tools: Tools, wanted: dict[Cell, SubjectRecord]) -> int:
    tools.view.require_current(tools.now(), tools.stale_after_ms)
    changed: dict[Cell, frozenset[str]] = {}

    def change(cell: Cell, held: SubjectRecord | None) -> SubjectRecord:
        joined = join_records(held or SubjectRecord(wanted[cell].subject_ref), wanted[cell])
        changed.pop(cell, None)
        if held is None or joined == held:
            return joined
        changed[cell] = _names(held) - _names(joined)
        return replace(joined, version=held.version + 1)

    _produce(tools, list(tools.view.records.update(wanted, change).values()))
    for cell, gone in changed.items():
        tools.index.delist(wanted[cell].subject_ref, gone)
    return len(changed)


def _renew(tools: Tools, refs: Sequence[str]) -> int:
    """Renew some subjects, and produce them, changed or not; how many could not be."""
    tools.view.require_current(tools.now(), tools.stale_after_ms)
    failed: set[Cell] = set()

    def change(cell: Cell, held: SubjectRecord | None) -> SubjectRecord | None:
        if held is None:
            failed.add(cell)
            return None
        try:
            renewed = renew(held, tools.keyring, tools.random)
        except (Unopened, Refused):
            failed.add(cell)
            return held
        return held if renewed == held else replace(renewed, version=held.version + 1)

    written = tools.view.records.update([tools.view.records.cell(ref) for ref in refs], change)
    _produce(tools, [record for cell, record in written.items() if cell not in failed])
    return len(failed)


def _produce(tools: Tools, records: Sequence[SubjectRecord]) -> None:
    tools.index.enlist(records)
    tools.outbox.send([letter(tools, each) for each in records])


def _patiently(step: Callable[[], int], sleep: Sleep) -> int:
    """A step, again while view or broker can't be relied on, a second apart, for a minute."""
    for _ in range(PATIENCE):
        try:
            return step()
        except (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError):
            sleep(1.0)
    return step()


def _waiting(tools: Tools, topics: Topics, partition: int) -> set[str]:
    waiting: set[str] = set()
    for ref, record in _records(tools, topics, partition):
        (waiting.add if stale(record, tools.keyring) else waiting.discard)(ref)
    return waiting


def _records(tools: Tools, topics: Topics, partition: int) -> Iterator[tuple[str, SubjectRecord]]:
    for message in topics.read(TOPIC, partition):
        raw = message.value()
        if raw is not None:
            record = tools.codec.decode(raw, SubjectRecord)
            yield record.subject_ref, record


def _names(record: SubjectRecord) -> frozenset[str]:
    return frozenset(name for each in record.identifiers.values() for name in each.names)
