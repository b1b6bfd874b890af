"""Cutting a list: who is on it by one current view, and which obligations it contains.

The obligations come first; the list is made of records that are read afterwards. So whatever stood when the cut began has
its say in every row, in sharers' rows too. What came later isn't in the cut, and waits for the next.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import Struct

from todoke.processors.reconcile import Call, Recipient
from todoke.processors.swaps import contained, entering, listed
from todoke.schemas.errors import NotCurrent, Retry
from todoke.schemas.obligations import ENDED
from todoke.schemas.record import SealedIdentifier, SubjectRecord
from todoke.sinks.swaps import Swapped

from .audiences import Audiences, Want
from .batches import Look, in_the_clear
from .due import Entry, Lane
from .knowing import known_of
from .spool import Spool
from .tools import Tools
from .topics import partition_of
from .view import View

MOST = 10_000
"""Obligations that one cut contains, withdrawals first: each is written down before the call, and held in memory."""
SOME = 500

Looker = Callable[[Sequence[Entry], int], list[Look]]


class Asked(Struct, frozen=True):
    """What a cut shall contain: the calls of whoever waits, and the rows that it must not have."""

    calls: tuple[Call, ...] = ()
    barred: frozenset[bytes] = frozenset()


class Cut(Struct, frozen=True):
    """A list, begun at `at` (ms), and what it contains; the spool is closed by whoever has the cut.

    `offsets` are those of the compacted topics that the view had taken in when it was begun.
    """

    account: str
    at: int
    offsets: dict[str, int]
    owners: tuple[str, ...]
    calls: tuple[Call, ...]
    spool: Spool


class Cutter:
    """Makes lists for one partner's audiences."""

    def __init__(self, tools: Tools, recipient: Recipient, connector: Swapped, look: Looker, lanes: int) -> None:
        """`look` decides afresh, as the desk does; `lanes` is how many partitions the partner's lane has."""
        self.tools = tools
        self.recipient = recipient
        self.partner = recipient.partner
        self.connector = connector
        self.audiences = Audiences(tools.view, recipient.partner.name)
        self._look = look
        self._lanes = lanes

    def asked(self, account: str, *, grants: bool, besides: frozenset[str] = frozenset()) -> Asked:
        """What waits for a swap and is owed still, of subjects other than `besides`."""
        wants = [
            each
            for each in self.audiences.wanted(account, 2 * MOST if besides else MOST, grants=grants)
            if each.subject_ref not in besides
        ]
        calls: list[Call] = []
        barred: set[bytes] = set()
        for start in range(0, len(wants), SOME):
            some = wants[start : start + SOME]
            blocked = set()
            for look in self._look(self._entries(some), self.tools.now()):
                mine = [each for each in look.work.calls if each.obligation.account == account]
                mine = [each for each in mine if grants or each.obligation.restrictive]
                for each in mine:
                    calls.append(each)
                    if each.obligation.restrictive and not each.shared:
                        # whoever shares an identifier may be on the list by a word of their own (0014)
                        barred.update(self._rows(look.record, each.identifiers))
                blocked |= {each.obligation_id for each, _ in look.work.blocked}
            self._let_go(account, some, blocked)
        return Asked(tuple(calls), frozenset(barred))

    def cut(self, account: str, *, grants: bool, keep: Callable[[], None]) -> Cut | None:
        """A list of `account`, or None where nobody waits for one. `keep` is called in between, and may raise.

        Raises `NotCurrent` in a view that was lost meanwhile, and `Retry` under rules that are older than somebody's.
        """
        view, at = self.tools.view, self.tools.now()
        owners = view.owners()
        offsets = {name: shard.offset for name, shard in sorted(view.epoch().shards.items())}
        asked = self.asked(account, grants=grants)
        if not asked.calls:
            return None
        spool = Spool(self.tools.random)
        try:
            entered = self._fill(spool, account, asked.calls, keep)
            # who said stop since is taken off again, as far as we have heard; it is not closed by this list
            late = self.asked(account, grants=False, besides=frozenset(_subjects(asked.calls)))
            gone = _subjects(late.calls)
            calls = [
                each
                for each in contained(asked.calls, entered)
                if each.obligation.restrictive or each.obligation.subject_ref not in gone
            ]
            spool.seal(asked.barred | late.barred, self.connector.header)
            require_same(view, owners)
        except BaseException:
            spool.close()
            raise
        return Cut(account, at, offsets, owners, tuple(calls), spool)

    def _fill(self, spool: Spool, account: str, calls: Sequence[Call], keep: Callable[[], None]) -> set[str]:
        """Everybody who is on the list; the grants that got there by it."""
        new, entered = entering(calls), set()
        for refs in self._refs():
            keep()
            for known in known_of(self.tools.view, refs):
                if any(each.registry_revision > self.tools.rules.revision for each in known.obligations):
                    raise Retry("registry", perhaps=False)
                found = listed(known, self.recipient, account, new, self.tools.rules, self.tools.now())
                rows = self._rows(known.record, found.identifiers)
                spool.add(rows)
                if found.by and rows:
                    entered.add(found.by)
        return entered

    def _refs(self) -> Iterator[list[str]]:
        """Every subject that stays in the view all the while, some more than once."""
        prefix = self.tools.view.key("r", "")
        some: list[str] = []
        for key in self.tools.view.client.scan_iter(match=f"{prefix}*", count=2 * SOME):
            some.append(key.decode().removeprefix(prefix))
            if len(some) >= SOME:
                yield some
                some = []
        if some:
            yield some

    def _let_go(self, account: str, wants: Sequence[Want], blocked: Collection[str]) -> None:
        """Whoever is owed nothing any more, or waits for a person: a later look at them says when they want a swap."""
        cells = self.tools.view.obligations
        held = cells.load([cells.cell(each.subject_ref, each.obligation_id) for each in wants])
        over = [
            want
            for want, owed in zip(wants, held, strict=True)
            if owed is None or owed.state in ENDED or want.obligation_id in blocked
        ]
        self.audiences.let_go(account, over)

    def _rows(self, record: SubjectRecord | None, identifiers: Sequence[SealedIdentifier]) -> list[bytes]:
        return self.connector.rows(in_the_clear(record, identifiers, self.tools)) if record and identifiers else []

    def _entries(self, wants: Sequence[Want]) -> list[Entry]:
        at = self.tools.now() * 1000
        return [
            Entry(
                Lane(self.partner.name, partition_of(ref.encode(), self._lanes)),
                restrictive=True,
                subject_ref=ref,
                due_at=at,
            )
            for ref in dict.fromkeys(each.subject_ref for each in wants)
        ]


def require_same(view: View, owners: tuple[str, ...]) -> None:
    """Raises `NotCurrent` in a view that has been lost since `owners` were read, however whole it is again.

    How new it is now doesn't matter: what was read from it was new enough.
    """
    if view.unwatched().owners() != owners:
        raise NotCurrent("view: it was lost while a list was made: it is made again")


def _subjects(calls: Sequence[Call]) -> set[str]:
    return {each.obligation.subject_ref for each in calls}
