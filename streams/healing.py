"""Putting messages back into the view by the thousand, as bytes: what is absent is set, what is equal is passed over.

Only where the view holds something else is a value decoded, joined and written by compare-and-set. Nothing is dropped for
being followed by another: a message that comes last may say less (correctness, 9), so all copies of one key are joined.
Plain commands, not a script: the server takes half as long for them, and works while the next ones are packed.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
import msgspec
from confluent_kafka import Message
from msgspec import Struct

from todoke.processors.instants import turn
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Told

from .due import Due, Lane, entries
from .index import Index, job_key, references
from .kept import INDEX_HEADER, SUBJECT_HEADER, ObligationIndex, RecordIndex, ToldIndex, kept, of_obligation, of_record
from .outbox import header
from .tools import Tools
from .topics import partition_of
from .turns import Turns
from .view import Cell, Command, View, join_with

PIECE = 500
"""So many commands are packed and sent before the next are."""


class Healed(Struct, frozen=True):
    """What came of a batch: the last messages that say less than the view, by its cells, and how many cells changed."""

    behind: dict[Cell, Message]
    changed: int


class Said(Struct, frozen=True):
    """What a batch says of one key: the last message, and, where they had to be decoded, all values, the last, the join."""

    last: Message
    values: tuple[Any, ...] = ()
    value: Any = None
    joined: Any = None

    @property
    def whole(self) -> bool:
        """Whether the last message says all that any of them did, so that its bytes will do."""
        return bool(self.joined == self.value)


class Healing:
    """Writes what compacted topics say into the view."""

    def __init__(self, tools: Tools, due: Due, lane_partitions: int) -> None:
        """`lane_partitions` is how many partitions a lane has, to find the due-queue of a subject."""
        self.view = tools.view.unwatched()
        self.prefix = self.view.key("")
        self.index = Index(self.view, 0)
        self.turns = Turns(self.view, tools.turns.partitions)
        self.policy = tools.rules.policy
        self.codec = tools.codec
        self.now = tools.now
        self.due = due
        self.lane_partitions = lane_partitions
        self.kept = kept(self.view)
        self._put = {"consent-state": self._put_record, "obligations": self._put_obligation, "told": self._put_told}

    def __call__(self, topic: str, messages: Sequence[Message], *, rebuilding: bool) -> Healed:
        """Join one topic's messages into the view; while it is `rebuilding`, the indexes of what it holds already, too."""
        copies: dict[bytes, list[Message]] = {}
        gone: dict[bytes, str] = {}
        for message in messages:
            key = message.key() or b""
            if message.value() is None:
                gone[key] = header(message, SUBJECT_HEADER).decode()
            else:
                gone.pop(key, None)
                copies.setdefault(key, []).append(message)
        said = [self._said(topic, each) for each in copies.values()]
        alone = [each.last for each in said if each.whole]
        news, differing = self._set(topic, alone, rebuilding=rebuilding)
        apart = [each for each in said if not each.whole] + [self._decoded(topic, [each]) for each in differing]
        behind, joined = self._join(topic, apart, rebuilding=rebuilding)
        self.index.forget((ref, key.decode()) for key, ref in gone.items() if ref)
        return Healed(behind, news + joined)

    def _said(self, topic: str, messages: Sequence[Message]) -> Said:
        """What the copies of one key say together, decoded only where there are several."""
        if len(messages) == 1 or len({each.value() for each in messages}) == 1:
            return Said(messages[-1])
        return self._decoded(topic, messages)

    def _decoded(self, topic: str, messages: Sequence[Message]) -> Said:
        keeps = self.kept[topic]
        raws = dict.fromkeys(each.value() or b"" for each in messages)
        values = {raw: self.codec.decode(raw, keeps.cells.kind) for raw in raws}
        last = values[messages[-1].value() or b""]
        return Said(messages[-1], tuple(values.values()), last, functools.reduce(keeps.join, values.values()))

    def _set(self, topic: str, messages: Sequence[Message], *, rebuilding: bool) -> tuple[int, list[Message]]:
        """Set what is absent: how much that was, and the messages that say other than what is held."""
        put, due_at = self._put[topic], self.now() * 1000
        puts = [put(message, due_at) for message in messages]
        commands = [each[0] for each in puts]
        answers = send(self.view, [*commands, *(_grouped(puts) if rebuilding else ())])
        news: list[Message] = []
        there: list[tuple[Message, Command]] = []
        differing: list[Message] = []
        for message, command, answer in zip(messages, commands, answers, strict=False):
            if answer is None or answer == 1:  # of SET … NX GET, of HSETNX
                news.append(message)
            elif answer == 0:
                there.append((message, ("HGET", *command[1:3])))
            elif answer != message.value():
                differing.append(message)
        held = send(self.view, [command for _, command in there])
        differing += [message for (message, _), raw in zip(there, held, strict=True) if raw != message.value()]
        if news and not rebuilding:
            # an obligation that the view had lost may have been let go of by a desk that found nothing: it wakes anew
            send(self.view, _grouped(put(message, due_at) for message in news))
        return len(news), differing

    def _join(self, topic: str, said: Sequence[Said], *, rebuilding: bool) -> tuple[dict[Cell, Message], int]:
        """Join what differs with what is held: the last messages that say less than that, and cells changed."""
        keeps = self.kept[topic]
        by_cell = {keeps.cell(each.joined): each for each in said}
        incoming = {cell: each.joined for cell, each in by_cell.items()}
        before: dict[Cell, Any] = {}
        joined = join_with(incoming, keeps.join)

        def change(cell: Cell, held: Any) -> Any:
            before[cell] = held
            return joined(cell, held)

        held = keeps.cells.update(incoming, change)
        parts = {cell: [*by_cell[cell].values, before[cell]] for cell in held}
        self._index(held, parts, rebuilding=rebuilding)
        behind = {cell: each.last for cell, each in by_cell.items() if held[cell] != each.value}
        return behind, sum(held[cell] != before[cell] for cell in held)

    def _index(self, held: dict[Cell, Any], parts: dict[Cell, list[Any]], *, rebuilding: bool) -> None:
        """Make what was joined findable, and no longer by what one of its parts was found by and it isn't."""
        records = {cell: each for cell, each in held.items() if isinstance(each, SubjectRecord)}
        self.index.enlist(records.values())
        self.turns.set((each.subject_ref, turn(each, self.policy, self.now())) for each in records.values())
        for cell, record in records.items():
            known = {name for part in parts[cell] if part for each in part.identifiers.values() for name in each.names}
            shredded = known - {name for each in record.identifiers.values() for name in each.names}
            if shredded:
                self.index.delist(record.subject_ref, shredded)
        self.index.refer(each for each in held.values() if isinstance(each, Told))
        obligations = {cell: each for cell, each in held.items() if isinstance(each, Obligation)}
        self.index.track(obligations.values())
        woken = {cell: each for cell, each in obligations.items() if rebuilding or each != parts[cell][-1]}
        standing = [each for each in woken.values() if each.state not in ENDED]
        if standing:
            self.due.wake(entries(standing, self.lane_partitions, self.now() * 1000))

    def _put_record(self, message: Message, _due_at: int) -> list[Command]:
        found = _index_of(message, RecordIndex) or self._ask(message)
        ref = (message.key() or b"").decode()
        first: Command = ("SET", f"{self.prefix}r:{ref}", message.value() or b"", "NX", "GET")
        aliases: list[Command] = [("SADD", f"{self.prefix}a:{alias}", ref) for alias in found.aliases]
        turns: list[Command] = [("ZADD", self.turns.key(ref), "LT", found.turn, ref)] if found.turn else []
        return [first, *aliases, *turns]

    def _ask(self, message: Message) -> RecordIndex:
        record = self.codec.decode(message.value() or b"", SubjectRecord)
        return of_record(record, self.policy, message.timestamp()[1])

    def _put_obligation(self, message: Message, due_at: int) -> list[Command]:
        raw, name = message.value() or b"", (message.key() or b"").decode()
        found = _index_of(message, ObligationIndex) or of_obligation(self.codec.decode(raw, Obligation))
        ref, member, prefix = found.subject_ref, f"{found.subject_ref}|{name}", self.prefix
        first: Command = ("HSETNX", f"{prefix}o:{ref}", name, raw)
        if found.ended_at:
            return [first, ("ZADD", f"{prefix}ended", found.ended_at, member)]
        commands: list[Command] = [
            first,
            ("ZADD", f"{prefix}standing:{found.partner}", found.appended_at, member),
            ("SADD", f"{prefix}recipients", found.partner),
        ]
        if found.delete:
            commands.append(("ZADD", f"{prefix}deletes", found.deadline_at, member))
        if due_at:
            lane = Lane(found.partner, partition_of(ref.encode(), self.lane_partitions))
            commands.append(("ZADD", self.due.queue(lane, restrictive=found.restrictive), due_at, ref))
        return commands

    def _put_told(self, message: Message, _due_at: int) -> list[Command]:
        ref, _, field = (message.key() or b"").decode().partition("|")
        first: Command = ("HSETNX", f"{self.prefix}t:{ref}", field, message.value() or b"")
        if not header(message, INDEX_HEADER):
            return [first]
        found = _index_of(message, ToldIndex) or ToldIndex(references(self.codec.decode(message.value() or b"", Told)))
        partner = field.partition("|")[0]
        return [first, *(("SADD", job_key(self.view, partner, each), ref) for each in found.references)]


