"""The heart, rule by rule: what each thing that a person says means for each kind of scope."""

import pytest

from tests.rules import (
    ADS,
    CRM,
    LATE,
    NOW,
    born,
    consent,
    deletion,
    grant,
    jst,
    partner,
    policy,
    purpose,
    suspension,
    unsubscribe,
    written,
)
from todoke.processors.decide import Verdict, decide, is_third_party, judge, needs_transfer
from todoke.processors.decide import deletion as to_delete
from todoke.processors.enrol import shred
from todoke.schemas.events import Event
from todoke.schemas.partners import LegalBasis, Transfer
from todoke.schemas.policy import CROSS_BORDER, Version
from todoke.schemas.record import AGE, ERASED, stamp

POLICY = policy()
PURPOSES = ("service", "research", "site", "ads", "profiling", "cookies")
SCOPES = (*PURPOSES, "email-magazine", "email-magazine/weekly", "notices", "ad-mail")
ADULT = born("age", "1990-05-05", NOW - 10)


def said(scope: str, *events: Event, at: int = LATE, third_party: bool = False) -> Verdict:
    return judge(written(*events), scope, POLICY, at, third_party=third_party)


def answer(scope: str, *events: Event, at: int = LATE, third_party: bool = False) -> tuple[str, ...]:
    """The verb and the reasons."""
    verdict = said(scope, *events, at=at, third_party=third_party)
    return (verdict.verb, *verdict.reasons)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("service", ("grant", "required")),
        ("research", ("withdraw", "not-granted")),
        ("site", ("grant", "not-withdrawn")),
        ("ads", ("withdraw", "not-granted", "age-unknown")),
        ("profiling", ("withdraw", "age-unknown")),
        ("cookies", ("grant", "not-withdrawn")),
        ("email-magazine", ("withdraw", "not-granted")),
        ("notices", ("grant", "subscribed", "required")),
        ("fax", ("withdraw", "unknown-scope")),
    ],
)
def test_of_a_person_who_said_nothing_the_kind_of_purpose_decides(name: str, wanted: tuple[str, ...]) -> None:
    assert answer(name) == wanted
    assert not said(name).explicit


@pytest.mark.parametrize("name", ["research", "site"])
def test_the_last_word_decides(name: str) -> None:
    granted, withdrawn, again = grant("a", name, NOW), consent("b", name, at=NOW + 1), grant("c", name, NOW + 2)

    assert answer(name, granted) == ("grant", "granted:appi")
    assert answer(name, withdrawn, granted) == ("withdraw", "withdrawn:appi")
    assert answer(name, again, withdrawn, granted) == ("grant", "granted:appi")


def test_the_strictest_regime_wins_and_a_silent_one_has_no_say() -> None:
    appi, gdpr = grant("a", "research", NOW + 9), consent("b", "research", at=NOW, regime="gdpr")

    assert answer("research", appi, gdpr) == ("withdraw", "withdrawn:gdpr")
    assert answer("research", appi) == ("grant", "granted:appi")
    assert answer("site", appi, consent("c", "*", regime="gdpr")) == ("withdraw", "withdrawn-all:gdpr")


def test_withdrawing_everything_is_compared_by_time() -> None:
    everything = consent("a", "*", at=NOW)

    assert answer("research", everything, grant("b", "research", NOW - 1)) == ("withdraw", "withdrawn-all:appi")
    assert answer("research", everything, grant("b", "research", NOW)) == ("withdraw", "withdrawn-all:appi")
    assert answer("research", everything, grant("b", "research", NOW + 1)) == ("grant", "granted:appi")
    assert answer("research", everything, consent("b", "research", at=NOW + 1)) == ("withdraw", "withdrawn:appi")


def test_withdrawing_everything_covers_a_purpose_added_later() -> None:
    later = policy(purposes=(*POLICY.purposes, purpose("lookalikes", "opt-out")))

    verdict = judge(written(consent("a", "*")), "lookalikes", later, LATE)

    assert (verdict.allowed, verdict.reasons, verdict.explicit) == (False, ("withdrawn-all:appi",), True)


