"""What the view keeps of one partner's audiences: who waits for a swap, whose turn it is, what people have allowed.

All of it is beside the truth. Who waits is put back by every look at somebody who is owed something; a turn that is lost
costs a list that is thrown away; a word of a person that is lost is asked for again. What a partner may hold is the
told-state of the audience itself, durable as any other.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from todoke.processors.reconcile import Call
from todoke.processors.swaps import AUDIENCES, Waiting
from todoke.schemas.receipts import RESTRICTIVE
from todoke.schemas.told import Told

from .view import Cell, View

TURN_MS = 60_000
ALLOWED_MS = 86_400_000
"""For how long a person's word about a list is good."""

RENEW = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Want(Struct, frozen=True, order=True):
    """An obligation of a subject that waits for a swap."""

    subject_ref: str
    obligation_id: str


class Refusal(Struct, frozen=True):
    """A list that a person must look at: why, and how many rows it has."""

    reason: str
    rows: int


class Audiences:
    """The audiences of one partner, by account."""

    def __init__(self, view: View, partner: str) -> None:
        """Written by the partner's dispatchers, and by the command that allows a list."""
        self.view = view
        self.partner = partner
        self._renew = view.client.register_script(RENEW)
        self._release = view.client.register_script(RELEASE)

    def cell(self, account: str) -> Cell:
        """Where the told-state of an audience stands."""
        return self.view.told.cell(AUDIENCES, self.blank(account).key)

    def blank(self, account: str) -> Told:
        """The told-state of an audience of which nothing is known."""
        return Told(AUDIENCES, self.partner, account, "", "")

    def told(self, accounts: Sequence[str]) -> list[Told | None]:
        """What each audience may hold. Raises `NotCurrent`."""
        return self.view.told.load([self.cell(each) for each in accounts])

    def want(self, calls: Iterable[Call]) -> None:
        """Note whose obligations wait for a swap of their account, since when their events came in."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in calls:
            owed = each.obligation
            member = f"{owed.subject_ref}|{owed.obligation_id}"
            pipeline.zadd(self._wants(owed.account, restrictive=owed.verb in RESTRICTIVE), {member: owed.appended_at})
        pipeline.execute()

    def let_go(self, account: str, wants: Iterable[Want]) -> None:
        """These wait no more."""
        members = [f"{each.subject_ref}|{each.obligation_id}" for each in wants]
        if members:
            pipeline = self.view.client.pipeline(transaction=False)
            for restrictive in (True, False):
                pipeline.zrem(self._wants(account, restrictive=restrictive), *members)
            pipeline.execute()

    def wanted(self, account: str, most: int, *, grants: bool) -> list[Want]:
        """Up to `most` that wait, withdrawals first, each kind the oldest first."""
        found: list[bytes] = []
        for restrictive in (True, False) if grants else (True,):
            if len(found) < most:
                key = self._wants(account, restrictive=restrictive)
                found += self.view.client.zrange(key, 0, most - len(found) - 1)
        return [Want(*each.decode().split("|", 1)) for each in found]

    def waiting(self, account: str, *, grants: bool = True) -> Waiting:
        """Since when the oldest of each kind wait."""
        pipeline = self.view.client.pipeline(transaction=False)
        for restrictive in (True, False):
            pipeline.zrange(self._wants(account, restrictive=restrictive), 0, 0, withscores=True)
        stops, permissions = pipeline.execute()
        return Waiting(int(stops[0][1]) if stops else 0, int(permissions[0][1]) if permissions and grants else 0)

    def take_turn(self, token: str) -> bool:
        """Whether whoever has `token` may make lists for this partner now, or still: one at a time does."""
        return bool(self._renew(keys=[self.view.key("swap-turn", self.partner)], args=[token, TURN_MS]))

    def end_turn(self, token: str) -> None:
        """Let somebody else."""
        self._release(keys=[self.view.key("swap-turn", self.partner)], args=[token])

    def allow(self, account: str, rows: int) -> None:
        """A person's word that the next list may be as short as `rows`."""
        self.view.client.set(self._allowed(account), rows, px=ALLOWED_MS)
        self.view.client.delete(self._refused(account))

    def allowed(self, account: str) -> int | None:
        """What a person has said, if it was said lately and for no list since."""
        found = self.view.client.get(self._allowed(account))
        return int(found) if found is not None else None

    def used(self, account: str) -> None:
        """A list was taken: nobody's word is needed for it any more."""
        self.view.client.delete(self._allowed(account), self._refused(account))

    def refuse(self, account: str, refusal: Refusal) -> None:
        """Note that a list waits for a person's word."""
        self.view.client.set(self._refused(account), f"{refusal.reason}|{refusal.rows}")

    def refused(self, account: str) -> Refusal | None:
        """The list that waits for a person's word, if one does."""
        found = self.view.client.get(self._refused(account))
        if found is None:
            return None
        reason, _, rows = found.decode().partition("|")
        return Refusal(reason, int(rows))

    def _wants(self, account: str, *, restrictive: bool) -> str:
        return self.view.key("swap-wants", self.partner, account, "restrictive" if restrictive else "permissive")

    def _allowed(self, account: str) -> str:
        return self.view.key("swap-allowed", self.partner, account)

    def _refused(self, account: str) -> str:
        return self.view.key("swap-refused", self.partner, account)
