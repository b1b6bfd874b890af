"""`todoke replay`: what was refused or given up is tried again, once its cause has been mended.

A refused event goes back onto its topic as it was, with the time of its first append, so that a grant counts from no
later than it did (correctness, 5). A delivery is woken at its desk, with its count of failures at naught.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace
from rich.table import Table

from todoke.processors.keys import open_from_log
from todoke.processors.replay import Fate, Selection, fates, obligation_of
from todoke.schemas.events import DeadLetter, Outcome

from .build import Parts
from .due import entries
from .letters import FIRST_APPENDED
from .outbox import Letter
from .snapshot import Topics

REPLAY_OF = "todoke-replay-of"
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
WHAT: dict[Fate, str] = {
    "replay": "replay",
    "replayed-before": "leave: replayed before (--again)",
    "admitted-since": "leave: the event was admitted since",
    "ended-since": "leave: the obligation has ended",
}


def chosen(made: Parts, selection: Selection, *, again: bool) -> list[tuple[DeadLetter, Fate]]:
    """The letters that are meant, and what a replay would do with each."""
    topics = Topics(made.settings, made.tools.codec)
    letters = topics.letters(selection.wants)
    outcomes = topics.latest("outcomes", Outcome) if any(each.kind == "event" for each in letters) else {}
    return fates(letters, outcomes, {name for _, name in made.tools.index.all_standing()}, again=again)


def run(made: Parts, letters: Sequence[DeadLetter], rate: int) -> int:
    """Replay letters, `rate` a second, and note in each that it was; how many. A crash half-way replays a few twice."""
    owners = {name: ref for ref, name in made.tools.index.all_standing()}
    for number, some in enumerate(_parts(letters, rate)):
        if number:
            time.sleep(1)
        events = [each for each in some if each.kind == "event"]
        made.outbox.send([_again(made, each) for each in events])
        _wake(made, [each for each in some if each.kind == "delivery"], owners)
        noted = [replace(each, replayed_at=made.tools.now()) for each in some]
        topic, codec = made.topic("dead-letters"), made.tools.codec
        made.outbox.send([Letter(topic, each.letter_id, codec.encode(each)) for each in noted])
    return len(letters)


def page(found: Iterable[tuple[DeadLetter, Fate]]) -> Table:
    """What would be done, by kind, topic or partner, and reason."""
    table = Table("kind", "where", "reason", "letters", "what a replay does", box=None)
    counts = Counter((each.kind, each.partner or each.topic, each.reason, fate) for each, fate in found)
    for (kind, where, reason, fate), count in sorted(counts.items()):
        table.add_row(kind, where, reason, str(count), WHAT[fate])
    return table


def selection(since: datetime | None, until: datetime | None, **named: str) -> Selection:
    """What the options mean; a time without a zone is in UTC."""
    return Selection(since=_ms(since), until=_ms(until), **named)


def _ms(at: datetime | None) -> int:
    if at is None:
        return 0
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _parts(letters: Sequence[DeadLetter], size: int) -> Iterator[Sequence[DeadLetter]]:
    return (letters[start : start + size] for start in range(0, len(letters), size))


def _again(made: Parts, letter: DeadLetter) -> Letter:
    ring, name = made.tools.keyring, letter.letter_id
    key = open_from_log(ring, f"{name}/key", letter.sealed_key)
    value = open_from_log(ring, f"{name}/value", letter.sealed_value)
    first = min(int(letter.headers.get(FIRST_APPENDED, letter.appended_at)), letter.appended_at)
    headers = ((FIRST_APPENDED, str(first).encode()), (REPLAY_OF, name.encode()))
    return Letter(made.topic(letter.topic), key or None, value, headers)


def _wake(made: Parts, letters: Sequence[DeadLetter], owners: dict[str, str]) -> None:
    cells = made.tools.view.obligations
    wanted = [(owners[name], name) for name in map(obligation_of, letters) if name in owners]
    owed = [each for each in cells.load([cells.cell(*pair) for pair in wanted]) if each]
    woken = entries(owed, made.settings.kafka.lane_partitions, made.tools.now() * 1000)
    made.due.forgive(woken)
    made.due.wake(woken)
