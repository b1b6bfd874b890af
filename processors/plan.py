"""From a record to the obligations that it demands: law 3, computed the same way by workers, sinks and the auditor.

Obligation ids are UUIDv5 (RFC 9562) over what makes an obligation the same one: see `identify`.
"""

from collections.abc import Collection, Iterable
from functools import lru_cache
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct

from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Partner, Rules
from todoke.schemas.policy import CROSS_BORDER, Policy
from todoke.schemas.receipts import Evidence, Verb
from todoke.schemas.record import (
    AGE,
    CLAIM,
    ERASED,
    EVERYTHING,
    HELD,
    MERGE,
    Holding,
    Stamp,
    SubjectRecord,
    base,
    channel_register,
    identities,
    purpose_register,
    stamp,
    suspension_register,
)

from .decide import Decision, Verdict, channel_of, decide, deletion, needs_transfer
from .merges import merge_stamps

NAMESPACE = UUID("6d9f2f3c-4f7e-5f0a-9b61-1f0d1c0e7a5b")
UNKNOWN_RECIPIENT_HOURS = 24 * 14  # the policy answers within 30 days; half of it is left to find out how
HOUR = 3_600_000
NO_CONNECTOR = "no-connector"
NOTHING = "demanded no more"
"""What an obligation gives way to that nothing takes the place of."""


class Demand(Struct, frozen=True):
    """One thing that one recipient must hear, as the record stands; `partner` need not be in the registry."""

    partner: str
    account: str
    scope: str
    verb: Verb
    stamps: tuple[Stamp, ...]
    boundary: int
    generation: int
    revision: int
    reasons: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str]:
        """Where it is to be heard: a newer demand for the same place supersedes an older one."""
        return (self.partner, self.account, self.scope)


class Cause(Struct, frozen=True):
    """What made a demand an obligation: `event`, `time` or `policy`, and the event's id and append time (ms)."""

    kind: str
    event_id: str
    appended_at: int


def concerned(record: SubjectRecord, partner: Partner) -> bool:
    """Whether the partner holds, or is assumed to hold, data of the person."""
    return partner.assumed_to_hold or partner.grants or partner.name in record.holdings


def consulted(partner: Partner, policy: Policy) -> frozenset[str]:
    """The names of every register that can have a say in what the partner must hear: others never concern it."""
    names = {ERASED, AGE, suspension_register("use"), suspension_register("provision")}
    for scope in partner.scopes():
        channel, listing = channel_of(scope, policy)
        if channel:
            names |= {channel_register(channel.name), channel_register(channel.name, listing)}
        abroad = (CROSS_BORDER,) if needs_transfer(partner) else ()
        for purpose in (*(channel.purposes if channel else (scope,)), *abroad):
            for regime in policy.regimes:
                names |= {purpose_register(regime.name, purpose), purpose_register(regime.name, EVERYTHING)}
    return frozenset(names)


def demands(record: SubjectRecord, rules: Rules, at: int) -> list[Demand]:
    """All that the record demands of all recipients at `at` (ms)."""
    found = [demand for each in rules.registry.partners for demand in of_partner(record, each, rules, at)]
    return found + of_unknown(record, rules)


def of_unknown(record: SubjectRecord, rules: Rules) -> list[Demand]:
    """What the record demands of recipients that the registry lacks."""
    known = {partner.name for partner in rules.registry.partners}
    if record.merged_into and not record.erased_through:
        return []
    return [_unknown(record, name, rules.revision) for name in sorted(record.holdings) if name not in known]


