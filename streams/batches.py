"""From what was decided to calls: identifiers opened, cut into one group each within the partner's limits."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from todoke.processors.keys import open_identifier, open_key
from todoke.processors.reconcile import Call, Work
from todoke.schemas.errors import Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.record import SealedIdentifier, SubjectRecord
from todoke.sinks.base import Connector, Item

from .due import Entry
from .notes import Ending, Try, request_id
from .tools import Tools

ROW_BYTES = 200
STARTS_WITHIN_MS = 1000  # a decision older than this is made again before its call starts


WAIT_MS = {"record": 200, "obligation": 0, "registry": 1000}


class Look(Struct, frozen=True):
    """What was found and decided for one wake-up, when (ms), and up to when every event was in the view by then."""

    entry: Entry
    record: SubjectRecord | None
    work: Work
    decided_at: int
    seen_at: int

    @property
    def wait_ms(self) -> int:
        """When to look again at what can't be done now: the longer it has lasted, the later.

        A permission waits for an intake that lags, or for a deletion that isn't told: looking each second at everybody
        who waits would take the time from what they wait for. Whoever says something is looked at at once.
        """
        match self.work.wait:
            case "intake":
                return _within(1000, self._since(self.seen_at) // 4, 30_000)
            case "deletion":
                return _within(2000, self._since(self.record.erased_through if self.record else 0) // 10, 600_000)
            case wait:
                return WAIT_MS[wait]

    @property
    def look_at(self) -> int:
        """When to look again since something is over then (ms): a rival, or the time of a job; 0 for nothing."""
        times = [self.work.look_at, *(each.until for each in self.work.asks)]
        return min((at for at in times if at > self.decided_at), default=self.work.look_at)

    def _since(self, at: int) -> int:
        """How long ago that was, in ms; nothing where it isn't known."""
        return self.decided_at - at if at else 0


class Opened(Struct, frozen=True):
    """One call for one obligation, with the wake-up that it came from and the item that its connector sends.

    `start_by` (ms) is how late the call may start, `seen_at` up to when every event was in the view when it was decided.
    """

    entry: Entry
    call: Call
    item: Item
    seen_at: int
    start_by: int


class Ended(Struct, frozen=True):
    """How one obligation's call ended. `final`: a person must look; `retry`: again later; `noted`: only written down."""

    opened: Opened
    tried: Try
    ending: Ending
    final: bool = False
    retry: Retry | None = None
    noted: bool = False


def cut(opened: Iterable[Opened], connector: Connector, limits: Limits) -> Iterator[list[Opened]]:
    """Batches of one group each, none above the limits, but for a single item that is larger by itself."""
    groups: dict[str, list[Opened]] = {}
    apart = limits.quota_per == "account" or limits.account_concurrency > 0
    for each in opened:
        group = connector.group(each.item)
        # where accounts are limited apart, a call is of one account, whatever else its connector could put together
        groups.setdefault(f"{each.item.account}|{group}" if apart else group, []).append(each)
    for members in groups.values():
        batch: list[Opened] = []
        weight = 0
        for each in members:
            more = connector.weight(each.item)
            if batch and (weight + more > limits.items or (weight + more) * ROW_BYTES > limits.bytes):
                yield batch
                batch, weight = [], 0
            batch.append(each)
            weight += more
        if batch:
            yield batch


def opened(looks: Iterable[Look], tools: Tools) -> list[Opened]:
    """The calls of these looks, and how late each may start.

    A permission starts before a restriction could have been durable for longer than the bound: what was durable by
    `seen_at` had its say in the decision (law 2).
    """
    found = []
    for look in looks:
        for call in look.work.calls:
            start_by = look.decided_at + STARTS_WITHIN_MS
            if not call.obligation.restrictive:
                start_by = min(start_by, look.seen_at + tools.permission_bound_ms)
            found.append(Opened(look.entry, call, item_of(look.record, call, tools), look.seen_at, start_by))
    return found


def item_of(record: SubjectRecord | None, call: Call, tools: Tools) -> Item:
    """Open the identifiers: from here to the partner's answer they are in the clear, in memory alone."""
    owed = call.obligation
    assert record is not None  # a call is decided from a record
    identifiers = in_the_clear(record, call.identifiers, tools)
    return Item(
        obligation_id=owed.obligation_id,
        request_id=request_id(owed),
        verb=owed.verb,
        account=owed.account,
        scope=owed.scope,
        at=owed.appended_at,
        deadline_at=owed.deadline_at,
        reasons=owed.reasons,
        identifiers=identifiers,
    )


def in_the_clear(record: SubjectRecord, sealed: Iterable[SealedIdentifier], tools: Tools) -> tuple[Identifier, ...]:
    """Identifiers of a record, opened."""
    wanted = tuple(sealed)
    keys = {
        name: open_key(tools.keyring, record.subject_ref, name, record.keys[name])
        for name in {each.generation for each in wanted}
    }
    return tuple(
        Identifier(each.kind, open_identifier(keys[each.generation], record.subject_ref, each.kind, each.sealed))  # type: ignore[arg-type]  # admitted kinds only
        for each in wanted
    )


def _within(least: int, wanted: int, most: int) -> int:
    return max(least, min(wanted, most))
