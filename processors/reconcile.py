"""The sink's decision: what this partner must be sent for this subject now, and what closes without a call.

A directive is only a wake-up. Here the record is judged afresh, held against what the partner may have been told, and
only the difference is acted on (design, level-triggered). Pure: the dispatcher carries out what this says.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

from msgspec import Struct
from msgspec.structs import replace

from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.partners import Partner, Rules
from todoke.schemas.receipts import Evidence, Verb
from todoke.schemas.record import SealedIdentifier, SubjectRecord, contains, identities
from todoke.schemas.told import Attempt, Told, join, surely

from .fence import NAMED_BY, clear_from, generation, told_since, undone
from .jobs import FAILED_LATE, NO_RESULT, Ask, any_failed, asks, awaited_until, lost, own_until
from .merges import holds, moved
from .plan import NO_CONNECTOR, Demand, identify, of_partner, supersessions
from .sharing import OVERLAP_MS, SHARED, Group, Sharing

ANSWERED = frozenset({"done", "closed"})
BY_HAND = "by-hand"


class Recipient(Struct, frozen=True):
    """A partner, and the effect that each verb has there; a verb that is missing can't be asked.

    `by_hand`: nobody is called, people tell the partner.
    """

    partner: Partner
    effects: Mapping[Verb, str]
    by_hand: bool = False

    @property
    def permissive(self) -> str | None:
        """What a grant does there; None where the partner isn't told of permissions."""
        return self.effects.get("grant")


class Known(Struct, frozen=True):
    """What a current view knows of one subject: the record, its obligations by any partner, what was told by key.

    `told` holds what was told under any subject's name of an identifier that this one has, `sharers` the records of
    those others, `survivor` the record that this one redirects to in the end. `crowded` are aliases that so many have
    that they name nobody, `carried_out` the ids of the sharers' obligations that have ended.
    """

    record: SubjectRecord | None
    obligations: tuple[Obligation, ...]
    told: dict[str, Told]
    sharers: tuple[SubjectRecord, ...] = ()
    survivor: SubjectRecord | None = None
    crowded: frozenset[str] = frozenset()
    carried_out: frozenset[str] = frozenset()


class Call(Struct, frozen=True):
    """One obligation to be sent, with the identifiers (sealed) that the partner accepts and the effect it shall have.

    The obligation is in the generation in which it is called: see `fence.generation`. `partial` when another identifier
    has to wait for somebody who shares it: the call does not end the obligation. `shared` when somebody else has one of
    the identifiers, too.
    """

    obligation: Obligation
    effect: str
    identifiers: tuple[SealedIdentifier, ...]
    partial: bool = False
    shared: bool = False


class Work(Struct, frozen=True):
    """What is to be done for one subject at one partner; `wait` names why the rest can't be done yet, if anything.

    `settled` pairs an obligation with the grade that earlier calls have already earned for it; `create` holds demands
    that no worker has made an obligation of, since time alone made them or the worker died just then; `reopened` has,
    in its new generation and with the reason, what counted as ended until a rival's late end, or a job's failure, came to
    light; `look_at` is when (ms) to look again at what waits for rivals to be over, 0 for nothing. `asks` are the jobs that
    something here waits for, `given_up` what has waited for its job long enough, with the reason.
    """

    calls: tuple[Call, ...] = ()
    settled: tuple[tuple[Obligation, int], ...] = ()
    superseded: tuple[tuple[Obligation, str], ...] = ()
    blocked: tuple[tuple[Obligation, str], ...] = ()
    create: tuple[Demand, ...] = ()
    reopened: tuple[tuple[Obligation, str], ...] = ()
    wait: str = ""
    look_at: int = 0
    asks: tuple[Ask, ...] = ()
    given_up: tuple[tuple[Obligation, str], ...] = ()


