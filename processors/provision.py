"""What a row of the provision log becomes: a record with the items that the law wants, in the faces that can be shown.

Nothing is guessed: an item that is asked for and missing is named in the record, under `missing`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from todoke.schemas.events import LogRow
from todoke.schemas.recordkeeping import RecordRule, RecordRules, Retention
from todoke.schemas.records import Record

JST = timezone(timedelta(hours=9), "JST")
WHO = frozenset({"subject", "identifiers", "age", "other_subject"})
"""Fields of a row that say who it is about, or what only that person is."""
UNREADABLE = "unreadable"
EACH = "each"


class _Plan(Struct, frozen=True):
    """A rule, made ready for many rows: where each shown item is found, what must be there, retention, and by method."""

    rule: RecordRule
    shown: tuple[tuple[str, str], ...]
    required: tuple[tuple[str, str], ...]
    period: Retention
    others: dict[str, Retention]


class Recorder:
    """Makes records of rows by one set of rules."""

    def __init__(self, rules: RecordRules) -> None:
        """See `RecordRules`."""
        self.rules = rules
        self._plans: dict[tuple[str, str, str], _Plan] = {}

    def record(self, row: LogRow, opened: bytes) -> Record:
        """The record of a row whose payload has been opened (JSON). One that can't be read is kept whole, as it is."""
        try:
            payload = msgspec.json.decode(opened, type=dict[str, Any])
            facts = dict(payload.pop("event", {})) | payload
        except (msgspec.DecodeError, TypeError, ValueError):
            facts = {UNREADABLE: opened.decode("utf-8", "replace")}
        day = day_of(row.at)
        plan = self._plan(row.kind, str(facts.get("legal_basis", "")), day)
        facts["provided_on"] = day
        principal = {name: facts.pop(name) for name in WHO & facts.keys()}
        missing = [name for name, source in plan.required if facts.get(source) in (None, "", [], {})]
        shown = {name: facts.pop(source) for name, source in plan.shown if source in facts}
        facts["cause"] = row.cause
        if missing:
            facts["missing"] = missing
        period, anchor, rolls, method = plan.period, day, "", str(shown.get("method") or facts.get("method") or EACH)
        if method != EACH:
            if other := plan.others.get(method):
                period = other
            else:  # such as a lump sum by opt-out, which Rule 19(2) leaves out
                facts["irregular"] = ["method"]
        if period.counts == "last-provision":
            anchor = _until(shown.get("period_end") or facts.get("period_end"), day)
            rolls = f"{plan.rule.name}|{row.partner}"
        return Record(
            record_id=row.row_id,
            kind=plan.rule.record,
            rule=plan.rule.name,
            at=row.at,
            subject_ref=row.subject_ref,
            source=row.source,
            number=row.number,
            partner=row.partner,
            retention=period.name,
            anchor=anchor,
            expires=expiry(anchor, period.years),
            supersedes=str(facts.get("supersedes") or ""),
            rolls=rolls,
            disclosable=shown,
            principal=principal,
            internal=facts,
        )

    def _plan(self, row: str, basis: str, day: str) -> _Plan:
        key = (row, basis, day)
        found = self._plans.get(key)
        if found is None:
            rule = self.rules.of(row, basis, day)
            found = _Plan(
                rule,
                tuple((item.name, item.source) for item in rule.items if "subject" in item.readers),
                tuple((item.name, item.source) for item in rule.items if item.required),
                self.rules.period(rule.retention),
                {method: self.rules.period(name) for method, name in rule.methods.items()},
            )
            if len(self._plans) > 10_000:  # a day's kinds are few; days of replayed rows may be many
                self._plans.clear()
            self._plans[key] = found
        return found


def day_of(at: int) -> str:
    """The JST day (ISO) of an instant (ms)."""
    return _day((at + 9 * 3_600_000) // 86_400_000)


@lru_cache(1024)
def _day(number: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)).date().isoformat()


def _until(text: object, day: str) -> str:
    """The last day of provision that a row names, the row's own where it names none."""
    try:
        return date.fromisoformat(str(text)).isoformat() if text else day
    except ValueError:
        return day


@lru_cache(1024)
def expiry(anchor: str, years: int) -> str:
    """The first day (ISO) on which a record need not be kept any more; "" where it is kept without end.

    A period that begins in the course of a day doesn't count that day (Civil Code Art. 140), and ends with the day before the
    one that corresponds to its first (Art. 143): of 23 November, three years end with 23 November, and the 24th is free.
    """
    if not years:
        return ""
    begin = date.fromisoformat(anchor) + timedelta(days=1)
    try:
        return begin.replace(year=begin.year + years).isoformat()
    except ValueError:  # 29 February: it ends with the last day of that month
        return date(begin.year + years, 3, 1).isoformat()


def gaps(numbers: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """By source, the numbers that are missing below the highest of one subject's rows. Sources that don't number say 0."""
    seen: dict[str, set[int]] = {}
    for source, number in numbers:
        if number > 0:
            seen.setdefault(source, set()).add(number)
    missing = {source: sorted(set(range(1, max(theirs))) - theirs) for source, theirs in seen.items()}
    return {source: theirs for source, theirs in missing.items() if theirs}


def together(records: Iterable[Record]) -> dict[str, str]:
    """By record id, the day on which each expires: of those that roll together, the last of theirs."""
    found = list(records)
    last: dict[str, str] = {}
    for each in found:
        if each.rolls:
            last[each.rolls] = max(last.get(each.rolls, ""), each.expires)
    return {each.record_id: last.get(each.rolls, each.expires) for each in found}


def standing(records: Sequence[Record]) -> Mapping[str, str]:
    """By record id, the id of the record that took its place, for those that were corrected or annulled."""
    return {each.supersedes: each.record_id for each in sorted(records, key=lambda each: each.at) if each.supersedes}
