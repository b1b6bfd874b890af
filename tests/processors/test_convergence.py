"""All of the core together: history in any order, calls that get lost, and at the end the partner holds what was decided.

A worker merges and plans, a sink reconciles and calls one partner, whose state is kept by scope and identifier. Events
and wake-ups interleave as they like; answers are lost, calls refused, calls applied though nobody heard of it. Then
everything is given its time, and laws 2 and 3 must hold of what the partner was left with.
"""

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rules import LATE, NOW, REF, admitted, apply, events, owed, partner, receipt, rules, with_identifiers
from todoke.processors.balance import Snapshot, balance
from todoke.processors.enrol import shred
from todoke.processors.plan import Cause, obligation, of_partner, of_unknown, supersessions
from todoke.processors.reconcile import Call, Known, Recipient, reconcile
from todoke.schemas.events import Event, Provision
from todoke.schemas.obligations import ENDED, Obligation, settle
from todoke.schemas.obligations import join as join_obligations
from todoke.schemas.receipts import Receipt, Verb
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Attempt, Told, note

SHOP = partner("ads-net", "research", "site", "ads", grants=True)
RULES = rules(SHOP)
EFFECTS: dict[Verb, str] = {"grant": "in", "withdraw": "out", "suspend": "paused", "delete": "gone"}
SCOPES = ("research", "site", "ads")
Luck = Literal["answered", "lost", "swallowed", "refused"]
STEPS = st.one_of(
    events(),
    st.sampled_from(["answered", "lost", "swallowed", "refused"]),
    st.sampled_from(["x", "y"]).map(lambda alias: (alias,)),
)


class World:
    """One subject, one worker, one sink, one partner."""

    def __init__(self) -> None:
        self.now = NOW
        self.record = SubjectRecord(REF)
        self.obligations: dict[str, Obligation] = {}
        self.told: dict[str, Told] = {}
        self.receipts: list[Receipt] = []
        self.partner: list[tuple[int, str, str, str]] = []
        self.calls = 0
        self.forgotten: set[tuple[str, int]] = set()

    def take(self, event: Event) -> None:
        """An event never comes before it has happened, but as late as it likes; so do provisions, which give data."""
        self.now = max(self.now, event.occurred_at) + 1
        if isinstance(event, Provision) and event.counterpart == SHOP.name:
            self.partner += [(event.occurred_at, scope, alias, "in") for scope in SCOPES for alias in "xy"]
        self.record = apply(self.record, admitted(event))
        self.plan()

    def meet(self, alias: str) -> None:
        self.record = with_identifiers(self.record, alias, at=self.now)
        self.plan()

    def plan(self) -> None:
        for name, made in owed(self.record, RULES, self.now, self.now).items():
            held = self.obligations.get(name)
            self.obligations[name] = join_obligations(held, made) if held else made
        self.supersede_strangers()

    def supersede_strangers(self) -> None:
        """No sink ever looks at recipients that the registry lacks: what is newer takes its place at once."""
        standing = [each for each in self.obligations.values() if each.partner != SHOP.name and each.state not in ENDED]
        for name, newer in supersessions(of_unknown(self.record, RULES), standing, REF).items():
            self.write(self.obligations[name], "superseded", reference=newer)

    def wake(self, luck: Luck) -> None:
        self.now += 100
        known = Known(self.record, tuple(self.obligations.values()), self.told)
        work = reconcile(known, Recipient(SHOP, EFFECTS), RULES, self.now)
        for demand in work.create:
            made = obligation(REF, demand, SHOP, Cause("time", "", self.now), self.now)
            self.obligations[made.obligation_id] = made
        for each, grade in work.settled:
            self.write(each, "settled", grade=grade)
        for each, newer in work.superseded:
            self.write(each, "superseded", reference=newer)
        for each, reason in work.blocked:
            self.write(each, "blocked", reason=reason)
        for call in work.calls:
            self.call(call, luck)
        self.forget()

    def forget(self) -> None:
        """Shred who asked to be deleted, once no deletion is open."""
        deletes = [each.state in ENDED for each in self.obligations.values() if each.verb == "delete"]
        if deletes and all(deletes) and self.record.erased_through > self.record.shredded_through:
            before = {each.alias for each in self.record.identifiers.values()}
            self.record = shred(self.record, self.record.erased_through)
            gone = before - {each.alias for each in self.record.identifiers.values()}
            self.forgotten |= {(alias, self.record.erased_through) for alias in gone}
            self.plan()

    def reached(self, scope: str, alias: str, since: int) -> list[str]:
        """What reached the partner of an identifier after `since`, the last last."""
        return [effect for at, *place, effect in sorted(self.partner) if place == [scope, alias] and at > since]

    def write(self, owed: Obligation, kind: str, grade: int = 0, reason: str = "", reference: str = "") -> None:
        made = receipt(owed, kind, self.now, grade=grade, reason=reason, reference=reference)
        self.receipts.append(made)
        self.obligations[owed.obligation_id] = settle(self.obligations[owed.obligation_id], made)

    def call(self, call: Call, luck: Luck) -> None:
        self.now += 1
        self.calls += 1
        name = f"t{self.calls}"
        begun = Attempt(call.effect, self.now, self.now + 5)
        owed = call.obligation
        places = [(scope, each.alias) for each in call.identifiers for scope in (owed.scope, *SCOPES)]
        places = [each for each in places if owed.verb == "delete" or each[0] == owed.scope]
        self.tell(places, name, begun)
        self.write(owed, "attempting")
        if luck in ("answered", "swallowed"):
            self.partner += [(self.now + 1, *each, call.effect) for each in places]
        self.now += 3
        if luck == "answered":
            self.end(owed, places, name, Attempt(call.effect, begun.started_at, begun.ends_by, self.now, grade=2))
        elif luck == "refused":
            ended = Attempt(call.effect, begun.started_at, begun.ends_by, self.now, refused=True)
            self.end(owed, places, name, ended)
        else:
            self.now += 3  # nobody saw how it ended: it has timed out before anything else is sent

    def end(self, owed: Obligation, places: list[tuple[str, str]], name: str, attempt: Attempt) -> None:
        self.tell(places, name, attempt)
        self.write(owed, "ended", grade=attempt.grade)

    def tell(self, places: list[tuple[str, str]], name: str, attempt: Attempt) -> None:
        for scope, alias in places:
            blank = Told(REF, SHOP.name, "main", scope, alias)
            self.told[blank.key] = note(self.told.get(blank.key, blank), name, attempt)


