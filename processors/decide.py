"""The heart: may this scope of this partner be used for this person, what must be told, and why.

`judge` answers for one purpose or channel of the policy; `decide` for every scope of a partner, and whether the partner
must delete. Both are pure functions of (record, policy, time). Unknown is no business of theirs: they are asked only
with a record from a current view (law 6).
"""

from datetime import date

from msgspec import Struct

from todoke.schemas.partners import Partner
from todoke.schemas.policy import CROSS_BORDER, Channel, Policy, Purpose
from todoke.schemas.receipts import Verb
from todoke.schemas.record import (
    AGE,
    ERASED,
    EVERYTHING,
    Register,
    Stamp,
    SubjectRecord,
    base,
    channel_register,
    suspension_register,
)

from .age import birthday, instant, reached
from .merges import effective, stamps

REASONS: dict[str, str] = {
    "required": "The purpose is required for the service.",
    "granted": "The person granted the purpose, under the regime named.",
    "not-withdrawn": "The purpose is opt-out and was not withdrawn.",
    "subscribed": "The channel was not unsubscribed.",
    "not-granted": "The purpose is opt-in and was not granted.",
    "withdrawn": "The person withdrew the purpose, under the regime named.",
    "withdrawn-all": "The person withdrew everything, under the regime named.",
    "unsubscribed": "The person unsubscribed from the channel or list named.",
    "erased": "A deletion voids what was granted at or before it.",
    "expired": "The grant has expired.",
    "reconsent-needed": "A newer version of the policy needs consent anew.",
    "suspended-use": "Use is suspended (APPI Art. 35).",
    "suspended-provision": "Provision to third parties is suspended (APPI Art. 35(3), (5)).",
    "minor-marketing": "The person is below the policy's age for marketing.",
    "minor-dealing": "The person is below the policy's age for any direct dealing.",
    "age-unknown": "The purpose bars minors and the age is not known.",
    "no-connector": "The recipient is not in the registry: its owner must tell it by other means.",
    "unknown-scope": "The policy has no such purpose or channel.",
}
"""Every reason that a decision can give, with the sentence shown to people; a regime or channel may follow a colon."""


class Verdict(Struct, frozen=True):
    """The answer for one scope.

    `stamps` are of every register that had a say, so that a later write to any of them makes a new decision, even when
    the answer stays. `explicit` is false where nothing that the person said had a say. `boundary` is the last instant
    (ms) at or before the time asked at which time alone changed the answer, `valid_until` the next, 0 for none.
    """

    scope: str
    allowed: bool
    verb: Verb
    reasons: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    explicit: bool
    boundary: int
    valid_until: int


class Decision(Struct, frozen=True):
    """Everything that one partner must know of one person: a verdict per scope, and the deletion if there is one."""

    partner: str
    verdicts: tuple[Verdict, ...]
    deletion: Verdict | None


class _Findings:
    """What `judge` gathers: reasons for and against, the registers consulted, the instants at which time matters."""

    def __init__(self, record: SubjectRecord, at: int) -> None:
        self.record = record
        self.registers = effective(record)
        self.at = at
        self.granted: list[str] = []
        self.denied: list[str] = []
        self.suspended: list[str] = []
        self.stamps: dict[str, Stamp] = {}
        self.instants: set[int] = set()

    def read(self, name: str) -> Register | None:
        """Consult a register, so that its stamp belongs to the decision."""
        register = self.registers.get(name)
        if register is not None and name not in self.stamps:
            self.stamps |= {each.register: each for each in stamps(self.record, name)}
        return register

    def age(self) -> Register | None:
        """The age, unless it was said at or before a deletion: that is forgotten with the rest, shredded or not yet."""
        register = self.registers.get(AGE)
        return self.read(AGE) if register and register.at > self.record.erased_through else None

    def over(self, until: int) -> bool:
        """Whether `until` (ms, 0 for never) has come; either way it is an instant that matters."""
        if until:
            self.instants.add(until)
        return bool(until) and self.at >= until


