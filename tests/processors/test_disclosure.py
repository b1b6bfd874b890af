"""What is shown to whom: the statutory items to the person, nothing twice, nothing silently left out."""

import csv
import io
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from todoke.processors.disclosure import DECISIONS, GROUNDS, Disclosure, as_csv, as_json, disclose
from todoke.processors.provision import Recorder
from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import LogRow
from todoke.schemas.examples import examples
from todoke.schemas.recordkeeping import Reader
from todoke.schemas.records import Record

RULES = toml.default_records()
DAY = "2026-11-23"
ROWS = {"given": "provision-29", "received": "receipt-30", "joined": "related-31"}
READERS: tuple[Reader, ...] = ("subject", "desk", "partner", "auditor", "commission")


def name(number: int) -> str:
    return str(UUID(int=number))


def made(kind: str, number: int, payload: object, partner: str = "") -> Record:
    row = LogRow(name(number), kind, "ref", "intake", number, 1_788_285_600_000 + number, "cause", partner, b"")
    return Recorder(RULES).record(row, msgspec.json.encode(payload))


def provisions() -> list[Record]:
    """The records of the examples of provisions."""
    return [
        made(ROWS[each.direction], number, {"event": each, "demands": []}, each.counterpart)  # type: ignore[attr-defined]  # examples of one topic
        for number, each in enumerate(examples("provisions"), 1)
    ]


def others() -> list[Record]:
    """Records that nobody has to make by Art. 29 or 30."""
    consent = {"event": {"purpose": "ads", "decision": "withdrawn", "method": "web"}}
    return [
        made("ConsentChange", 101, consent),
        made("delivery-intent", 102, {"verb": "withdraw", "effect": "x"}, "meta"),
        made("look-up", 103, {"by": "mori", "ground": "call", "command": "subject"}),
        made("person-act", 104, {"act": "closed", "by": "mori"}),
    ]


def shown(found: Disclosure) -> dict[str, dict[str, object]]:
    return {each.record_id: {one.name: one.value for one in each.values} for each in found.lines}


def test_a_person_is_shown_records_that_the_law_asks_for_and_told_what_is_left_out() -> None:
    found = disclose([*others(), *provisions()], RULES, "subject", DAY)

    kinds = [each.rule for each in found.lines]
    assert set(kinds) == {"provision-by-consent", "receipt-by-opt-out", "related-information"}
    assert all(any(value.statutory for value in line.values) for line in found.lines)
    left = {each.ground: each for each in found.left_out}
    assert {(name, each.what) for name, each in left.items()} == {
        ("no-provision-record", "records"),
        ("no-statutory-item", "items"),
    }
    assert left["no-provision-record"].count + len(found.lines) == len(others()) + len(provisions())
    assert not any(line.more for line in found.lines)


def test_what_a_person_sees_is_the_face_that_their_receipt_opens() -> None:
    records = provisions()
    by_id = {each.record_id: each for each in records}

    for record_id, values in shown(disclose(records, RULES, "subject", DAY)).items():
        there = {name_: value for name_, value in values.items() if value is not None}
        assert there == {key: value for key, value in by_id[record_id].disclosable.items() if value not in ("", [], {})}


def test_what_a_record_lacks_is_shown_as_missing() -> None:
    (abroad,) = [each for each in provisions() if each.partner == "meta"]

    values = shown(disclose([abroad], RULES, "subject", DAY))[abroad.record_id]

    assert values["recipient_name"] == "Meta Platforms, Inc."
    assert values["recipient_address"] is None
    assert abroad.internal["missing"] == ["recipient_address", "recipient_representative"]


def test_a_partner_sees_its_own_rows_alone_and_never_the_consent() -> None:
    found = disclose([*others(), *provisions()], RULES, "partner", DAY, partner="meta")

    assert {each.partner for each in found.lines} == {"meta"}
    assert all("legal_basis" not in values for values in shown(found).values())
    assert {each.ground for each in found.left_out} == {"another-partner", "not-for-reader"}


@pytest.mark.parametrize("reader", ["desk", "auditor", "commission"])
def test_who_answers_for_it_sees_every_record_and_what_it_says_besides(reader: Reader) -> None:
    records = [*others(), *provisions()]

    found = disclose(records, RULES, reader, DAY)

    assert {each.record_id for each in found.lines} == {each.record_id for each in records}
    assert any("act" in line.more for line in found.lines)
    assert not any("identifiers" in line.more for line in found.lines)


