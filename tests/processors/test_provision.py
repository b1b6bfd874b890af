"""What a row becomes: the rule by kind, basis and day; retention by method; nothing guessed, nothing edited."""

from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.processors.test_disclosure import RULES, made, name
from todoke.processors.provision import Recorder, expiry, gaps, standing, together
from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import LogRow
from todoke.schemas.records import FACES, Record

ROW = "provision-29"
DAY = "2026-09-02"  # of the rows that `made` makes


def provision(number: int = 1, /, **event: object) -> Record:
    return made(ROW, number, {"event": {"counterpart_name": "Meta", **event}}, "meta")


@pytest.mark.parametrize(
    ("basis", "rule", "kind"),
    [
        ("consent", "provision-by-consent", "provision"),
        ("opt-out", "provision-by-opt-out", "provision"),
        ("entrustment", "provision-exempt", "exemption"),
        ("exception", "provision-exempt", "exemption"),
        ("whim", "other", "other"),
    ],
)
def test_the_legal_basis_chooses_the_rule_and_an_exemption_keeps_its_ground(basis: str, rule: str, kind: str) -> None:
    record = provision(legal_basis=basis)

    assert (record.rule, record.kind) == (rule, kind)
    if kind == "exemption":
        assert record.internal["legal_basis"] == basis
        assert RULES.named(rule).ground
        assert record.disclosable == {}


@pytest.mark.parametrize(
    ("method", "basis", "kept", "anchor", "expires"),
    [
        ("each", "consent", "R3", DAY, "2029-09-03"),
        ("lump-sum", "consent", "R3L", "2026-08-31", "2029-09-01"),
        ("substitute", "consent", "R1", "2026-08-31", "2027-09-01"),
        ("each", "opt-out", "R3", DAY, "2029-09-03"),
        ("lump-sum", "opt-out", "R3", DAY, "2029-09-03"),
        ("substitute", "opt-out", "R3", DAY, "2029-09-03"),
    ],
)
def test_retention_follows_the_method_and_by_opt_out_each_is_recorded(
    method: str, basis: str, kept: str, anchor: str, expires: str
) -> None:
    record = provision(legal_basis=basis, method=method, period_end="2026-08-31")

    assert (record.retention, record.anchor, record.expires) == (kept, anchor, expires)
    assert bool(record.rolls) == (kept != "R3")
    assert record.internal.get("irregular", []) == (["method"] if basis == "opt-out" and method != "each" else [])


@pytest.mark.parametrize("end", [None, "", "soon", 7])
def test_a_period_without_an_end_counts_from_the_rows_day(end: object) -> None:
    assert provision(legal_basis="consent", method="lump-sum", period_end=end).anchor == DAY


def test_records_that_roll_are_kept_as_long_as_the_last_of_them() -> None:
    first, second = (
        provision(number, legal_basis="consent", method="lump-sum", period_end=end)
        for number, end in ((1, "2026-07-31"), (2, "2026-08-31"))
    )
    single = provision(3, legal_basis="consent")
    other = replace(first, record_id=name(4), rolls="provision-by-consent|another")

    assert together([single, second, other, first]) == {
        name(1): second.expires,
        name(2): second.expires,
        name(3): single.expires,
        name(4): first.expires,
    }


def test_a_correction_names_what_it_takes_the_place_of_and_edits_nothing() -> None:
    first = provision(legal_basis="consent")
    event = {"counterpart_name": "Meta", "legal_basis": "consent", "items": ["name"], "corrects": "e"}

    second = made(ROW, 2, {"event": event, "supersedes": first.record_id}, "meta")

    assert second.supersedes == first.record_id
    assert standing([second, first]) == {first.record_id: second.record_id}
    assert first == provision(legal_basis="consent")


@given(st.dictionaries(st.sampled_from(["legal_basis", "items", "method", "identifiers", "x"]), st.text() | st.none()))
def test_every_fact_of_a_row_is_in_one_face_and_who_it_is_about_in_its_own(event: dict[str, object]) -> None:
    record = provision(**event)

    for fact, value in event.items():
        faces = [each for each in FACES if fact in record.face(each)]
        assert len(faces) == 1
        assert record.face(faces[0])[fact] == value
        assert (faces == ["principal"]) == (fact == "identifiers")


@given(st.binary())
def test_what_cannot_be_read_is_kept_as_it_is(raw: bytes) -> None:
    record = Recorder(RULES).record(LogRow(name(1), ROW, "ref", "intake", 1, 0, "", "", b""), raw)

    assert record.record_id == name(1)
    assert record.retention


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(1, 7))
def test_nothing_expires_before_the_whole_years_are_over(day: date, years: int) -> None:
    over = date.fromisoformat(expiry(day.isoformat(), years))

    assert (over - day).days in range(365 * years + 1, 366 * years + 2)
    assert over.month in {day.month, day.month % 12 + 1}


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_a_gap_is_what_was_taken_out_below_the_highest(there: set[int], gone: set[int]) -> None:
    left = there - gone
    wanted = sorted(set(range(1, max(left))) - left) if left else []

    assert gaps([("intake", each) for each in left] + [("people", 0)]) == ({"intake": wanted} if wanted else {})


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('lump-sum = "R3L"', 'lump-sum = "R9"', "no class is called"),
        ('retention = "R3"', 'retention = "R4"', "no class is called"),
        ('since = "2022-04-01"', 'since = "2022-04-31"', "is no day"),
        ("duty = true", "duty = false", "nobody has to make this record"),
        ('readers = ["subject", "desk", "partner"', 'readers = ["desk", "partner"', "the person may not see it"),
        ('fallback = "other"', 'fallback = "nothing"', "no rule is called"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_with_file_line_and_fix(was: str, now: str, said: str) -> None:
    text = toml.shipped("records.toml")
    assert was in text

    with pytest.raises(Misconfigured, match=r"records\.toml:\d+") as caught:
        toml.records(text.replace(was, now), "records.toml")

    assert said in str(caught.value)


def test_a_rule_with_a_later_day_holds_from_then_on() -> None:
    rule = RULES.named("provision-by-consent")
    newer = replace(rule, name="newer", since="2027-01-01")
    rules = replace(RULES, record=(*RULES.record, newer))

    assert rules.of(ROW, "consent", "2026-12-31") == rule
    assert rules.of(ROW, "consent", "2027-01-01") == newer
    assert msgspec.convert(msgspec.to_builtins(rules), type(rules)) == rules
