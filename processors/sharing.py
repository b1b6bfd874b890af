"""Identifiers that several subjects have: the strictest verdict among them holds for the identifier.

A stop needs nobody's leave. A grant is told for an identifier only while no other subject who has it is restricted
there. Whoever lets go of an identifier, by an unlink or a deletion, gives nobody's earlier grant back: a later one counts.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Partner, Rules
from todoke.schemas.record import EVERYTHING, SealedIdentifier, SubjectRecord, base, names_of
from todoke.schemas.told import Told
from todoke.schemas.told import join as join_told

from .enrol import claim_of, claimed
from .keys import is_orphan
from .merges import holds, members, moved
from .plan import SPOKEN, Demand, identify, of_partner

UNLINKED = "unlinked"
ERASED_ELSEWHERE = "erased-elsewhere"
SHARED = "shared-identifier"
CROWDED = "shared-by-many"
OVERLAP_MS = 2000
"""How long after a stop was carried out a sharer's grant may begin that had been decided before: a second, and one more."""


Group = Sequence[SealedIdentifier]
"""One identifier, with everything that is sealed of it; as its alias, that of the first counts."""


def aliases(record: SubjectRecord) -> frozenset[str]:
    """Every name of all identifiers that the record holds: one may have another first alias with somebody else."""
    return frozenset(name for each in record.identifiers.values() for name in each.names)


def granted_at(obligation: Obligation) -> int:
    """When the person last gave a part of what a grant stands on, in ms; 0 when they only never objected."""
    parts = (each for each in obligation.stamps if not each.restrictive)
    return max((each.at for each in parts if base(each.register).partition("/")[0] in SPOKEN), default=0)


class Sharing(Struct, frozen=True):
    """Who else has identifiers of one subject, judged for one partner at one time (ms).

    `carried_out` are the obligations of the others that have ended: a deletion stands in the way until then.
    """

    record: SubjectRecord
    others: tuple[SubjectRecord, ...]
    crowded: frozenset[str]
    carried_out: frozenset[str]
    partner: Partner
    rules: Rules
    at: int

    @property
    def matters(self) -> bool:
        """Whether anything of the kind is known: for most people nothing is."""
        return bool(self.others or self.crowded or self.record.claims or self.record.withheld)

    def claims(self, identifier: SealedIdentifier) -> bool:
        """Whether the subject itself may be granted by an identifier."""
        return claimed(self.record, identifier.kind, identifier.names)

    def has(self, identifiers: Iterable[Group]) -> bool:
        """Whether somebody else has one of the identifiers."""
        theirs = frozenset[str]().union(*map(aliases, self.others))
        return any(not theirs.isdisjoint(each.names) for group in identifiers for each in group)

    def withheld(self, obligation: Obligation, identifiers: Iterable[Group]) -> dict[str, str]:
        """Why a grant is not told for some of the identifiers: a reason by alias."""
        record, since = self.record, granted_at(obligation)
        found = {}
        for group in identifiers:
            first, names = group[0], names_of(self.record, group[0].names)
            if not self.claims(first):
                found[first.alias] = UNLINKED
            elif any(record.withheld.get(name, -1) >= since for name in names):
                found[first.alias] = ERASED_ELSEWHERE
            elif not self.crowded.isdisjoint(names):
                found[first.alias] = CROWDED
            elif any(self._against(obligation, other, first.kind, names) for other in self.others):
                found[first.alias] = SHARED
        return found

    def _against(self, obligation: Obligation, other: SubjectRecord, kind: str, names: frozenset[str]) -> bool:
        """Whether `other` has the identifier of these names, too, and is against a grant being told for it."""
        if names.isdisjoint(aliases(other)):
            return False
        if is_orphan(other.subject_ref):  # its word is taken up by every member; until then it stands by itself
            return not holds(self.record, replace(other, merges={}))
        restricted = any(
            demand.verb != "grant" and not (demand.verb == "delete" and self._over(other, demand))
            for demand in of_partner(self._judged(other), self.partner, self.rules, self.at)
            if demand.account == obligation.account and demand.scope in (obligation.scope, EVERYTHING)
        )
        claim = claim_of(other, kind, names)
        if restricted and claim and not claim.linked:
            return granted_at(obligation) <= claim.at
        return restricted

    def _over(self, other: SubjectRecord, demand: Demand) -> bool:
        return identify(other.subject_ref, demand) in self.carried_out

    def _judged(self, other: SubjectRecord) -> SubjectRecord:
        """`other` as it counts: once its survivor has taken it up, its deletion alone; until then all that it said."""
        people = (self.record, *self.others)
        taken_up = any(
            other.subject_ref in members(each) and holds(each, moved(other, each.subject_ref))
            for each in people
            if each.merges and not each.merged_into
        )
        return other if taken_up else replace(other, merged_into="")


def together(
    own: Mapping[str, Told], record: SubjectRecord, others: Iterable[tuple[SubjectRecord, Iterable[Told]]]
) -> dict[str, Told]:
    """What a partner may have been told of the record's identifiers, under whatever subject's name and theirs."""
    joint = dict(own)
    for other, told in others:
        homes = _homes(record, other)
        for each in (each for each in told if each.alias in homes):
            heard = replace(each, subject_ref=record.subject_ref, alias=homes[each.alias])
            mine = joint.get(heard.key)
            joint[heard.key] = heard if mine is None else join_told(mine, heard)
    return joint


def _homes(record: SubjectRecord, other: SubjectRecord) -> dict[str, str]:
    """By every name of an identifier that both have: a name under which the record looks for it."""
    homes = {name: name for name in aliases(record)}
    for each in other.identifiers.values():
        shared = min(each.names & aliases(record), default="")
        if shared:
            homes |= dict.fromkeys(each.names - homes.keys(), shared)
    return homes
