"""Merges: whatever the order, the copies and the workers, one person ends with one record, and the restrictive side won."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import LATE, NOW, admitted, born, consent, deletion, grant, keyring, policy, random_bytes, suspension
from todoke.processors.admit import Change
from todoke.processors.decide import judge
from todoke.processors.enrol import Named, enrol, shred, take_up
from todoke.processors.keys import open_identifier, open_key
from todoke.processors.merges import effective, handed_down, holds, members, moved, pair, survivor
from todoke.schemas.events import Event, IdentityLink
from todoke.schemas.record import AGE, Merge, SubjectRecord, contains, join, purpose_register, same, suspension_register

RING = keyring()
REFS = "abcd"
PURPOSES = ("research", "site")
Step = tuple[str, Any]


def tick(at: int) -> int:
    return NOW + at * 1000


def words() -> st.SearchStrategy[Event]:
    """What one subject says of two purposes: an opt-in and an opt-out."""
    ids, ats = st.uuids().map(str), st.integers(0, 12).map(tick)
    return st.one_of(
        st.builds(grant, ids, st.sampled_from(PURPOSES), ats),
        st.builds(consent, ids, st.sampled_from([*PURPOSES, "*"]), st.just("withdrawn"), ats),
        st.builds(deletion, ids, ats),
    )


SAID = st.tuples(st.sampled_from(REFS), words())
MERGED = st.tuples(st.sampled_from(REFS), st.sampled_from(REFS), st.integers(0, 12)).filter(
    lambda each: each[0] != each[1]
)


class World:
    """Records of four subjects, written as workers do: a step at a time, some of them from old copies."""

    def __init__(self) -> None:
        self.records: dict[str, SubjectRecord] = {ref: SubjectRecord(ref) for ref in REFS}
        self.copies: list[SubjectRecord] = []
        self.random = random_bytes()
        self.merges: list[tuple[str, str]] = []

    def write(self, record: SubjectRecord) -> None:
        self.copies.append(self.records[record.subject_ref])
        self.records[record.subject_ref] = record

    def say(self, ref: str, event: Event) -> None:
        named = (Named("email", f"alias-{ref}", f"{ref}@example.jp"),)
        self.write(enrol(self.records[ref], event, admitted(event), named, RING, self.random))

    def merge(self, one: str, other: str, at: int) -> None:
        event = IdentityLink(event_id=f"{one}{other}{at}", subject=one, occurred_at=tick(at), action="merge")
        change = Change("IdentityLink", tick(at), {}, {}, merges={pair(one, other): Merge(tick(at), event.event_id)})
        for ref in (one, other):
            self.write(enrol(self.records[ref], event, change, (), RING, self.random))
        self.merges.append((one, other))
        self.redirect(one, other)

    def root(self, ref: str) -> str:
        while self.records[ref].merged_into:
            ref = self.records[ref].merged_into
        return ref

    def redirect(self, one: str, other: str) -> None:
        here, there = self.root(one), self.root(other)
        if here != there:
            kept = survivor(here, there)
            gone = here if kept == there else there
            self.write(replace(self.records[gone], merged_into=kept))

    def move(self, record: SubjectRecord) -> None:
        """A worker takes up what it read, now or long ago."""
        if record.merged_into:
            self.write(take_up(self.records[record.merged_into], record, RING, self.random))

    def stale(self, number: int) -> None:
        """A worker that slept writes an old copy: the keeper joins it."""
        if self.copies:
            old = self.copies[number % len(self.copies)]
            self.write(join(self.records[old.subject_ref], old))
            self.move(old)

    def settle(self) -> None:
        """Every batch is repeated until nothing changes: what level-triggered means."""
        before = None
        while before != self.records:
            before = dict(self.records)
            for one, other in self.merges:
                self.redirect(one, other)
            for ref in REFS:
                self.move(self.records[ref])
            for ref in REFS:
                if not self.records[ref].merged_into:
                    for member in sorted(members(self.records[ref]) - {ref}):
                        self.write(join(self.records[member], handed_down(self.records[ref], member)))


def run(steps: Sequence[Step]) -> World:
    world = World()
    for kind, given_ in steps:
        match kind:
            case "say":
                world.say(*given_)
            case "merge":
                world.merge(*given_)
            case "move":
                world.move(world.records[given_])
            case _:
                world.stale(given_)
    world.settle()
    return world


def said(record: SubjectRecord) -> tuple[object, ...]:
    """What a record says, without what is sealed by chance."""
    sealed = sorted((each.kind, each.alias) for each in record.identifiers.values())
    return record.registers, record.merges, record.claims, record.holdings, record.merged_into, set(sealed)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Step], list[Step]]:
    """Two ways for the same to arrive: each in its own order, with copies, moves and old records in between."""
    facts: list[Step] = [("say", each) for each in draw(st.lists(SAID, min_size=1, max_size=8))]
    facts += [("merge", each) for each in draw(st.lists(MERGED, min_size=1, max_size=4))]
    ways = []
    for _ in range(2):
        again = draw(st.lists(st.sampled_from(facts), max_size=3))
        noise = draw(
            st.lists(st.one_of(SAID.map(lambda each: ("move", each[0])), st.integers(0, 99).map(_stale)), max_size=4)
        )
        ways.append(draw(st.permutations([*facts, *again, *noise])))
    return ways[0], ways[1]


def _stale(number: int) -> Step:
    return ("stale", number)


@given(histories())
def test_any_order_of_events_and_merges_ends_in_the_same_records(ways: tuple[list[Step], list[Step]]) -> None:
    one, other = (run(way) for way in ways)

    roots = {ref: one.root(ref) for ref in REFS}
    assert {ref: other.root(ref) for ref in REFS} == roots
    for ref in set(roots.values()):
        assert said(other.records[ref]) == said(one.records[ref])
        assert effective(other.records[ref]) == effective(one.records[ref])


@given(histories())
def test_every_subject_of_a_person_leads_to_one_survivor_that_holds_all_that_was_said(
    ways: tuple[list[Step], list[Step]],
) -> None:
    world = run(ways[0])

    for one, other in world.merges:
        assert world.root(one) == world.root(other)
    for ref in REFS:
        heir = world.records[world.root(ref)]
        if heir.subject_ref != ref:
            assert holds(heir, moved(world.records[ref], heir.subject_ref))
            assert ref in members(heir)
            assert world.records[ref].erased_through == heir.erased_through


class Oracle:
    """The same, told in the order of time, of everything that was ever said and not of the last words alone."""

    def __init__(self) -> None:
        self.word: dict[str, tuple[int, bool]] = {}
        self.everything = -1
        self.erased = -1

    def verdict(self, name: str) -> bool | None:
        at, allowed = self.word.get(name, (-1, False))
        if self.everything >= 0 and at <= self.everything:
            return False
        if at < 0 or (allowed and at <= self.erased):
            return None
        return allowed

    def join(self, other: "Oracle", at: int) -> None:
        verdicts = {name: {self.verdict(name), other.verdict(name)} for name in PURPOSES}
        self.erased = max(self.erased, other.erased)
        for name, both in verdicts.items():
            last = max(self.word.get(name, (-1, False)), other.word.get(name, (-1, False)))
            if both == {True, False}:
                last = (at, False)
            self.word[name] = last
        self.everything = max(self.everything, other.everything)


def oracle(facts: Sequence[Step]) -> dict[str, dict[str, bool]]:
    homes = {ref: Oracle() for ref in REFS}
    first: dict[str, tuple[int, str, str]] = {}
    for kind, each in facts:
        if kind == "merge":
            first[pair(*each[:2])] = min(first.get(pair(*each[:2]), (99, "", "")), (each[2], each[0], each[1]))
    order: list[tuple[int, int, str, Any]] = [
        (each[1].occurred_at, _strict(each[1]), "", each) for kind, each in facts if kind == "say"
    ]
    order += [(tick(each[0]), 2, name, each) for name, each in first.items()]
    for at, rank, _, each in sorted(order, key=lambda fact: fact[:3]):
        if rank == 2:
            kept, gone = homes[each[1]], homes[each[2]]
            if kept is not gone:
                kept.join(gone, at)
                homes = {ref: kept if home is gone else home for ref, home in homes.items()}
            continue
        home, event = homes[each[0]], each[1]
        if not hasattr(event, "purpose"):
            home.erased = at
        elif event.purpose == "*":
            home.everything = at
        else:
            home.word[event.purpose] = (at, event.decision == "granted")
    found = {}
    for ref, home in homes.items():
        default = {"research": False, "site": home.erased < 0}
        found[ref] = {
            name: default[name] if home.verdict(name) is None else bool(home.verdict(name)) for name in PURPOSES
        }
    return found


def _strict(event: Any) -> int:
    return int(getattr(event, "decision", "withdrawn") == "withdrawn")


@given(histories())
def test_the_restrictive_side_wins_at_the_merge_and_a_later_grant_counts_again(
    ways: tuple[list[Step], list[Step]],
) -> None:
    world = run(ways[0])
    wanted = oracle([step for step in ways[0] if step[0] in ("say", "merge")])

    for ref in REFS:
        record = world.records[world.root(ref)]
        assert {name: judge(record, name, policy(), LATE).allowed for name in PURPOSES} == wanted[ref]


@given(histories())
def test_what_a_decision_named_stays_contained(ways: tuple[list[Step], list[Step]]) -> None:
    facts = [step for step in ways[0] if step[0] in ("say", "merge")]
    named: list[tuple[str, Any]] = []
    world = World()
    for kind, each in facts:
        (world.say if kind == "say" else world.merge)(*each)
        world.settle()
        named += [(ref, judge(world.records[ref], name, policy(), LATE).stamps) for ref in REFS for name in PURPOSES]

    assert all(contains(world.records[ref], stamps) for ref, stamps in named)


def test_identifiers_are_sealed_anew_for_the_survivor_each_in_its_era() -> None:
    world = World()
    world.say("b", grant("before", "research", tick(1)))
    world.say("b", deletion("gone", tick(2)))
    world.say("b", grant("after", "research", tick(3)))
    world.merge("b", "a", 4)

    world.settle()

    heir = world.records["a"]
    for each in heir.identifiers.values():
        key = open_key(RING, "a", each.generation, heir.keys[each.generation])
        assert open_identifier(key, "a", each.kind, each.sealed) == "b@example.jp"
    assert {heir.keys[each.generation].created_at for each in heir.identifiers.values()} == {tick(1), tick(3)}
    left = shred(heir, tick(2)).identifiers.values()
    assert {heir.keys[each.generation].created_at for each in left} == {tick(3)}


def test_what_the_survivor_has_shredded_is_not_sealed_for_it_again() -> None:
    world = World()
    world.say("b", grant("old", "research", tick(1)))
    world.write(shred(replace(world.records["a"], identifiers={}), tick(2)))

    world.merge("a", "b", 3)
    world.settle()

    assert not world.records["a"].identifiers
    assert world.records["b"].identifiers


def test_a_deletion_on_either_side_counts_for_both() -> None:
    world = World()
    world.merge("a", "b", 1)
    world.say("b", grant("early", "research", tick(2)))
    world.say("a", deletion("gone", tick(3)))

    world.settle()

    assert world.records["b"].erased_through == world.records["a"].erased_through == tick(3)
    assert not judge(world.records["a"], "research", policy(), LATE).allowed


def test_taking_up_twice_changes_nothing() -> None:
    world = World()
    world.say("b", grant("e", "research", tick(1)))
    world.merge("a", "b", 2)
    world.settle()
    before = world.records["a"]

    world.move(world.records["b"])

    assert same(world.records["a"], before)


def test_a_register_of_one_side_alone_keeps_its_time() -> None:
    world = World()
    world.say("b", consent("stop", "research", at=tick(1)))
    world.merge("a", "b", 5)

    world.settle()

    assert effective(world.records["a"])[purpose_register("appi", "research")].at == tick(1)


def test_who_withdrew_everything_at_one_account_is_not_granted_by_the_other() -> None:
    world = World()
    world.say("b", consent("all", "*", at=tick(1)))
    world.say("a", grant("yes", "research", tick(3)))
    world.merge("a", "b", 5)

    world.settle()

    assert not judge(world.records["a"], "research", policy(), LATE).allowed


def test_a_grant_after_withdrawing_everything_outlives_a_merge_with_an_account_that_said_nothing() -> None:
    world = World()
    world.say("b", consent("all", "*", at=tick(1)))
    world.say("b", grant("yes", "research", tick(3)))
    world.merge("a", "b", 5)

    world.settle()

    assert judge(world.records["a"], "research", policy(), LATE).allowed


def test_of_two_suspensions_the_longer_holds_and_one_that_was_over_does_not() -> None:
    world = World()
    world.say("a", suspension("long", at=tick(1), until=tick(60)))
    world.say("b", suspension("short", at=tick(2), until=tick(50)))
    world.say("c", suspension("over", at=tick(1), until=tick(3)))
    world.say("d", suspension("lifted", at=tick(2), action="lifted"))
    world.merge("a", "b", 5)
    world.merge("c", "d", 5)

    world.settle()

    assert effective(world.records["a"])[suspension_register("use")].until == tick(60)
    assert effective(world.records["c"])[suspension_register("use")].value == "lifted"


def test_of_two_ages_the_younger_holds() -> None:
    world = World()
    world.say("a", born("child", "2015-02-28", tick(1)))
    world.say("b", born("adult", "1980-01-31", tick(2)))
    world.merge("a", "b", 5)

    world.settle()

    assert effective(world.records["a"])[AGE].value == "2015-02-28"


def test_nothing_that_was_handed_down_comes_back_as_somebody_elses_word() -> None:
    world = World()
    world.say("a", deletion("gone", tick(1)))
    world.say("b", deletion("too", tick(2)))
    world.merge("b", "a", 5)

    world.settle()

    assert sorted(world.records["a"].registers) == ["erased", "of/b/erased"]
    assert sorted(world.records["b"].registers) == ["erased", "of/a/erased"]