def test_what_is_required_can_only_be_ended_by_deletion() -> None:
    everything = [consent("a", "*"), suspension("b"), suspension("c", "provision"), deletion("d")]

    assert answer("service", *everything, third_party=True) == ("grant", "required")
    assert to_delete(written(*everything), ADS, POLICY, LATE) is not None


def test_a_channel_is_open_unless_unsubscribed_and_while_its_purposes_are_allowed() -> None:
    granted, stopped = grant("a", "research"), unsubscribe("b", "email-magazine")
    again = unsubscribe("c", "email-magazine", at=NOW + 1, action="resubscribed")

    assert answer("email-magazine", granted) == ("grant", "subscribed", "granted:appi")
    assert answer("email-magazine", granted, stopped) == ("withdraw", "unsubscribed:email-magazine")
    assert answer("email-magazine", granted, stopped, again) == ("grant", "subscribed", "granted:appi")
    assert answer("email-magazine", stopped) == ("withdraw", "unsubscribed:email-magazine", "not-granted")


def test_a_list_ends_with_its_own_unsubscription_or_with_that_of_the_whole_channel() -> None:
    granted = grant("a", "research")
    weekly, whole = unsubscribe("b", "email-magazine", "weekly"), unsubscribe("b", "email-magazine")

    assert answer("email-magazine/weekly", granted, weekly) == ("withdraw", "unsubscribed:email-magazine")
    assert answer("email-magazine/daily", granted, weekly) == ("grant", "subscribed", "granted:appi")
    assert answer("email-magazine", granted, weekly) == ("grant", "subscribed", "granted:appi")
    assert answer("email-magazine/weekly", granted, whole) == ("withdraw", "unsubscribed:email-magazine")


@pytest.mark.parametrize(
    ("scope", "third_party", "wanted"),
    [
        ("use", True, ("suspend", "suspended-use")),
        ("use", False, ("suspend", "suspended-use")),
        ("provision", True, ("suspend", "suspended-provision")),
        ("provision", False, ("grant", "granted:appi")),
    ],
)
def test_use_is_suspended_for_everybody_and_provision_for_third_parties(
    scope: str, third_party: bool, wanted: tuple[str, ...]
) -> None:
    granted, suspended = grant("a", "research"), suspension("b", scope)

    assert answer("research", granted, suspended, third_party=third_party) == wanted


def test_a_suspension_ends_when_lifted_or_at_its_time() -> None:
    granted, suspended = grant("a", "research"), suspension("b", until=NOW + 50)
    lifted = suspension("c", at=NOW + 1, action="lifted")

    assert answer("research", granted, suspended, at=NOW + 49) == ("suspend", "suspended-use")
    assert answer("research", granted, suspended, at=NOW + 50) == ("grant", "granted:appi")
    assert answer("research", granted, suspended, lifted, at=NOW + 2) == ("grant", "granted:appi")
    assert said("research", granted, suspended, at=NOW + 49).valid_until == NOW + 50
    assert said("research", granted, suspended, at=NOW + 50).boundary == NOW + 50


def test_a_withdrawal_under_a_suspension_is_a_withdrawal() -> None:
    assert answer("research", suspension("a"), consent("b", "research")) == (
        "withdraw",
        "withdrawn:appi",
        "suspended-use",
    )


@pytest.mark.parametrize(("at", "wanted"), [(-1, "erased"), (0, "erased"), (1, "granted:appi")])
def test_a_deletion_voids_what_was_granted_at_or_before_it(at: int, wanted: str) -> None:
    assert answer("research", deletion("a"), grant("b", "research", NOW + at))[1:] == (wanted,)


def test_a_deletion_ends_what_was_never_withdrawn_too_and_leaves_withdrawals_standing() -> None:
    assert answer("site", deletion("a")) == ("withdraw", "erased")
    assert answer("site", deletion("a"), consent("b", "site", at=NOW - 1)) == ("withdraw", "withdrawn:appi")
    assert answer("site", deletion("a"), grant("b", "site", NOW + 1)) == ("grant", "granted:appi")


def test_cancelling_a_deletion_restores_nothing() -> None:
    events = (grant("a", "research", NOW - 1), deletion("b"), deletion("c", NOW + 1, action="cancelled"))

    assert answer("research", *events) == ("withdraw", "erased")


