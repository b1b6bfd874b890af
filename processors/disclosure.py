"""What of a person's records is shown to whom, and on which ground the rest is not (APPI Art. 33(5), Cabinet Order 11).

A person is owed the items that the law has recorded of provision to and from third parties. A record that nobody had to
make is none of those (guideline 3-8-3), and is counted among what is left out. Corrected records are shown with what
corrects them: nothing is edited.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from todoke.schemas.errors import Misconfigured
from todoke.schemas.policy import Label
from todoke.schemas.recordkeeping import Item, Reader, RecordRule, RecordRules
from todoke.schemas.records import Record

Language = Literal["en", "ja"]
OWED: frozenset[Reader] = frozenset({"subject"})
INNER: frozenset[Reader] = frozenset({"desk", "auditor", "commission"})
"""Readers who are shown what a row says besides its items, too."""


class Ground(Struct, frozen=True):
    """Why something is not shown: what people read, and the law."""

    label: Label
    law: str


GROUNDS: dict[str, Ground] = {
    "order11-1": Ground(
        Label(
            "It could endanger the life, body or property of the person or of others",
            "本人又は第三者の生命、身体又は財産に危害が及ぶおそれ",
        ),
        "Cabinet Order 11(i)",
    ),
    "order11-2": Ground(
        Label(
            "It could encourage or induce an unlawful or unjust act", "違法又は不当な行為を助長し、又は誘発するおそれ"
        ),
        "Cabinet Order 11(ii)",
    ),
    "order11-3": Ground(
        Label(
            "It could harm national security or relations with other countries",
            "国の安全が害されるおそれ、他国等との信頼関係が損なわれるおそれ等",
        ),
        "Cabinet Order 11(iii)",
    ),
    "order11-4": Ground(
        Label(
            "It could hinder the prevention or investigation of crime, or public order",
            "犯罪の予防、鎮圧又は捜査その他の公共の安全と秩序の維持に支障が及ぶおそれ",
        ),
        "Cabinet Order 11(iv)",
    ),
    "art33-2-1": Ground(
        Label(
            "It could harm the life, body, property or other rights of the person or of others",
            "本人又は第三者の生命、身体、財産その他の権利利益を害するおそれ",
        ),
        "APPI Art. 33(5), 33(2)(i)",
    ),
    "art33-2-2": Ground(
        Label(
            "It could seriously hinder the proper conduct of the operator's business",
            "業務の適正な実施に著しい支障を及ぼすおそれ",
        ),
        "APPI Art. 33(5), 33(2)(ii)",
    ),
    "art33-2-3": Ground(
        Label("It would violate another law", "他の法令に違反することとなる場合"),
        "APPI Art. 33(5), 33(2)(iii)",
    ),
    "no-provision-record": Ground(
        Label(
            "Not a record that the law asks for of provision to or from third parties",
            "法令上の作成義務に基づく第三者提供記録に当たらないもの",
        ),
        "APPI Art. 33(5), guideline 3-8-3",
    ),
    "no-statutory-item": Ground(
        Label("An item that the law doesn't ask for in the record", "法定の記録事項でないもの"),
        "APPI Art. 33(5), guideline 3-8-3",
    ),
    "not-for-reader": Ground(Label("Not for this reader", "閲覧者の権限外"), "record rules"),
    "another-partner": Ground(Label("About another partner", "他の提供先に関するもの"), "record rules"),
}
"""Of these `order11-…` and `art33-2-…` are somebody's decision on a record; the others follow from the rules."""
DECISIONS = tuple(name for name in GROUNDS if name.startswith(("order11", "art33")))


class Value(Struct, frozen=True):
    """One item of a record as it is shown: a list where it has several; None where it is required, and the record lacks it."""

    name: str
    label: Label
    statutory: bool
    value: Any


