"""Keyed hashes and seals: what opens with what, and nothing of it in an error."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console
from rich.pretty import Pretty

from tests.rules import keyring as ring
from tests.rules import random_bytes
from todoke.processors import keys
from todoke.processors.keys import KEY_BYTES, Keyring, Ring, check, new_key, open_key
from todoke.schemas.errors import Misconfigured, Unopened
from todoke.schemas.record import Key

RING = ring()
DATA_KEY = b"d" * KEY_BYTES


@given(st.text(), st.text(max_size=50))
def test_what_is_sealed_opens_for_its_subject_and_kind(value: str, ref: str) -> None:
    sealed = keys.seal_identifier(DATA_KEY, ref, "email", value, random_bytes())

    assert keys.open_identifier(DATA_KEY, ref, "email", sealed) == value
    for key, who, kind in [(b"x" * KEY_BYTES, ref, "email"), (DATA_KEY, f"{ref}x", "email"), (DATA_KEY, ref, "phone")]:
        with pytest.raises(Unopened) as raised:
            keys.open_identifier(key, who, kind, sealed)
        assert str(raised.value) == "keys: a sealed identifier does not open: wrong key, or the bytes were changed"


@given(st.binary(max_size=80), st.integers(0, 10**6))
def test_a_changed_byte_opens_nothing(plain: bytes, place: int) -> None:
    sealed = bytearray(keys.seal_for_log(RING, "row", plain, random_bytes()))

    assert keys.open_from_log(RING, "row", bytes(sealed)) == plain
    sealed[place % len(sealed)] ^= 1
    with pytest.raises(Unopened):
        keys.open_from_log(RING, "row", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(12), bytes(27)])
def test_what_is_no_seal_at_all_does_not_open(sealed: bytes) -> None:
    with pytest.raises(Unopened, match="a sealed log does not open"):
        keys.open_from_log(RING, "row", sealed)


def test_a_log_row_opens_under_its_own_label_alone() -> None:
    with pytest.raises(Unopened):
        keys.open_from_log(RING, "another", keys.seal_for_log(RING, "row", b"plain", random_bytes()))


def test_a_data_key_opens_for_its_subject_and_generation_after_the_wrapping_key_was_rotated() -> None:
    generation, key = new_key(RING, "ref", 7, random_bytes())
    rotated = replace(RING, wrapping=replace(RING.wrapping, current="w2"))

    assert (key.wrapping, key.created_at, len(open_key(rotated, "ref", generation, key))) == ("w1", 7, KEY_BYTES)
    for ref, name in [("other", generation), ("ref", "0" * 16)]:
        with pytest.raises(Unopened, match="a sealed key does not open"):
            open_key(rotated, ref, name, key)


def test_two_data_keys_are_two() -> None:
    random = random_bytes()
    (one, first), (other, second) = new_key(RING, "ref", 7, random), new_key(RING, "ref", 7, random)

    assert one != other
    assert open_key(RING, "ref", one, first) != open_key(RING, "ref", other, second)


def test_a_wrapping_key_that_is_gone_is_named() -> None:
    with pytest.raises(Unopened, match="no wrapping key is called 'w0': bring it back"):
        open_key(RING, "ref", "g", Key(b"?", "w0", 7))


def test_names_of_people_are_stable_keyed_and_do_not_meet() -> None:
    names = [
        keys.subject_ref(RING, "s-1"),
        keys.subject_ref(RING, "s-2"),
        keys.orphan_ref(RING, "email", "s-1"),
        keys.orphan_ref(RING, "phone", "s-1"),
        keys.aliases(RING, "email", "s-1")["a1"],
        keys.aliases(RING, "phone", "s-1")["a1"],
        keys.subject_ref(replace(RING, reference=b"x" * KEY_BYTES), "s-1"),
        keys.aliases(replace(RING, alias=Ring("a2", {"a2": b"x" * KEY_BYTES})), "email", "s-1")["a2"],
    ]

    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {32}
    assert keys.subject_ref(RING, "s-1") == "befd252d3a3f0ac364c1544793184bb5"
    assert keys.aliases(RING, "email", "s-1")["a1"] == "f9312d474f9e25d2c4f886946b887b1c"


@pytest.mark.parametrize(
    ("ring", "said"),
    [
        (replace(RING, reference=b""), "keys: reference: expected 32 bytes, got 0"),
        (replace(RING, alias=Ring("a1", {"a1": b"x" * 31})), r"keys: alias\.a1: expected 32 bytes, got 31"),
        (replace(RING, log=Ring("l1", {"l1": b"x" * 33})), r"keys: log\.l1: expected 32 bytes, got 33"),
        (replace(RING, wrapping=replace(RING.wrapping, current="w9")), r"keys: wrapping\.current: no wrapping key"),
        (replace(RING, log=Ring("log", {"log": b"x" * KEY_BYTES})), "keys: log: a generation's name is out of form"),
    ],
)
def test_a_keyring_that_is_not_whole_is_refused_by_the_name_of_the_key(ring: Keyring, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        check(ring)


def test_a_whole_keyring_is_returned_and_shows_no_key() -> None:
    console = Console(record=True, width=200, file=StringIO())
    console.print(Pretty(RING))

    assert check(RING) == RING
    shown = "Keyring(alias=Ring('a1' of ['a1']), wrapping=Ring('w1' of ['w1', 'w2']), log=Ring('l1' of ['l1']))"
    assert repr(RING) == shown
    for text in (repr(RING), repr(RING.log), console.export_text()):
        assert not [key for key in keys.named(RING).values() if key.decode() in text or key.decode()[:4] in text]


def test_a_row_opens_after_the_log_key_was_rotated_and_names_the_key_that_it_needs() -> None:
    sealed = keys.seal_for_log(RING, "row", b"plain", random_bytes())
    rotated = replace(RING, log=Ring("l2", {**RING.log.keys, "l2": b"2" * KEY_BYTES}))
    newer = keys.seal_for_log(rotated, "row", b"newer", random_bytes(1))

    assert (keys.log_generation(sealed), keys.log_generation(newer)) == ("l1", "l2")
    assert (keys.open_from_log(rotated, "row", sealed), keys.open_from_log(rotated, "row", newer)) == (
        b"plain",
        b"newer",
    )
    with pytest.raises(Unopened, match="no log key is called 'l2': bring it back"):
        keys.open_from_log(RING, "row", newer)


OTHER_REFERENCE = replace(RING, reference=b"x" * KEY_BYTES)
WITHOUT_W2 = replace(RING, wrapping=Ring("w1", {"w1": RING.wrapping.newest}))
ANOTHER_W2 = replace(RING, wrapping=Ring("w1", {"w1": RING.wrapping.newest, "w2": b"x" * KEY_BYTES}))
WITH_W3 = replace(RING, wrapping=Ring("w1", {**RING.wrapping.keys, "w3": b"3" * KEY_BYTES}))


@pytest.mark.parametrize(
    ("ring", "retired", "said"),
    [
        (RING, (), []),
        (WITH_W3, (), []),
        (OTHER_REFERENCE, (), ["reference is another key than the one that named the people here"]),
        (ANOTHER_W2, (), ["wrapping.w2 is another key than the one used here under that name"]),
        (WITHOUT_W2, (), ["wrapping.w2 is missing, and was not retired"]),
        (WITHOUT_W2, ("wrapping.w2",), []),
        (ANOTHER_W2, ("wrapping.w2",), ["wrapping.w2 is another key than the one used here under that name"]),
    ],
)
def test_another_keyring_is_told_by_what_was_noted_of_this_one(
    ring: Keyring, retired: tuple[str, ...], said: list[str]
) -> None:
    noted = keys.checks(RING)

    assert keys.foreign(ring, noted, frozenset(retired)) == said
    assert keys.foreign(ring, {}, frozenset()) == []
    assert not [check for check in noted.values() for key in keys.named(RING).values() if key.hex() in check]