def reconcile(known: Known, recipient: Recipient, rules: Rules, at: int) -> Work:
    """The work for one subject at one partner, from what a current view knows of it.

    Waits while the view lacks a stamp that an obligation names, which the worker or the keeper is about to bring, and
    while this process knows older rules than those that made an obligation, open or ended.
    """
    record, partner = known.record, recipient.partner
    mine = [each for each in known.obligations if each.partner == partner.name]
    standing = [each for each in mine if each.state not in ENDED]
    doubtful = _contradictory(known.told, recipient) or any_failed(known.told.values(), partner.name)
    if not standing and not doubtful:
        return Work()
    if any(each.registry_revision > rules.revision for each in mine):
        return Work(wait="registry")
    if record is None or not all(contains(record, each.stamps) for each in standing):
        return Work(wait="record")
    current = of_partner(record, partner, rules, at)
    by_id = {identify(record.subject_ref, demand): demand for demand in current}
    accounts = [each.name for each in partner.accounts]
    fallen = supersessions(current, standing, record.subject_ref, accounts)
    if record.merged_into:
        heir = known.survivor
        if heir is None or not holds(heir, moved(record, heir.subject_ref)):
            return Work(wait="record")
        taken_over = supersessions(of_partner(heir, partner, rules, at), standing, heir.subject_ref, accounts)
        fallen = {name: taken_over.get(name, by) for name, by in fallen.items()}
    owed = {each.obligation_id for each in mine}
    if standing and any(name not in owed for name in by_id):
        # what is demanded must be durable as an obligation before anything is sent under its name
        return Work(create=tuple(demand for name, demand in by_id.items() if name not in owed), wait="obligation")
    superseded = tuple((each, fallen[each.obligation_id]) for each in standing if each.obligation_id in fallen)
    live = [each for each in standing if each.obligation_id not in fallen]
    sharing = Sharing(record, known.sharers, known.crowded, known.carried_out, partner, rules, at)
    ended = [each for each in mine if each.state in ANSWERED and each.obligation_id in by_id] if doubtful else []
    undone = {
        each.obligation_id: (replace(each, generation=each.round + 1), why)
        for each in ended
        if (why := _undone(each, _in_question(each, mine, known.told, sharing), recipient, by_id.values(), sharing))
    }
    live += [each for each, _ in undone.values()]
    # no grant is sent while a delete is open, re-registration included (correctness, 3)
    held = [each for each in live if each.verb == "grant"] if any(each.verb == "delete" for each in live) else []
    work = [_judge(each, known.told, recipient, sharing) for each in live if each not in held]
    late = tuple((each.obligation, NO_RESULT) for each in work if isinstance(each, _Awaits) and each.until <= at)
    jobs = asks(known.told.values(), partner.name) if live else ()
    return Work(
        calls=tuple(each for each in work if isinstance(each, Call)),
        settled=tuple(
            (each.obligation, each.grade) for each in work if isinstance(each, (_Settled, _Awaits)) and each.news
        ),
        superseded=superseded,
        blocked=tuple((each.obligation, each.reason) for each in work if isinstance(each, _Blocked)),
        reopened=tuple((each, why) for each, why in undone.values() if each not in held),
        wait="deletion" if held else "",
        look_at=min((each.at for each in work if isinstance(each, _Wait)), default=0),
        # one that was given up is asked about once more whenever somebody has its person looked at
        asks=tuple(each for each in jobs if late or each.until > at),
        given_up=late,
    )


def without_permissions(work: Work, wait: str) -> Work:
    """The same work, with the permissions left out for now, for the reason that `wait` names."""
    calls = tuple(each for each in work.calls if each.obligation.restrictive)
    return work if len(calls) == len(work.calls) else replace(work, calls=calls, wait=work.wait or wait)


class _Settled(Struct, frozen=True):
    obligation: Obligation
    grade: int
    news = True


class _Awaits(Struct, frozen=True):
    """What earlier calls have begun for it: jobs, awaited until then (ms)."""

    obligation: Obligation
    until: int
    grade = Evidence.accepted

    @property
    def news(self) -> bool:
        """Whether nobody has noted yet that they were taken in."""
        return self.obligation.grade < self.grade


