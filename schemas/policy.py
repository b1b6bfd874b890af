"""A policy as a value: purposes, channels, cookie categories, minors, versions. `decide` reads it, nothing else does.

`examine` says what a policy can't mean; `toml` adds file and line. Its helpers serve the partners' registry as well.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

from msgspec import Struct

from .record import EVERYTHING, purpose_register

PurposeKind = Literal["required", "opt-in", "opt-out"]
Answer = Literal["allow", "deny"]
Path = tuple[str | int, ...]

CROSS_BORDER = "cross-border-transfer"
"""The purpose that stands for consent to a transfer abroad (APPI Art. 28(1)), in every policy that has one."""


class Label(Struct, frozen=True, forbid_unknown_fields=True):
    """What people read, in the two languages of the default policy."""

    en: str
    ja: str


class Purpose(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A purpose of use.

    `required` can't be withdrawn, `opt-in` is no until granted, `opt-out` is yes until withdrawn. `bars_minors`: not
    for people under the policy's marketing age, nor while the age is unknown, unless `age_unknown` allows that.
    `absent` answers for a person of whom nothing is known (correctness, 6). `cookie` names the cookie category, for
    purposes that are one. `items` are the data items used, `source` the place in the policy's text.
    """

    name: str
    kind: PurposeKind
    label: Label
    absent: Answer
    bars_minors: bool = False
    age_unknown: Answer = "deny"
    cookie: str = ""
    items: tuple[str, ...] = ()
    source: str = ""


class Channel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to reach a person. Allowed unless unsubscribed, and only while each of `purposes` is allowed."""

    name: str
    label: Label
    purposes: tuple[str, ...] = ()
    source: str = ""


class Cookie(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A category of cookies and the like, as people meet it in a banner; one purpose decides about it."""

    name: str
    label: Label
    source: str = ""


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data item: the code that records carry, and its labels. Codes, never values (Rule 20(1)(i)ニ)."""

    name: str
    label: Label
    source: str = ""


class Role(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role of recipients. `third_party` is false where Art. 27(5) says that the recipient is none."""

    name: str
    label: Label
    third_party: bool
    source: str = ""


class Regime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A law or a house rule under which decisions are made; each keeps its own registers, the strictest wins."""

    name: str
    label: Label


class Version(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of the policy's text, the JST date it took effect, and the purposes that needed consent anew."""

    name: str
    effective: str
    reconsent: tuple[str, ...] = ()


class Minors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ages in full years (JST): no marketing below the first, no direct dealing below the second (policy, section 3)."""

    marketing_below: int = 18
    dealing_below: int = 13


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One company's policy. `revision` rises by one with every change, going back included.

    `designated_countries` (ISO 3166 alpha-2) have a protection that the law holds equivalent (APPI Art. 28(1)).
    """

    name: str
    revision: int
    label: Label
    skew_seconds: int = 300
    designated_countries: tuple[str, ...] = ()
    regimes: tuple[Regime, ...]
    versions: tuple[Version, ...]
    purposes: tuple[Purpose, ...]
    channels: tuple[Channel, ...] = ()
    cookies: tuple[Cookie, ...] = ()
    items: tuple[Item, ...] = ()
    roles: tuple[Role, ...] = ()
    minors: Minors = Minors()

    def purpose(self, name: str) -> Purpose | None:
        """The purpose of that name, or None."""
        return self._purposes.get(name)

    def channel(self, name: str) -> Channel | None:
        """The channel of that name, or None."""
        return self._channels.get(name)

    def role(self, name: str) -> Role | None:
        """The role of that name, or None."""
        return self._roles.get(name)

    @cached_property
    def answers(self) -> dict[str, tuple[tuple[str, str, str], ...]]:
        """For each purpose, under each regime: its name, the purpose's own register, the one of everything."""
        return {
            purpose.name: tuple(
                (each.name, purpose_register(each.name, purpose.name), purpose_register(each.name, EVERYTHING))
                for each in self.regimes
            )
            for purpose in self.purposes
        }

    @cached_property
    def _purposes(self) -> dict[str, Purpose]:
        return {each.name: each for each in reversed(self.purposes)}

    @cached_property
    def _channels(self) -> dict[str, Channel]:
        return {each.name: each for each in reversed(self.channels)}

    @cached_property
    def _roles(self) -> dict[str, Role]:
        return {each.name: each for each in reversed(self.roles)}