def test_every_deletion_ever_admitted_raises_the_watermark() -> None:
    late, early, between = deletion("a", NOW + 9), deletion("b", NOW), grant("c", "research", NOW + 5)

    assert answer("research", late, between, early) == ("withdraw", "erased")


@pytest.mark.parametrize(
    ("birth_date", "name", "wanted"),
    [
        ("2007-06-01", "ads", ("grant", "granted:appi")),
        ("2007-06-02", "ads", ("withdraw", "minor-marketing")),
        ("2007-06-02", "research", ("grant", "granted:appi")),
        ("2012-06-01", "research", ("grant", "granted:appi")),
        ("2012-06-02", "research", ("withdraw", "minor-dealing")),
        ("2012-06-02", "service", ("withdraw", "minor-dealing")),
        ("2012-06-02", "ads", ("withdraw", "minor-dealing", "minor-marketing")),
        ("2012-06-02", "cookies", ("withdraw", "minor-dealing", "minor-marketing")),
    ],
)
def test_minors_get_no_marketing_and_children_no_dealing(birth_date: str, name: str, wanted: tuple[str, ...]) -> None:
    granted = [grant("a", name)] if name in ("ads", "research") else []

    assert answer(name, *granted, born("b", birth_date), at=NOW) == wanted


def test_an_unknown_age_is_denied_where_the_purpose_bars_minors_unless_the_policy_allows_it() -> None:
    assert answer("ads", grant("a", "ads")) == ("withdraw", "age-unknown")
    assert answer("ads", grant("a", "ads"), ADULT) == ("grant", "granted:appi")
    assert answer("cookies", grant("a", "cookies")) == ("grant", "granted:appi")


def test_a_child_found_is_deleted_everywhere_and_a_minor_where_there_is_only_marketing() -> None:
    child, minor, adult = (written(born("a", day)) for day in ("2012-06-02", "2007-06-02", "2007-06-01"))
    found = {
        name: [to_delete(record, each, POLICY, NOW) for each in (ADS, CRM)]
        for name, record in {"child": child, "minor": minor, "adult": adult}.items()
    }

    reasons = {name: [each and each.reasons for each in verdicts] for name, verdicts in found.items()}
    assert reasons == {
        "child": [("minor-dealing",), ("minor-dealing",)],
        "minor": [("minor-marketing",), None],
        "adult": [None, None],
    }


def test_a_deletion_names_the_watermark_and_the_age_that_made_it() -> None:
    record = written(deletion("a", NOW - 1), born("b", "2012-06-02"))

    verdict = to_delete(record, ADS, POLICY, NOW)

    assert verdict is not None
    assert (verdict.scope, verdict.verb, verdict.explicit) == ("*", "delete", True)
    assert verdict.reasons == ("erased", "minor-dealing")
    assert verdict.stamps == tuple(stamp(name, record.registers[name]) for name in (AGE, ERASED))


def test_an_age_said_before_a_deletion_is_forgotten_with_the_rest_shredded_or_not() -> None:
    record = written(born("a", "2012-06-02", NOW - 1), deletion("b"), grant("c", "research", NOW + 1))

    verdict = to_delete(record, CRM, POLICY, NOW)

    assert verdict is not None
    assert verdict.reasons == ("erased",)
    assert judge(record, "research", POLICY, NOW) == judge(shred(record, NOW), "research", POLICY, NOW)


def test_a_channel_bars_minors_as_its_purposes_do() -> None:
    mailer = partner("mailer", "ad-mail")

    assert to_delete(written(born("a", "2007-06-02")), mailer, POLICY, NOW) is not None
    assert answer("ad-mail", grant("b", "ads"), born("a", "2007-06-02"), at=NOW) == ("withdraw", "minor-marketing")