class Line(Struct, frozen=True, kw_only=True):
    """One record as it is shown. `corrected_by` and `annulled_by` name the record that took its place, `replaces` what it took."""

    record_id: str
    rule: str
    label: Label
    law: str
    on: str
    at: int
    partner: str
    values: tuple[Value, ...]
    corrected_by: str = ""
    annulled_by: str = ""
    replaces: str = ""
    more: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Its name alone."""
        return f"Line({self.record_id})"


class LeftOut(Struct, frozen=True):
    """How many records, or items of records, are not shown on a ground."""

    ground: str
    label: Label
    law: str
    what: Literal["records", "items"]
    count: int


class Disclosure(Struct, frozen=True):
    """What one reader is shown on a day (JST, ISO), the oldest first."""

    reader: Reader
    day: str
    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...]


def disclose(
    records: Iterable[Record],
    rules: RecordRules,
    reader: Reader,
    day: str,
    *,
    partner: str = "",
    withheld: Mapping[str, str] | None = None,
) -> Disclosure:
    """The projection for a reader; an agent sees what the person does. `partner` is who reads, for partners.

    `withheld` are decisions: a ground of `DECISIONS` by record id. Raises `Misconfigured` for any other, and for one about
    a record that is not there.
    """
    found = sorted(records, key=lambda each: (each.at, each.record_id))
    decided = dict(withheld or {})
    unknown = set(decided) - {each.record_id for each in found}
    if unknown or set(decided.values()) - set(DECISIONS):
        raise Misconfigured(f"withhold: name a record of this person, and one of {', '.join(DECISIONS)}")
    after = {each.supersedes: each for each in found if each.supersedes}
    left: Counter[tuple[str, Literal["records", "items"]]] = Counter()
    lines = []
    for record in found:
        rule = rules.named(record.rule)
        ground = decided.get(record.record_id) if reader == "subject" else None
        ground = ground or _against(record, rule, reader, partner)
        if ground:
            left[ground, "records"] += 1
            continue
        shown = [item for item in rule.items if reader in item.readers]
        hidden = len(rule.items) - len(shown)
        if hidden:
            left["no-statutory-item" if reader == "subject" else "not-for-reader", "items"] += hidden
        lines.append(_line(record, rule, shown, after.get(record.record_id), inner=reader in INNER))
    out = (LeftOut(name, GROUNDS[name].label, GROUNDS[name].law, what, count) for (name, what), count in left.items())
    return Disclosure(reader, day, tuple(lines), tuple(sorted(out, key=lambda each: (each.what, each.ground))))


def _against(record: Record, rule: RecordRule, reader: Reader, partner: str) -> str:
    """Why a record is not for a reader, empty where it is."""
    if reader == "subject" and not (rule.duty and any(item.statutory for item in rule.items)):
        return "no-provision-record"
    if reader == "partner" and record.partner != partner:
        return "another-partner"
    if reader == "partner" and not any("partner" in item.readers for item in rule.items):
        return "not-for-reader"
    return ""


def _line(record: Record, rule: RecordRule, items: Sequence[Item], after: Record | None, *, inner: bool) -> Line:
    annulled = after is not None and bool(after.internal.get("annuls"))
    by = after.record_id if after else ""
    return Line(
        record_id=record.record_id,
        rule=rule.name,
        label=rule.label,
        law=rule.law,
        on=record.anchor,
        at=record.at,
        partner=record.partner,
        values=tuple(
            Value(each.name, each.label, each.statutory, value)
            for each in items
            if (value := _value(record, each)) is not None or each.required
        ),
        corrected_by="" if annulled else by,
        annulled_by=by if annulled else "",
        replaces=record.supersedes,
        more=record.internal if inner else {},
    )


def _value(record: Record, item: Item) -> Any:
    """From the face that has it: the person's, or what is internal under the row's own name for it."""
    found = record.disclosable.get(item.name, record.internal.get(item.source))
    return found if found not in ("", [], {}) else None


def as_json(found: Disclosure, about: Mapping[str, str]) -> bytes:
    """For machines: `about` is who answers and under which number."""
    whole = {"about": dict(about), **msgspec.to_builtins(found)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2)


def as_csv(found: Disclosure, language: Language) -> bytes:
    """For tables: a row for each item of each record, and one for each ground of what is left out. UTF-8 with its mark."""
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow(
        ["record", "day", "kind", "law", "partner", "item", "label", "statutory", "value", "replaced_by", "replaces"]
    )
    for line in found.lines:
        head = [line.record_id, line.on, getattr(line.label, language), line.law, line.partner]
        tail = [line.corrected_by or line.annulled_by, line.replaces]
        for each in line.values:
            cells = [each.name, getattr(each.label, language), "yes" if each.statutory else "no", _text(each.value)]
            out.writerow([_cell(one) for one in [*head, *cells, *tail]])
    for left in found.left_out:
        said = ["", "", "left-out", left.law, "", left.ground, getattr(left.label, language), "", left.count, "", ""]
        out.writerow([_cell(str(one)) for one in said])
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(text: str) -> str:
    """What a spreadsheet would take for a formula is made text (OWASP, CSV Injection)."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