def _grouped(puts: Iterable[Sequence[Command]]) -> list[Command]:
    """All but the first command of each, those for one key as one: ZADD and SADD take many members."""
    found: dict[Command, list[str | int | bytes]] = {}
    for commands in puts:
        for each in commands[1:]:
            found.setdefault(each[:2], []).extend(each[2:])
    return [(*head, *rest) for head, rest in found.items()]


def send(view: View, commands: Sequence[Command]) -> list[Any]:
    """The answers to many commands: packed in C, sent in pieces, and read when all are sent.

    Raises what the client raises; which of the commands were done is open then, and all of them can be done again.
    """
    if not commands:
        return []
    connection = view.client.connection_pool.get_connection()
    try:
        for start in range(0, len(commands), PIECE):
            connection.send_packed_command([_pack(commands[start : start + PIECE])])
        return [connection.read_response() for _ in commands]
    except BaseException:
        connection.disconnect()  # there may be answers on it that nobody waits for
        raise
    finally:
        view.client.connection_pool.release(connection)


def _pack(commands: Iterable[Command]) -> bytes:
    return b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]  # it takes tuples of any length


def _index_of(message: Message, kind: type[Any]) -> Any:
    """What the header says, None where there is none that can be read."""
    try:
        return msgspec.msgpack.decode(header(message, INDEX_HEADER), type=kind)
    except msgspec.DecodeError:  # validation errors are decode errors
        return None