def decide(record: SubjectRecord, partner: Partner, policy: Policy, at: int) -> Decision:
    """What `partner` must know of `record` at `at` (ms)."""
    third_party = is_third_party(partner, policy)
    abroad = needs_transfer(partner)
    verdicts = tuple(
        judge(record, scope, policy, at, third_party=third_party, abroad=abroad) for scope in partner.scopes()
    )
    return Decision(partner.name, verdicts, deletion(record, partner, policy, at))


def is_third_party(partner: Partner, policy: Policy) -> bool:
    """Whether Art. 27(5) leaves the partner a third party: entrusted, joint users and successors are none."""
    role = policy.role(partner.role)
    return partner.legal_basis in ("consent", "opt-out", "exception") and (role is None or role.third_party)


def needs_transfer(partner: Partner) -> bool:
    """Whether the person's consent to a transfer abroad is the basis on which the partner is given data (Art. 28(1))."""
    return partner.transfer is not None and partner.transfer.basis == "consent"


def judge(
    record: SubjectRecord, scope: str, policy: Policy, at: int, *, third_party: bool = False, abroad: bool = False
) -> Verdict:
    """The verdict for one purpose or channel of the policy; `abroad` also asks for consent to the transfer."""
    found = _Findings(record, at)
    channel, listing = channel_of(scope, policy)
    if channel:
        _channel(found, channel, listing)
        if not channel.purposes:
            found.denied.append("unknown-scope")  # nothing says what it would be used for
    for name in (*(channel.purposes if channel else (scope,)), *((CROSS_BORDER,) if abroad else ())):
        purpose = policy.purpose(name)
        if purpose is None:
            found.denied.append("unknown-scope")
        else:
            _purpose(found, purpose, policy)
            _minor(found, purpose, policy)
            if purpose.kind != "required":
                _suspension(found, third_party=third_party)
    return _verdict(found, scope)


def deletion(record: SubjectRecord, partner: Partner, policy: Policy, at: int) -> Verdict | None:
    """The deletion that `partner` must carry out, or None: asked for, or because the person is found to be a minor.

    A partner that serves only purposes barred to minors deletes those below the marketing age; every partner deletes
    those below the age of direct dealing (the policy, section 3).
    """
    found = _Findings(record, at)
    if found.read(ERASED):
        found.denied.append("erased")
    age = found.registers.get(AGE)
    if age is not None and age.at > record.erased_through and not _of_age(age, policy, at):
        born = date.fromisoformat(age.value)
        marketing_only = all(_bars_minors(scope, policy) for scope in partner.scopes())
        limits = [(policy.minors.dealing_below, "minor-dealing")]
        limits += [(policy.minors.marketing_below, "minor-marketing")] if marketing_only else []
        below = [(years, reason) for years, reason in limits if not reached(born, years, at)]
        if below:
            found.read(AGE)
            found.denied.append(below[0][1])
            found.instants |= {instant(birthday(born, years)) for years, _ in below}  # to come, so no boundary
    return _verdict(found, EVERYTHING, verb="delete") if found.denied else None


def _of_age(age: Register, policy: Policy, at: int) -> bool:
    """Whether no limit of the policy is left to reach."""
    limit = max(policy.minors.dealing_below, policy.minors.marketing_below)
    return reached(date.fromisoformat(age.value), limit, at)


def channel_of(scope: str, policy: Policy) -> tuple[Channel | None, str]:
    """The channel that a scope names, if it names one, and the list of it: `email-magazine/weekly`, or all of it."""
    name, _, listing = scope.partition("/")
    return policy.channel(name), listing or EVERYTHING


def _bars_minors(scope: str, policy: Policy) -> bool:
    channel, _ = channel_of(scope, policy)
    named = [policy.purpose(name) for name in (channel.purposes if channel else (scope,))]
    return any(purpose.bars_minors for purpose in named if purpose)


def _channel(found: _Findings, channel: Channel, listing: str) -> None:
    stopped = False
    for name in dict.fromkeys((EVERYTHING, listing)):
        register = found.read(channel_register(channel.name, name))
        if register and register.value == "unsubscribed":
            stopped = True
            found.denied.append(f"unsubscribed:{channel.name}")
    if not stopped:
        found.granted.append("subscribed")