def of_partner(record: SubjectRecord, partner: Partner, rules: Rules, at: int) -> list[Demand]:
    """What the record demands of one partner: its deletion, and each scope of each account that was spoken of."""
    if not record.registers or not concerned(record, partner):
        return []
    if record.merged_into:  # the survivor speaks for the person; each record still deletes the identifiers it holds
        asked = deletion(record, partner, rules.policy, at) if record.erased_through else None
        decision = Decision(partner.name, (), asked)
    else:
        decision = decide(record, partner, rules.policy, at)
    found = []
    generation = identifier_generation(record, partner)
    verdicts = {verdict.scope: verdict for verdict in decision.verdicts}
    for account in partner.accounts:
        if decision.deletion:
            demand = _demand(decision.deletion, partner, account.name, record, (generation, rules.revision))
            # once all that it speaks of has been shredded, there is nobody left to name to the partner
            if any(each.at > record.shredded_through for each in demand.stamps if not each.register.startswith(MERGE)):
                found.append(demand)
        for scope in account.scopes:
            verdict = verdicts.get(scope)
            if verdict is None or not verdict.explicit or _covered(verdict, decision.deletion, record):
                continue
            if verdict.verb != "grant" or partner.grants:
                found.append(_demand(verdict, partner, account.name, record, (generation, rules.revision)))
    return found


def identifier_generation(record: SubjectRecord, partner: Partner) -> int:
    """How many identifiers of the partner's kinds the subject has ever had: a new one must be told too."""
    kinds = set(partner.identifiers)
    alive = identities(each for each in record.identifiers.values() if each.kind in kinds)
    return len(alive) + sum(count for kind, count in record.identifiers_shredded.items() if kind in kinds)


@lru_cache(16_384)  # a batch asks for each more than once
def identify(subject_ref: str, demand: Demand) -> str:
    """The id of the obligation that a demand makes: the same demand, the same id, whoever computes it.

    The vector of stamps only ever rises, so an answer that comes back after another is a new obligation.
    """
    where = (subject_ref, demand.partner, demand.account, demand.verb, demand.scope)
    stamps = [(each.register, each.at, each.event_id) for each in demand.stamps]
    parts = (*where, stamps, demand.revision, demand.boundary, demand.generation)
    return str(uuid5(NAMESPACE, msgspec.json.encode(parts).decode()))  # as JSON, since an event's id may hold anything


def obligation(subject_ref: str, demand: Demand, partner: Partner | None, cause: Cause, at: int) -> Obligation:
    """The obligation that a demand makes, open at `at` (ms). `partner` is None for a recipient not in the registry."""
    hours = partner.deadline_hours.get(demand.verb, UNKNOWN_RECIPIENT_HOURS) if partner else UNKNOWN_RECIPIENT_HOURS
    return Obligation(
        obligation_id=identify(subject_ref, demand),
        subject_ref=subject_ref,
        partner=demand.partner,
        account=demand.account,
        scope=demand.scope,
        verb=demand.verb,
        stamps=demand.stamps,
        registry_revision=demand.revision,
        boundary=demand.boundary,
        identifier_generation=demand.generation,
        reasons=demand.reasons,
        cause=cause.kind,
        event_id=cause.event_id,
        appended_at=cause.appended_at,
        opened_at=at,
        deadline_at=cause.appended_at + hours * HOUR,
        done_at_grade=Evidence[partner.done] if partner else Evidence.confirmed,
        blocked="" if partner else NO_CONNECTOR,
        blocked_at=0 if partner else at,
        owner="" if partner else "privacy-office",
        updated_at=at,
    )


def supersessions(
    current: Collection[Demand], standing: Iterable[Obligation], subject_ref: str, accounts: Collection[str] = ()
) -> dict[str, str]:
    """Which open obligations fall away, and by what: the newer obligation for the same place, or what they lack.

    `standing` are the open obligations of one subject at one partner. A delete is an edge: only a later delete
    supersedes it; a delete also takes the place of every scope that is demanded no more. With `accounts`, those that
    the partner has now, what was owed at any other gives way to what is demanded instead (correctness, 20 and 21).
    """
    ids = {demand.place: identify(subject_ref, demand) for demand in current}
    deletes = {place[:2]: name for place, name in ids.items() if place[2] == EVERYTHING}
    # whoever is told by other means is told everything: what was owed while there was a connector is in that
    whole = {demand.partner: ids[demand.place] for demand in current if NO_CONNECTOR in demand.reasons}
    instead = min(
        current, key=lambda demand: (demand.verb != "delete", demand.verb == "grant", demand.place), default=None
    )
    fallen = {}
    for each in standing:
        if instead and accounts and each.account not in accounts:
            fallen[each.obligation_id] = ids[instead.place]
            continue
        place = (each.partner, each.account, each.scope)
        newer = ids.get(place)
        if newer == each.obligation_id:
            continue
        if each.verb == "delete":
            if newer:
                fallen[each.obligation_id] = newer
            continue
        fallen[each.obligation_id] = newer or deletes.get(place[:2]) or whole.get(each.partner) or NOTHING
    return fallen


