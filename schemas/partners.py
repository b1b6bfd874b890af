"""Partners as values: who holds data, on what basis, and how each is told.

`examine` says what a registry can't mean; `toml` adds file and line.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, get_args

from msgspec import Struct, field, structs

from .identity import IdentifierKind
from .policy import (
    CROSS_BORDER,
    Path,
    Policy,
    Problem,
    alpha2,
    blank,
    dated,
    day,
    known,
    listed,
    named,
    names,
    quoted,
)
from .quota import Window
from .receipts import Verb

Rung = Literal["sent", "accepted", "processed", "confirmed"]
LegalBasis = Literal["consent", "opt-out", "entrustment", "joint-use", "succession", "exception"]
TransferBasis = Literal["consent", "designated-country", "equivalent-measures"]

HOME = "JP"
LONGEST_NAME = 40
LONGEST_WINDOW_S = 30 * 86_400
"""Receipts, by which a lost count is made anew, are kept for longer."""
NO_THIRD_PARTY: frozenset[LegalBasis] = frozenset({"entrustment", "joint-use", "succession"})
"""The bases on which Art. 27(5) says that the recipient is no third party."""
RELATED_KINDS: frozenset[IdentifierKind] = frozenset({"cookie_id", "idfa", "gaid"})
"""Identifiers of a browser or device: personal-related information (Art. 31; policy, section 10(1))."""


class Account(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account at a partner (an audience, a workspace) and the scopes told to it.

    A scope is a purpose or a channel of the policy, or one list of a channel: `email-magazine/weekly`.
    """

    name: str
    scopes: tuple[str, ...]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much goes into one call, how long a call waits for company (ms), and how many calls run at once.

    A call is given up after `timeout_ms`; the partner may still act on it for `lingers_ms`. `account_concurrency` limits
    the calls to one account, 0 for no limit of its own. No window of `quota` is ever exceeded, by all processes of the
    partner (or account) together; `kept_percent` of each window are for restrictions alone.
    """

    items: int = 1
    bytes: int = 1_000_000
    age_ms: int = 50
    concurrency: int = 4
    timeout_ms: int = 10_000
    lingers_ms: int = 20_000
    account_concurrency: int = 0
    quota: tuple[Window, ...] = ()
    quota_per: Literal["partner", "account"] = "partner"
    kept_percent: int = 20


class Transfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why data may go to a partner abroad, and what people are told of it (APPI Art. 28, Rules 17 and 18).

    `system` sums up how the country protects personal information, `measures` what the partner itself does; where one
    can't be had, `unavailable` says why. `informed_on` is the day since which people are told all this before they
    consent, `checked_on` the day on which equivalent measures were last found to be kept (about once a year).
    """

    basis: TransferBasis
    system: str = ""
    measures: str = ""
    unavailable: str = ""
    informed_on: str = ""
    checked_on: str = ""


