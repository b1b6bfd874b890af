"""Record rules as data: what the law wants written down of each row, for how long, and who may see it.

A rule is in force from a day on, and a later one of the same row takes its place: a record keeps the rule under which it
was made. The text is `default/records.toml`.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Literal

from msgspec import Struct

from .errors import Misconfigured
from .policy import Label, Problem, quoted

Reader = Literal["subject", "desk", "partner", "auditor", "commission"]
Counts = Literal["record", "last-provision"]


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of retention: `years` from the making of the record, or from the last provision under it. 0 is without end."""

    name: str
    years: int
    counts: Counts = "record"
    law: str
    label: Label


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One item of a record: `field` is where a row has it, the name where it is the same.

    `statutory` items are those that Art. 33(5) has disclosed; `required` ones are named in the record where they are missing.
    """

    name: str
    field: str = ""
    label: Label
    law: str
    required: bool = False
    statutory: bool = False
    readers: tuple[Reader, ...] = ("desk", "auditor", "commission")

    @property
    def source(self) -> str:
        """The field of the row."""
        return self.field or self.name


class RecordRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a row of this kind becomes, from the day `since` on; of several, the one that names the row's legal basis.

    `duty` says whether the law asks for the record: one that nobody asked for is no record of provision in the sense of
    Art. 33(5), and is not disclosed as one. `methods` are the ways of recording besides each provision by itself, with the
    class of retention of each; one that is not there is not allowed.
    """

    name: str
    row: str
    record: str
    since: str
    bases: tuple[str, ...] = ()
    retention: str
    methods: dict[str, str] = {}
    duty: bool = False
    ground: str = ""
    law: str
    label: Label
    items: tuple[Item, ...] = ()


class RecordRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them. `fallback` is the rule for rows of which none speaks: nothing is lost for want of a rule."""

    name: str
    revision: int
    fallback: str
    retention: tuple[Retention, ...]
    record: tuple[RecordRule, ...]

    def of(self, row: str, basis: str, day: str) -> RecordRule:
        """The rule for a row of this kind and legal basis, on that JST day (ISO)."""
        fitting = [each for each in self.record if each.row == row and each.since <= day]
        fitting = [each for each in fitting if basis in each.bases] or [each for each in fitting if not each.bases]
        return max(fitting, key=lambda each: each.since) if fitting else self.named(self.fallback)

    def named(self, name: str) -> RecordRule:
        """The rule of that name. Raises `Misconfigured` where there is none, as when a record's rule was taken out."""
        for each in self.record:
            if each.name == name:
                return each
        raise Misconfigured(f"records: no rule is called {name!r}: rules are added, never taken out")

    def period(self, name: str) -> Retention:
        """The retention class of that name, which `examine` has found to be there."""
        return next(each for each in self.retention if each.name == name)


def examine(rules: RecordRules) -> Iterable[Problem]:
    """What can't be meant, with the place of each."""
    classes = {each.name for each in rules.retention}
    yield from _twice("retention", [each.name for each in rules.retention])
    yield from _twice("record", [each.name for each in rules.record])
    if rules.fallback not in {each.name for each in rules.record}:
        yield Problem(("fallback",), f"no rule is called {quoted(rules.fallback)}", "Name one that is there.")
    for place, each in enumerate(rules.record):
        yield from _rule(("record", place), each, classes)
    for row, since, bases in {(each.row, each.since, each.bases) for each in rules.record}:
        if sum((each.row, each.since, each.bases) == (row, since, bases) for each in rules.record) > 1:
            yield Problem(("record",), f"two rules speak of {quoted(row)} from {since} on", "Give one another day.")


def _rule(here: tuple[str | int, ...], each: RecordRule, classes: set[str]) -> Iterable[Problem]:
    known = ", ".join(sorted(classes))
    if each.retention not in classes:
        yield Problem((*here, "retention"), f"no class is called {quoted(each.retention)}", f"Use one of {known}.")
    for method, name in each.methods.items():
        if name not in classes:
            what = f"no class is called {quoted(name)}"
            yield Problem((*here, "methods", method), what, f"Use one of {known}.")
    try:
        date.fromisoformat(each.since)
    except ValueError:
        yield Problem((*here, "since"), f"{quoted(each.since)} is no day", "Write one such as 2022-04-01.")
    if not each.duty and any(item.statutory for item in each.items):
        what = "it has statutory items, but nobody has to make this record"
        yield Problem((*here, "duty"), what, "Set duty = true, or take statutory from its items.")
    for item in each.items:
        if item.statutory and "subject" not in item.readers:
            what = f"the item {quoted(item.name)} is statutory, but the person may not see it"
            yield Problem((*here, "items"), what, 'Add "subject" to its readers.')


def _twice(table: str, names: Sequence[str]) -> Iterable[Problem]:
    for place, name in enumerate(names):
        if name in names[:place]:
            yield Problem((table, place, "name"), f"{quoted(name)} is there twice", "Give one of them another name.")