class Problem(Struct, frozen=True):
    """One thing wrong in a configuration: the keys that lead to it, what is wrong, and a sentence that says what to do.

    Keys are spelt as in TOML, where a table of an array has the singular: `("partner", 2, "done")`. Neither text may
    hold a secret, nor the value of a key that could be one.
    """

    path: Path
    what: str
    fix: str


def examine(policy: Policy) -> Iterator[Problem]:
    """Everything that `policy` can't mean; nothing for a sound one."""
    if policy.revision < 1:
        yield Problem(("revision",), f"expected 1 or more, got {policy.revision}", "Count up from 1 with every change.")
    if policy.skew_seconds < 0:
        yield Problem(("skew_seconds",), f"expected 0 or more, got {policy.skew_seconds}", "Write skew_seconds = 300.")
    yield from blank((), {"name": policy.name, "label.en": policy.label.en, "label.ja": policy.label.ja})
    yield from _tables(policy)
    yield from _minors(policy.minors)
    yield from _versions(policy)
    for index, purpose in enumerate(policy.purposes):
        yield from _purpose(("purpose", index), purpose, policy)
    for index, channel in enumerate(policy.channels):
        yield from listed(("channel", index, "purposes"), "purpose", channel.purposes, names(policy.purposes))
    yield from _cookies(policy)
    for index, country in enumerate(policy.designated_countries):
        yield from alpha2(("designated_countries", index), country)


def _tables(policy: Policy) -> Iterator[Problem]:
    """Names and labels of all that is named; what must be there at least once."""
    tables: dict[str, Sequence[Regime | Purpose | Channel | Cookie | Item | Role]] = {
        "regime": policy.regimes,
        "purpose": policy.purposes,
        "channel": policy.channels,
        "cookie": policy.cookies,
        "item": policy.items,
        "role": policy.roles,
    }
    for key, table in tables.items():
        yield from named((key,), key, names(table))
        for index, each in enumerate(table):
            yield from blank((key, index), {"label.en": each.label.en, "label.ja": each.label.ja})
    for key in ("regime", "purpose"):
        if not tables[key]:
            yield Problem((key,), "none", f"Add at least one [[{key}]].")
    purposes = names(policy.purposes)
    for index, name in enumerate(names(policy.channels)):
        if name in purposes:  # both are scopes, and a partner names them in one list
            yield Problem(("channel", index, "name"), f"a purpose is called {quoted(name)} too", "Rename one of them.")


def _minors(minors: Minors) -> Iterator[Problem]:
    for key in ("marketing_below", "dealing_below"):
        if getattr(minors, key) < 0:
            yield Problem(("minors", key), "expected an age of 0 or more", "Write 0 where there is no such limit.")
    if minors.dealing_below > minors.marketing_below:
        fix = "Who may not be dealt with gets no marketing: make marketing_below as high at least."
        yield Problem(("minors", "dealing_below"), f"higher than marketing_below, {minors.marketing_below}", fix)


def _versions(policy: Policy) -> Iterator[Problem]:
    if not policy.versions:
        yield Problem(("version",), "none", "Add at least one [[version]], with the date it took effect.")
    yield from unique(("version",), "version", names(policy.versions))
    latest = None
    for index, version in enumerate(policy.versions):
        here: Path = ("version", index)
        yield from blank(here, {"name": version.name})
        effective = day(version.effective)
        if effective is None:
            yield dated((*here, "effective"), version.effective)
        elif latest and effective <= latest:
            yield Problem((*here, "effective"), f"expected a day after {latest}", "Put the oldest first.")
        latest = effective or latest
        yield from listed((*here, "reconsent"), "purpose", version.reconsent, names(policy.purposes))
        for place, name in enumerate(version.reconsent):
            purpose = policy.purpose(name)
            if purpose and purpose.kind == "required":
                what = f"{quoted(name)} is required, so nobody consents to it"
                yield Problem((*here, "reconsent", place), what, "Take it out, or make the purpose opt-in.")


def _purpose(here: Path, purpose: Purpose, policy: Policy) -> Iterator[Problem]:
    aged = purpose.bars_minors and purpose.age_unknown == "deny"
    expected = {"required": "allow", "opt-in": "deny"}.get(purpose.kind)
    if expected and purpose.absent != expected:
        what = f"of a person of whom nothing is known, {purpose.kind} means {expected}"
        yield Problem((*here, "absent"), what, f"Write absent = {quoted(expected)}.")
    if purpose.kind == "required" and purpose.bars_minors:
        fix = "Make it opt-in or opt-out, or take bars_minors out."
        yield Problem((*here, "kind"), "a required purpose can't bar minors: they can't do without it", fix)
    elif purpose.kind == "opt-out" and purpose.absent == "allow" and aged:
        what = "of a person of whom nothing is known, the age isn't known either, and the purpose bars minors"
        yield Problem((*here, "absent"), what, 'Write absent = "deny", or age_unknown = "allow".')
    yield from listed((*here, "items"), "item", purpose.items, names(policy.items))
    if purpose.cookie:
        yield from known((*here, "cookie"), "cookie", purpose.cookie, names(policy.cookies))