def _purpose(found: _Findings, purpose: Purpose, policy: Policy) -> None:
    said = found.registers
    answers = [
        _regime(found, each, purpose, policy)
        for each in policy.answers[purpose.name]
        if each[1] in said or each[2] in said
    ]
    if found.record.erased_through:
        found.read(ERASED)
    if purpose.kind == "required":
        found.granted.append("required")
        return
    granted = [reason for allowed, reason in filter(None, answers) if allowed]
    denied = [reason for allowed, reason in filter(None, answers) if not allowed]
    if denied or granted:
        found.denied += denied
        found.granted += granted
    elif found.record.erased_through:
        found.denied.append("erased")
    elif purpose.kind == "opt-out":
        found.granted.append("not-withdrawn")
    else:
        found.denied.append("not-granted")


def _regime(found: _Findings, names: tuple[str, str, str], purpose: Purpose, policy: Policy) -> tuple[bool, str] | None:
    """What one regime's registers say of a purpose, or None when they say nothing that still counts."""
    regime, own, whole = names
    mine, everything = found.read(own), found.read(whole)
    if everything and (mine is None or everything.at >= mine.at):
        return False, f"withdrawn-all:{regime}"
    if mine is None:
        return None
    if mine.value == "withdrawn":
        return False, f"withdrawn:{regime}"
    if mine.at <= found.record.erased_through:
        return None
    lapsed = _lapsed(found, mine, purpose, policy)
    return (False, lapsed) if lapsed else (True, f"granted:{regime}")


def _lapsed(found: _Findings, grant: Register, purpose: Purpose, policy: Policy) -> str:
    """Why a grant no longer counts, or an empty string."""
    if found.over(grant.until):
        return "expired"
    names = [version.name for version in policy.versions]
    under = names.index(grant.policy_version) if grant.policy_version in names else -1
    for version in policy.versions[under + 1 :]:
        effective = instant(date.fromisoformat(version.effective))
        asked = purpose.name in version.reconsent and (grant.policy_version or grant.at < effective)
        if asked and found.over(effective):
            return "reconsent-needed"
    return ""


def _minor(found: _Findings, purpose: Purpose, policy: Policy) -> None:
    age = found.age()
    if age is None:
        if purpose.bars_minors and purpose.age_unknown == "deny":
            found.denied.append("age-unknown")
        return
    born = date.fromisoformat(age.value)
    found.instants.add(instant(birthday(born, policy.minors.dealing_below)))
    if not reached(born, policy.minors.dealing_below, found.at):
        found.denied.append("minor-dealing")
    if purpose.bars_minors:
        found.instants.add(instant(birthday(born, policy.minors.marketing_below)))
        if not reached(born, policy.minors.marketing_below, found.at):
            found.denied.append("minor-marketing")


def _suspension(found: _Findings, *, third_party: bool) -> None:
    for scope in ("use", "provision") if third_party else ("use",):
        register = found.read(suspension_register(scope))
        if register and register.value == "suspended" and not found.over(register.until):
            found.suspended.append(f"suspended-{scope}")


def _verdict(found: _Findings, scope: str, verb: Verb | None = None) -> Verdict:
    denied = [*found.denied, *found.suspended]
    allowed = not denied
    reasons = tuple(dict.fromkeys(denied or found.granted))
    past = [each for each in found.instants if each <= found.at]
    future = [each for each in found.instants if each > found.at]
    spoken = any(base(name) not in (AGE, ERASED) for name in found.stamps)
    return Verdict(
        scope=scope,
        allowed=allowed,
        verb=verb or ("grant" if allowed else "withdraw" if found.denied else "suspend"),
        reasons=reasons,
        stamps=tuple(sorted(found.stamps.values())),
        explicit=verb is not None or spoken or any(reason.startswith("minor") for reason in reasons),
        boundary=max(past, default=0),
        valid_until=min(future, default=0),
    )
