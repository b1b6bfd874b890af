"""What the intake produces: records, obligations, directives, outcomes, log rows and dead letters, as messages."""

import logging
from collections import Counter
from collections.abc import Iterable
from uuid import UUID, uuid5

import msgspec
from confluent_kafka import Message
from msgspec import Struct

from todoke.processors.admit import Change
from todoke.processors.enrol import Named, stamps
from todoke.processors.keys import seal_for_log
from todoke.processors.plan import Demand, identify
from todoke.schemas.directives import Directive
from todoke.schemas.errors import Refused
from todoke.schemas.events import DeadLetter, Event, LogRow, Outcome, Provision
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import SubjectRecord, stamp

from .kept import letter
from .metrics import kind
from .outbox import Letter, header
from .tools import Tools

log = logging.getLogger(__name__)
FIRST_APPENDED = "todoke-first-appended-at"
ROWS = UUID("0c1c5f6e-2f52-5b0e-8f0a-7c1b61d6a9b4")


class Taken(Struct, frozen=True):
    """One admitted event: what it writes, to whom, and where it came from."""

    event: Event
    change: Change
    named: tuple[Named, ...]
    refs: tuple[str, ...]
    topic: str
    partition: int
    offset: int
    appended_at: int


class Merged(Struct, frozen=True):
    """A record after the batch, the events that touched it, and what it demands of each partner that they concern.

    `adopted` names the registers that came from somebody known by an identifier only; `last` is the newest event.
    """

    record: SubjectRecord
    taken: tuple[Taken, ...]
    adopted: frozenset[str]
    last: Taken
    demands: dict[str, list[Demand]]


class Bad(Struct, frozen=True):
    """A refused message: where it stood, its event id if it could be read, and why."""

    message: Message
    topic: str
    event_id: str
    error: Refused

    @property
    def place(self) -> str:
        """Topic, partition and offset: a name for what may have none."""
        return f"{self.topic}/{self.message.partition()}/{self.message.offset()}"