def _cookies(policy: Policy) -> Iterator[Problem]:
    counts = Counter(purpose.cookie for purpose in policy.purposes if purpose.cookie)
    astray = not counts.keys() <= set(names(policy.cookies))  # said already, and may be what is missing here
    for index, name in enumerate(names(policy.cookies)):
        if counts[name] > 1 or not (counts[name] or astray):
            fix = f"Write cookie = {quoted(name)} in one [[purpose]], and in no other."
            yield Problem(("cookie", index), f"expected one purpose that decides about it, got {counts[name]}", fix)


def names(table: Iterable[Regime | Purpose | Channel | Cookie | Item | Role | Version]) -> list[str]:
    """The names in a table, in order."""
    return [each.name for each in table]


def quoted(text: str) -> str:
    """`text` as TOML has it, in one line, and cut where it gets long."""
    return json.dumps(text if len(text) <= 60 else f"{text[:60]}…", ensure_ascii=False)


def closest(word: str, choices: Iterable[str]) -> str:
    """The choice that was probably meant, or an empty string."""
    return next(iter(get_close_matches(word.lower(), [*choices], 1)), "")


def choose(word: str, choices: Sequence[str]) -> str:
    """What to do about a word that is none of the choices: the close one, else all of them."""
    near = closest(word, choices)
    few = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
    return f"Write {quoted(near)}." if near else f"Write one of {few}." if few else "There are none yet: add it there."


def known(path: Path, kind: str, name: str, choices: Sequence[str]) -> Iterator[Problem]:
    """A problem unless `name` is one of the choices."""
    if name not in choices:
        yield Problem(path, f"no {kind} is called {quoted(name)}", choose(name, choices))


def listed(path: Path, kind: str, given: Sequence[str], choices: Sequence[str]) -> Iterator[Problem]:
    """A problem for each name of a list that is none of the choices, or stands there twice."""
    for index, name in enumerate(given):
        yield from known((*path, index), kind, name, choices)
        if name in given[:index]:
            yield Problem((*path, index), f"{quoted(name)} stands here twice", "Take one out.")


def unique(path: Path, kind: str, given: Sequence[str]) -> Iterator[Problem]:
    """A problem for each name of a table that was given before."""
    for index, name in enumerate(given):
        if name in given[:index]:
            fix = "Rename one, or take it out."
            yield Problem((*path, index, "name"), f"another {kind} is called {quoted(name)}", fix)


def named(path: Path, kind: str, given: Sequence[str]) -> Iterator[Problem]:
    """A problem for each name of a table that isn't lower-case kebab, or was given before.

    Names become parts of topic names, register names and keys, whose separators they must not contain.
    """
    yield from unique(path, kind, given)
    for index, name in enumerate(given):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            kebab = "-".join(re.findall(r"[a-z0-9]+", name.lower()))
            fix = f"Write name = {quoted(kebab or 'a-name')}."
            yield Problem((*path, index, "name"), f"expected a-z, 0-9 and single hyphens, got {quoted(name)}", fix)


def blank(path: Path, given: dict[str, str]) -> Iterator[Problem]:
    """A problem for each dotted key whose text is empty."""
    for key, text in given.items():
        if not text.strip():
            yield Problem((*path, *key.split(".")), "empty", "Write it out.")


def day(text: str) -> date | None:
    """The day that an ISO date names in full, or None."""
    try:
        read = date.fromisoformat(text)
    except ValueError:
        return None
    return read if read.isoformat() == text else None


def dated(path: Path, text: str) -> Problem:
    """The problem of a text that is no ISO date."""
    return Problem(path, f"expected a day as YYYY-MM-DD, got {quoted(text)}", f'Write {path[-1]} = "2024-07-01".')


def alpha2(path: Path, country: str) -> Iterator[Problem]:
    """A problem unless `country` has the form of an ISO 3166 alpha-2 code."""
    if not re.fullmatch("[A-Z]{2}", country):
        fix = 'Write an ISO 3166 code, such as "JP" or "US".'
        yield Problem(path, f"expected two capital letters, got {quoted(country)}", fix)
