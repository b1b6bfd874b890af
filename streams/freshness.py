"""Up to when the intake has been worked off: a permission is only given by who knows that no restriction waits there.

A restriction is durable once the broker has it, and binds from then on. Desks see it when a worker has merged it. So the
workers write, for each partition of the intake, up to which append time everything in it has been merged, and a desk
grants only by marks that are young enough (law 2). Marks are written after the records, in the same view: one that is
lost with the view, or set back with it, makes desks wait.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from .view import View

ASK_MS = 500
ASK_TIMEOUT_S = 5.0
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # it has no hints
Place = tuple[str, int]
Ask = Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, "Future[Any]"]]
"""Asks the broker where partitions end now; each future gives something with an `offset`."""


class Marks:
    """The marks of all partitions of the intake, in the view."""

    def __init__(self, view: View, partitions: int) -> None:
        """`partitions` is how many there are of all intake topics together."""
        self.view = view
        self.partitions = partitions
        self.key = view.key("intake")

    def write(self, marks: Mapping[Place, int]) -> None:
        """Set the marks (ms) of partitions."""
        if marks:
            self.view.client.hset(self.key, mapping={f"{topic}/{number}": at for (topic, number), at in marks.items()})

    def oldest(self) -> int:
        """Up to when (ms) every event is in the view; 0 when that isn't known of each partition."""
        found: list[bytes] = self.view.client.hvals(self.key)
        return min(map(int, found)) if len(found) >= self.partitions else 0


class Freshness:
    """Keeps the marks of the partitions that one consumer of the intake holds. Called on its thread alone.

    A partition that is read carries its time with it. One that lies idle says nothing, so the broker is asked where
    partitions end: whatever had been appended when it was asked stands before that end.
    """

    def __init__(self, marks: Marks, ask: Ask, now: Callable[[], int]) -> None:
        """`ask` returns at once; what it returns is looked at the next time."""
        self.marks = marks
        self.ask = ask
        self.now = now
        self.position: dict[Place, int] = {}
        self._asked_at = 0
        self._asked: dict[Place, Future[Any]] = {}

    def done(self, messages: Iterable[Message]) -> None:
        """All effects of these messages are durable, and of all before them."""
        marks = {}
        for each in messages:
            place = (each.topic() or "", each.partition() or 0)
            self.position[place] = (each.offset() or 0) + 1
            marks[place] = each.timestamp()[1] - 1  # another one may have been appended within the same ms
        self.marks.write(marks)
        self.idle()

    def ends(self, found: Mapping[Place, int]) -> None:
        """Partitions have been worked off to these ends: of an idle one nothing else says so."""
        for place, offset in found.items():
            self.position[place] = max(self.position.get(place, 0), offset)

    def moved(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that another consumer has now: what it has read is for it to say."""
        mine = {(each.topic, each.partition) for each in partitions}
        self.position = {place: offset for place, offset in self.position.items() if place in mine}

    def idle(self) -> None:
        """Mark what the broker's last answer shows to have been worked off, and ask again now and then."""
        now = self.now()
        if now - self._asked_at < ASK_MS:
            return
        if not all(each.done() for each in self._asked.values()):
            return  # an answer that doesn't come is an error by its time-out
        ends = {place: end for place, each in self._asked.items() if (end := _end(each)) is not None}
        self.marks.write({place: self._asked_at for place, end in ends.items() if self.position.get(place, -1) >= end})
        # the time is taken before the question, so that what is appended in between counts as later
        self._asked_at = now
        wanted = [TopicPartition(*place) for place in sorted(self.position)]
        try:
            answers = self.ask(wanted) if wanted else {}
        except KafkaException:
            answers = {}
        self._asked = {(each.topic, each.partition): end for each, end in answers.items()}


def ends(admin: AdminClient, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, "Future[Any]"]:
    """Where partitions end for who reads what is committed: of an open transaction, nothing binds yet."""
    wanted = dict.fromkeys(places, LATEST)
    return admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_TIMEOUT_S)


def _end(answer: "Future[Any]") -> int | None:
    try:
        return int(answer.result(0).offset)
    except (KafkaException, TimeoutError):  # no answer is no mark
        return None
