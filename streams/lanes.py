"""Lanes paused and resumed by people: the orders, and the one reader of them in each dispatcher.

An order is a message of `lane-orders`, so it outlives every process and the view, and says who gave it and why. A lane
that is paused loses nothing: obligations stand, wake-ups gather in the due-queue, deadlines run on.
"""

import logging
import threading
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from rich.table import Table

from todoke.schemas.errors import Misconfigured, Refused, Retry
from todoke.schemas.lanes import LaneOrder, LaneState

from .build import Parts
from .due import Lane
from .outbox import Letter
from .snapshot import TIMEOUT_S, Topics
from .story import clock

log = logging.getLogger(__name__)
TOPIC = "lane-orders"
POLL_S = 0.2
HELD: dict[LaneState, int] = {"open": 0, "restrictions": 1, "paused": 2}


class Orders:
    """Reads every order, then whatever comes. It owns its consumer, which belongs to no group and commits nothing."""

    def __init__(self, made: Parts, heard: Callable[[LaneOrder], None]) -> None:
        """`heard` gets each order, first in `start`, then on the reader's own thread."""
        self.made = made
        self.heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lane orders", daemon=True)
        config = {**Topics(made.settings, made.tools.codec).config, "topic.metadata.refresh.interval.ms": 10_000}
        self._consumer = Consumer(config)

    def start(self) -> None:
        """Read all that was ordered, before any desk may call. Raises `Misconfigured` and `Retry`."""
        try:
            self._catch_up()
        except BaseException:
            self._consumer.close()
            raise
        self._thread.start()

    def _catch_up(self) -> None:
        topic = self.made.topic(TOPIC)
        if self._consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].error is not None:
            raise Misconfigured(f"topic {topic} is not there: run `todoke topics apply`")
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        if not any(self._read() for _ in range(int(TIMEOUT_S / POLL_S))):
            raise Retry(f"topic {topic}: the broker has been silent for {TIMEOUT_S:.0f} s")

    def stop(self) -> None:
        """End the thread and let go of the broker; once more does nothing."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S)

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._read()
        finally:
            self._consumer.close()

    def _read(self) -> bool:
        """Hear what there is; whether the end has been reached."""
        for message in self._consumer.consume(100, POLL_S):
            error = message.error()
            if error is None:
                try:
                    self.heard(self.made.tools.codec.decode(message.value() or b"", LaneOrder))
                except Refused as refused:  # nobody outside writes orders; what was ordered before goes on
                    log.error("lane order %s: %s", message.offset(), refused.reason)  # noqa: TRY400
                    self.made.metrics.count("todoke_letters_total", "order", refused.reason)
            elif error.code() == KafkaError._PARTITION_EOF:  # librdkafka's own names begin so
                return True
            elif error.fatal():
                raise KafkaException(error)
        return False


def order(made: Parts, partner: str, state: LaneState, *, by: str, ground: str) -> None:
    """Give an order. Raises `Misconfigured` for a partner that the registry lacks."""
    names = [each.name for each in made.tools.rules.registry.partners]
    if partner not in names:
        raise Misconfigured(f"{partner}: no such partner: use one of {', '.join(names)}")
    given = LaneOrder(partner, state, made.tools.now(), by, ground)
    made.outbox.send([Letter(made.topic(TOPIC), partner, made.tools.codec.encode(given))])


def page(made: Parts) -> Table:
    """Each lane: whether it is held, what waits there, and since when the oldest."""
    orders = Topics(made.settings, made.tools.codec).latest(TOPIC, LaneOrder)
    table = Table("lane", "state", "due", "pending", "oldest (UTC)", "since (UTC)", "by", "ground", box=None)
    names = [each.name for each in made.tools.rules.registry.partners]
    standing = made.tools.index.standing(names)
    for name in names:
        lanes = [Lane(name, number) for number in range(made.settings.kafka.lane_partitions)]
        given, owed = orders.get(name), standing[name]
        told = (given.state, clock(given.at), given.by, given.ground) if given else ("open", "-", "-", "-")
        oldest = clock(owed.oldest_at) if owed.pending else "-"
        table.add_row(name, told[0], str(made.due.waiting(lanes)), str(owed.pending), oldest, *told[1:])
    return table
