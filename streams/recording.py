"""The ledger's batch: sealed rows in, records in the vault, entries in the log; and what follows from the calendar.

Offsets stand in the vault with the records, and a batch is kept wholly or not at all, so a row is kept once however often
it comes. The group's committed offsets only show lag.
"""

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from uuid import UUID, uuid5

import msgspec
from confluent_kafka import Message
from msgspec import Struct

from todoke.processors.keys import Keyring, open_from_log
from todoke.processors.provision import Recorder, day_of
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Refused
from todoke.schemas.events import LogRow
from todoke.sinks.ledger import Ledger

from .metrics import Metrics

log = logging.getLogger(__name__)
UNREAD = UUID("0d3c6a1e-5c5b-5e0c-8d5a-0a8f6f6f2b52")
UNREADABLE = "unreadable"
HOLD, RELEASE = "hold", "release"
Cut = Callable[[Mapping[tuple[str, int], int]], None]


class RecordingTools(Struct, frozen=True):
    """What recording works with. `cut` lets rows go from the topic that are durable here, up to offsets by partition."""

    codec: Codec
    keyring: Keyring
    metrics: Metrics
    now: Callable[[], int]
    cut: Cut
    publish_s: float
    cut_every_s: float = 3600.0


class Recording:
    """Keeps rows, publishes, erases what is due. Called on one thread."""

    def __init__(self, ledger: Ledger, recorder: Recorder, tools: RecordingTools) -> None:
        """The ledger is this shard's, and open."""
        self.ledger = ledger
        self.recorder = recorder
        self.tools = tools
        self.published_at = 0.0
        self.erased_on = ""
        self.cut_at = time.monotonic()

    def __call__(self, messages: Sequence[Message]) -> None:
        """One batch, whole. Raises `Unopened`, `Fenced`: then this process has to end."""
        vault = self.ledger.vault
        read = [self._read(message) for message in messages]
        fresh = vault.unknown([row.row_id for row, _ in read])
        new = [each for each, wanted in zip(read, fresh, strict=True) if wanted]
        for row, _ in new:  # before they are kept: a hold that is acted on twice is one hold, one that is lost is none
            if row.kind == HOLD:
                vault.hold(row.subject_ref, row.row_id)
            elif row.kind == RELEASE:
                vault.release(row.subject_ref, self._today())
        records = [self.recorder.record(row, opened) for row, opened in new]
        for record in records:
            if record.rolls:  # before it is kept, as above: put off twice is put off once
                vault.put_off(record)
        offsets = {(each.topic() or "", each.partition() or 0): (each.offset() or 0) + 1 for each in messages}
        vault.append(records, offsets)
        metrics = self.tools.metrics
        for each in records:
            metrics.count("todoke_ledger_records_total", each.kind)
            if "missing" in each.internal:
                metrics.count("todoke_ledger_incomplete_total", each.rule)
        metrics.batch("ledger", len(messages))
        if time.monotonic() - self.published_at >= self.tools.publish_s:
            self.idle()

    def idle(self) -> None:
        """Publish what waits; when a new day has begun, erase what is over; now and then, cut the topic."""
        self.publish()
        today = self._today()
        if today.isoformat() != self.erased_on:
            made = self.ledger.erase_due(today)
            if made:
                log.warning("erased what expired: keys %s destroyed, leaf %d says so", ", ".join(made.keys), made.leaf)
            self.erased_on = today.isoformat()
        if time.monotonic() - self.cut_at >= self.tools.cut_every_s:
            self.cut_at = time.monotonic()
            self.tools.cut(self.ledger.vault.offsets())

    def publish(self) -> None:
        """Have the log say what the vault has kept."""
        self.published_at = time.monotonic()
        found = self.ledger.publish()
        self.tools.metrics.set("todoke_ledger_entries", found.size)
        self.tools.metrics.set("todoke_ledger_published_timestamp_seconds", self.tools.now() / 1000)

    def _read(self, message: Message) -> tuple[LogRow, bytes]:
        """The row and its opened payload; what is no row is kept as it came: only our own processes write here."""
        raw = message.value() or b""
        try:
            row = self.tools.codec.decode(raw, LogRow)
        except Refused as error:
            log.error("row %s/%s: %s: kept as it is", message.partition(), message.offset(), error.reason)  # noqa: TRY400
            self.tools.metrics.count("todoke_letters_total", "row", error.reason)
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            at = message.timestamp()[1]
            row = LogRow(str(uuid5(UNREAD, place)), UNREADABLE, "", "ledger", 0, at, place, "", b"")
            return row, msgspec.json.encode({UNREADABLE: base64.b64encode(raw).decode()})
        return row, open_from_log(self.tools.keyring, row.row_id, row.payload)

    def _today(self) -> date:
        return date.fromisoformat(day_of(self.tools.now()))
