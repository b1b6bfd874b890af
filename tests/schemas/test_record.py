"""The record as a CRDT: whatever the order, the copies and the brackets, the same record, and the oracle's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from tests.rules import REF, bracketed, register
from todoke.schemas.record import (
    AGE,
    ERASED,
    HELD,
    ROWS_KEPT,
    Holding,
    Key,
    Register,
    SealedIdentifier,
    Stamp,
    SubjectRecord,
    channel_register,
    contains,
    join,
    normalise,
    purpose_register,
    same,
    stamp,
    suspension_register,
)

NAMES = ("purpose/appi/ads", "purpose/appi/*", "channel/email/*", ERASED, AGE)
TICKS = st.integers(1, 8)


class Write(Struct, frozen=True):
    """One write to one register."""

    name: str
    at: int
    restrictive: bool
    event_id: str

    @property
    def delta(self) -> SubjectRecord:
        value = Register(f"said by {self.event_id}", self.at, self.restrictive, self.event_id)
        return SubjectRecord(REF, registers={self.name: value})


class Sealed(Struct, frozen=True):
    """One identifier, under a key made at some time."""

    alias: str
    at: int

    @property
    def delta(self) -> SubjectRecord:
        name = f"g{self.at}"
        sealed = SealedIdentifier("email", self.alias, name, b"?")
        return SubjectRecord(REF, keys={name: Key(b"?", "w", self.at)}, identifiers={f"{self.alias}.{name}": sealed})


class Given(Struct, frozen=True):
    """One provision."""

    name: str
    at: int

    @property
    def delta(self) -> SubjectRecord:
        return SubjectRecord(REF, holdings={self.name: Holding(self.at, self.at, (f"item-{self.at}",))})


class Shredded(Struct, frozen=True):
    """One shredding."""

    through: int

    @property
    def delta(self) -> SubjectRecord:
        return SubjectRecord(REF, shredded_through=self.through, identifiers_shredded={"email": self.through})


class Numbered(Struct, frozen=True):
    """One row's number; far more of them than are kept."""

    event_id: int
    number: int

    @property
    def delta(self) -> SubjectRecord:
        return SubjectRecord(REF, rows={str(self.event_id): self.number}, row_count=self.number)


Piece = Write | Sealed | Given | Shredded | Numbered

WRITES = st.builds(Write, st.sampled_from(NAMES), TICKS, st.booleans(), st.sampled_from("abc"))
SEALED = st.builds(Sealed, st.sampled_from("xy"), TICKS)
GIVEN = st.builds(Given, st.sampled_from(["meta", "kura"]), TICKS)
SHREDDED = st.builds(Shredded, TICKS)
NUMBERED = st.builds(Numbered, st.integers(0, 200), st.integers(1, 200))
PIECES = st.lists(st.one_of(WRITES, SEALED, SHREDDED), min_size=1, max_size=10)


def oracle(pieces: list[Piece]) -> SubjectRecord:
    """What the record must hold, computed by one thread over all pieces, without any join."""
    through = max((each.through for each in pieces if isinstance(each, Shredded)), default=0)
    best: dict[str, tuple[int, bool, str]] = {}
    for each in pieces:
        if isinstance(each, Write):
            best[each.name] = max(best.get(each.name, (0, False, "")), (each.at, each.restrictive, each.event_id))
    alive = [each for each in pieces if isinstance(each, Sealed) and each.at > through]
    given: dict[str, list[int]] = {}
    for each in pieces:
        if isinstance(each, Given):
            given.setdefault(each.name, []).append(each.at)
    return SubjectRecord(
        REF,
        registers={
            name: Register(f"said by {event_id}", at, restrictive, event_id)
            for name, (at, restrictive, event_id) in best.items()
            if name != AGE or at > through
        },
        keys={f"g{each.at}": Key(b"?", "w", each.at) for each in alive},
        identifiers={
            f"{each.alias}.g{each.at}": SealedIdentifier("email", each.alias, f"g{each.at}", b"?") for each in alive
        },
        holdings={
            name: Holding(min(ats), max(ats), tuple(sorted({f"item-{at}" for at in ats})))
            for name, ats in given.items()
            if max(ats) > through
        },
        shredded_through=through,
        identifiers_shredded={"email": through} if through else {},
    )


