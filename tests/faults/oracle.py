"""The checker's own account of people: what was said, and what each partner must hear of it. Imports nothing of the product.

The rules are the tables of `rules.md`. The registers are a model of their own: the last word on each matter, by time, and at
one instant the stricter; a deletion voids the permissions at or before it; arrival has no say.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

STRICTEST = ("may", "suspend", "withdraw")
ERASED = "erased"
EVERYTHING = "purpose/appi/*"


class Event(NamedTuple):
    """One admitted event: its topic, its fields, and when its first copy was durable (ms)."""

    topic: str
    body: Mapping[str, Any]
    appended: int

    @property
    def name(self) -> str:
        return str(self.body["event_id"])


class Word(NamedTuple):
    """The last word on one matter."""

    at: int
    strict: bool
    event_id: str
    value: str


class Named(NamedTuple):
    """An identifier that an event brought, the event's effective time, and its id."""

    kind: str
    value: str
    at: int
    event_id: str


class Place(NamedTuple):
    """Where something is owed."""

    partner: str
    account: str
    scope: str


class Owed(NamedTuple):
    """What is owed at a place: the verb, the events that decide it, and since when (ms) a call counts."""

    verb: str
    events: frozenset[str]
    since: int


class Rules:
    """The tables of `rules.md`."""

    def __init__(self, path: Path | None = None) -> None:
        tables = _tables((path or Path(__file__).with_name("rules.md")).read_text())
        self.partners = {row["partner"]: row for row in tables["Partners"]}
        self.places = {row["place"]: Place(row["partner"], row["account"], row["scope"]) for row in tables["Places"]}
        self.words = {row["word"]: {name: row[name] for name in self.places if row[name]} for row in tables["Words"]}
        self.effects = {row["partner"]: row for row in tables["Effects"]}
        self.bounds = {row["bound"]: int(row["ms"]) for row in tables["Bound"]}
        self.purposes = [word.removesuffix(" granted") for word in self.words if word.endswith(" granted")]
        self.channels = [word.removesuffix(" resubscribed") for word in self.words if word.endswith(" resubscribed")]

    def kinds(self, partner: str) -> frozenset[str]:
        """The kinds of identifiers by which a partner knows people."""
        return frozenset(self.partners[partner]["known by"].split())

    def accounts(self, partner: str) -> list[str]:
        return list(dict.fromkeys(each.account for each in self.places.values() if each.partner == partner))


def _tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The table under each heading, each row as column to cell."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in body.splitlines()
            if line.startswith("|")
        ]
        if rows:
            found[heading.strip()] = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    return found


class Person:
    """What one person has said, had and was given, from the events about them in any order."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.words: dict[str, Word] = {}
        self.named: list[Named] = []
        self.given: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.deletions: dict[str, tuple[int, int]] = {}
        self.aged_at = 0
        for event in events:
            self._hear(event)

    @property
    def erased(self) -> int:
        return self.words[ERASED].at if ERASED in self.words else 0

    def _hear(self, event: Event) -> None:
        body, at = event.body, int(event.body["occurred_at"])
        soon = min(at, event.appended)
        for register, word in meant(event):
            held = self.words.get(register)
            self.words[register] = word if held is None else max(held, word)
        if event.topic == "deletion-requests" and body["action"] == "requested":
            self.deletions[event.name] = (at, event.appended)
        for each in body.get("identifiers") or ():
            self.named.append(Named(each["kind"], each["value"], soon, event.name))
        if event.topic == "provisions" and body["direction"] == "given":
            self.given[body["counterpart"]].append((at, event.name))
        if body.get("age"):
            self.aged_at = max(self.aged_at, soon)


def meant(event: Event) -> list[tuple[str, Word]]:
    """What an event says, as (matter, word)."""
    body, at = event.body, int(event.body["occurred_at"])
    match event.topic:
        case "consent-changes":
            matter, value, strict = f"purpose/appi/{body['purpose']}", body["decision"], body["decision"] == "withdrawn"
        case "unsubscribes":
            matter, value = f"channel/{body['channel']}/*", body["action"]
            strict = value == "unsubscribed"
        case "suspension-requests":
            matter, value, strict = f"suspension/{body['scope']}", body["action"], body["action"] == "suspended"
        case "deletion-requests" if body["action"] == "requested":
            matter, value, strict = ERASED, "erased", True
        case _:
            return []
    return [(matter, Word(at if strict else min(at, event.appended), strict, event.name, str(value)))]


def hashed(partner: str, kind: str, value: str) -> str:
    """How a partner's emulator keeps an identifier: SHA-256 of its one form. Telephone numbers are Japanese ones here."""
    text = value.strip()
    if kind in ("email", "gaid"):
        text = text.lower()
    elif kind == "phone":
        text = re.sub(r"^0", "81" if partner == "meta" else "+81", re.sub(r"[\s-]", "", text))
    return sha256(text.encode()).hexdigest()