def _demand(verdict: Verdict, partner: Partner, account: str, record: SubjectRecord, counts: tuple[int, int]) -> Demand:
    """`counts`: the generation of identifiers, and the revision of the rules."""
    stamps = verdict.stamps
    holding = record.holdings.get(partner.name)
    # whatever was given since a deletion came with a restriction standing, or came to light after that was told: the
    # partner must hear it again, or for sure have heard it since (correctness, 21); a deletion covers what came before it
    newest = max((each.at for each in stamps), default=0) if verdict.verb == "delete" else record.erased_through
    if holding and verdict.verb != "grant" and holding.last_at > newest:
        stamps = (*stamps, _held(partner.name, holding))
    stamps += merge_stamps(record)
    if verdict.verb == "grant" and record.claims:
        stamps += _claims(record, partner)
    return Demand(
        partner=partner.name,
        account=account,
        scope=verdict.scope,
        verb=verdict.verb,
        stamps=stamps,
        boundary=verdict.boundary,
        generation=counts[0],
        revision=counts[1],
        reasons=verdict.reasons,
    )


def _held(name: str, holding: Holding) -> Stamp:
    return Stamp(f"{HELD}{name}", holding.last_at, restrictive=True, event_id="")


def _claims(record: SubjectRecord, partner: Partner) -> tuple[Stamp, ...]:
    """What was said of the identifiers that the partner takes: one that is claimed again must be told again.

    What was said before a deletion goes with it: else a grant would be another one once that has been carried out.
    """
    kinds = set(partner.identifiers)
    return tuple(
        Stamp(f"{CLAIM}{name}", each.at, not each.linked, each.event_id)
        for name, each in sorted(record.claims.items())
        if name.partition("/")[0] in kinds and each.at > record.erased_through
    )


def _covered(verdict: Verdict, deletion: Verdict | None, record: SubjectRecord) -> bool:
    """Whether the deletion says all that the scope would: nothing was said of it since."""
    if deletion is None:
        return False
    newest = max((each.at for each in verdict.stamps if base(each.register).partition("/")[0] in SPOKEN), default=0)
    return newest <= max(record.erased_through, *(each.at for each in deletion.stamps))


SPOKEN = frozenset({"purpose", "channel", "suspension"})
"""The first words of the registers that say what may be done."""


def _unknown(record: SubjectRecord, name: str, revision: int) -> Demand:
    """A recipient of whom nobody said how to reach it: one obligation, with an owner (correctness, 21).

    Every register counts, granted ones too: were they left out, a grant would bring back the id of an obligation that
    has fallen away. Not the age, which a shredding takes out.
    """
    spoken = {register: each for register, each in record.registers.items() if base(register) != AGE}
    stamps = tuple(stamp(register, each) for register, each in sorted(spoken.items()))
    holding = record.holdings[name]
    restricted = [each.at for each in stamps if each.restrictive]
    if restricted and holding.last_at > max(restricted):
        stamps = (*stamps, _held(name, holding))
    stamps += merge_stamps(record)
    verb: Verb = "delete" if record.erased_through else "withdraw"
    return Demand(name, "default", EVERYTHING, verb, stamps, 0, 0, revision, (NO_CONNECTOR,))
