"""The checker: holds what an installation did against what people said, by rules of its own. Imports nothing of the product.

Each check gives findings, none when the law holds: 1 each event has one outcome; 2 the last word stands, at every emulator,
and no permission is sent long after a restriction; 3 each obligation is accounted for; 7 no name in a log.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.evidence import Evidence, Told, holds, state
from tests.faults.oracle import Event, Oracle, Owed, Person, Place, Rules, hashed, meant

PERMITS = frozenset({"granted", "add"})
ENDED = frozenset({"done", "closed", "waived", "superseded"})
SHOWN = 8


class Finding(NamedTuple):
    """One thing that must not be: the law, the kind of breach, and where."""

    law: int
    kind: str
    where: str


class Verdict(NamedTuple):
    """What a run came to: findings, counts of what was checked, and the measured lateness (ms) of permissive calls."""

    findings: list[Finding]
    checked: Mapping[str, int]
    latest_ms: int

    def table(self) -> str:
        """Counts and findings as lines of text, a few of each kind."""
        lines = [f"  {name:<44} {count:>9}" for name, count in self.checked.items()]
        lines.append(f"  {'latest permissive call after a restriction, ms':<44} {self.latest_ms:>9}")
        kinds = Counter((each.law, each.kind) for each in self.findings)
        for (law, kind), count in sorted(kinds.items()):
            lines.append(f"  LAW {law} BROKEN, {count}: {kind}")
            lines += [f"    {each.where}" for each in self.findings if (each.law, each.kind) == (law, kind)][:SHOWN]
        return "\n".join([*lines, "verdict: " + ("RED" if self.findings else "green")])


class Checker:
    """Judges one run. `pauses` are the times (ms) during which some dispatcher was stopped by SIGSTOP."""

    def __init__(
        self, evidence: Evidence, rules: Rules, pauses: Sequence[tuple[int, int]] = (), *, wiped: bool
    ) -> None:
        """`wiped` is whether the view lost anything in the run, so that outcomes may have been noted anew."""
        self.evidence = evidence
        self.rules = rules
        self.oracle = Oracle(rules)
        self.pauses = pauses
        self.wiped = wiped
        self.events = evidence.people()
        self.people = {subject: Person(events) for subject, events in self.events.items()}
        self.taken = evidence.taken()
        self.owed = {subject: self.oracle.owed(person, self.taken) for subject, person in self.people.items()}
        self.checked: Counter[str] = Counter()
        self.latest_ms = 0

    def verdict(self) -> Verdict:
        """Everything, checked."""
        self.refs = self._refs()
        findings = [
            *self._arrivals(),
            *self._outcomes(),
            *self._registers(),
            *self._obligations(),
            *self._partners(),
            *self._leaks(),
        ]
        return Verdict(findings, dict(self.checked), self.latest_ms)

    def _refs(self) -> dict[str, str]:
        """The inner name of each person, as the outcomes of their events have it."""
        found: dict[str, str] = {}
        for subject, events in self.events.items():
            refs = {copy.ref for event in events for copy in self.evidence.outcomes.get(event.name, ())}
            if len(refs) == 1:
                found[subject] = refs.pop()
        return found

    def _arrivals(self) -> Iterator[Finding]:
        """What the broker acknowledged is there, and nothing else."""
        lines = Counter(line["sha"] for line in self.evidence.truth)
        for line, seen in self.evidence.arrivals():
            self.checked["messages sent"] += lines[line["sha"]]
            if len(seen) < lines[line["sha"]]:
                yield Finding(1, "a message is not in its topic", line["topic"])
        for place in self.evidence.strangers:
            yield Finding(1, "a message that nobody sent", place)

    def _outcomes(self) -> Iterator[Finding]:
        """Law 1: one outcome each, the right one, and a dead letter for what was refused."""
        wanted = set()
        for line, seen in self.evidence.arrivals():
            for each in seen:
                key = self.evidence.key(line, each)
                wanted.add(key)
                yield from self._outcome(line, key, each.place)
        self.checked["outcomes"] = len(wanted)
        for key in self.evidence.outcomes.keys() - wanted:
            yield Finding(1, "an outcome of no event", key)
        for subject, events in self.events.items():
            yield from self._standing(subject, events)

    def _outcome(self, line: Mapping[str, Any], key: str, place: str) -> Iterator[Finding]:
        copies = self.evidence.outcomes.get(key, [])
        if not copies:
            yield Finding(1, "an event without outcome", f"{place} {key}")
            return
        reasons = {each.outcome for each in copies}
        if line["refuse"]:
            if reasons != {"refused"} or copies[-1].reason != line["refuse"]:
                yield Finding(
                    1, "refused otherwise than it must be", f"{key}: {copies[-1].reason}, not {line['refuse']}"
                )
            if self.evidence.letters.get(place) != line["refuse"]:
                yield Finding(1, "no dead letter of what was refused", place)
        elif "refused" in reasons:
            yield Finding(1, "a sound event was refused", f"{key}: {copies[-1].reason}")
        elif len(reasons) > 1 and not self.wiped:
            yield Finding(1, "an outcome has changed", key)

    def _standing(self, subject: str, events: Iterable[Event]) -> Iterator[Finding]:
        """What stands in the end was applied; what had lost when it arrived was superseded."""
        words = self.people[subject].words
        first: dict[str, list[tuple[int, Any, str]]] = defaultdict(list)
        for event in events:
            copies = self.evidence.outcomes.get(event.name)
            for matter, word in meant(event):
                first[matter].append((event.appended, word, event.name))
                if copies and words[matter] == word and copies[-1].outcome != "applied":
                    yield Finding(1, "an event that stands is not called applied", event.name)
        for said in first.values():
            best = None
            for appended, word, name in sorted(said):
                copies = self.evidence.outcomes.get(name)
                lost = best is not None and best[0] < appended and best[1] > word
                if lost and copies and copies[0].outcome == "applied":
                    yield Finding(1, "an event that came too late is called applied", name)
                best = (appended, word) if best is None or word > best[1] else best

    def _registers(self) -> Iterator[Finding]:
        """Law 2, inside: the record of each person says the last word on each matter."""
        known = {ref: subject for subject, ref in self.refs.items()}
        if len(known) != len(self.people):
            yield Finding(
                2, "people without one name of their own inside", f"{len(self.people)} people, {len(known)} names"
            )
        for subject, ref in self.refs.items():
            record = self.evidence.records.get(ref)
            if record is None:
                yield Finding(1, "no record of a person", ref)
                continue
            held = {name: each for name, each in record["registers"].items() if name != "age"}
            self.checked["registers"] += len(held)
            words = self.people[subject].words
            for name in held.keys() | words.keys():
                ours, theirs = words.get(name), held.get(name)
                said = theirs and (theirs["at"], theirs["restrictive"], theirs["event_id"], theirs["value"])
                if said != (tuple(ours) if ours else None):
                    yield Finding(2, "the record does not say the last word", f"{ref} {name}: {ours}, not {said}")
        for ref in self.evidence.records.keys() - known.keys():
            yield Finding(2, "a record of nobody", ref)

    def _obligations(self) -> Iterator[Finding]:
        """Law 3: at each place what is owed, once, ended or rightly blocked; nothing else stands."""
        every = self.evidence.obligations
        self.checked["obligations"] = len(every)
        self.held = self.evidence.held()
        by_place: dict[tuple[str, Place], list[dict[str, Any]]] = defaultdict(list)
        for each in every.values():
            by_place[each["subject_ref"], Place(each["partner"], each["account"], each["scope"])].append(each)
            by = each["superseded_by"]
            if (
                each["verb"] == "delete"
                and by
                and state(each) == "superseded"
                and every.get(by, each)["verb"] != "delete"
            ):
                yield Finding(3, "a delete gave way to something else", each["obligation_id"])
            if by and by not in every and by != "demanded no more":
                yield Finding(3, "superseded by what nobody owes", each["obligation_id"])
        for subject, ref in self.refs.items():
            owed, doubted = self.owed[subject]
            self.checked["places owed"] += len(owed)
            for place in owed:
                found = by_place.pop((ref, place), [])
                if place not in doubted or found:
                    yield from self._place(self.people[subject], owed[place], place, found, sure=place not in doubted)
        for (ref, place), found in by_place.items():
            for each in found:
                if state(each) not in ENDED:
                    yield Finding(
                        3, "stands and is owed by nobody", f"{_where(ref, place)} {each['verb']} {state(each)}"
                    )

    def _place(
        self, person: Person, owed: Owed, place: Place, found: Sequence[Mapping[str, Any]], *, sure: bool
    ) -> Iterator[Finding]:
        stranger = place.partner not in self.rules.partners
        ref = found[0]["subject_ref"] if found else ""
        mine = [each for each in found if each["verb"] == owed.verb and _events(each) == owed.events]
        if not mine and sure:
            what = sorted((each["verb"], state(each)) for each in found)
            yield Finding(3, "owed, and no obligation says so", f"{_where(ref, place)} {owed.verb}: found {what}")
        nameless = stranger or not self.oracle.named(person, place.partner, owed, self.taken)

        def right(each: Mapping[str, Any]) -> bool:
            return nameless and (state(each) == "blocked" or holds(each, self.held))

        if mine and sure and not any(state(each) == "done" or right(each) for each in mine):
            what = sorted((state(each), each["blocked"]) for each in mine)
            yield Finding(3, "owed, and not met", f"{_where(ref, place)} {owed.verb}: {what}")
        standing = [each for each in found if state(each) not in ENDED]
        for each in standing:
            if not (right(each) and (each in mine or not sure)):
                yield Finding(
                    3, "stands and must not", f"{_where(ref, place)} {each['verb']} {state(each)} {each['blocked']}"
                )
        if len(standing) > 1 and sure:
            yield Finding(3, "stands more than once", _where(ref, place))

    def _partners(self) -> Iterator[Finding]:
        """Law 2, outside: what each emulator was told last is what must stand, and nothing permissive came too late."""
        for partner in self.rules.partners:
            owners: dict[str, set[str]] = defaultdict(set)
            for subject, person in self.people.items():
                for each in person.named:
                    owners[hashed(partner, each.kind, each.value)].add(subject)
            lines: dict[str, list[Told]] = defaultdict(list)
            for told in self.evidence.journal(partner):
                theirs = {subject for name in told.identifiers for subject in owners.get(name, ())}
                self.checked[f"calls applied by {partner}"] += bool(theirs)
                for name in told.identifiers:
                    if name in owners:
                        lines[name].append(told)
                if told.op in PERMITS:
                    for subject in theirs:
                        yield from self._permitted(subject, partner, told)
            for subject in self.people:
                yield from self._last(subject, partner, lines)

    def _last(self, subject: str, partner: str, lines: Mapping[str, list[Told]]) -> Iterator[Finding]:
        person, (owed, doubted) = self.people[subject], self.owed[subject]
        effects = self.rules.effects[partner]
        for place, each in owed.items():
            if place.partner != partner or place in doubted:
                continue
            for name in self.oracle.named(person, partner, each, self.taken):
                told = [one for one in lines.get(name, ()) if _speaks(one, place)]
                self.checked["permissions compared"] += 1
                if kind := _untold(each, told, effects):
                    last = told[-1].op if told else "nothing"
                    yield Finding(2, kind, f"{place} {name[:12]}: {last}, not {each.verb}")
        for code, place in self.rules.places.items():
            if place.partner == partner:
                yield from self._never(person, place, code, lines)

    def _never(self, person: Person, place: Place, code: str, lines: Mapping[str, list[Told]]) -> Iterator[Finding]:
        """Never granted in the end when the oracle says otherwise, by whatever identifier."""
        verdict, heard = self.oracle.verdict(person, code)
        if verdict == "may" and heard and max(word.at for word in heard) > person.erased:
            return
        for name in {hashed(place.partner, each.kind, each.value) for each in person.named}:
            told = [one for one in lines.get(name, ()) if _speaks(one, place)]
            if told and told[-1].op in PERMITS:
                yield Finding(2, "permitted in the end, and must not be", f"{place} {name[:12]}: {verdict}")

    def _permitted(self, subject: str, partner: str, told: Told) -> Iterator[Finding]:
        """A permissive call must not come long after what forbids it: the bound is written in the rules."""
        code = next((code for code, place in self.rules.places.items() if _speaks(told, place, partner)), "")
        if not code or self.rules.partners[partner]["grants"] != "yes":
            yield Finding(2, "permitted where nothing is ever permitted", f"{partner} {told.account}")
            return
        self.checked["permissive calls held against the bound"] += 1
        events = self.events[subject]
        late = self._late(events, code, told.at)
        late -= self._stopped(told.at - late, told.at)
        self.latest_ms = max(self.latest_ms, late)
        if late > self.rules.bounds["permissive"]:
            yield Finding(2, "a permissive call came too late", f"{partner} {told.scope} at {told.at}: {late} ms")

    def _late(self, events: Sequence[Event], code: str, at: int) -> int:
        """For how long (ms) before `at` what was durable forbade the call; 0 when it did not."""
        since = at
        for moment in sorted({event.appended for event in events if event.appended <= at}, reverse=True):
            person = Person(event for event in events if event.appended <= moment)
            if self.oracle.verdict(person, code)[0] == "may":
                break
            since = moment
        return at - since

    def _stopped(self, since: int, until: int) -> int:
        return sum(max(0, min(end, until) - max(start, since)) for start, end in self.pauses)

    def _leaks(self) -> Iterator[Finding]:
        """Law 7: nobody's name, nor identifier, in any log."""
        names = {each.value.strip() for person in self.people.values() for each in person.named} | self.people.keys()
        self.checked["names looked for in logs"] = len(names)
        for where in self.evidence.leaks(names | {name.lower() for name in names}):
            yield Finding(7, "a person's name in a log", where)