class Oracle:
    """What must come of what a person said."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def owed(self, person: Person, taken: Mapping[str, int]) -> tuple[dict[Place, Owed], set[Place]]:
        """What is owed at every place; and the places where it may be owed or not, as the order of arrival had it.

        That is so where a partner holds nothing but what was given before a deletion: once that has been carried out,
        the partner holds nothing. `taken` says when (ms) the outcome of each event was durable.
        """
        found: dict[Place, Owed] = {}
        open_to_doubt: set[Place] = set()
        for partner in self.rules.partners:
            theirs, doubted = self._partner(person, partner, taken)
            found |= theirs
            open_to_doubt |= doubted
        for name, given in person.given.items():
            if name not in self.rules.partners:
                place = Place(name, "default", "*")
                found[place] = self._stranger(person, given)
                if max(at for at, _ in given) <= person.erased and not self._known(person, given, taken):
                    open_to_doubt.add(place)
        return found, open_to_doubt

    def _partner(self, person: Person, partner: str, taken: Mapping[str, int]) -> tuple[dict[Place, Owed], set[Place]]:
        given = person.given.get(partner, [])
        everybody = self.rules.partners[partner]["everybody"] == "yes"
        if not (everybody or given):
            return {}, set()
        found: dict[Place, Owed] = {}
        last = max((at for at, _ in given), default=0)
        doubted = not everybody and bool(person.erased) and last <= person.erased
        for account in self.rules.accounts(partner) if person.erased else ():
            word = person.words[ERASED]
            since = max(min(word.at, person.deletions[word.event_id][1]), last if last > word.at else 0)
            found[Place(partner, account, "*")] = Owed("delete", frozenset({word.event_id}), since)
        for code, place in self.rules.places.items():
            if place.partner == partner and (owed := self._place(person, code, last)):
                found[place] = owed
        if not doubted:
            return found, set()
        known = self._known(person, given, taken)
        return found, {place for place in found if not (known and place.scope == "*")}

    def _known(self, person: Person, given: list[tuple[int, str]], taken: Mapping[str, int]) -> bool:
        """Whether a provision was taken in before the deletion was asked, so that it can't have come too late to count."""
        winner = person.words[ERASED].event_id
        before = max((at for name, (at, _) in person.deletions.items() if name != winner), default=0)
        asked = person.deletions[winner][1]
        return any(at > before and taken.get(name, asked) < asked for at, name in given)

    def _place(self, person: Person, code: str, last_given: int) -> Owed | None:
        verdict, heard = self.verdict(person, code)
        if not heard or max(word.at for word in heard) <= person.erased:
            return None
        verb = "grant" if verdict == "may" else verdict
        if verb == "grant" and self.rules.partners[self.rules.places[code].partner]["grants"] != "yes":
            return None
        names = {word.event_id for word in heard} | ({person.words[ERASED].event_id} if person.erased else set())
        since = last_given if verb != "grant" and last_given > person.erased else 0
        return Owed(verb, frozenset(names), since)

    def _stranger(self, person: Person, given: list[tuple[int, str]]) -> Owed:
        names = frozenset(word.event_id for word in person.words.values())
        return Owed("delete" if person.erased else "withdraw", names, max(at for at, _ in given))

    def verdict(self, person: Person, code: str) -> tuple[str, list[Word]]:
        """The strictest of all that has a say at a place, and the words of the person that were heard for it."""
        rows, heard = self._rows(person, code)
        says = [self.rules.words[row].get(code, "may") for row in rows]
        return max(says, key=STRICTEST.index, default="may"), heard

    def _rows(self, person: Person, code: str) -> tuple[list[str], list[Word]]:
        words, rules = person.words, self.rules.words
        rows: list[str] = []
        heard: dict[str, Word] = {}
        for purpose in self.rules.purposes:
            if code in rules[f"{purpose} granted"]:
                rows.append(self._purpose(person, purpose))
                matters = (f"purpose/appi/{purpose}", EVERYTHING)
                heard |= {name: words[name] for name in matters if name in words}
        for channel in self.rules.channels:
            word = words.get(name := f"channel/{channel}/*")
            if word and code in rules[f"{channel} resubscribed"]:
                rows.append(f"{channel} {word.value}")
                heard[name] = word
        for scope in ("use", "provision"):
            word = words.get(name := f"suspension/{scope}")
            if word and code in rules[f"{scope} lifted"]:
                rows.append(f"{scope} {word.value}")
                heard[name] = word
        if person.aged_at <= person.erased:
            rows.append("age unknown")
        return rows, list(heard.values())

    def _purpose(self, person: Person, purpose: str) -> str:
        mine, everything = person.words.get(f"purpose/appi/{purpose}"), person.words.get(EVERYTHING)
        if everything and (mine is None or everything.at >= mine.at):
            return "everything withdrawn"
        if mine and (mine.strict or mine.at > person.erased):
            return f"{purpose} {mine.value}"
        return f"{purpose} {'voided' if person.erased else 'unsaid'}"

    def named(self, person: Person, partner: str, owed: Owed, taken: Mapping[str, int]) -> set[str]:
        """The hashes that a partner must surely have heard of for what is owed. `taken` as in `owed`.

        After a deletion: those that came with what was said since, and was taken in since; what had come before may have been
        shredded with the rest. Of the deletion itself: those that it brought.
        """
        kinds = self.rules.kinds(partner)
        if owed.verb == "delete":
            mine = [each for each in person.named if each.event_id in owed.events]
        else:
            late = taken.get(person.words[ERASED].event_id, 0) if person.erased else -1
            mine = [each for each in person.named if each.at > person.erased and taken.get(each.event_id, 0) > late]
        return {hashed(partner, each.kind, each.value) for each in mine if each.kind in kinds}
