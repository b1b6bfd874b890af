"""The balance of laws 1 and 3, from topics alone: nothing lost, nothing surplus, each in exactly one state.

What is read are plain dicts of the last value per key; no counter is believed (correctness, 13).
"""

from collections import Counter

from msgspec import Struct, field

from todoke.schemas.events import Outcome
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.partners import Rules
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import SubjectRecord, contains

from .plan import NO_CONNECTOR, demands, identify

MAKING_MS = 120_000
"""How long what time alone has come to demand may take to become an obligation, before it counts as missing."""
RECEIPTS_KEPT_MS = 80 * 86_400_000  # ten days less than their topic: older evidence is in the log alone


class Balance(Struct, frozen=True):
    """The sums, and every id that breaks them. `exact` when there is none and nothing is still under way.

    `events` counts accepted messages by distinct event, `outcomes` by kind; `undecided` are events without an outcome.
    `missing` are demanded obligations that no topic holds or that fell away for another, `surplus` open ones that
    nothing demands, `unproven` done ones without a receipt of the rung required. `coming` are demanded since a moment,
    by time alone, and not obligations yet. `open` and `blocked` are accounted for, but not ended.
    """

    events: int
    outcomes: dict[str, int]
    undecided: tuple[str, ...]
    demanded: int
    obligations: int
    states: dict[str, int]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    unproven: tuple[str, ...]
    coming: tuple[str, ...] = ()
    partners: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether laws 1 and 3 hold of what was read."""
        return not (self.undecided or self.missing or self.surplus or self.unproven)

    @property
    def pending(self) -> int:
        """Obligations that dispatchers still work on, or workers; blocked ones wait for a person."""
        return self.states.get("open", 0) + len(self.coming)


class Snapshot(Struct, frozen=True):
    """What topics held when they were read: the ids of all events taken in, and the last value of each key."""

    events: tuple[str, ...]
    outcomes: dict[str, Outcome]
    records: dict[str, SubjectRecord]
    obligations: dict[str, Obligation]
    receipts: tuple[Receipt, ...]


def balance(snapshot: Snapshot, rules: Rules, at: int) -> Balance:
    """Hold what was accepted against what became of it, and what is demanded against what is owed, at `at` (ms)."""
    accepted, outcomes, obligations = set(snapshot.events), snapshot.outcomes, snapshot.obligations
    wanted = {
        identify(ref, demand): (ref, demand)
        for ref, record in snapshot.records.items()
        for demand in demands(record, rules, at)
    }
    lacking = {name: demand for name, (_, demand) in wanted.items() if not _owed(obligations.get(name))}
    coming = {name for name, demand in lacking.items() if demand.boundary > at - MAKING_MS}
    moving = {wanted[name][0] for name in coming}
    graded: dict[tuple[str, int], int] = {}
    for receipt in snapshot.receipts:  # evidence of an earlier generation proves nothing in a later one
        place = (receipt.obligation_id, max(receipt.generation, 1))
        graded[place] = max(graded.get(place, 0), receipt.grade)
    partners: dict[str, Counter[str]] = {}
    for each in obligations.values():
        partners.setdefault(each.partner, Counter())[each.state] += 1
    return Balance(
        events=len(accepted),
        outcomes=dict(Counter(outcomes[name].outcome for name in accepted if name in outcomes)),
        undecided=tuple(sorted(accepted - outcomes.keys())),
        demanded=len(wanted),
        obligations=len(obligations),
        states=dict(Counter(each.state for each in obligations.values())),
        missing=tuple(sorted(lacking.keys() - coming)),
        surplus=tuple(
            sorted(
                name
                for name, each in obligations.items()
                if each.state not in ENDED
                and name not in wanted
                and each.subject_ref not in moving
                and not _kept(each, snapshot.records.get(each.subject_ref), rules)
            )
        ),
        unproven=tuple(
            sorted(
                each.obligation_id
                for each in obligations.values()
                if each.state == "done"
                and each.ended_at > at - RECEIPTS_KEPT_MS
                and graded.get((each.obligation_id, each.round), 0) < each.done_at_grade
            )
        ),
        coming=tuple(sorted(coming)),
        partners={name: dict(counts) for name, counts in sorted(partners.items())},
    )


def _owed(obligation: Obligation | None) -> bool:
    """Whether a demand has its obligation: one that fell away for another is none."""
    return obligation is not None and obligation.state != "superseded"


def _kept(each: Obligation, record: SubjectRecord | None, rules: Rules) -> bool:
    """Whether an obligation stands although nothing demands it.

    A delete is an edge, and stays owed while its record contains it. What was owed to a partner that is gone stays with
    whoever owns it now (correctness, 20).
    """
    if each.verb == "delete" and record is not None and contains(record, each.stamps):
        return True
    gone = each.blocked == NO_CONNECTOR and NO_CONNECTOR not in each.reasons  # owed while there was a connector
    return gone and rules.registry.partner(each.partner) is None
