"""Ids of obligations: the same for everybody who computes them, and new whenever something is new."""

import subprocess
import sys
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
    REF,
    consent,
    events,
    grant,
    ids,
    partner,
    policy,
    purpose,
    registry,
    rules,
    suspension,
    with_identifiers,
    written,
)
from todoke.processors.enrol import shred
from todoke.processors.plan import (
    Demand,
    demands,
    identifier_generation,
    identify,
)
from todoke.schemas.events import Event
from todoke.schemas.partners import Rules
from todoke.schemas.record import Stamp, SubjectRecord, contains

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


@pytest.mark.parametrize(
    "other",
    [
        {"partner": "crm"},
        {"account": "eu"},
        {"scope": "profiling"},
        {"verb": "suspend"},
        {"stamps": ()},
        {"stamps": (Stamp("purpose/appi/ads", 6, True, "e"),)},
        {"stamps": (Stamp("purpose/appi/ads", 5, True, "f"),)},
        {"stamps": (Stamp("purpose/gdpr/ads", 5, True, "e"),)},
        {"stamps": (*DEMAND.stamps, Stamp("age", 1, False, "a"))},
        {"boundary": 1},
        {"generation": 2},
        {"revision": 3},
    ],
)
def test_each_component_makes_another_obligation(other: dict[str, Any]) -> None:
    assert identify(REF, replace(DEMAND, **other)) != identify(REF, DEMAND)


def test_another_subject_makes_another_obligation_and_other_reasons_do_not() -> None:
    assert identify("another", DEMAND) != identify(REF, DEMAND)
    assert identify(REF, replace(DEMAND, reasons=("withdrawn-all:appi",))) == identify(REF, DEMAND)


TEXT = st.text(st.sampled_from('a;@:\x1f",[]'), max_size=6)
STAMPS = st.lists(st.builds(Stamp, TEXT, st.integers(0, 3), st.just(True), TEXT), max_size=3).map(tuple)
DEMANDS = st.builds(
    lambda account, scope, stamps, boundary: replace(
        DEMAND, account=account, scope=scope, stamps=stamps, boundary=boundary
    ),
    TEXT,
    TEXT,
    STAMPS,
    st.integers(0, 3),
)


@given(DEMANDS, DEMANDS)
def test_no_text_of_an_event_makes_two_demands_one(one: Demand, other: Demand) -> None:
    assert (identify(REF, one) == identify(REF, other)) == (one == other)


def test_a_hostile_event_id_does_not_imitate_two_stamps() -> None:
    one = (Stamp("a", 1, True, "x;b@2:y"),)
    other = (Stamp("a", 1, True, "x"), Stamp("b", 2, True, "y"))

    assert identify(REF, replace(DEMAND, stamps=one)) != identify(REF, replace(DEMAND, stamps=other))


def test_another_process_computes_the_same_id() -> None:
    code = f"""
from todoke.processors.plan import Demand, identify
from todoke.schemas.record import Stamp
print(identify({REF!r}, {DEMAND!r}))
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == identify(REF, DEMAND)


@given(st.lists(events(), max_size=6), st.data())
def test_the_order_of_arrival_changes_no_demand(history: list[Event], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(history))

    assert demands(written(*shuffled), RULES, LATE) == demands(written(*history), RULES, LATE)


@given(st.lists(events(), max_size=6))
def test_every_demand_is_distinct_in_place_and_its_stamps_are_in_the_record(history: list[Event]) -> None:
    record = written(*history)

    found = demands(record, RULES, LATE)

    assert len({each.place for each in found}) == len({identify(REF, each) for each in found}) == len(found)
    assert contains(record, [one for each in found for one in each.stamps])


def test_an_answer_that_comes_back_after_another_is_a_new_obligation() -> None:
    history = [consent("a", "research"), grant("b", "research", NOW + 1), consent("c", "research", at=NOW + 2)]
    found = [ids(written(*history[:count]), "crm") for count in (1, 2, 3)]

    assert [len(each) for each in found] == [2, 2, 2]  # the purpose and the channel that lives by it
    assert len(set.union(*found)) == 6


def test_going_back_to_an_old_policy_is_new_and_so_is_going_back_to_an_old_registry() -> None:
    record = written(consent("a", "site"), grant("b", "research"))
    old, new = policy(), policy(purposes=(purpose("site", "required"), purpose("research", "opt-in")))
    history = [
        Rules(replace(old, revision=1), registry(CRM, revision=1)),
        Rules(replace(new, revision=2), registry(CRM, revision=1)),
        Rules(replace(old, revision=3), registry(CRM, revision=1)),
        Rules(replace(old, revision=3), registry(replace(CRM, grants=False), revision=2)),
        Rules(replace(old, revision=3), registry(CRM, revision=3)),
    ]

    found = [ids(record, "crm", under) for under in history]

    assert len(set.union(*found)) == sum(map(len, found))
    assert all(found)


def test_time_alone_makes_a_new_obligation_and_only_at_its_instant() -> None:
    record = written(grant("a", "research", expires_at=NOW + 50), suspension("b", until=NOW + 20))
    under = rules(partner("crm", "research", grants=True))
    found = [ids(record, "crm", under, NOW + after) for after in (0, 19, 20, 49, 50, 90)]

    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[4] == found[5]
    assert len({*found[0], *found[2], *found[4]}) == sum(map(len, found[::2]))


def test_an_address_that_a_partner_takes_makes_new_obligations_and_any_other_does_not() -> None:
    record = with_identifiers(written(consent("a", "ads")), "one")
    same = with_identifiers(record, "one", at=NOW + 1)
    other = with_identifiers(record, "two", kind="cookie_id")
    more = with_identifiers(record, "two", kind="phone")

    assert [identifier_generation(each, ADS) for each in (record, same, other, more)] == [1, 1, 1, 2]
    assert ids(record) == ids(same) == ids(other)
    assert ids(more).isdisjoint(ids(record))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.integers(0, 7)), max_size=6))
def test_the_generation_of_identifiers_never_falls(steps: list[tuple[str, int, int]]) -> None:
    record, found = SubjectRecord(REF), [0]
    for name, at, through in steps:
        record = with_identifiers(record, name, at=at)
        found.append(identifier_generation(record, ADS))
        record = shred(record, through) if through > record.shredded_through else record
        found.append(identifier_generation(record, ADS))

    assert found == sorted(found)