class _Blocked(Struct, frozen=True):
    obligation: Obligation
    reason: str


class _Wait(Struct, frozen=True):
    at: int


def _judge(
    obligation: Obligation, told: Mapping[str, Told], recipient: Recipient, sharing: Sharing
) -> Call | _Settled | _Awaits | _Blocked | _Wait:
    partner, permissive, record = recipient.partner, recipient.permissive, sharing.record
    effect = recipient.effects.get(obligation.verb)
    if effect is None:
        return _Blocked(obligation, "verb-unsupported")
    if all(each.name != obligation.account for each in partner.accounts):
        return _Blocked(obligation, NO_CONNECTOR)
    theirs = groups_of(record, partner)
    if not theirs:
        # a job that was begun before the identifiers were shredded goes on without them
        until = own_until(obligation, told.values(), effect)
        return _Blocked(obligation, "unreachable") if until is None else _Awaits(obligation, until)
    if recipient.by_hand:
        return _Blocked(obligation, BY_HAND)
    left_out = _left_out(obligation, theirs, sharing)
    theirs = [group for group in theirs if group[0].alias not in left_out]
    if not theirs:
        return _Blocked(obligation, SHARED if SHARED in left_out.values() else min(left_out.values()))
    partial = SHARED in left_out.values()
    held = _held(obligation, told, partner, theirs, _scopes(obligation, partner))
    rung, since = Evidence[partner.done], _since(obligation, record)
    number = generation(obligation, held, effect, permissive)
    owed = obligation if number == obligation.round else replace(obligation, generation=number)
    last = max(since, obligation.reopened_at)
    if surely(held, effect, rung) and _heard(held, effect, last, lambda each: each.evidence >= rung):
        return _Blocked(obligation, SHARED) if partial else _Settled(owed, rung)
    clear = clear_from(held, effect, permissive)
    # a permission waits until it can be the last word; a restriction is said at once, and once more when it can be
    if clear > sharing.at and (
        not obligation.restrictive
        or (told_since(held, effect, permissive, rung) and _heard(held, effect, since, lambda each: each.bears(rung)))
    ):
        return _Wait(clear)
    until = awaited_until(held, effect, rung, max(last, clear - 1))
    if until is not None:
        return _Awaits(owed, until)
    return Call(owed, effect, tuple(group[0] for group in theirs), partial, shared=sharing.has(theirs))


def _left_out(obligation: Obligation, theirs: Iterable[Group], sharing: Sharing) -> Mapping[str, str]:
    """Why some of the identifiers are not told of a grant: a reason by alias. A stop reaches all of them."""
    if obligation.verb != "grant" or not sharing.matters:
        return {}
    return sharing.withheld(obligation, theirs)


def _undone(
    obligation: Obligation, told: Mapping[str, Told], recipient: Recipient, current: Iterable[Demand], sharing: Sharing
) -> str:
    """Why what counts as ended may not be so, if anything; a scope with a demand of its own is not the deletion's."""
    partner, effect = recipient.partner, recipient.effects.get(obligation.verb)
    if effect is None:
        return ""
    own = {each.scope for each in current if each.account == obligation.account and each.verb != "delete"}
    scopes = [each for each in _scopes(obligation, partner) if obligation.verb != "delete" or each not in own]
    theirs = groups_of(sharing.record, partner)
    # a grant that waits for a sharer is open again; of what is not theirs to be granted by, it says nothing
    left_out = _left_out(obligation, theirs, sharing)
    spoken = [group for group in theirs if left_out.get(group[0].alias, SHARED) == SHARED]
    held = _held(obligation, told, partner, spoken, scopes)
    if undone(obligation, held, effect, recipient.permissive):
        return "overtaken"
    return FAILED_LATE if obligation.state == "done" and lost(obligation, held, effect) else ""


