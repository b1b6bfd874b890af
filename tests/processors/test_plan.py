"""Demands: what each recipient must hear as the record stands, and what takes the place of what."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import (
    ADS,
    CRM,
    HOURS,
    LATE,
    NOW,
    PANEL,
    REF,
    admitted,
    apply,
    born,
    consent,
    deletion,
    events,
    grant,
    ids,
    owed,
    partner,
    policy,
    provision,
    purpose,
    registry,
    rules,
    unsubscribe,
    with_identifiers,
    written,
)
from todoke.processors.enrol import shred
from todoke.processors.plan import (
    HOUR,
    Cause,
    Demand,
    concerned,
    consulted,
    demands,
    identify,
    obligation,
    of_partner,
    of_unknown,
    supersessions,
)
from todoke.schemas.events import Event, Provision
from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Rules, Transfer
from todoke.schemas.policy import CROSS_BORDER
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import ERASED, HELD, Claim, Stamp, SubjectRecord, join

RULES = rules()
DEMAND = Demand(
    partner="ads-net",
    account="main",
    scope="ads",
    verb="withdraw",
    stamps=(Stamp("purpose/appi/ads", 5, True, "e"),),
    boundary=0,
    generation=1,
    revision=2,
    reasons=("withdrawn:appi",),
)
CAUSE = Cause("event", "e", NOW)


def wanted(record: SubjectRecord, under: Rules = RULES, at: int = LATE) -> dict[str, tuple[str, ...]]:
    """What is demanded of each partner, account and scope: the verb and the reasons."""
    return {"/".join(each.place): (each.verb, *each.reasons) for each in demands(record, under, at)}


def opened(record: SubjectRecord, name: str, under: Rules = RULES) -> list[Obligation]:
    one = under.registry.partner(name)
    return [obligation(REF, each, one, CAUSE, NOW) for each in demands(record, under, LATE) if each.partner == name]


def test_a_partner_hears_what_was_said_of_its_scopes_and_of_nothing_else() -> None:
    record = written(grant("a", "research"), unsubscribe("b", "email-magazine"), consent("c", "ads"))

    assert wanted(record) == {
        "ads-net/main/ads": ("withdraw", "withdrawn:appi", "age-unknown"),
        "crm/main/research": ("grant", "granted:appi"),
        "crm/main/email-magazine": ("withdraw", "unsubscribed:email-magazine"),
    }


def test_who_holds_nothing_hears_nothing_until_it_is_given_something() -> None:
    record = written(consent("a", "research"))
    given_ = apply(record, admitted(provision("b", "panel")))

    assert [concerned(record, each) for each in (ADS, CRM, PANEL)] == [True, True, False]
    assert [each for each in wanted(record) if each.startswith("panel")] == []
    assert [each for each in wanted(given_) if each.startswith("panel")] == ["panel/jp/research", "panel/eu/research"]


def test_a_partner_that_hears_of_permissions_is_concerned_though_it_holds_nothing() -> None:
    record = written(grant("a", "research"))

    assert wanted(record, rules(replace(PANEL, grants=True)))["panel/jp/research"] == ("grant", "granted:appi")
    assert wanted(record, rules(replace(ADS, accounts=PANEL.accounts))) == {}


def test_a_person_who_was_only_given_away_is_demanded_of_nobody_in_the_registry() -> None:
    assert wanted(written(provision("a", "crm"), provision("b", "panel"))) == {}


def test_a_deletion_takes_the_place_of_what_was_said_before_it_and_not_after() -> None:
    record = written(consent("a", "ads"), deletion("b", NOW + 1), consent("c", "profiling", at=NOW + 2))

    assert wanted(record, rules(ADS)) == {
        "ads-net/main/*": ("delete", "erased"),
        "ads-net/main/profiling": ("withdraw", "withdrawn:appi", "age-unknown"),
    }


def test_no_permission_is_told_again_after_a_deletion_that_nothing_followed_not_even_what_is_required() -> None:
    record = written(consent("a", "*"), deletion("b", NOW + 1))
    under = rules(partner("shop", "service", grants=True))

    assert [*wanted(record, under)] == ["shop/main/*"]
    assert [*wanted(written(consent("a", "*")), under)] == ["shop/main/service"]


def test_a_deletion_is_demanded_of_every_account() -> None:
    record = written(deletion("a"), provision("b", "panel", NOW - 5))

    assert [each for each in wanted(record) if each.startswith("panel")] == ["panel/jp/*", "panel/eu/*"]


def test_a_child_found_is_deleted_until_it_is_none() -> None:
    record = written(born("a", "2012-06-02"))

    assert wanted(record, rules(CRM), NOW) == {"crm/main/*": ("delete", "minor-dealing")}
    assert wanted(record, rules(CRM), NOW + 86_400_000) == {}


def test_a_deletion_is_demanded_until_all_that_it_speaks_of_is_shredded() -> None:
    record = written(deletion("a"), consent("b", "ads", at=NOW - 5))
    shredded = shred(record, NOW)
    under = rules(ADS)

    assert [*wanted(record, under)] == ["ads-net/main/*"]
    assert wanted(shredded, under) == {}
    assert [*wanted(apply(shredded, admitted(deletion("c", NOW + 1))), under)] == ["ads-net/main/*"]
    assert [*wanted(apply(shredded, admitted(provision("c", "ads-net", NOW + 1))), under)] == ["ads-net/main/*"]


CLAIMS = st.dictionaries(
    st.sampled_from(["email/x", "email/y", "cookie_id/z"]),
    st.builds(Claim, st.booleans(), st.integers(0, 12).map(lambda tick: NOW + tick * 1000), st.just("said")),
)


@given(st.lists(events(), max_size=6), CLAIMS)
@example([grant("g", "research", NOW + 5), deletion("d", NOW + 1)], {"email/x": Claim(True, NOW, "said")})
def test_a_shredding_only_ends_demands_and_makes_none(history: list[Event], claims: dict[str, Claim]) -> None:
    record = replace(with_identifiers(written(*history), "x"), claims=claims)
    shredded = shred(record, record.erased_through)

    before, after = (demands(each, RULES, LATE) for each in (record, shredded))

    ended = {identify(REF, each) for each in before} - {identify(REF, each) for each in after}
    known = {each.name for each in RULES.registry.partners}
    assert {identify(REF, each) for each in after} <= {identify(REF, each) for each in before}
    assert all(
        each.verb == "delete" or each.partner not in known or each.partner == "panel"
        for each in before
        if identify(REF, each) in ended
    )


def test_data_given_after_a_restriction_demands_it_anew() -> None:
    record = written(consent("a", "ads"), provision("b", "ads-net", NOW + 5))

    (demand,) = of_partner(record, ADS, RULES, LATE)

    assert demand.stamps[-1] == Stamp("holding/ads-net", NOW + 5, True, "")
    assert ids(record).isdisjoint(ids(written(consent("a", "ads"))))


@pytest.mark.parametrize(
    "later",
    [consent("z", "ads", at=NOW + 9), consent("z", "ads", at=NOW + 9, regime="gdpr"), born("z", "1990-01-01", NOW + 9)],
)
def test_data_given_late_demands_anew_though_something_else_was_said_since(later: Event) -> None:
    before = written(consent("a", "ads"), later)

    after = apply(before, admitted(provision("b", "ads-net", NOW + 5)))

    assert ids(after).isdisjoint(ids(before))


def test_data_given_after_a_deletion_demands_it_anew_and_data_given_before_does_not() -> None:
    record = written(deletion("a"))
    before, after = (apply(record, admitted(provision("b", "ads-net", NOW + shift))) for shift in (-5, 5))

    assert ids(before) == ids(record)
    assert ids(after).isdisjoint(ids(record))


def test_permissions_do_not_ask_when_data_was_given() -> None:
    record = written(grant("a", "research"))

    assert ids(apply(record, admitted(provision("b", "crm", NOW + 5))), "crm") == ids(record, "crm")


def test_a_recipient_nobody_knows_is_one_obligation_with_an_owner() -> None:
    record = written(provision("a", "nobody"), consent("b", "ads"), grant("c", "research"))

    (demand,) = of_unknown(record, RULES)
    owed = obligation(REF, demand, None, CAUSE, NOW + 7)

    assert (demand.verb, demand.scope, demand.reasons) == ("withdraw", "*", ("no-connector",))
    assert [each.register for each in demand.stamps] == ["purpose/appi/ads", "purpose/appi/research"]
    assert (owed.state, owed.blocked, owed.owner, owed.blocked_at) == (
        "blocked",
        "no-connector",
        "privacy-office",
        NOW + 7,
    )
    assert (owed.done_at_grade, owed.deadline_at) == (Evidence.confirmed, NOW + 14 * 24 * HOUR)


def test_a_recipient_nobody_knows_hears_of_a_deletion_and_of_each_restriction_and_late_gift_anew() -> None:
    steps: list[Event] = [
        provision("a", "nobody"),
        consent("b", "ads", at=NOW + 1),
        provision("c", "nobody", NOW + 2),
        deletion("d", NOW + 3),
        provision("e", "nobody", NOW + 4),
    ]
    found = [of_unknown(written(*steps[:count]), RULES) for count in range(1, 6)]

    assert [each.verb for (each,) in found] == ["withdraw"] * 3 + ["delete"] * 2
    assert len({identify(REF, each) for (each,) in found}) == 5


def test_a_grant_does_not_bring_back_the_obligation_that_stood_before_the_restriction() -> None:
    steps: list[Event] = [provision("a", "nobody"), consent("b", "research"), grant("c", "research", NOW + 1)]
    found = [of_unknown(written(*steps[:count]), RULES) for count in range(1, 4)]

    assert len({identify(REF, each) for (each,) in found}) == 3


def test_an_obligation_carries_its_demand_its_deadline_and_its_rung() -> None:
    owed = obligation(REF, DEMAND, CRM, Cause("time", "e", NOW - 5), NOW)

    assert owed.obligation_id == identify(REF, DEMAND)
    assert (owed.partner, owed.account, owed.scope, owed.verb) == ("ads-net", "main", "ads", "withdraw")
    assert (owed.stamps, owed.reasons, owed.registry_revision) == (DEMAND.stamps, DEMAND.reasons, 2)
    assert (owed.cause, owed.event_id, owed.appended_at, owed.opened_at) == ("time", "e", NOW - 5, NOW)
    assert (owed.deadline_at, owed.done_at_grade) == (NOW - 5 + HOURS["withdraw"] * HOUR, Evidence.processed)
    assert (owed.state, owed.owner) == ("open", "")


def test_a_verb_without_a_deadline_gets_that_of_strangers() -> None:
    owed = obligation(REF, DEMAND, replace(ADS, deadline_hours={"grant": 1}), CAUSE, NOW)

    assert owed.deadline_at == NOW + 14 * 24 * HOUR


def fallen(before: SubjectRecord, after: SubjectRecord, under: Rules) -> dict[str, str]:
    """The verb of each obligation that falls away, and the verb of what takes its place."""
    current = demands(after, under, LATE)
    verbs = {identify(REF, each): each.verb for each in current}
    standing = opened(before, under.registry.partners[0].name, under)
    found = supersessions(current, standing, REF)
    return {
        each.verb: verbs.get(found[each.obligation_id], found[each.obligation_id])
        for each in standing
        if each.obligation_id in found
    }


@pytest.mark.parametrize(
    ("before", "later", "wanted"),
    [
        ([consent("a", "research")], grant("b", "research", NOW + 1), {"withdraw": "grant"}),
        ([grant("a", "research")], consent("b", "research"), {"grant": "withdraw"}),
        ([consent("a", "research")], deletion("b", NOW + 1), {"withdraw": "delete"}),
        ([deletion("a")], grant("b", "research", NOW + 1), {}),
        ([deletion("a")], deletion("b", NOW + 1), {"delete": "delete"}),
        ([deletion("a")], deletion("b", NOW + 1, action="cancelled"), {}),
        ([consent("a", "research")], consent("b", "ads"), {}),
    ],
)
def test_the_newer_takes_the_place_of_the_older_but_only_a_deletion_that_of_a_deletion(
    before: list[Event], later: Event, wanted: dict[str, str]
) -> None:
    assert fallen(written(*before), written(*before, later), rules(CRM)) == wanted


def test_what_is_demanded_no_more_falls_away_and_names_nothing_in_its_place() -> None:
    quiet = replace(CRM, grants=False)

    found = fallen(written(consent("a", "research")), written(grant("b", "research", NOW + 1)), rules(quiet))

    assert found == {"withdraw": "demanded no more"}


def test_a_deletion_stands_though_nothing_demands_it_any_more() -> None:
    child = written(born("a", "2012-06-02"))
    standing = owed(child, rules(CRM), NOW).values()

    assert supersessions(demands(child, rules(CRM), NOW + 86_400_000), standing, REF) == {}
    assert [each.verb for each in standing] == ["delete"]


@given(st.lists(events(), max_size=5), events())
def test_one_obligation_at_most_stands_at_each_place_and_none_that_is_demanded_falls(
    history: list[Event], another: Event
) -> None:
    record = written(*history)
    after = apply(record, admitted(another))
    standing = [each for name in ("ads-net", "crm") for each in opened(record, name)]
    current = demands(after, RULES, LATE)

    found = supersessions(current, standing, REF)

    left = [each for each in standing if each.obligation_id not in found]
    places = {each.place for each in current}
    assert found.keys().isdisjoint({identify(REF, each) for each in current})
    assert all(each.verb == "delete" or (each.partner, each.account, each.scope) in places for each in left)


ABROAD = partner("abroad", "research", country="US", transfer=Transfer(basis="consent"))
LISTS = partner("lists", "email-magazine/weekly", "ad-mail")
WIDE = rules(ADS, CRM, PANEL, ABROAD, LISTS, purposes=(*policy().purposes, purpose(CROSS_BORDER, "opt-in")))


def test_consulted_names_every_register_that_a_partner_may_hear_of() -> None:
    assert consulted(LISTS, WIDE.policy) == {
        *(ERASED, "age", "suspension/use", "suspension/provision"),
        *("channel/email-magazine/*", "channel/email-magazine/weekly", "channel/ad-mail/*"),
        *(f"purpose/{regime}/{name}" for regime in ("appi", "gdpr") for name in ("research", "ads", "*")),
    }
    assert f"purpose/gdpr/{CROSS_BORDER}" in consulted(ABROAD, WIDE.policy)


@given(st.lists(events(), max_size=6), events().filter(lambda each: not isinstance(each, Provision)))
@settings(max_examples=200)
def test_a_change_of_other_registers_than_those_consulted_demands_nothing_new_of_a_partner(
    history: list[Event], another: Event
) -> None:
    record, change = written(*history), admitted(another)
    after = apply(record, change)

    spared = [each for each in WIDE.registry.partners if not change.writes.keys() & consulted(each, WIDE.policy)]

    assert [of_partner(record, each, WIDE, LATE) for each in spared] == [
        of_partner(after, each, WIDE, LATE) for each in spared
    ]


def test_joining_what_another_worker_has_seen_demands_what_one_worker_would() -> None:
    one, other = written(grant("a", "research"), deletion("b", NOW + 3)), written(consent("c", "ads", at=NOW + 5))

    assert demands(join(one, other), RULES, LATE) == demands(
        written(grant("a", "research"), deletion("b", NOW + 3), consent("c", "ads", at=NOW + 5)), RULES, LATE
    )
    assert registry().partner("nobody") is None
    assert HELD == "holding/"