class Letters:
    """Makes the messages of a batch."""

    def __init__(self, tools: Tools) -> None:
        """See `Tools`."""
        self.tools = tools

    def records(self, merged: Iterable[Merged]) -> Iterable[Letter]:
        """The merged records: the truth that every view is rebuilt from."""
        return (letter(self.tools, each.record) for each in merged)

    def obligations(self, obligations: Iterable[Obligation]) -> Iterable[Letter]:
        """The obligations, as the view holds them."""
        return (letter(self.tools, each) for each in obligations)

    def outcomes(self, outcomes: Iterable[Outcome]) -> Iterable[Letter]:
        """What became of each event."""
        topic, codec = self.tools.topic("outcomes"), self.tools.codec
        return (Letter(topic, each.event_id, codec.encode(each)) for each in outcomes)

    def directives(self, merged: Iterable[Merged], obligations: dict[str, Obligation]) -> Iterable[Letter]:
        """One wake-up for each partner concerned, whether anything changed or not (design, level-triggered)."""
        tools = self.tools
        counts: Counter[tuple[str, bool]] = Counter()
        for each in merged:
            needed = {one for taken in each.taken for one in stamps(taken.change)}
            needed |= {
                stamp(name, each.record.registers[name]) for name in each.adopted if name in each.record.registers
            }
            appended_at = min((one.appended_at for one in each.taken), default=each.last.appended_at)
            for partner, wanted in each.demands.items():
                if tools.rules.registry.partner(partner) is None:
                    continue
                theirs = [obligations[identify(each.record.subject_ref, demand)] for demand in wanted]
                directive = Directive(
                    subject_ref=each.record.subject_ref,
                    partner=partner,
                    cause="event",
                    event_id=each.last.event.event_id,
                    stamps=tuple(sorted(needed)),
                    obligations=tuple(sorted(one.obligation_id for one in theirs)),
                    restrictive=any(one.restrictive for one in theirs),
                    appended_at=appended_at,
                    deadline_at=min((one.deadline_at for one in theirs), default=0),
                    registry_revision=tools.rules.revision,
                )
                yield Letter(
                    tools.topic(f"directives.{partner}"), each.record.subject_ref, tools.codec.encode(directive)
                )
                counts[partner, directive.restrictive] += 1
        for (partner, restrictive), count in counts.items():
            tools.metrics.count("todoke_directives_total", partner, kind(restrictive=restrictive), by=count)

    def superseded(self, fallen: Iterable[tuple[Obligation, str]]) -> Iterable[Letter]:
        """Receipts that name the newer obligation for each that falls away."""
        tools, at = self.tools, self.tools.now()
        for owed, by in fallen:
            receipt = Receipt(
                receipt_id=str(uuid5(ROWS, f"{owed.obligation_id}\x1f{by}")),
                obligation_id=owed.obligation_id,
                subject_ref=owed.subject_ref,
                partner=owed.partner,
                account=owed.account,
                scope=owed.scope,
                verb=owed.verb,
                kind="superseded",
                at=at,
                reference=by,
            )
            yield Letter(tools.topic("receipts"), owed.subject_ref, tools.codec.encode(receipt))

    def rows(self, merged: Iterable[Merged]) -> Iterable[Letter]:
        """A sealed row of the log for each event and subject."""
        tools = self.tools
        for each in merged:
            for one in each.taken:
                ref = each.record.subject_ref
                row_id = _row_id(one.event.event_id, ref, one.change.kind)
                said: dict[str, object] = {
                    "event": one.event,
                    "demands": [demand for theirs in each.demands.values() for demand in theirs],
                }
                if isinstance(one.event, Provision) and (earlier := one.event.corrects or one.event.annuls):
                    said["supersedes"] = _row_id(earlier, ref, one.change.kind)
                payload = msgspec.json.encode(said)
                row = LogRow(
                    row_id=row_id,
                    kind=_row_kind(one.event),
                    subject_ref=ref,
                    source="intake",
                    number=each.record.rows.get(one.event.event_id, 0),
                    at=one.change.at,
                    cause=one.event.event_id,
                    partner=one.event.counterpart if isinstance(one.event, Provision) else "",
                    payload=seal_for_log(tools.keyring, row_id, payload, tools.random),
                )
                yield Letter(tools.topic("provision-log"), ref, tools.codec.encode(row))

    def dead(self, refused: Iterable[Bad]) -> Iterable[Letter]:
        """Refused input, whole and sealed, with the reason; and a word of it in log and metrics."""
        tools = self.tools
        for bad in refused:
            message, error, name = bad.message, bad.error, bad.place
            first = first_appended(message)
            dead = DeadLetter(
                letter_id=name,
                kind="event",
                reason=error.reason,
                field=error.field,
                fix=error.fix,
                topic=bad.topic,
                partition=message.partition() or 0,
                offset=message.offset() or 0,
                appended_at=message.timestamp()[1],
                refused_at=tools.now(),
                event_id=bad.event_id,
                sealed_key=seal_for_log(tools.keyring, f"{name}/key", message.key() or b"", tools.random),
                sealed_value=seal_for_log(tools.keyring, f"{name}/value", message.value() or b"", tools.random),
                headers={} if first is None else {FIRST_APPENDED: str(first)},
            )
            yield Letter(tools.topic("dead-letters"), name, tools.codec.encode(dead))
            tools.metrics.count("todoke_letters_total", "event", error.reason)
            log.warning("refused %s: %s: %s", name, error.reason, error.field)


_PROVISION_ROWS = {"given": "provision-29", "received": "receipt-30", "joined": "related-31"}


def _row_id(event_id: str, ref: str, kind: str) -> str:
    """The id of the row of an event about a subject: the same however often it is made."""
    return str(uuid5(ROWS, f"{event_id}\x1f{ref}\x1f{kind}"))


def _row_kind(event: Event) -> str:
    """The kind of row: the article of the APPI for provisions, else the kind of event."""
    if isinstance(event, Provision):
        return _PROVISION_ROWS[event.direction]
    return type(event).__name__


def first_appended(message: Message) -> int | None:
    """When the message's first copy was appended, in ms, if it is a replay that says so."""
    value = header(message, FIRST_APPENDED)
    return int(value) if value.isdigit() and len(value) <= 16 else None