def _in_question(
    obligation: Obligation, mine: Iterable[Obligation], told: Mapping[str, Told], sharing: Sharing
) -> Mapping[str, Told]:
    """What was told, without what sharers were granted by right: after a deletion was carried out, or an identifier left.

    What began within `OVERLAP_MS` may have been decided before.
    """
    if not sharing.others or not obligation.restrictive:
        return told
    own = {each.obligation_id[:NAMED_BY] for each in mine}
    until = obligation.ended_at + OVERLAP_MS
    left = {name for each in sharing.record.identifiers.values() if not sharing.claims(each) for name in each.names}
    return {
        key: replace(
            each,
            attempts={
                name: one for name, one in each.attempts.items() if one.obligation in own or one.started_at <= until
            },
        )
        if obligation.verb == "delete" or each.alias in left
        else each
        for key, each in told.items()
    }


def _contradictory(told: Mapping[str, Told], recipient: Recipient) -> bool:
    """Whether the partner was told both of a permission and of a restriction, somewhere: a cheap first look."""
    permissive = recipient.permissive
    if permissive is None:
        return False
    sides: dict[tuple[str, str], set[bool]] = {}  # under whichever name of an identifier it was
    for one in told.values():
        if one.partner == recipient.partner.name:
            said = {each.effect == permissive for each in one.attempts.values() if not each.refused}
            sides.setdefault((one.account, one.scope), set()).update(said)
    return any(len(each) > 1 for each in sides.values())


def _held(
    obligation: Obligation,
    told: Mapping[str, Told],
    partner: Partner,
    identifiers: Sequence[Group],
    scopes: Iterable[str],
) -> list[Told | None]:
    """What was told of each scope and identifier."""
    where = f"{partner.name}|{obligation.account}"
    return [told_of(told, f"{where}|{scope}", group) for scope in scopes for group in identifiers]


def accepted(record: SubjectRecord, partner: Partner) -> tuple[SealedIdentifier, ...]:
    """The identifiers of the kinds that the partner accepts, in its order of kinds, each once."""
    return tuple(group[0] for group in groups_of(record, partner))


def groups_of(record: SubjectRecord, partner: Partner) -> list[tuple[SealedIdentifier, ...]]:
    """The same, with everything that is sealed of each."""
    every = [each for _, each in sorted(record.identifiers.items())]
    return [group for kind in partner.identifiers for group in identities(each for each in every if each.kind == kind)]


def told_of(told: Mapping[str, Told], where: str, sealed: Iterable[SealedIdentifier]) -> Told | None:
    """What was told of one identifier, under whichever of its names: a rotated alias key makes nothing untold."""
    names = sorted({name for each in sealed for name in each.names})
    held = [found for name in names if (found := told.get(f"{where}|{name}"))]
    return reduce(lambda one, other: join(one, replace(other, alias=one.alias)), held) if held else None


def _scopes(obligation: Obligation, partner: Partner) -> tuple[str, ...]:
    """The scopes that a call speaks of: a delete speaks of its whole account, where a grant may have been told since."""
    if obligation.verb != "delete":
        return (obligation.scope,)
    scopes = (one for each in partner.accounts if each.name == obligation.account for one in each.scopes)
    return (obligation.scope, *scopes)


def _since(obligation: Obligation, record: SubjectRecord) -> int:
    """From when on a call counts as this obligation's: since data was last given to the partner (correctness, 21).

    A delete is an edge, so one that was told before the person asked, this time, doesn't count.
    """
    holding = record.holdings.get(obligation.partner)
    asked = max((each.at for each in obligation.stamps), default=0) if obligation.verb == "delete" else 0
    return max(asked, holding.last_at if holding else 0)


def _heard(held: Iterable[Told | None], effect: str, since: int, counts: Callable[[Attempt], bool]) -> bool:
    """Whether each of `held` has a call for `effect` that `counts` and began after `since`."""
    return all(
        any(
            each.effect == effect and counts(each) and each.started_at > since and not each.refused
            for each in (told.attempts.values() if told else ())
        )
        for told in held
    )
