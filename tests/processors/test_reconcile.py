"""The sink's decision: what is sent, what closes without a call, what waits, and for what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import (
    ADS,
    CRM,
    LATE,
    NOW,
    PANEL,
    admitted,
    apply,
    consent,
    deletion,
    events,
    grant,
    ids,
    owed,
    partner,
    policy,
    provision,
    receipt,
    registry,
    rules,
    suspension,
    with_identifiers,
    written,
)
from todoke.processors.instants import turn
from todoke.processors.plan import Demand, identify
from todoke.processors.reconcile import Call, Known, Recipient, Work, accepted, reconcile
from todoke.schemas.events import Event
from todoke.schemas.obligations import ENDED, Obligation, settle
from todoke.schemas.partners import Partner, Rules
from todoke.schemas.receipts import Evidence, Verb
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Attempt, Told, note

EFFECTS: dict[Verb, str] = {"grant": "in", "withdraw": "out", "suspend": "out", "delete": "gone"}
SHOP = partner("shop", "research", "site", grants=True, done="processed")
RULES = rules(SHOP, ADS)
STOP = with_identifiers(written(consent("a", "research")), "x")


def known(record: SubjectRecord, *told: Told, under: Rules = RULES, **changes: Any) -> Known:
    """What a view knows once a worker has made every obligation that the record demands."""
    obligations = tuple(replace(each, **changes) for each in owed(record, under).values())
    return Known(record, obligations, {each.key: each for each in told})


def look(what: Known, one: Partner = SHOP, under: Rules = RULES, at: int = LATE) -> Work:
    return reconcile(what, Recipient(one, EFFECTS), under, at)


def told(effect: str, started_at: int, *, alias: str = "x", scope: str = "research", **changes: Any) -> Told:
    """One call that was answered with what the partner must reach, unless something else is said."""
    answer = {"ended_at": started_at + 1, "grade": Evidence.processed}
    attempt = Attempt(effect, started_at, started_at + 10, **{**answer, **changes})
    return note(Told(STOP.subject_ref, "shop", "main", scope, alias), f"{effect}@{started_at}", attempt)


def more(one: Told, effect: str, started_at: int, **changes: Any) -> Told:
    for name, attempt in told(effect, started_at, **changes).attempts.items():
        one = note(one, name, attempt)
    return one


def verbs(work: Work) -> dict[str, list[str]]:
    """What is done with each obligation, by scope and verb."""
    return {
        "called": [f"{each.obligation.verb} {each.obligation.scope}" for each in work.calls],
        "settled": [f"{each.verb} {each.scope}" for each, _ in work.settled],
        "superseded": [f"{each.verb} {each.scope}" for each, _ in work.superseded],
        "blocked": [f"{each.verb} {each.scope}: {reason}" for each, reason in work.blocked],
    }


def done(**kinds: list[str]) -> dict[str, list[str]]:
    return {"called": [], "settled": [], "superseded": [], "blocked": []} | kinds


def test_who_was_never_told_is_called_with_every_identifier_that_the_partner_takes() -> None:
    record = with_identifiers(with_identifiers(STOP, "p", kind="phone"), "c", kind="cookie_id")

    (call,) = look(known(record)).calls

    assert (call.effect, [each.alias for each in call.identifiers]) == ("out", ["x", "p"])


def test_identifiers_come_in_the_partners_order_of_kinds_and_each_alias_once() -> None:
    record = with_identifiers(with_identifiers(STOP, "p", kind="phone"), "x", "y", at=NOW + 1)

    found = accepted(record, replace(SHOP, identifiers=("phone", "email")))

    assert [(each.alias, each.generation) for each in found] == [
        ("p", f"g{NOW}"),
        ("x", f"g{NOW}"),
        ("y", f"g{NOW + 1}"),
    ]


def test_what_is_surely_told_closes_without_a_call_at_the_rung_required() -> None:
    (settled,) = look(known(STOP, told("out", NOW + 1))).settled

    assert settled[1] == Evidence.processed
    assert verbs(look(known(STOP, told("out", NOW + 1)))) == done(settled=["withdraw research"])


@pytest.mark.parametrize(
    "state",
    [
        told("out", NOW + 1, grade=Evidence.accepted),
        told("out", NOW + 1, grade=Evidence.none, refused=True),
        told("in", NOW + 1),
        more(told("in", NOW + 1), "out", NOW + 5, grade=Evidence.sent),
        more(told("out", NOW + 1), "in", NOW + 5, ended_at=0, grade=Evidence.none),
        more(told("out", NOW + 5), "in", NOW + 1, ended_at=NOW + 5),
        told("out", NOW + 1, alias="another"),
        told("out", NOW + 1, scope="site"),
    ],
)
def test_whatever_else_it_may_have_been_told_is_called(state: Told) -> None:
    assert verbs(look(known(STOP, state))) == done(called=["withdraw research"])


def test_one_identifier_that_was_not_told_is_enough_to_call() -> None:
    record = with_identifiers(STOP, "y")

    assert verbs(look(known(record, told("out", NOW + 1)))) == done(called=["withdraw research"])
    both = known(record, told("out", NOW + 1), told("out", NOW + 1, alias="y"))
    assert verbs(look(both)) == done(settled=["withdraw research"])


def test_a_suspension_closes_with_a_withdrawal_that_has_the_same_effect() -> None:
    record = with_identifiers(written(grant("a", "research"), suspension("b")), "x")

    work = look(known(record, told("out", NOW + 1)))

    assert verbs(work) == done(settled=["suspend research"], called=["suspend site"])


GIVEN = apply(STOP, admitted(provision("p", "shop", NOW + 50)))


@pytest.mark.parametrize(
    ("state", "heard"),
    [
        (told("out", NOW + 49), False),
        (told("out", NOW + 50), False),
        (told("out", NOW + 51), True),
        (more(told("out", NOW + 49), "out", NOW + 51, grade=Evidence.none, refused=True), False),
        (more(told("out", NOW + 49), "out", NOW + 51, grade=Evidence.none, ended_at=0), False),
        (more(told("out", NOW + 49), "out", NOW + 51, grade=Evidence.accepted), False),
        (more(told("out", NOW + 49), "out", NOW + 51), True),
    ],
)
def test_a_restriction_closes_only_by_a_call_that_began_after_data_was_last_given(state: Told, heard: bool) -> None:
    work = look(known(GIVEN, state))

    assert verbs(work) == done(**{"settled" if heard else "called": ["withdraw research"]})


def everywhere(effect: str, started_at: int) -> list[Told]:
    """A call that was told to the account and to each of its scopes, as a deletion is."""
    return [told(effect, started_at, scope=scope) for scope in ("*", "research", "site")]


def test_a_deletion_closes_only_by_a_call_that_began_after_it_was_asked_for() -> None:
    record = with_identifiers(written(deletion("a", NOW + 20)), "x")

    early, late = (look(known(record, *everywhere("gone", NOW + at))) for at in (20, 21))

    assert (verbs(early), verbs(late)) == (done(called=["delete *"]), done(settled=["delete *"]))


def test_a_deletion_does_not_close_when_a_scope_was_told_of_a_grant_since() -> None:
    record = with_identifiers(written(deletion("a"), deletion("c", NOW + 5), grant("b", "research", NOW + 3)), "x")
    whole, research, site = everywhere("gone", NOW + 10)

    work = look(known(record, whole, more(research, "in", NOW + 30), site))

    assert verbs(work) == done(called=["delete *"])


BACK = with_identifiers(written(grant("a", "research", NOW + 9), deletion("b")), "x")


@pytest.mark.parametrize("blocked", ["", "unreachable"])
def test_no_grant_is_sent_while_a_deletion_is_open_and_a_restriction_is(blocked: str) -> None:
    record = apply(BACK, admitted(consent("c", "site", at=NOW + 9)))

    work = look(known(record, blocked=blocked))

    assert verbs(work) == done(called=["delete *", "withdraw site"])
    assert work.wait == "deletion"


def test_the_grant_is_sent_once_the_deletion_has_ended() -> None:
    before = known(BACK)
    (delete,) = (each for each in before.obligations if each.verb == "delete" and each.partner == "shop")
    ended = settle(delete, receipt(delete, "ended", LATE, grade=Evidence.processed))
    others = tuple(each for each in before.obligations if each != delete)

    work = look(replace(before, obligations=(ended, *others)))

    assert (verbs(work), work.wait) == (done(called=["grant research"]), "")


def test_a_deletion_at_another_partner_holds_up_nobody() -> None:
    record = with_identifiers(written(grant("a", "research")), "x")
    elsewhere = replace(next(iter(owed(written(deletion("b")), rules(ADS)).values())), subject_ref=record.subject_ref)
    mine = known(record)

    work = look(replace(mine, obligations=(*mine.obligations, elsewhere)))

    assert verbs(work) == done(called=["grant research"])


def test_without_an_identifier_that_the_partner_takes_it_is_unreachable() -> None:
    record = with_identifiers(written(consent("a", "research")), "c", kind="cookie_id")

    assert verbs(look(known(record))) == done(blocked=["withdraw research: unreachable"])


def test_a_verb_that_the_partner_does_not_understand_is_blocked_and_not_replaced() -> None:
    work = reconcile(known(STOP), Recipient(SHOP, {"grant": "in", "delete": "gone"}), RULES, LATE)

    assert verbs(work) == done(blocked=["withdraw research: verb-unsupported"])


def test_a_partner_that_people_tell_is_called_by_nobody_and_closed_by_no_earlier_call() -> None:
    desk = Recipient(SHOP, EFFECTS, by_hand=True)
    nobody = with_identifiers(written(consent("a", "research")), "c", kind="cookie_id")

    assert verbs(reconcile(known(STOP), desk, RULES, LATE)) == done(blocked=["withdraw research: by-hand"])
    assert verbs(reconcile(known(STOP, told("out", LATE - 10)), desk, RULES, LATE)) == done(
        blocked=["withdraw research: by-hand"]
    )
    assert verbs(reconcile(known(nobody), desk, RULES, LATE)) == done(blocked=["withdraw research: unreachable"])


@pytest.mark.parametrize("state", ["blocked", "given up"])
def test_what_was_blocked_is_tried_again_when_it_can_be(state: str) -> None:
    assert verbs(look(known(STOP, blocked=state))) == done(called=["withdraw research"])


def test_where_nothing_stands_there_is_nothing_to_do() -> None:
    assert look(Known(STOP, (), {})) == Work()
    assert look(Known(None, (), {})) == Work()
    assert look(known(STOP), PANEL) == Work()
    assert look(known(STOP, superseded_by="newer")) == Work()


def test_a_view_that_lacks_what_an_obligation_names_is_waited_for() -> None:
    late = replace(known(STOP), record=with_identifiers(written(grant("b", "research", NOW - 1)), "x"))

    assert look(late) == look(replace(late, record=None)) == Work(wait="record")


@pytest.mark.parametrize("newer", [rules(SHOP, ADS, revision=2), Rules(policy(revision=2), registry(SHOP, ADS))])
def test_a_process_with_older_rules_than_an_obligations_waits(newer: Rules) -> None:
    assert look(known(STOP, under=newer)) == Work(wait="registry")
    assert look(known(STOP, under=newer), under=newer).wait == ""


def test_even_an_ended_obligation_of_newer_rules_shows_that_ours_are_old() -> None:
    newer = known(STOP, under=rules(SHOP, ADS, revision=2), superseded_by="x").obligations
    what = known(STOP)

    assert look(replace(what, obligations=(*what.obligations, *newer))) == Work(wait="registry")


def test_what_nobody_made_an_obligation_of_is_made_before_anything_is_sent() -> None:
    record = with_identifiers(written(grant("a", "research", expires_at=NOW + 50), consent("b", "site")), "x")
    before = tuple(owed(record, RULES, at=NOW).values())

    work = look(Known(record, before, {}), at=NOW + 50)

    assert [(each.verb, each.scope, each.boundary) for each in work.create] == [("withdraw", "research", NOW + 50)]
    assert (work.calls, work.superseded, work.wait) == ((), (), "obligation")


def test_what_time_alone_demands_is_left_to_the_review_where_nothing_stands() -> None:
    record = with_identifiers(written(grant("a", "research", expires_at=NOW + 50)), "x")
    ended = [
        settle(each, receipt(each, "ended", NOW + 1, grade=Evidence.processed))
        for each in owed(record, RULES, at=NOW).values()
    ]

    assert look(Known(record, tuple(ended), {}), at=NOW + 50) == Work()
    assert turn(record, RULES.policy, NOW) == NOW + 50  # when the review, which makes it, looks


def test_what_has_a_newer_one_in_its_place_is_superseded_by_name() -> None:
    old = known(STOP).obligations
    record = apply(STOP, admitted(grant("b", "research", NOW + 1)))
    new = known(record)

    work = look(replace(new, obligations=(*new.obligations, *old)))

    assert verbs(work) == done(called=["grant research"], superseded=["withdraw research"])
    assert work.superseded == ((old[0], new.obligations[0].obligation_id),)


@given(st.lists(events(), max_size=5), st.lists(events(), max_size=3), st.data())
def test_each_obligation_that_stands_gets_exactly_one_treatment(
    history: list[Event], later: list[Event], data: st.DataObject
) -> None:
    under = rules(SHOP, CRM)
    before = with_identifiers(written(*history), "x")
    after = before
    for each in later:
        after = apply(after, admitted(each))
    made = owed(before, under) | owed(after, under)
    obligations = tuple(
        settle(each, receipt(each, "ended", LATE, grade=data.draw(st.sampled_from([0, 2, 3]))))
        for each in made.values()
    )

    work = look(Known(after, obligations, {}), under=under)

    standing = [each for each in obligations if each.partner == "shop" and each.state not in ENDED]
    treated = [each.obligation for each in work.calls] + [each for each, _ in (*work.settled, *work.superseded)]
    held = [each for each in standing if each not in treated]
    assert len(treated) + len(held) == len(standing)
    assert {each.verb for each in held} <= ({"grant"} if work.wait == "deletion" else set())
    assert {each.obligation_id for each, _ in work.superseded}.isdisjoint(ids(after, "shop", under))
    assert all(isinstance(each, Call) for each in work.calls)


def test_demands_are_the_same_whoever_computes_them() -> None:
    (mine,) = known(STOP).obligations
    demand = Demand(
        partner="shop",
        account="main",
        scope="research",
        verb="withdraw",
        stamps=mine.stamps,
        boundary=mine.boundary,
        generation=mine.identifier_generation,
        revision=mine.registry_revision,
        reasons=mine.reasons,
    )

    assert identify(STOP.subject_ref, demand) == mine.obligation_id
    assert policy().revision + RULES.registry.revision == mine.registry_revision
    assert isinstance(mine, Obligation)
