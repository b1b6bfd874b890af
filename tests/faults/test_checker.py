"""The checker stands apart from the product, knows its tables, and goes red for each thing that must not be."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest

from tests.faults.checker import Checker, Verdict
from tests.faults.evidence import Evidence, Outcome, Told
from tests.faults.generator import Generator, Plan
from tests.faults.launch import BOUNDARIES, find
from tests.faults.mischief import KILLS, faults
from tests.faults.oracle import Event, Oracle, Person, Place, Rules, hashed
from tests.faults.topics import Seen

ROOT = Path(__file__).parents[2]
OUTSIDE = ("topics", "oracle", "evidence", "checker", "generator", "sending")
NOW = 1_795_399_927_000
NAME = "hanako@example.jp"


def said(name: str, topic: str, at: int, appended: int = NOW + 60_000, **fields: Any) -> Event:
    body = {"event_id": name, "occurred_at": NOW + at, "identifiers": [{"kind": "email", "value": NAME}], **fields}
    return Event(topic, {"age": {"birth_date": "1980-01-01"}, **body}, appended)


def consent(name: str, decision: str, at: int, purpose: str = "marketing-communications", **more: Any) -> Event:
    return said(name, "consent-changes", at, purpose=purpose, decision=decision, **more)


def delete(name: str, at: int) -> Event:
    return said(name, "deletion-requests", at, action="requested")


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_judges_imports_nothing_of_the_product(name: str) -> None:
    tree = ast.parse((Path(__file__).with_name(f"{name}.py")).read_text())
    imported = [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {each for each in imported if each.partition(".")[0] in ("todoke", "tests")}

    assert ours <= {f"tests.faults.{each}" for each in OUTSIDE}


def test_what_judges_runs_where_the_product_cannot_be_imported() -> None:
    packages = Path(confluent_kafka.__file__).parents[1]
    text = f"""