class Related(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cookie data and device ids that a third party gets, which by themselves name nobody (APPI Art. 31, Rule 26).

    `use` says whether the partner joins them with personal data of its own: then it was confirmed that the partner has
    the person's consent to that; `barred` means that its contract rules it out. `confirmed_by` is who saw to it here,
    on the day `confirmed_on`, by `method` (a declaration, a clause).
    """

    use: Literal["joined", "barred"]
    confirmed_by: str
    confirmed_on: str
    method: str


class Partner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recipient of personal data.

    `transfer` is there for partners abroad, `related` for third parties that take ids of browsers and devices. `done`
    is the rung of evidence that counts as done; `deadline_hours` per verb; `assumed_to_hold` makes it concerned by
    every decision, else only after a provision to it; `grants` says whether it is told of permissions too. `secrets`
    name where each secret is read from (`env:NAME` or `file:PATH`), never the secret.
    """

    name: str
    label: str
    address: str = ""
    representative: str = ""
    country: str = HOME
    role: str
    legal_basis: LegalBasis
    transfer: Transfer | None = None
    related: Related | None = None
    items: tuple[str, ...] = ()
    identifiers: tuple[IdentifierKind, ...]
    accounts: tuple[Account, ...]
    connector: str
    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    done: Rung = "accepted"
    deadline_hours: dict[Verb, int]
    assumed_to_hold: bool = False
    grants: bool = False
    owner: str = "privacy-office"

    def scopes(self) -> tuple[str, ...]:
        """Every scope of every account."""
        return tuple(dict.fromkeys(scope for account in self.accounts for scope in account.scopes))


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """All partners, under one monotone revision."""

    revision: int
    partners: tuple[Partner, ...]

    def partner(self, name: str) -> Partner | None:
        """The partner of that name, or None."""
        return self._partners.get(name)

    @cached_property
    def _partners(self) -> dict[str, Partner]:
        return {each.name: each for each in reversed(self.partners)}


class Rules(Struct, frozen=True):
    """Everything that decides, at one revision: the policy and the partners."""

    policy: Policy
    registry: Registry

    @property
    def revision(self) -> int:
        """Rises with every change of either, going back to an old text included: what was decided under it is new."""
        return self.policy.revision + self.registry.revision


Check = Callable[[Partner], Iterable[Problem]]
"""What a connector finds wrong in a partner's entry; paths start at the entry: `("settings", "url")`."""


def examine(registry: Registry, policy: Policy, connectors: Mapping[str, Check] | None = None) -> Iterator[Problem]:
    """Everything that `registry` can't mean under `policy`; nothing for a sound one.

    With `connectors`, each partner's must be one of them, and is asked about its entry: it adds what it finds at keys
    where nothing else is wrong. An entry may hold `env:` and `file:` references, which nobody has read yet.
    """
    if registry.revision < 1:
        what = f"expected 1 or more, got {registry.revision}"
        yield Problem(("revision",), what, "Count up from 1 with every change.")
    yield from named(("partner",), "partner", [each.name for each in registry.partners])
    for index, partner in enumerate(registry.partners):
        found = [*_who(partner, policy), *_abroad(partner, policy), *_what(partner, policy), *_how(partner)]
        if connectors is not None:
            found += known(("connector",), "connector", partner.connector, sorted(connectors))
            told = connectors[partner.connector](partner) if partner.connector in connectors else ()
            found += [each for each in told if each.path not in {other.path for other in found}]
        for each in found:
            yield Problem(("partner", index, *each.path), each.what, each.fix)


def _who(partner: Partner, policy: Policy) -> Iterator[Problem]:
    """The recipient: its name in topics, its role and basis, and what the law wants recorded of it."""
    if len(partner.name) > LONGEST_NAME:
        what = f"expected {LONGEST_NAME} characters at most, got {len(partner.name)}"
        yield Problem(("name",), what, "Shorten it: topics and metrics carry it.")
    yield from blank((), {"label": partner.label, "connector": partner.connector, "owner": partner.owner})
    yield from known(("role",), "role", partner.role, names(policy.roles))
    role = policy.role(partner.role)
    if role and role.third_party == (partner.legal_basis in NO_THIRD_PARTY):
        such = "a third party" if role.third_party else "no third party (Art. 27(5))"
        what = f"{quoted(partner.legal_basis)} doesn't fit the role {quoted(role.name)}, which is {such}"
        fitting = [each for each in get_args(LegalBasis) if role.third_party == (each not in NO_THIRD_PARTY)]
        yield Problem(("legal_basis",), what, f"Write one of {', '.join(fitting)}, or give the partner another role.")
    if role and role.third_party:
        needed = {"address": partner.address, "representative": partner.representative, "items": partner.items}
        for key, value in needed.items():
            if not value:
                what = "empty, and the record of every provision must have it (Art. 29, Rule 20)"
                yield Problem((key,), what, "Write it out.")


def _abroad(partner: Partner, policy: Policy) -> Iterator[Problem]:
    yield from alpha2(("country",), partner.country)
    transfer = partner.transfer
    if partner.country == HOME:
        if transfer:
            yield Problem(("transfer",), f"the partner is in {HOME}", "Take it out, or correct the country.")
        return
    consent = "consent" in (partner.legal_basis, transfer.basis if transfer else "")
    if consent and policy.purpose(CROSS_BORDER) is None:
        what = f"consent to a transfer abroad (Art. 28) needs a purpose {quoted(CROSS_BORDER)}, which the policy lacks"
        yield Problem(("country",), what, f"Add the [[purpose]] {quoted(CROSS_BORDER)} to the policy.")
    if transfer is None:
        fix = 'Add [partner.transfer] with basis = "consent", "designated-country" or "equivalent-measures".'
        yield Problem(("transfer",), "missing, and the partner is abroad (Art. 28)", fix)
    else:
        for each in _transfer(transfer, partner.country, policy):
            yield Problem(("transfer", *each.path), each.what, each.fix)


def _transfer(transfer: Transfer, country: str, policy: Policy) -> Iterator[Problem]:
    needed = ""
    match transfer.basis:
        case "designated-country":
            if country not in policy.designated_countries:
                fix = "Choose another basis, or add the country to the policy's designated_countries if the law did."
                yield Problem(("basis",), f"{quoted(country)} is no designated country of the policy", fix)
        case "equivalent-measures":
            yield from blank((), {"measures": transfer.measures})
            needed = "checked_on"
        case _:  # consent
            for key in ("system", "measures"):
                if not getattr(transfer, key) and not transfer.unavailable:
                    what = "empty, and people must be told before they consent (Rule 17(2))"
                    yield Problem((key,), what, "Write it out, or say under unavailable why it can't be had.")
            needed = "informed_on"
    for key, text in {"informed_on": transfer.informed_on, "checked_on": transfer.checked_on}.items():
        if (text or key == needed) and day(text) is None:
            yield dated((key,), text)


def _what(partner: Partner, policy: Policy) -> Iterator[Problem]:
    """The data: items, identifiers, and the scopes of each account."""
    yield from listed(("items",), "item", partner.items, names(policy.items))
    if not partner.identifiers:
        yield Problem(("identifiers",), "empty, so nobody could be named to the partner", "Write at least one kind.")
    role = policy.role(partner.role)
    related = RELATED_KINDS.intersection(partner.identifiers)
    if role and role.third_party and related and partner.related is None:
        what = f"missing, and the partner takes {', '.join(sorted(related))} (Art. 31)"
        yield Problem(("related",), what, 'Add [partner.related] with use = "joined" or "barred".')
    if partner.related:
        told = {"confirmed_by": partner.related.confirmed_by, "method": partner.related.method}
        yield from blank(("related",), told)
        if day(partner.related.confirmed_on) is None:
            yield dated(("related", "confirmed_on"), partner.related.confirmed_on)
    if not partner.accounts:
        fix = 'Add [[partner.account]] with name = "default".'
        yield Problem(("account",), "none, so the partner would be told nothing", fix)
    yield from named(("account",), "account", [each.name for each in partner.accounts])
    scopes = [*names(policy.purposes), *names(policy.channels)]
    for index, account in enumerate(partner.accounts):
        here: Path = ("account", index, "scopes")
        lists = [scope for scope in account.scopes if _of_channel(scope, policy)]
        yield from listed(here, "purpose or channel", account.scopes, [*scopes, *lists])
        if not account.scopes:
            yield Problem(here, "empty, so the account would be told nothing", "Write at least one.")


def _how(partner: Partner) -> Iterator[Problem]:
    """The telling: secrets, limits, deadlines. Which deadlines there must be depends on the connector, which says so."""
    for key, reference in partner.secrets.items():
        if not re.fullmatch(r"env:[A-Za-z_]\w*|file:\S(.*\S)?", reference, re.ASCII):
            fix = 'Write "env:NAME" or "file:PATH"; a secret that stood here has been in a file, so replace it.'
            yield Problem(("secrets", key), "expected env:NAME or file:PATH, got something else, not shown", fix)
    for key, value in structs.asdict(partner.limits).items():
        least = 0 if key in {"age_ms", "account_concurrency", "kept_percent"} else 1
        if isinstance(value, int) and value < least:
            what = f"expected {least} or more, got {value}"
            yield Problem(("limits", key), what, f"Take it out for the default, or write {least} or more.")
    yield from _quota(partner.limits)
    for verb, hours in partner.deadline_hours.items():
        if hours < 1:
            yield Problem(("deadline_hours", verb), f"expected 1 or more, got {hours}", f"Write {verb} = 24.")


def _quota(limits: Limits) -> Iterator[Problem]:
    """Every window must let a whole call through, of a permission too; and the receipts must outlive it."""
    if limits.kept_percent > 90:
        what = f"expected 90 or less, got {limits.kept_percent}"
        yield Problem(("limits", "kept_percent"), what, "Write how many of a hundred are kept for restrictions, as 20.")
        return
    for index, each in enumerate(limits.quota):
        where: Path = ("limits", "quota", index)
        call = limits.items if each.counted == "items" else 1
        room = each.most - each.kept(limits.kept_percent)
        if room < call:
            what = f"{each.most} leave {room} for permissions, and one call takes up to {call}"
            yield Problem((*where, "most"), what, "Raise it, lower limits.items, or lower limits.kept_percent.")
        if not 1 <= each.seconds <= LONGEST_WINDOW_S:
            what = f"expected 1 to {LONGEST_WINDOW_S}, got {each.seconds}"
            yield Problem((*where, "seconds"), what, "Write the length of the window: 1, 60, 86400 or 2592000.")
    keys = [each.key for each in limits.quota]
    if twice := sorted({each for each in keys if keys.count(each) > 1}):
        yield Problem(("limits", "quota"), f"{', '.join(twice)} stands twice", "Keep the smaller of the two.")


def _of_channel(scope: str, policy: Policy) -> bool:
    """Whether a scope names one list of a channel, as `email-magazine/weekly` does."""
    name, _, listing = scope.partition("/")
    return bool(listing) and policy.channel(name) is not None
