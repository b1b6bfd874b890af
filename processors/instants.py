"""When time alone may change an answer: a pure function of the record and the policy (correctness, 19)."""

from datetime import date

from todoke.schemas.policy import Policy
from todoke.schemas.record import AGE, SubjectRecord, base

from .age import birthday, instant

LATE_MS = 7 * 86_400_000


def turn(record: SubjectRecord, policy: Policy, written_at: int) -> int:
    """When (ms, 0 for never) to look again at a record that was written at `written_at` (ms).

    From a week before the write on, since whoever should have looked at the time may have been down then.
    """
    return next_instant(record, policy, written_at - LATE_MS)


def next_instant(record: SubjectRecord, policy: Policy, at: int) -> int:
    """The first instant (ms) after `at` at which some verdict on the record may change by itself; 0 for none.

    Never later than the earliest `valid_until` of any decision, and cheap, since every merge asks: it looks at the
    registers alone, not at what each partner makes of them. Too early costs a look.
    """
    found = [each.until for each in record.registers.values() if each.until > at]
    years = (policy.minors.dealing_below, policy.minors.marketing_below)
    for name, age in record.registers.items():  # of everybody who was merged, too
        if base(name) != AGE or (age.at <= record.erased_through and not record.merges):
            continue
        born = date.fromisoformat(age.value)
        found += [turn for each in years if (turn := instant(birthday(born, each))) > at]
    for version in policy.versions:
        effective = instant(date.fromisoformat(version.effective)) if version.reconsent else 0
        if effective > at and any(base(name).startswith("purpose/") for name in record.registers):
            found.append(effective)
    return min(found, default=0)
