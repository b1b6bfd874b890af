"""The balance: exact over a whole history, and every kind of break is found by name."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import (
    ADS,
    LATE,
    NOW,
    PANEL,
    REF,
    admitted,
    apply,
    consent,
    deletion,
    events,
    grant,
    owed,
    provision,
    receipt,
    registry,
    rules,
    with_identifiers,
    written,
)
from todoke.processors.balance import MAKING_MS, Balance, Snapshot, balance
from todoke.processors.enrol import shred
from todoke.schemas.events import Event, Outcome
from todoke.schemas.obligations import Obligation, settle
from todoke.schemas.partners import Rules
from todoke.schemas.receipts import Evidence, Receipt
from todoke.schemas.record import SubjectRecord

RULES = rules()


def outcome(name: str, kind: Any = "applied") -> Outcome:
    return Outcome(name, kind, "", REF, "consent-changes", 0, 0, NOW, NOW)


def settled(made: dict[str, Obligation], at: int = LATE) -> tuple[dict[str, Obligation], tuple[Receipt, ...]]:
    """Every obligation done, with its receipt."""
    receipts = {name: receipt(each, "ended", at, grade=each.done_at_grade) for name, each in made.items()}
    return {name: settle(each, receipts[name]) for name, each in made.items()}, tuple(receipts.values())


def snapshot(*history: Event, record: SubjectRecord | None = None) -> Snapshot:
    """What topics hold once everything has been worked off."""
    held = record or with_identifiers(written(*history), "x")
    obligations, receipts = settled(owed(held, RULES))
    names = tuple(each.event_id for each in history)
    return Snapshot(names, {name: outcome(name) for name in names}, {REF: held}, obligations, receipts)


HISTORY = (
    consent("a", "ads"),
    grant("b", "research"),
    deletion("c", NOW - 9),
    provision("d", "panel"),
    provision("e", "nobody"),
)
SOUND = snapshot(*HISTORY)


def weighed(what: Snapshot, at: int = LATE) -> Balance:
    return balance(what, RULES, at)


def broken(found: Balance) -> dict[str, tuple[str, ...]]:
    """Every break, by kind."""
    kinds = ("undecided", "missing", "surplus", "unproven")
    return {kind: names for kind in kinds if (names := getattr(found, kind))}


def one(verb: str, partner: str) -> Obligation:
    return next(each for each in SOUND.obligations.values() if (each.verb, each.partner) == (verb, partner))


def without(name: str) -> dict[str, Obligation]:
    return {each: held for each, held in SOUND.obligations.items() if each != name}


def stranger(**changes: Any) -> Obligation:
    """An open obligation that nothing demands."""
    blank = {"obligation_id": "surplus", "grades": {}, "stamps": ()}
    return replace(one("withdraw", "ads-net"), **{**blank, **changes})


def test_a_history_that_was_worked_off_is_exact() -> None:
    found = weighed(SOUND)

    assert (found.exact, found.pending, broken(found)) == (True, 0, {})
    assert (found.events, found.outcomes) == (5, {"applied": 5})
    assert found.demanded == found.obligations == found.states["done"] == len(SOUND.obligations)
    assert found.partners == {
        "ads-net": {"done": 2},
        "crm": {"done": 3},
        "nobody": {"done": 1},
        "panel": {"done": 2},
    }


def test_nothing_at_all_is_exact() -> None:
    assert weighed(Snapshot((), {}, {}, {}, ())).exact


@given(st.lists(events(), max_size=8))
@settings(max_examples=50)
def test_any_history_is_exact_before_and_after_its_calls(history: list[Event]) -> None:
    done = snapshot(*history)
    record = done.records[REF]

    fresh = replace(done, obligations=owed(record, RULES), receipts=())

    assert broken(weighed(done)) == broken(weighed(fresh)) == {}
    assert weighed(fresh).pending + weighed(fresh).states.get("blocked", 0) == len(done.obligations)


@pytest.mark.parametrize("name", [*SOUND.obligations])
def test_a_dropped_obligation_is_missing(name: str) -> None:
    found = weighed(replace(SOUND, obligations=without(name)))

    assert (broken(found), found.exact) == ({"missing": (name,)}, False)


@pytest.mark.parametrize("changes", [{}, {"blocked": "unreachable"}, {"subject_ref": "nobody"}])
def test_an_extra_one_that_stands_is_surplus(changes: dict[str, Any]) -> None:
    found = weighed(replace(SOUND, obligations={**SOUND.obligations, "surplus": stranger(**changes)}))

    assert (broken(found), found.exact) == ({"surplus": ("surplus",)}, False)


def test_an_extra_one_that_has_ended_is_history() -> None:
    found = weighed(replace(SOUND, obligations={**SOUND.obligations, "old": stranger(superseded_by="newer")}))

    assert (broken(found), found.states["superseded"]) == ({}, 1)


def test_a_deletion_stays_owed_while_its_record_contains_it() -> None:
    older = stranger(verb="delete", stamps=one("delete", "ads-net").stamps)
    foreign = replace(older, obligation_id="foreign", subject_ref="nobody")
    lost = replace(older, obligation_id="lost", stamps=(replace(older.stamps[0], at=LATE),))
    extra = {each.obligation_id: each for each in (older, foreign, lost)}

    found = weighed(replace(SOUND, obligations={**SOUND.obligations, **extra}))

    assert broken(found) == {"surplus": ("foreign", "lost")}


def test_one_that_is_done_without_a_receipt_is_unproven() -> None:
    name = one("delete", "crm").obligation_id

    found = weighed(replace(SOUND, receipts=tuple(each for each in SOUND.receipts if each.obligation_id != name)))

    assert (broken(found), found.exact) == ({"unproven": (name,)}, False)


def test_a_receipt_of_a_lower_rung_proves_nothing() -> None:
    name = one("delete", "crm").obligation_id
    receipts = [
        replace(each, grade=Evidence.accepted) if each.obligation_id == name else each for each in SOUND.receipts
    ]

    assert broken(weighed(replace(SOUND, receipts=tuple(receipts)))) == {"unproven": (name,)}


@pytest.mark.parametrize("name", "abcde")
def test_an_event_without_an_outcome_is_undecided(name: str) -> None:
    outcomes = {each: held for each, held in SOUND.outcomes.items() if each != name}

    found = weighed(replace(SOUND, outcomes=outcomes))

    assert (broken(found), found.exact) == ({"undecided": (name,)}, False)


def test_an_event_sent_twice_is_one_event_with_one_outcome() -> None:
    outcomes = {**SOUND.outcomes, "a": outcome("a", "superseded"), "b": outcome("b", "refused")}

    found = weighed(replace(SOUND, events=(*SOUND.events, "a", "b"), outcomes=outcomes))

    assert (found.events, found.outcomes) == (5, {"applied": 3, "superseded": 1, "refused": 1})


def test_a_record_that_lost_a_write_shows_what_it_demands_no_more() -> None:
    open_ones = owed(SOUND.records[REF], RULES)
    poorer = with_identifiers(written(*HISTORY[1:]), "x")

    found = weighed(Snapshot(SOUND.events, SOUND.outcomes, {REF: poorer}, open_ones, ()))

    lost = {f"{each.partner}/{each.verb}/{each.scope}" for each in map(open_ones.__getitem__, found.surplus)}
    assert lost == {"ads-net/withdraw/ads", "nobody/delete/*"}


def test_what_time_alone_demands_is_coming_for_a_moment_and_missing_after_it() -> None:
    before = replace(snapshot(grant("a", "research", expires_at=LATE)), obligations={})
    obligations, receipts = settled(owed(before.records[REF], RULES, NOW), NOW)
    what = replace(before, obligations=obligations, receipts=receipts)

    early, soon, late = (weighed(what, at) for at in (LATE - 1, LATE, LATE + MAKING_MS))

    assert (early.exact, early.pending) == (True, 0)
    assert (soon.exact, soon.pending, len(soon.coming)) == (True, 2, 2)
    assert (len(late.missing), late.coming) == (2, ())


def test_what_was_owed_to_a_partner_that_is_gone_is_kept_by_its_owner() -> None:
    open_ones = owed(SOUND.records[REF], RULES)
    fewer = Rules(RULES.policy, registry(ADS, PANEL))
    gone = {
        name: replace(each, blocked="no-connector", blocked_at=NOW, owner="privacy-office")
        if each.partner == "crm"
        else each
        for name, each in open_ones.items()
    }

    found = balance(replace(SOUND, obligations=gone), fewer, LATE)
    unowned = balance(replace(SOUND, obligations=open_ones), fewer, LATE)

    theirs = {name for name, each in gone.items() if each.partner == "crm"}
    assert theirs
    assert not theirs & set(found.surplus)
    assert theirs & set(unowned.surplus)  # all but the delete, which is an edge


def test_a_shredding_leaves_the_balance_exact() -> None:
    shredded = shred(SOUND.records[REF], NOW - 9)

    assert broken(weighed(replace(SOUND, records={REF: shredded}))) == {}


def test_another_event_on_its_way_makes_what_it_demands_missing() -> None:
    record = apply(SOUND.records[REF], admitted(consent("f", "site", at=NOW + 1)))

    found = weighed(replace(SOUND, records={REF: record}))

    wanted = {each.obligation_id for each in owed(record, RULES).values()}
    assert set(found.missing) == wanted - SOUND.obligations.keys()
