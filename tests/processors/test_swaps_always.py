"""Three people, their words and one audience, in any order: what holds of every list and every swap."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from tests.processors.test_swaps import BLANK, HOUR, LINE, LIST, RULES, swap
from tests.rules import LATE, consent, deletion, owed, receipt, suspension, with_identifiers, written
from todoke.processors.plan import of_partner
from todoke.processors.reconcile import Call, Known, reconcile
from todoke.processors.swaps import begin, contained, entering, listed, under_way
from todoke.schemas.events import Event
from todoke.schemas.obligations import Obligation, settle
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Attempt, Told, join, note, reported


class Partnered(Struct):
    """The partner: who is on its list, and the lists that may still take its place."""

    members: frozenset[str] = frozenset()
    out: frozenset[str] | None = None


class People:
    """Three people, one of whom shares an address with another, and the swaps of one audience."""

    def __init__(self) -> None:
        self.at = LATE
        self.said: dict[str, list[Event]] = {"a": [], "b": [], "c": []}
        self.names = {"a": ("x",), "b": ("x", "y"), "c": ("z",)}
        self.obligations: dict[str, dict[str, Obligation]] = {name: {} for name in self.said}
        self.told: dict[str, dict[str, Told]] = {name: {} for name in self.said}
        self.audience = BLANK
        self.partner = Partnered()
        self.calls: dict[str, list[Call]] = {}
        self.rows: frozenset[str] = frozenset()

    def record(self, name: str) -> SubjectRecord:
        found = with_identifiers(written(*self.said[name]), *self.names[name])
        return replace(found, subject_ref=name)

    def say(self, name: str, event: Event) -> None:
        self.said[name].append(event)
        for key, each in owed(self.record(name), RULES, self.at).items():
            self.obligations[name].setdefault(key, each)

    def known(self, name: str) -> Known:
        record = self.record(name)
        others = [each for each in self.said if each != name and set(self.names[each]) & set(self.names[name])]
        joint = dict(self.told[name])
        for other in others:
            for each in self.told[other].values():
                if each.alias in self.names[name]:
                    mine = replace(each, subject_ref=name)
                    joint[mine.key] = join(joint[mine.key], mine) if mine.key in joint else mine
        ended = frozenset(key for each in others for key, one in self.obligations[each].items() if one.ended_at)
        sharers = tuple(self.record(each) for each in others if self.said[each])
        return Known(record, tuple(self.obligations[name].values()), joint, sharers=sharers, carried_out=ended)

    def cut(self) -> None:
        """A list of everybody, and what it contains, as the view stands now."""
        if under_way(self.audience, self.at):
            return
        self.known_then = frozenset(self.audience.attempts)
        self.calls = {}
        for name in self.said:
            work = reconcile(self.known(name), LIST, RULES, self.at)
            for each, by in work.superseded:
                self.put(name, settle(each, receipt(each, "superseded", self.at, reference=by)))
            for each, why in work.reopened:
                self.put(name, settle(each, receipt(each, "reopened", self.at, generation=each.generation, reason=why)))
            self.calls[name] = list(work.calls)
        new = entering(each for calls in self.calls.values() for each in calls)
        found = {name: listed(self.known(name), LIST, "main", new, RULES, self.at) for name in self.said}
        entered = {each.by for each in found.values()} - {""}
        self.calls = {name: contained(calls, entered) for name, calls in self.calls.items()}
        self.rows = frozenset(one.alias for each in found.values() for one in each.identifiers)

    def send(self, *, arrives: bool) -> None:
        """The list that was cut is sent, unless another has been since."""
        after = begin(self.audience, self.known_then, f"s{self.at}", swap(self.at, reference=f"r{self.at}"))
        if after is None:
            return
        self.audience = after
        for name, calls in self.calls.items():
            for each in calls:
                self.attempt(name, each, swap(self.at, reference=f"r{self.at}"))
        self.partner.out = self.rows if arrives else None
        self.sent = {name: list(calls) for name, calls in self.calls.items()}

    def attempt(self, name: str, call: Call, attempt: Attempt) -> None:
        made = replace(
            attempt,
            effect=call.effect,
            obligation=call.obligation.obligation_id[:8],
            generation=call.obligation.round,
            partial=call.partial,
        )
        for one in call.identifiers:
            for scope in ("research", *(["*"] if call.obligation.verb == "delete" else [])):
                where = Told(name, "line", "main", scope, one.alias)
                held = self.told[name].get(where.key, where)
                self.told[name][where.key] = note(held, f"{call.obligation.obligation_id}{attempt.reference}", made)

    def put(self, name: str, obligation: Obligation) -> None:
        self.obligations[name][obligation.obligation_id] = obligation

    known_then: frozenset[str] = frozenset()
    sent: dict[str, list[Call]] = {}

    def report(self, *, finished: bool) -> None:
        """The job has ended, as its partner tells when asked."""
        out = under_way(self.audience, self.at)
        if not out:
            return
        [(swap_name, attempt)] = out.items()
        if finished and self.partner.out is None:
            return  # it never arrived, so nobody says that it has finished
        if finished:
            self.partner.members = self.partner.out or frozenset()
        self.partner.out = None
        over = reported(attempt, 3 if finished else 1, self.at, failed=not finished)
        self.audience = note(self.audience, swap_name, over)
        for name, calls in self.sent.items():
            for call in calls:
                begun = swap(attempt.started_at, reference=attempt.reference)
                self.attempt(name, call, reported(begun, over.grade, self.at, failed=not finished))
                held = self.obligations[name][call.obligation.obligation_id]
                if finished and not call.partial:
                    later = settle(held, receipt(held, "attempting", self.at, generation=call.obligation.round))
                    done = receipt(later, "ended", self.at, grade=3, generation=call.obligation.round)
                    self.put(name, settle(later, done))


WORDS = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["granted", "granted", "withdrawn", "deleted", "suspended", "lifted"]),
)
SWAP = ["cut", "send", "finished"]
STEPS = st.lists(
    WORDS.map(lambda one: [one])
    | st.just(SWAP)
    | st.sampled_from(["cut", "send", "lose", "finished", "failed", "hour"]).map(lambda one: [one]),
    min_size=6,
    max_size=40,
).map(
    lambda some: [("a", "granted"), ("b", "granted"), ("c", "granted"), *SWAP, *(one for each in some for one in each)]
)


@given(steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_nobody_whose_stop_was_closed_is_on_the_list_and_no_permission_enters_while_a_swap_is_out(
    steps: list[Any],
) -> None:
    people = People()
    for number, step in enumerate(steps):
        people.at += 1000
        before, out = people.partner.members, under_way(people.audience, people.at)
        names = set(people.audience.attempts)
        match step:
            case "cut":
                people.cut()
            case "send" | "lose":
                people.send(arrives=step == "send")
            case "finished" | "failed":
                people.report(finished=step == "finished")
            case "hour":
                people.at += 2 * HOUR
                people.partner.out = None  # whatever had not taken effect by now never will
            case (name, word):
                people.say(name, _said(word, f"e{number}", people.at))
        _check(people, step, before, out=bool(out), names=names)


def _check(people: People, step: Any, before: frozenset[str], *, out: bool, names: set[str]) -> None:
    if step == "cut" and not out:  # with a standing withdrawal, nobody is on a list cut after it
        for name in people.said:
            assert not _stopped(people, name) or people.rows.isdisjoint(people.names[name])
    if step in ("send", "lose") and out:  # nothing is sent while a swap may take effect
        assert set(people.audience.attempts) == names
    if step == "finished" and people.partner.members != before:  # whoever is closed is where it says
        for call in (each for calls in people.sent.values() for each in calls):
            here = {each.alias for each in call.identifiers}
            assert call.obligation.restrictive or here <= people.partner.members
    for name in people.said:
        if _stopped(people, name) and all(each.ended_at for each in people.obligations[name].values()):
            assert people.partner.members.isdisjoint(people.names[name])


def _stopped(people: People, name: str) -> bool:
    """Whether the person's last word is no."""
    return any(each.verb in ("withdraw", "suspend") for each in of_partner(people.record(name), LINE, RULES, people.at))


def _said(word: str, event_id: str, at: int) -> Event:
    match word:
        case "granted" | "withdrawn":
            return consent(event_id, "research", word, at)
        case "deleted":
            return deletion(event_id, at)
    return suspension(event_id, at=at, action="suspended" if word == "suspended" else "lifted")
