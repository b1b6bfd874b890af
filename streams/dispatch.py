"""The dispatcher: a lane and a desk for each partner, in one loop.

A lane's consumer does nothing but wake: its offsets move as soon as the subject is in the due-queue, since the
obligation itself is durable (correctness, 16). So no partner, however slow, holds up a consumer.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence

import redis
from confluent_kafka import Message, TopicPartition

from todoke.schemas.directives import Directive
from todoke.schemas.errors import NotCurrent, Refused, Retry
from todoke.schemas.lanes import LaneOrder
from todoke.schemas.obligations import ENDED
from todoke.sinks.sender import Sender

from .build import Parts, desks, hosts, lane_runner
from .callbacks import Reports
from .desk import Desk
from .due import Entry, Lane
from .due import entries as wake_ups
from .health import FATAL, Health, stuck
from .lanes import HELD, Orders
from .topics import DAY

log = logging.getLogger(__name__)
FORGOTTEN_AFTER_MS = 3 * DAY  # well within a lane's retention: what stands for longer may have lost its wake-up
SOME = 1000
UNSURE = (NotCurrent, Retry, redis.ConnectionError, redis.TimeoutError)
LOOK_S = 0.5


class Station:
    """One partner's lane and desk."""

    def __init__(self, made: Parts, desk: Desk, loop: asyncio.AbstractEventLoop) -> None:
        """The lane's thread hands over to the desk's loop."""
        self.made = made
        self.desk = desk
        self.loop = loop
        self.partner = desk.partner.name
        self.runner = lane_runner(made, self.partner, self._wake, self._moved)
        self._gained: set[Lane] = set()

    def _wake(self, messages: Sequence[Message]) -> None:
        """Put every subject named into the due-queue, on the lane's thread."""
        now = self.made.tools.now() * 1000
        entries = []
        for message in messages:
            try:
                directive = self.made.tools.codec.decode(message.value() or b"", Directive)
            except Refused as error:  # nobody outside writes directives; the obligation stands all the same
                log.error("directive %s/%s: %s", message.partition(), message.offset(), error.reason)  # noqa: TRY400
                self.made.metrics.count("todoke_letters_total", "directive", error.reason)
                continue
            lane = Lane(self.partner, message.partition() or 0)
            entries.append(Entry(lane, directive.restrictive, directive.subject_ref, now))
        self.made.due.wake(entries)
        self.loop.call_soon_threadsafe(self.desk.woken.set)

    def _moved(self, partitions: list[TopicPartition]) -> None:
        lanes = tuple(Lane(self.partner, each.partition) for each in partitions)
        self.loop.call_soon_threadsafe(self._assign, lanes)

    def _assign(self, lanes: tuple[Lane, ...]) -> None:
        self._gained |= {each for each in lanes if each not in self.desk.lanes}
        self._gained &= set(lanes)
        self.desk.lanes = lanes
        self.desk.woken.set()

    async def polling(self) -> None:
        """Ask what became of jobs, while a lane is held here and is not paused, until the desk stops."""
        desk = self.desk
        await desk.polling.run(lambda: bool(desk.lanes) and desk.ordered != "paused", lambda: desk.stopping)

    async def counting(self) -> None:
        """Keep what is left of the partner's quota known, until the desk stops."""
        while not self.desk.stopping:
            try:
                await self.desk.gate.counting()
            except UNSURE as error:
                log.warning("%s: its quota can't be counted: %s", self.partner, type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def reminding(self) -> None:
        """Look after every lane that is gained, until the desk stops."""
        while not self.desk.stopping:
            try:
                await asyncio.to_thread(self._remind)
            except UNSURE as error:  # what was gained stays to be looked after
                log.warning("%s: lanes that were gained wait: %s", self.partner, type(error).__name__)
            await asyncio.sleep(LOOK_S)

    def _remind(self) -> None:
        """Have looked at what stands in lanes just gained, and is older than a wake-up can be relied on.

        A lane is kept for days, an obligation until it ends: nobody served this partner for that long, or its due-queue
        was lost. What is blocked waits for a person, or for an event that wakes it.
        """
        gained = frozenset(self._gained)
        if not gained:
            return
        made = self.made
        pairs = made.tools.index.standing_before(self.partner, made.tools.now() - FORGOTTEN_AFTER_MS)
        cells = made.tools.view.obligations
        for start in range(0, len(pairs), SOME):
            owed = [each for each in cells.load([cells.cell(*pair) for pair in pairs[start : start + SOME]]) if each]
            open_ones = [each for each in owed if each.state not in ENDED and not each.blocked]
            found = wake_ups(open_ones, made.settings.kafka.lane_partitions, made.tools.now() * 1000)
            made.due.remind([each for each in found if each.lane in gained])
        self._gained -= gained


class Dispatcher:
    """The stations of one process, and its probes."""

    def __init__(self, made: Parts, names: Sequence[str]) -> None:
        """`names` are the partners served; none means all."""
        self.made = made
        self.names = names
        self.stations: list[Station] = []
        self.health = Health(made.metrics, self._live, self._ready)
        self.reports = Reports(made.settings.callbacks, made.metrics, {})
        self.orders = Orders(made, self._ordered)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: Sender | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open lanes and desks. Raises `Misconfigured` before anything is consumed."""
        loop = asyncio.get_running_loop()
        allowed = hosts(self.made, self.names)
        self._sender = Sender(allowed)
        try:
            found = desks(self.made, self.names, self._sender)
        except BaseException:
            await self._sender.close()
            raise
        await self.health.start(self.made.settings.host, self.made.settings.port)
        self.stations = [Station(self.made, desk, loop) for desk in found]
        self._loop = loop
        await asyncio.to_thread(self.orders.start)
        polling = {station.partner: station.desk.polling for station in self.stations}
        self.reports = Reports(self.made.settings.callbacks, self.made.metrics, polling)
        await self.reports.start()
        for station in self.stations:
            station.runner.start()
            parts = (station.desk.run(), station.polling(), station.reminding(), station.counting())
            self._tasks += [asyncio.create_task(part) for part in parts]

    async def watch(self) -> None:
        """Until something ends that must not; returns its error, or None when told to stop by cancelling."""
        while True:
            await asyncio.sleep(0.5)
            tools = self.made.tools
            current = await asyncio.to_thread(tools.view.is_current, tools.now(), tools.stale_after_ms)
            tools.metrics.set("todoke_view_current", current)
            for station in self.stations:
                if not station.runner.alive:
                    raise RuntimeError(f"{station.runner.name} ended by itself") from station.runner.failure
                await asyncio.to_thread(self._measure, station)
            if not self.orders.alive:
                raise RuntimeError("the reader of lane orders ended by itself")
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise RuntimeError("a desk ended by itself")

    async def stop(self) -> None:
        """Finish the calls under way, write down what came of them, leave the groups."""
        await self.reports.stop()
        for station in self.stations:
            station.desk.stopping = True
            station.desk.woken.set()
        await asyncio.to_thread(self.orders.stop)
        await asyncio.gather(*(asyncio.to_thread(station.runner.stop) for station in self.stations))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sender:
            await self._sender.close()
        await self.health.stop()
        await asyncio.to_thread(self.made.outbox.close)

    def _ordered(self, order: LaneOrder) -> None:
        assert self._loop is not None  # set before any order is read
        self._loop.call_soon_threadsafe(self._obey, order)

    def _obey(self, order: LaneOrder) -> None:
        for station in self.stations:
            if station.partner == order.partner and station.desk.ordered != order.state:
                log.warning("%s: its lane is %s, by order of %s", order.partner, order.state, order.by)
                station.desk.ordered = order.state
                station.desk.woken.set()
                self.made.metrics.set("todoke_lane_held", HELD[order.state], order.partner)

    def _measure(self, station: Station) -> None:
        metrics, name = self.made.metrics, station.partner
        try:
            waiting = self.made.due.waiting(station.desk.lanes)
            jobs = station.desk.polling.jobs.under_way()
        except UNSURE:  # the desk says what is wrong
            return
        metrics.set("todoke_due_entries", waiting, name)
        metrics.set("todoke_jobs_under_way", jobs.pending, name)
        metrics.set("todoke_jobs_oldest_timestamp_seconds", jobs.oldest_at / 1000, name)

    def _live(self) -> str:
        for station in self.stations:
            wrong = stuck(station.runner.name, station.runner.progress_at)
            wrong = wrong or stuck(f"desk {station.partner}", station.desk.progress_at)
            if wrong:
                return wrong
        return ""

    def _ready(self) -> str:
        for station in self.stations:
            if station.desk.waiting:
                return f"desk {station.partner} waits: {station.desk.waiting}"
            if station.runner.waiting:
                return f"{station.runner.name} waits: {station.runner.waiting}"
        if not any(station.desk.lanes for station in self.stations):
            return "no lane is assigned yet"
        return ""


async def run(made: Parts, names: Sequence[str]) -> None:
    """Dispatch until SIGTERM or SIGINT. A part that ends by itself ends the process, for its supervisor to start again."""
    dispatcher = Dispatcher(made, names)
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    await dispatcher.start()
    log.info("dispatching to %s", ", ".join(station.partner for station in dispatcher.stations))
    watching = asyncio.create_task(dispatcher.watch())
    stopping = asyncio.create_task(done.wait())
    await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        log.critical("dispatcher: %s", watching.exception())
        os._exit(FATAL)
    watching.cancel()
    await dispatcher.stop()