@given(st.lists(STEPS, max_size=14))
@settings(max_examples=250)
def test_in_the_end_the_partner_holds_what_was_decided_and_every_obligation_has_ended(
    steps: "list[Event | Luck | tuple[str]]",
) -> None:
    world = World()
    for step in steps:
        if isinstance(step, Event):
            world.take(step)
        elif isinstance(step, tuple):
            world.meet(step[0])
        else:
            world.wake(step)
    world.now = LATE
    world.plan()  # what time alone demands, somebody has to notice
    for _ in range(8):
        world.wake("answered")

    aliases = {each.alias for each in world.record.identifiers.values()}
    wanted = {each.scope: each.verb for each in of_partner(world.record, SHOP, RULES, world.now)}
    deleted = any(each.verb == "delete" for each in world.obligations.values())
    asked = world.record.erased_through if "delete" in wanted.values() else 0
    for scope in {*wanted, *SCOPES} if "*" in wanted else wanted:
        verb = wanted.get(scope, "delete")
        # what was told just before a deletion is gone with it, and then nothing is left to restrict
        fine = {EFFECTS[verb], EFFECTS["delete"]} if deleted and verb != "grant" else {EFFECTS[verb]}
        assert {world.reached(scope, alias, asked)[-1] for alias in aliases} <= fine
    for alias, since in world.forgotten:
        assert all(EFFECTS["delete"] in world.reached(scope, alias, since) for scope in SCOPES)
    known = RULES.registry.partner
    mine = [each for each in world.obligations.values() if known(each.partner)]
    assert not aliases or {each.state for each in mine} <= {"done", "superseded"}
    snapshot = Snapshot((), {}, {REF: world.record}, world.obligations, tuple(world.receipts))
    assert balance(snapshot, RULES, world.now).exact