def _untold(owed: Owed, told: Sequence[Told], effects: Mapping[str, str]) -> str:
    """What is wrong with what was told, for what is owed; empty when nothing is."""
    if owed.verb == "delete":
        return (
            ""
            if any(one.op == effects["delete"] and one.at >= owed.since for one in told)
            else "a deletion was not told"
        )
    if owed.verb != "grant":  # a deletion takes nothing back from a restriction that it comes after
        told = [one for one in told if one.op != effects["delete"] or one.op == effects[owed.verb]]
    if not told or told[-1].op != effects[owed.verb]:
        return "a partner's last word is wrong"
    return "" if told[-1].at >= owed.since else "not told again since data was given"


def _events(owed: Mapping[str, Any]) -> frozenset[str]:
    """The events that decided an obligation, but for those that only told the age, gave data, or told whose a name is."""
    silent = ("age", "claim/")
    return frozenset(
        each["event_id"] for each in owed["stamps"] if each["event_id"] and not each["register"].startswith(silent)
    )


def _speaks(told: Told, place: Place, partner: str = "") -> bool:
    """Whether a line of the journal concerns a place: Meta's has no scope, a deletion speaks of the whole account."""
    if partner and place.partner != partner:
        return False
    return told.account == place.account and (told.scope in ("", "*", place.scope) or place.scope == "*")


def _where(ref: str, place: Place) -> str:
    return f"{ref} {place.partner}/{place.account}/{place.scope}"