import sys, importlib.util
sys.path += [{str(ROOT)!r}, {str(packages)!r}]
assert importlib.util.find_spec("todoke") is None
import tests.faults.checker, tests.faults.sending
"""

    done = subprocess.run(
        [sys.executable, "-S", "-c", text], cwd="/", env={}, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("events", "place", "verdict"),
    [
        ([consent("a", "granted", 0)], "K1", "may"),
        ([consent("a", "granted", 1), consent("b", "withdrawn", 1)], "K1", "withdraw"),
        ([consent("b", "withdrawn", 0), consent("a", "granted", 1)], "K1", "may"),
        ([consent("a", "granted", 5000), consent("b", "withdrawn", 0, "*")], "K1", "may"),
        ([consent("a", "granted", 0), consent("b", "withdrawn", 5000, "*")], "K1", "withdraw"),
        ([consent("a", "granted", 0), delete("d", 1)], "K1", "withdraw"),
        ([consent("a", "granted", 2), delete("d", 1)], "K1", "may"),
        ([consent("a", "granted", 9000, appended=NOW + 10), consent("b", "withdrawn", 20)], "K1", "withdraw"),
        ([consent("a", "granted", 0, age=None)], "K1", "withdraw"),
        (
            [consent("a", "granted", 0), said("s", "suspension-requests", 1, scope="use", action="suspended")],
            "K1",
            "suspend",
        ),
        (
            [consent("a", "granted", 0), said("s", "suspension-requests", 1, scope="provision", action="suspended")],
            "K1",
            "may",
        ),
        (
            [consent("a", "granted", 0), said("u", "unsubscribes", 1, channel="sms", action="unsubscribed")],
            "K4",
            "withdraw",
        ),
        ([consent("a", "granted", 0, "targeted-advertising")], "M1", "withdraw"),
        ([consent("a", "withdrawn", 0, "profiling")], "A1", "may"),
    ],
)
def test_the_oracle_takes_the_last_word_and_the_strictest(events: list[Event], place: str, verdict: str) -> None:
    assert Oracle(Rules()).verdict(Person(events), place)[0] == verdict


def test_a_deletion_is_owed_by_every_partner_that_holds_data_and_what_was_said_before_by_none() -> None:
    person = Person([consent("a", "granted", 0), delete("d", 1)])

    owed, doubted = Oracle(Rules()).owed(person, {})

    assert {(place.partner, place.scope, each.verb) for place, each in owed.items()} == {
        ("kura-crm", "*", "delete"),
        ("meta", "*", "delete"),
        ("aozora-analytics", "*", "delete"),
    }
    assert not doubted


class Noted(Evidence):
    """What a tidy installation leaves of one person who granted one purpose and then withdrew it."""

    def __init__(self) -> None:
        first, last = consent("a", "granted", 0, appended=NOW), consent("b", "withdrawn", 1000, appended=NOW + 1000)
        self.said = {"someone": [first, last]}
        self.truth = [self.line(each) for each in (first, last)]
        self._lines = {line["sha"]: line for line in self.truth}
        self.intake = defaultdict(list, {each.name: [self.seen(each)] for each in (first, last)})
        self.strangers = []
        self.outcomes = defaultdict(
            list,
            {each.name: [Outcome(each.appended + 10, "applied", "", "ref")] for each in (first, last)},
        )
        word = {"value": "withdrawn", "at": NOW + 1000, "restrictive": True, "event_id": "b"}
        self.records = {"ref": {"registers": {"purpose/appi/marketing-communications": word}}}
        places = [place for place in Rules().places.values() if place.partner == "kura-crm"]
        self.obligations = {place.scope: self.owed(place) for place in places}
        self.letters = {}
        self.told = [
            Told(NOW + at, op, "sending", place.scope, (hashed("kura-crm", "email", NAME),))
            for place in places
            for at, op in ((500, "granted"), (1500, "withdrawn"))
        ]
        self.leaking: list[str] = []

    @staticmethod
    def line(event: Event) -> dict[str, Any]:
        return {"sha": event.name, "topic": event.topic, "event": event.body, "subject": "someone", "refuse": ""}

    @staticmethod
    def seen(event: Event) -> Seen:
        return Seen(event.topic, 0, 0, event.appended, b"", b"")

    @staticmethod
    def owed(place: Place) -> dict[str, Any]:
        return {
            "obligation_id": place.scope,
            "subject_ref": "ref",
            "partner": place.partner,
            "account": place.account,
            "scope": place.scope,
            "verb": "withdraw",
            "stamps": [{"register": "purpose/appi/marketing-communications", "event_id": "b"}],
            "grades": {"processed": NOW + 1500},
            "done_at_grade": 3,
            "acts": [],
            "superseded_by": "",
            "blocked": "",
        }

    def journal(self, partner: str) -> Iterator[Told]:
        return iter(self.told if partner == "kura-crm" else [])

    def leaks(self, _: Any) -> Iterator[str]:
        return iter(self.leaking)


def judged(noted: Noted) -> Verdict:
    return Checker(noted, Rules(), wiped=False).verdict()


def test_a_tidy_installation_is_green() -> None:
    verdict = judged(Noted())

    assert verdict.findings == []
    assert verdict.latest_ms == 0


@pytest.mark.parametrize(
    ("law", "kind", "breach"),
    [
        (1, "a message is not in its topic", lambda noted: noted.intake.pop("a")),
        (1, "a message that nobody sent", lambda noted: noted.strangers.append("consent-changes/0/9")),
        (1, "an event without outcome", lambda noted: noted.outcomes.pop("a")),
        (
            1,
            "an outcome has changed",
            lambda noted: noted.outcomes["a"].append(Outcome(NOW, "superseded", "", "ref")),
        ),
        (1, "a sound event was refused", lambda noted: noted.outcomes.update(a=[Outcome(NOW, "refused", "", "ref")])),
        (
            1,
            "an event that stands is not called applied",
            lambda noted: noted.outcomes.update(b=[Outcome(NOW, "superseded", "", "ref")]),
        ),
        (
            2,
            "the record does not say the last word",
            lambda noted: noted.records["ref"]["registers"]["purpose/appi/marketing-communications"].update(at=NOW),
        ),
        (2, "a record of nobody", lambda noted: noted.records.update(other=noted.records["ref"])),
        (2, "a partner's last word is wrong", lambda noted: noted.told.pop()),
        (2, "permitted in the end, and must not be", lambda noted: noted.told.append(noted.told[0])),
        (
            2,
            "a permissive call came too late",
            lambda noted: noted.told.insert(0, noted.told[0]._replace(at=NOW + 9900)),
        ),
        (3, "owed, and no obligation says so", lambda noted: noted.obligations.pop("sms")),
        (3, "owed, and not met", lambda noted: noted.obligations["sms"].update(grades={"accepted": NOW})),
        (3, "stands and must not", lambda noted: noted.obligations["sms"].update(grades={}, blocked="endpoint-gone")),
        (
            3,
            "stands and is owed by nobody",
            lambda noted: noted.obligations.update(
                other={**noted.obligations["sms"], "obligation_id": "other", "partner": "meta", "grades": {}}
            ),
        ),
        (3, "superseded by what nobody owes", lambda noted: noted.obligations["sms"].update(superseded_by="nothing")),
        (7, "a person's name in a log", lambda noted: noted.leaking.append("worker-1.log:3")),
    ],
)
def test_whatever_must_not_be_is_found(law: int, kind: str, breach: Any) -> None:
    noted = Noted()
    breach(noted)

    assert (law, kind) in {(each.law, each.kind) for each in judged(noted).findings}


def test_the_same_seed_sends_the_same_and_does_the_same() -> None:
    plan = Plan(5, 300, 12, NOW, 100.0, "t")

    first, second = ([line.text() for line in Generator(plan).lines()] for _ in range(2))

    assert first == second
    assert first != [line.text() for line in Generator(plan._replace(seed=6)).lines()]
    assert faults(5, 20) == faults(5, 20)
    assert sum(each.kind in KILLS for each in faults(5, 20)) >= 20


@pytest.mark.parametrize("name", BOUNDARIES)
def test_every_boundary_is_a_place_in_the_product(name: str) -> None:
    assert SimpleNamespace(found=find(BOUNDARIES[name].target)).found