def folded(pieces: list[Piece]) -> SubjectRecord:
    record = SubjectRecord(REF)
    for each in pieces:
        record = join(record, each.delta)
    return record


@given(PIECES, st.data())
def test_any_order_and_any_duplicates_end_in_the_oracles_record(pieces: list[Piece], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(pieces), max_size=5))
    shuffled = data.draw(st.permutations(pieces + again))

    assert folded(shuffled) == oracle(pieces)


@given(PIECES, st.data())
def test_any_brackets_end_in_the_oracles_record(pieces: list[Piece], data: st.DataObject) -> None:
    merged = bracketed([each.delta for each in pieces], join, data)

    assert normalise(merged) == oracle(pieces)


@given(st.lists(st.one_of(WRITES, GIVEN), min_size=1, max_size=10), st.data())
def test_holdings_are_a_crdt_while_nothing_is_shredded(pieces: list[Piece], data: st.DataObject) -> None:
    merged = bracketed([each.delta for each in data.draw(st.permutations(pieces))], join, data)

    assert merged == oracle(pieces)


@given(st.lists(st.one_of(GIVEN, SHREDDED), min_size=1, max_size=10), st.data())
def test_who_still_holds_what_since_when_last_does_not_depend_on_the_order_of_a_shredding(
    pieces: list[Piece], data: st.DataObject
) -> None:
    merged = normalise(bracketed([each.delta for each in data.draw(st.permutations(pieces))], join, data))

    wanted = {name: each.last_at for name, each in oracle(pieces).holdings.items()}
    assert {name: each.last_at for name, each in merged.holdings.items()} == wanted


@given(PIECES, st.data())
def test_two_replicas_that_saw_different_things_converge(pieces: list[Piece], data: st.DataObject) -> None:
    sides = [data.draw(st.sampled_from(["left", "right", "both"])) for _ in pieces]
    left = folded([each for each, side in zip(pieces, sides, strict=True) if side != "right"])
    right = folded([each for each, side in zip(pieces, sides, strict=True) if side != "left"])

    assert join(left, right) == join(right, left) == oracle(pieces)


