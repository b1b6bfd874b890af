"""What there is to judge by: the generator's notes, the topics, the emulators' journals, the logs. Imports nothing of the product."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.oracle import Event
from tests.faults.topics import INTAKE, Contracts, Seen, Tail

KEPT = ("outcomes", "consent-state", "obligations", "dead-letters")
RUNGS = {"sent": 1, "accepted": 2, "processed": 3, "confirmed": 4}


class Told(NamedTuple):
    """One line of an emulator's journal: what it applied, when (ms), and to whom."""

    at: int
    op: str
    account: str
    scope: str
    identifiers: tuple[str, ...]


class Outcome(NamedTuple):
    """One copy of an outcome, with its append time (ms)."""

    at: int
    outcome: str
    reason: str
    ref: str


class Sources(NamedTuple):
    """Where to look. `journals` are the emulators' by partner, and `accounts` the names that they have for accounts."""

    bootstrap: str
    namespace: str
    truth: Path
    journals: Mapping[str, Path]
    accounts: Mapping[str, Mapping[str, str]]
    logs: Path


class Evidence:
    """All of it, read on as it grows."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.contracts = Contracts()
        self.truth = [json.loads(line) for line in sources.truth.read_text().splitlines()]
        self._lines: dict[str, Any] = {line["sha"]: line for line in self.truth}
        self.intake: dict[str, list[Seen]] = defaultdict(list)
        self.strangers: list[str] = []
        self.outcomes: dict[str, list[Outcome]] = defaultdict(list)
        self.records: dict[str, dict[str, Any]] = {}
        self.obligations: dict[str, dict[str, Any]] = {}
        self.letters: dict[str, str] = {}
        self._tail = Tail(sources.bootstrap, sources.namespace, (*INTAKE, *KEPT))

    def read(self) -> int:
        """Read on to where the topics end now; how many messages there were."""
        count = 0
        for count, seen in enumerate(self._tail.read(), 1):  # noqa: B007
            if seen.topic in INTAKE:
                self._arrived(seen)
            elif seen.raw is None:
                self.obligations.pop((seen.key or b"").decode(), None)
            else:
                self._noted(seen, self.contracts.decode(seen.raw))
        return count

    def close(self) -> None:
        self._tail.close()

    def resting(self) -> str:
        """What is still under way, in words; empty when nothing is."""
        unheard = sum(name not in self.outcomes for name in self.wanted())
        held = self.held()
        running = sum(state(each) == "open" and not holds(each, held) for each in self.obligations.values())
        missing = len(self.truth) - sum(map(len, self.intake.values()))
        told = ((missing, "not in the topics"), (unheard, "without outcome"), (running, "obligations open"))
        return ", ".join(f"{count} {what}" for count, what in told if count > 0)

    def held(self) -> frozenset[tuple[str, str, str]]:
        """Whom, at which account, a deletion that can't be told keeps from being granted anything."""
        return frozenset(
            (each["subject_ref"], each["partner"], each["account"])
            for each in self.obligations.values()
            if each["verb"] == "delete" and state(each) == "blocked"
        )

    def wanted(self) -> Iterator[str]:
        """The key under which each accepted message must have an outcome."""
        for sha, seen in self.intake.items():
            line = self._lines[sha]
            for each in seen:
                yield self.key(line, each)

    @staticmethod
    def key(line: Mapping[str, Any], seen: Seen) -> str:
        """The event's id; where it could not be read, the place of the message."""
        event = line.get("event")
        return event["event_id"] if event and event["event_id"] else seen.place

    def arrivals(self) -> Iterator[tuple[dict[str, Any], list[Seen]]]:
        """Every line of the generator with the copies of it that the broker holds."""
        for sha, line in self._lines.items():
            yield line, self.intake.get(sha, [])

    def people(self) -> dict[str, list[Event]]:
        """The sound events of each person."""
        found: dict[str, dict[str, Event]] = defaultdict(dict)
        for line, seen in self.arrivals():
            if seen and not line["refuse"]:
                event = Event(line["topic"], line["event"], min(each.at for each in seen))
                found[line["subject"]][event.name] = event
        return {subject: list(events.values()) for subject, events in found.items()}

    def taken(self) -> dict[str, int]:
        """When the first outcome of each event was durable (ms)."""
        return {name: min(each.at for each in copies) for name, copies in self.outcomes.items()}

    def journal(self, partner: str) -> Iterator[Told]:
        """What a partner's emulator applied, in order, under our names of its accounts."""
        names = self.sources.accounts.get(partner, {})
        for line in _lines(self.sources.journals[partner]):
            account = names.get(line["account"], line["account"])
            yield Told(line["at"], line["op"], account, line["scope"], tuple(line["identifiers"]))

    def leaks(self, identifiers: Iterable[str]) -> Iterator[str]:
        """Log files in which somebody's name stands, with the number of the line."""
        names = re.compile("|".join(sorted(map(re.escape, set(identifiers)), reverse=True)).encode() or rb"(?!)")
        for path in sorted(self.sources.logs.glob("*.log*")):
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                if names.search(line):
                    yield f"{path.name}:{number}"

    def _arrived(self, seen: Seen) -> None:
        sha = sha256(seen.raw or b"").hexdigest()
        if sha in self._lines:
            self.intake[sha].append(seen)
        else:
            self.strangers.append(seen.place)

    def _noted(self, seen: Seen, value: dict[str, Any]) -> None:
        match seen.topic:
            case "outcomes":
                copy = Outcome(seen.at, value["outcome"], value["reason"], value["subject_ref"])
                self.outcomes[value["event_id"]].append(copy)
            case "consent-state":
                self.records[value["subject_ref"]] = value
            case "obligations":
                self.obligations[value["obligation_id"]] = value
            case "dead-letters":
                self.letters[value["letter_id"]] = value["reason"]


def state(owed: Mapping[str, Any]) -> str:
    """The one state of an obligation, from what it has seen."""
    if max((RUNGS[name] for name in owed["grades"]), default=0) >= owed["done_at_grade"]:
        return "done"
    acts = [act["act"] for act in owed["acts"] if act["act"] in ("closed", "waived")]
    if acts:
        return str(acts[-1])
    if owed["superseded_by"]:
        return "superseded"
    return "blocked" if owed["blocked"] else "open"


def holds(owed: Mapping[str, Any], held: frozenset[tuple[str, str, str]]) -> bool:
    """Whether an obligation is a grant that waits behind such a deletion."""
    return owed["verb"] == "grant" and (owed["subject_ref"], owed["partner"], owed["account"]) in held


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal; one cut short was never answered."""
    text = path.read_text() if path.exists() else ""
    for line in text.rpartition("\n")[0].splitlines():
        yield json.loads(line)
