"""Rotating keys: order by number, nothing lost, nothing decided anew, whatever was joined with what and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import REF, bracketed, partner, random_bytes
from todoke.processors.enrol import shred
from todoke.processors.identifiers import canonical
from todoke.processors.keys import (
    KEY_BYTES,
    Keyring,
    Ring,
    aliases,
    new_key,
    open_identifier,
    open_key,
    seal_identifier,
)
from todoke.processors.plan import identifier_generation
from todoke.processors.reconcile import accepted, told_of
from todoke.processors.rotation import mark, needs, renew, stale
from todoke.schemas.errors import Unopened
from todoke.schemas.record import (
    Key,
    Merge,
    Register,
    SealedIdentifier,
    SubjectRecord,
    by_number,
    identities,
    join,
)
from todoke.schemas.told import Attempt, Told

PARTNER = partner("meta", "ads", identifiers=("email", "phone"))
ADDRESSES = ("a@example.jp", "b@example.jp")


def ring(alias: int, wrapping: int, oldest: int = 1) -> Keyring:
    """A keyring at some point of its rotation: it has the generations from `oldest` to those that are current."""

    def made(letter: str, to: int) -> Ring:
        return Ring(f"{letter}{to}", {f"{letter}{n}": f"{letter}{n:031}".encode() for n in range(oldest, to + 1)})

    return Keyring(b"r" * KEY_BYTES, made("a", alias), made("w", wrapping), made("l", 1 if oldest == 1 else oldest))


def enrolled(address: str, at: int, by: Keyring, number: int = 0) -> SubjectRecord:
    """What a worker with the keyring `by` makes of one identifier."""
    random = random_bytes(number)
    generation, key = new_key(by, REF, at, random)
    value = canonical("email", address)
    found = aliases(by, "email", value)
    name = found[by.alias.current]
    sealed = seal_identifier(open_key(by, REF, generation, key), REF, "email", address, random)
    entry = SealedIdentifier("email", name, generation, sealed, found)
    return SubjectRecord(REF, keys={generation: key}, identifiers={f"{name}.{generation}": entry})


def opened(record: SubjectRecord, by: Keyring) -> set[str]:
    return {
        open_identifier(open_key(by, REF, each.generation, record.keys[each.generation]), REF, each.kind, each.sealed)
        for each in record.identifiers.values()
    }


@given(st.permutations(["w", "w1", "w2", "w9", "w10", "x3"]))
def test_generations_are_ordered_by_number(names: list[str]) -> None:
    assert sorted(names, key=by_number) == ["w", "w1", "w2", "x3", "w9", "w10"]


@pytest.mark.parametrize(("older", "newer"), [("w1", "w2"), ("w2", "w10"), ("w9", "w10"), ("w99", "w100")])
def test_the_wrapping_of_the_higher_number_wins_a_join(older: str, newer: str) -> None:
    records = [SubjectRecord(REF, keys={"g": Key(raw, name, 7)}) for raw, name in [(b"zz", older), (b"aa", newer)]]

    assert join(*records).keys["g"].wrapping == join(*reversed(records)).keys["g"].wrapping == newer


PIECES = st.lists(
    st.one_of(
        st.builds(
            lambda address, at, alias, wrapping, seed: enrolled(address, at, ring(alias, wrapping), seed),
            st.sampled_from(ADDRESSES),
            st.integers(1, 5),
            st.integers(1, 3),
            st.integers(8, 11),
            st.integers(0, 3),
        ),
        st.builds(lambda at: SubjectRecord(REF, shredded_through=at), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=5,
)


@given(PIECES, st.data())
def test_renewing_any_copy_at_any_time_ends_in_one_record_that_the_new_keys_alone_open(
    pieces: list[SubjectRecord], data: st.DataObject
) -> None:
    full, new = ring(4, 12), ring(4, 12, oldest=4)
    new = replace(new, wrapping=Ring("w12", {"w12": full.wrapping.newest}))
    copies = [renew(each, full, random_bytes(9)) if data.draw(st.booleans()) else each for each in pieces]
    whole = bracketed([*pieces, *copies], join, data)
    renewed = renew(whole, full, random_bytes(10))
    late = join(renewed, bracketed(pieces, join, data))

    assert opened(late, new) == opened(whole, full)
    assert not stale(late, full)
    assert needs(late, new) == ({"alias.a4", "wrapping.w12"} if late.keys else frozenset())
    assert renew(late, full, random_bytes(11)) == late
    assert identifier_generation(late, PARTNER) == identifier_generation(bracketed(pieces, join, data), PARTNER)
    assert [{each.kind for each in group} for group in identities(late.identifiers.values())] == [
        {"email"} for _ in opened(late, new)
    ]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_one_identifier_is_one_whoever_named_it_under_which_key(one: int, other: int, at: int, later: int) -> None:
    record = join(enrolled(ADDRESSES[0], at, ring(one, 1)), enrolled(ADDRESSES[0], later, ring(other, 1), 1))

    assert identifier_generation(record, PARTNER) == 1
    assert len(accepted(record, PARTNER)) == 1
    gone = shred(record, max(at, later))
    assert (gone.identifiers, gone.identifiers_shredded) == ({}, {"email": 1})
    assert identifier_generation(gone, PARTNER) == 1


def test_what_was_told_under_any_of_an_identifiers_names_counts() -> None:
    record = renew(enrolled(ADDRESSES[0], 1, ring(1, 1)), ring(3, 1), random_bytes(5))
    (entry,) = record.identifiers.values()
    old, new = entry.alias, entry.aliases["a3"]
    first, second = Attempt("in", 10, 20, 15, 3), Attempt("out", 30, 40, 35, 3)
    told = {
        f"meta|main|ads|{old}": Told(REF, "meta", "main", "ads", old, {"1": first}),
        f"meta|main|ads|{new}": Told(REF, "meta", "main", "ads", new, {"2": second}),
    }

    assert old != new
    joined = told_of(told, "meta|main|ads", [entry])
    assert joined is not None
    assert joined.attempts == {"2": second}
    assert told_of({f"meta|main|ads|{old}": told[f"meta|main|ads|{old}"]}, "meta|main|ads", [entry]) is not None
    assert told_of({}, "meta|main|ads", [entry]) is None


def test_a_later_generation_than_the_current_one_is_left_alone() -> None:
    record = enrolled(ADDRESSES[0], 1, ring(1, 10))
    behind = ring(1, 10)
    behind = replace(behind, wrapping=replace(behind.wrapping, current="w2"))

    assert not stale(record, behind)
    assert renew(record, behind, random_bytes(3)) == record


def test_an_identifier_of_which_no_generation_is_known_is_found_under_all_once_renewed() -> None:
    record = enrolled(ADDRESSES[0], 1, ring(1, 1))
    (name, entry), *_ = record.identifiers.items()
    bare = replace(record, identifiers={name: replace(entry, aliases={})})
    renewed = renew(bare, ring(2, 1), random_bytes(3))

    assert needs(bare, ring(1, 1)) == {"alias.?", "wrapping.w1"}
    assert set(renewed.identifiers[name].aliases) == {"a1", "a2"}
    assert renewed.identifiers[name].alias == entry.alias == renewed.identifiers[name].aliases["a1"]


def test_without_the_old_key_nothing_is_renewed() -> None:
    record = enrolled(ADDRESSES[0], 1, ring(1, 1))

    with pytest.raises(Unopened, match="no wrapping key is called 'w1'"):
        renew(record, ring(2, 2, oldest=2), random_bytes(3))


@given(PIECES, st.integers(1, 5))
def test_a_mark_shreds_again_what_an_older_copy_brings_back(pieces: list[SubjectRecord], through: int) -> None:
    before = pieces[0]
    for each in pieces[1:]:
        before = join(before, each)
    erased = Register("erased", through, restrictive=True, event_id="e")
    after = shred(join(before, SubjectRecord(REF, registers={"erased": erased})), through)
    noted = mark(after)

    restored = join(before, noted)
    assert restored.keys == after.keys
    assert restored.identifiers == after.identifiers
    assert restored.erased_through == after.erased_through
    assert identifier_generation(restored, PARTNER) == identifier_generation(after, PARTNER)
    assert (noted.keys, noted.identifiers, noted.holdings) == ({}, {}, {})


def test_a_mark_of_one_person_says_what_was_deleted_under_any_name() -> None:
    erased = {"of/z/erased": Register("erased", 5, restrictive=True, event_id="e")}
    record = SubjectRecord(REF, registers=erased, merges={f"{REF}/z": Merge(7, "m")}, shredded_through=5)

    assert mark(record).erased_through == record.erased_through == 5