def test_corrected_and_annulled_records_are_shown_with_what_took_their_place() -> None:
    first = next(each for each in provisions() if each.partner == "meta")
    second = replace(first, record_id=name(200), at=first.at + 1, supersedes=first.record_id)
    third = replace(
        first, record_id=name(201), at=first.at + 2, supersedes=name(200), internal={**first.internal, "annuls": "e"}
    )

    lines = disclose([third, second, first], RULES, "subject", DAY).lines

    assert [(each.corrected_by, each.annulled_by, each.replaces) for each in lines] == [
        (name(200), "", ""),
        ("", name(201), first.record_id),
        ("", "", name(200)),
    ]


def test_a_decision_not_to_disclose_is_named_and_holds_for_the_person_alone() -> None:
    records = provisions()
    one = next(each for each in records if each.partner == "meta")
    withheld = {one.record_id: "order11-2"}

    mine = disclose(records, RULES, "subject", DAY, withheld=withheld)
    theirs = disclose(records, RULES, "commission", DAY, withheld=withheld)

    assert one.record_id not in shown(mine)
    assert ("order11-2", 1) in {(each.ground, each.count) for each in mine.left_out}
    assert one.record_id in shown(theirs)


@pytest.mark.parametrize("wrong", [{name(1): "no-provision-record"}, {name(999): "order11-1"}, {name(1): ""}])
def test_another_ground_or_somebody_elses_record_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="withhold"):
        disclose(provisions(), RULES, "subject", DAY, withheld=wrong)


@given(st.data())
def test_every_record_is_shown_or_counted_once_whoever_reads(data: st.DataObject) -> None:
    records = data.draw(st.permutations([*others(), *provisions()]).map(lambda all_: all_[:7]))
    reader = data.draw(st.sampled_from(READERS))
    ids = [each.record_id for each in records]
    withheld = data.draw(st.dictionaries(st.sampled_from(ids), st.sampled_from(DECISIONS)))

    found = disclose(records, RULES, reader, DAY, partner="meta", withheld=withheld)

    left = sum(each.count for each in found.left_out if each.what == "records")
    assert len(found.lines) + left == len(records)
    assert {each.ground for each in found.left_out} <= set(GROUNDS)
    allowed = {(rule.name, item.name) for rule in RULES.record for item in rule.items if reader in item.readers}
    assert {(line.rule, value.name) for line in found.lines for value in line.values} <= allowed
    assert found == disclose(sorted(records, key=lambda each: each.record_id), RULES, reader, DAY, partner="meta", withheld=withheld)  # fmt: skip


def test_json_and_csv_say_the_same_and_no_cell_is_a_formula() -> None:
    one = next(each for each in provisions() if each.partner == "meta")
    evil = replace(one, disclosable={**one.disclosable, "recipient_name": "=cmd()"})
    found = disclose([evil], RULES, "subject", DAY)

    told = msgspec.json.decode(as_json(found, {"number": "n"}))
    rows = list(csv.DictReader(io.StringIO(as_csv(found, "ja").decode("utf-8-sig"))))

    (line,) = told["lines"]
    assert told["about"] == {"number": "n"}
    assert [each["name"] for each in line["values"]] == [each["item"] for each in rows if each["record"]]
    assert [each["item"] for each in rows if not each["record"]] == [each["ground"] for each in told["left_out"]]
    assert {each["value"] for each in rows if each["item"] == "recipient_name"} == {"'=cmd()"}
    assert {each["kind"] for each in rows if each["record"]} == {"第三者提供記録(本人の同意)"}


TABLE = {
    "provision-by-consent": {"recipient_name", "recipient_address", "recipient_representative", "items", "legal_basis"},
    "provision-by-opt-out": {"provided_on", "recipient_name", "recipient_address", "recipient_representative", "items"},
    "receipt-by-consent": {
        "provider_name",
        "provider_address",
        "provider_representative",
        "how_acquired",
        "items",
        "legal_basis",
    },
    "receipt-by-opt-out": {
        "provided_on",
        "provider_name",
        "provider_address",
        "provider_representative",
        "how_acquired",
        "items",
        "opt_out_publication",
    },
    "related-information": {
        "provided_on",
        "consent_confirmed",
        "recipient_name",
        "recipient_address",
        "recipient_representative",
        "items",
    },
}
"""What Rules 20, 24 and 28 ask for in each record, but for the principal, who has a face of their own."""
IN_SOME = {"related-information": {"period_start", "period_end", "foreign_information"}}
"""What they ask for in lump sums, or of recipients abroad."""


@pytest.mark.parametrize("rule", TABLE)
def test_the_rules_ask_for_what_the_law_asks_for(rule: str) -> None:
    items = {each.name: each for each in RULES.named(rule).items}

    assert {each.name for each in items.values() if each.statutory} == TABLE[rule] | IN_SOME.get(rule, set())
    assert all(items[each].required and "subject" in items[each].readers for each in TABLE[rule])
