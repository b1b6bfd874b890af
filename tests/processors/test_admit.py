"""Admission: what each event writes, when it counts from, and each refusal with its field, its fix and nobody's data."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import (
    NOW,
    admitted,
    born,
    consent,
    deletion,
    events,
    grant,
    policy,
    provision,
    suspension,
    unsubscribe,
)
from todoke.processors.admit import EARLIEST, LONGEST, admit
from todoke.schemas.errors import REASONS, Refused
from todoke.schemas.events import Age, Event, IdentityLink, RightsRequest
from todoke.schemas.identity import Identifier
from todoke.schemas.record import AGE, ERASED, Holding, Register

POLICY = policy()
SKEW = POLICY.skew_seconds * 1000
SECRET: Any = "hanako.mihon@example.jp"
LINK = IdentityLink(event_id="e", subject="s", occurred_at=NOW, identifiers=(Identifier("email", SECRET),))
LONG = "x" * (LONGEST + 1)


def refused(event: Event, appended_at: int = NOW) -> Refused:
    with pytest.raises(Refused) as raised:
        admit(event, POLICY, appended_at)
    return raised.value


REFUSALS = [
    ("missing-event-id", "event_id", grant("", "ads")),
    ("missing-subject", "subject", replace(grant("e", "ads"), subject=None)),
    ("missing-subject", "subject", replace(grant("e", "ads"), subject="")),
    ("missing-subject", "subject", replace(LINK, subject=None)),
    ("too-long", "event_id", grant(LONG, "ads")),
    ("too-long", "subject", replace(grant("e", "ads"), subject=LONG)),
    ("too-long", "source", replace(grant("e", "ads"), source=LONG)),
    ("too-long", "scope", unsubscribe("e", "notices", LONG)),
    ("too-long", "counterpart", provision("e", "")),
    ("too-long", "counterpart", provision("e", LONG)),
    ("not-a-time", "occurred_at", grant("e", "ads", EARLIEST - 1)),
    ("not-a-time", "occurred_at", grant("e", "ads", NOW // 1000)),
    ("not-a-time", "expires_at", grant("e", "ads", expires_at=0)),
    ("not-a-time", "expires_at", grant("e", "ads", expires_at=NOW // 1000)),
    ("not-a-time", "until", suspension("e", until=NOW // 1000)),
    ("not-a-time", "until", suspension("e", until=-1)),
    ("future", "occurred_at", grant("e", "ads", NOW + SKEW + 1)),
    ("future", "occurred_at", consent("e", "ads", at=NOW + SKEW + 1)),
    ("unknown-regime", "regime", grant("e", "ads", regime="ccpa")),
    ("unknown-policy-version", "policy_version", grant("e", "ads", policy_version="v9")),
    ("grant-of-everything", "purpose", grant("e", "*")),
    ("unknown-purpose", "purpose", grant("e", "adz")),
    ("unknown-purpose", "purpose", consent("e", "adz")),
    ("purpose-required", "purpose", consent("e", "service")),
    ("unknown-channel", "channel", unsubscribe("e", "fax")),
    ("identity-unverified", "identity_check", deletion("e", identity_check="pending")),
    ("identity-unverified", "identity_check", deletion("e", identity_check="not_required")),
    ("identity-unverified", "identity_check", deletion("e", agent_check="pending")),
    ("identity-unverified", "identity_check", deletion("e", action="cancelled", identity_check="failed")),
    ("identity-unverified", "identity_check", suspension("e", identity_check="failed")),
    ("identity-unverified", "identity_check", suspension("e", action="lifted", agent_check="failed")),
    ("not-yet-supported", "scope", deletion("e", scope="ads")),
    ("missing-subject", "other_subject", replace(LINK, action="merge")),
    ("missing-subject", "other_subject", replace(LINK, action="merge", other_subject="s")),
    ("too-long", "other_subject", replace(LINK, action="merge", other_subject=LONG)),
    ("not-yet-supported", "other_subject", replace(LINK, action="unlink", other_subject="t")),
    ("not-yet-supported", "other_subject", replace(LINK, other_subject="t")),
    ("invalid-age", "age", replace(grant("e", "ads"), age=Age())),
    ("invalid-age", "age.birth_date", born("e", "2025-13-01")),
]


@pytest.mark.parametrize(("reason", "field", "event"), REFUSALS)
def test_each_refusal_names_its_reason_its_field_and_what_to_do(reason: str, field: str, event: Event) -> None:
    error = refused(event)

    assert (error.reason, error.field) == (reason, field)
    assert reason in REASONS
    assert error.fix.endswith(".")


@pytest.mark.parametrize("event", [event for _, _, event in REFUSALS])
def test_no_refusal_holds_a_value_of_the_person(event: Event) -> None:
    person = (Identifier("email", SECRET), Identifier("phone", "090-1234-5678"))
    subject = event.subject and SECRET

    error = refused(
        replace(event, subject=subject, identifiers=person) if "subject" not in refused(event).field else event
    )

    said = f"{error} {error!r} {error.args}"
    assert SECRET not in said
    assert "090-1234-5678" not in said


def test_an_unlink_names_what_is_unlinked() -> None:
    error = refused(replace(LINK, action="unlink", identifiers=()))

    assert (error.reason, error.field) == ("missing-identifier", "identifiers")


def test_the_refusal_of_a_secret_in_every_free_field_does_not_quote_it() -> None:
    guilty = [
        grant("e", SECRET),
        grant("e", "ads", regime=SECRET),
        grant("e", "ads", policy_version=SECRET),
        unsubscribe("e", SECRET),
        deletion("e", scope=SECRET),
        replace(grant("e", "ads"), age=Age(birth_date=SECRET)),
    ]

    assert [event for event in guilty if SECRET in str(refused(event))] == []


def test_an_event_with_identifiers_alone_is_admitted() -> None:
    event = replace(consent("e", "ads"), subject=None, identifiers=(Identifier("email", SECRET),))

    assert [*admitted(event).writes] == ["purpose/appi/ads"]


@pytest.mark.parametrize(
    ("occurred", "appended", "first", "wanted"),
    [(5, 9, None, 5), (9, 5, None, 5), (9, 20, 7, 7), (9, 7, 20, 7), (5, 9, 7, 5), (5, 5, None, 5)],
)
def test_a_grant_counts_from_the_earlier_of_its_own_time_and_its_first_append(
    occurred: int, appended: int, first: int | None, wanted: int
) -> None:
    permissive = [
        grant("e", "ads", NOW + occurred),
        unsubscribe("e", "notices", at=NOW + occurred, action="resubscribed"),
        suspension("e", at=NOW + occurred, action="lifted"),
    ]
    changes = [admit(each, POLICY, NOW + appended, first and NOW + first) for each in permissive]

    assert [write.at for change in changes for write in change.writes.values()] == [NOW + wanted] * 3


def test_a_restriction_keeps_its_own_time_within_the_skew() -> None:
    at = NOW + SKEW
    restrictive = [
        consent("e", "ads", at=at),
        unsubscribe("e", "notices", at=at),
        suspension("e", at=at),
        deletion("e", at),
    ]

    changes = [admit(each, POLICY, NOW) for each in restrictive]

    assert [write.at for change in changes for write in change.writes.values()] == [at] * 4
    assert all(write.restrictive for change in changes for write in change.writes.values())


def test_a_fast_clock_cannot_beat_a_real_withdrawal() -> None:
    granted = admit(grant("e", "ads", NOW + SKEW), POLICY, NOW).writes["purpose/appi/ads"]
    withdrawn = admit(consent("f", "ads", at=NOW + 1), POLICY, NOW + 1).writes["purpose/appi/ads"]

    assert max(granted, withdrawn, key=lambda register: register.rank) == withdrawn


@given(events(), st.integers(0, SKEW), st.integers(0, 10**10))
def test_a_replay_with_its_first_append_time_writes_the_same(event: Event, early: int, later: int) -> None:
    first = event.occurred_at - early

    assert admit(event, POLICY, first + later, first).writes == admit(event, POLICY, first).writes


@given(events(), st.integers(-SKEW, 10**6))
def test_what_comes_before_a_deletion_by_the_brokers_clock_counts_as_before_it(event: Event, delay: int) -> None:
    change = admit(event, POLICY, event.occurred_at + delay)

    assert change.at == min(event.occurred_at, event.occurred_at + delay)


def test_each_decision_writes_one_register_with_what_was_said() -> None:
    assert admitted(grant("e", "ads", regime="gdpr", policy_version="v1", expires_at=NOW + 5)).writes == {
        "purpose/gdpr/ads": Register("granted", NOW, False, "e", until=NOW + 5, policy_version="v1")
    }
    assert admitted(consent("e", "*")).writes == {"purpose/appi/*": Register("withdrawn", NOW, True, "e")}
    assert admitted(unsubscribe("e", "notices", "")).writes == {
        "channel/notices/*": Register("unsubscribed", NOW, True, "e")
    }
    assert admitted(unsubscribe("e", "notices", "weekly", action="resubscribed")).writes == {
        "channel/notices/weekly": Register("resubscribed", NOW, False, "e")
    }
    assert admitted(deletion("e", ground=LONG)).writes == {
        ERASED: Register("erased", NOW, True, "e", ground=LONG[:LONGEST])
    }
    assert admitted(suspension("e", "provision", until=NOW + 5, ground="x", agent_check="verified")).writes == {
        "suspension/provision": Register("suspended", NOW, True, "e", until=NOW + 5, ground="x")
    }
    assert admitted(suspension("e", action="lifted", until=NOW + 5)).writes == {
        "suspension/use": Register("lifted", NOW, False, "e")
    }


def test_a_withdrawal_is_not_refused_for_the_end_of_a_grant() -> None:
    assert admitted(consent("e", "ads", expires_at=0)).writes["purpose/appi/ads"].value == "withdrawn"


@pytest.mark.parametrize(
    "event",
    [
        deletion("e", action="cancelled"),
        LINK,
        RightsRequest(event_id="e", subject="s", occurred_at=NOW, right="access"),
        provision("e", "meta", direction="received"),
        provision("e", "meta", direction="joined"),
    ],
)
def test_what_changes_no_permission_writes_nothing_and_is_admitted(event: Event) -> None:
    change = admitted(event)

    assert (change.kind, change.writes, change.holdings) == (type(event).__name__, {}, {})


def test_a_provision_to_anybody_is_recorded() -> None:
    change = admitted(provision("e", "nobody we know", items=("b", "a", "b")))

    assert (change.writes, change.holdings) == ({}, {"nobody we know": Holding(NOW, NOW, ("a", "b"))})


def test_what_is_annulled_gave_nobody_anything_and_a_correction_did() -> None:
    assert admitted(provision("e", "meta", annuls="before")).holdings == {}
    assert list(admitted(provision("e", "meta", corrects="before")).holdings) == ["meta"]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("annuls", {"annuls": "a", "corrects": "b"}),
        ("corrects", {"corrects": "e"}),
        ("period_start", {"period_start": "20260901"}),
        ("period_end", {"period_end": "2026-02-30"}),
    ],
)
def test_a_provision_that_contradicts_itself_is_refused_by_its_field(field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        admitted(provision("e", "meta", **wrong))

    assert (caught.value.reason, caught.value.field) == ("unknown-value", field)


@pytest.mark.parametrize(("birth_date", "minor"), [("2007-06-01", False), ("2007-06-02", True), ("2012-06-02", True)])
def test_an_age_is_a_restriction_while_it_makes_a_minor(birth_date: str, minor: bool) -> None:
    write = admit(born("e", birth_date, NOW + 10), POLICY, NOW).writes[AGE]

    assert write == Register(birth_date, NOW + 10 if minor else NOW, minor, "e")