@given(PIECES)
def test_joining_a_record_with_itself_or_with_less_changes_nothing(pieces: list[Piece]) -> None:
    whole, part = folded(pieces), folded(pieces[: len(pieces) // 2])

    assert join(whole, whole) == join(whole, part) == join(part, whole) == whole


@pytest.mark.parametrize("turned", [False, True])
def test_at_equal_times_the_restrictive_side_wins(turned: bool) -> None:
    granted = SubjectRecord(REF, registers={"p": register(5, "z")})
    withdrawn = SubjectRecord(REF, registers={"p": register(5, "a", restrictive=True, value="withdrawn")})
    pair = (withdrawn, granted) if turned else (granted, withdrawn)

    assert join(*pair).registers["p"].value == "withdrawn"


@given(st.permutations([("value", "b"), ("until", 9), ("policy_version", "v2"), ("ground", "x")]), st.data())
def test_even_writes_of_one_event_that_differ_converge(fields: list[tuple[str, object]], data: st.DataObject) -> None:
    writes = [replace(register(5), **{name: value}) for name, value in fields]
    deltas = [SubjectRecord(REF, registers={"p": each}) for each in writes]

    first = bracketed(deltas, join, data)
    second = bracketed(data.draw(st.permutations(deltas)), join, data)

    assert first == second


@given(st.lists(st.one_of(WRITES, SEALED, GIVEN), max_size=8), st.lists(WRITES, max_size=4), TICKS)
def test_a_stale_copy_never_brings_back_what_was_shredded(
    before: list[Piece], later: list[Piece], through: int
) -> None:
    stale = folded(before)
    shredded = join(stale, Shredded(through).delta)
    moved_on = folded([*later, Shredded(through), Given("meta", through + 1)])

    for record in (join(shredded, stale), join(stale, moved_on), join(moved_on, stale)):
        at_all = [key.created_at for key in record.keys.values()]
        at_all += [each.last_at for each in record.holdings.values()]
        at_all += [register.at for name, register in record.registers.items() if name == AGE]
        assert [at for at in at_all if at <= through] == []
        assert {each.generation for each in record.identifiers.values()} <= record.keys.keys()


def test_a_holding_given_anew_after_a_shredding_does_not_bring_the_old_one_back() -> None:
    stale = Given("meta", 3).delta
    anew = join(Shredded(5).delta, Given("meta", 7).delta)

    assert join(stale, anew) == join(anew, stale) == anew


@given(st.lists(st.one_of(WRITES, GIVEN, SHREDDED), min_size=1, max_size=10), st.data())
def test_a_record_contains_every_stamp_that_went_into_it(pieces: list[Piece], data: st.DataObject) -> None:
    record = folded(data.draw(st.permutations(pieces)))

    writes = [Stamp(each.name, each.at, each.restrictive, each.event_id) for each in pieces if isinstance(each, Write)]
    given_ = [Stamp(f"{HELD}{each.name}", each.at, True, "") for each in pieces if isinstance(each, Given)]
    assert contains(record, [*writes, *given_])


@given(PIECES, PIECES)
def test_containing_survives_every_join(pieces: list[Piece], more: list[Piece]) -> None:
    record = folded(pieces)
    stamps = [stamp(name, each) for name, each in record.registers.items()]

    assert contains(join(record, folded(more)), stamps)


@pytest.mark.parametrize(
    "wanted",
    [
        Stamp("p", 6, False, "a"),
        Stamp("p", 5, True, "a"),
        Stamp("p", 5, False, "f"),
        Stamp("q", 1, False, ""),
        Stamp(AGE, 1, False, "e"),
        Stamp("holding/meta", 6, True, ""),
        Stamp("holding/kura", 1, True, ""),
    ],
)
def test_a_record_does_not_contain_what_is_later_or_was_never_said(wanted: Stamp) -> None:
    record = SubjectRecord(REF, registers={"p": register(5)}, holdings={"meta": Holding(1, 5)})

    assert contains(record, [stamp("p", register(5)), Stamp("holding/meta", 5, True, "")])
    assert not contains(record, [wanted])


@given(st.lists(NUMBERED, min_size=1, max_size=60), st.integers(0, 80), st.data())
@settings(max_examples=30)
def test_the_ring_of_rows_keeps_the_newest_whatever_the_brackets(
    some: list[Numbered], others: int, data: st.DataObject
) -> None:
    pieces = data.draw(st.permutations([*some, *(Numbered(number, number) for number in range(1, others))]))
    best: dict[str, int] = {}
    for each in pieces:
        best[str(each.event_id)] = max(best.get(str(each.event_id), 0), each.number)
    wanted = sorted(best.items(), key=lambda row: (row[1], row[0]))[-ROWS_KEPT:]

    merged = bracketed([each.delta for each in pieces], join, data)

    assert (merged.rows, merged.row_count) == (dict(wanted), max(each.number for each in pieces))


def test_a_key_wrapped_anew_and_a_value_sealed_twice_converge() -> None:
    one = SubjectRecord(
        REF, keys={"g": Key(b"1", "w1", 3)}, identifiers={"x.g": SealedIdentifier("email", "x", "g", b"1")}
    )
    other = SubjectRecord(
        REF, keys={"g": Key(b"0", "w2", 3)}, identifiers={"x.g": SealedIdentifier("email", "x", "g", b"2")}
    )

    merged = join(one, other)

    assert merged == join(other, one)
    assert (merged.keys["g"].wrapping, merged.identifiers["x.g"].sealed) == ("w2", b"2")


def test_two_subjects_do_not_join() -> None:
    with pytest.raises(ValueError, match="two subjects"):
        join(SubjectRecord("a"), SubjectRecord("b"))


def test_versions_do_not_tell_records_apart_and_the_redirect_of_a_merge_stays() -> None:
    one, other = SubjectRecord(REF, version=3), SubjectRecord(REF, version=7, merged_into="m")

    assert same(one, replace(one, version=4))
    assert not same(one, other)
    assert (join(one, other).version, join(other, one).merged_into) == (7, "m")


def test_the_watermark_of_deletion_only_rises() -> None:
    late, early = Write(ERASED, 9, True, "b").delta, Write(ERASED, 4, True, "a").delta

    assert SubjectRecord(REF).erased_through == 0
    assert join(late, early).erased_through == join(early, late).erased_through == 9


def test_registers_have_names_that_do_not_meet() -> None:
    names = [purpose_register("appi", "ads"), channel_register("email"), suspension_register("use")]

    assert names == ["purpose/appi/ads", "channel/email/*", "suspension/use"]
    assert channel_register("email", "weekly") == "channel/email/weekly"