@pytest.mark.parametrize(
    ("version", "at", "wanted"),
    [
        ("v1", "2025-12-31T23:59:59.999", "granted:appi"),
        ("v1", "2026-01-01T00:00", "reconsent-needed"),
        ("v2", "2026-01-01T00:00", "granted:appi"),
        ("", "2026-01-01T00:00", "reconsent-needed"),
    ],
)
def test_a_new_version_asks_anew_for_the_purposes_that_it_names(version: str, at: str, wanted: str) -> None:
    granted = grant("a", "research", policy_version=version)

    assert answer("research", granted, at=jst(at))[1:] == (wanted,)
    assert answer("site", grant("a", "site", policy_version="v1"), at=jst(at))[1:] == ("granted:appi",)


def test_a_grant_of_no_version_counts_under_the_version_of_its_day() -> None:
    assert answer("research", grant("a", "research", jst("2026-01-01")), at=jst("2026-02-01")) == (
        "grant",
        "granted:appi",
    )


def test_a_grant_under_a_version_that_the_policy_has_dropped_must_be_given_anew() -> None:
    record = written(grant("a", "research", jst("2026-01-02"), policy_version="v2"))
    dropped = policy(versions=(Version(name="v3", effective="2026-01-01", reconsent=("research",)),))

    assert judge(record, "research", dropped, jst("2026-02-01")).reasons == ("reconsent-needed",)


def test_a_grant_expires_at_its_time() -> None:
    granted = grant("a", "research", expires_at=NOW + 50)

    assert answer("research", granted, at=NOW + 49) == ("grant", "granted:appi")
    assert answer("research", granted, at=NOW + 50) == ("withdraw", "expired")
    assert said("research", granted, at=NOW + 50).explicit


@pytest.mark.parametrize(
    ("basis", "role", "wanted"),
    [
        ("consent", "distributor", True),
        ("opt-out", "distributor", True),
        ("exception", "distributor", True),
        ("consent", "a role that the policy has dropped", True),
        ("consent", "subcontractor", False),
        ("entrustment", "subcontractor", False),
        ("joint-use", "distributor", False),
        ("succession", "distributor", False),
    ],
)
def test_art_27_5_says_who_is_no_third_party(basis: LegalBasis, role: str, wanted: bool) -> None:
    assert is_third_party(partner("p", basis=basis, role=role), POLICY) == wanted


def test_who_consented_to_no_transfer_abroad_is_not_given_abroad_where_consent_is_its_basis() -> None:
    asked, spared = (
        partner("abroad", "research", country="US", transfer=Transfer(basis=basis))
        for basis in ("consent", "equivalent-measures")
    )
    under = policy(purposes=(*POLICY.purposes, purpose(CROSS_BORDER, "opt-in")))
    granted, agreed = grant("a", "research"), grant("b", CROSS_BORDER)
    records = [
        written(*events, under=under) for events in ((granted,), (granted, agreed), (granted, consent("c", "*")))
    ]

    found = [[decide(each, one, under, LATE).verdicts[0].reasons for each in records] for one in (asked, spared, CRM)]

    assert found[0] == [("not-granted",), ("granted:appi",), ("withdrawn-all:appi",)]
    assert found[1] == [("granted:appi",), ("granted:appi",), ("withdrawn-all:appi",)]
    assert [needs_transfer(each) for each in (asked, spared, CRM)] == [True, False, False]


def test_a_decision_has_a_verdict_for_every_scope_of_every_account() -> None:
    decision = decide(written(suspension("a", "provision"), ADULT), ADS, POLICY, NOW)

    assert {each.scope: each.reasons for each in decision.verdicts} == {
        "ads": ("not-granted", "suspended-provision"),
        "profiling": ("suspended-provision",),
    }
    assert (decision.partner, decision.deletion) == ("ads-net", None)


def test_stamps_name_every_register_that_had_a_say_even_when_it_changed_nothing() -> None:
    record = written(
        grant("a", "research"),
        grant("b", "research", regime="gdpr"),
        unsubscribe("c", "email-magazine", "weekly"),
        suspension("d", action="lifted"),
        deletion("e", NOW - 20),
        ADULT,
        grant("f", "site"),
    )

    names = [each.register for each in judge(record, "email-magazine/weekly", POLICY, LATE).stamps]

    wanted = ["age", "channel/email-magazine/weekly", "erased", "purpose/appi/research", "purpose/gdpr/research"]
    assert names == [*wanted, "suspension/use"]
