"""Keyed hashes and seals: what opens with what, and nothing of it in an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.rules import keyring as ring
from tests.rules import random_bytes
from todoke.processors import keys
from todoke.processors.keys import KEY_BYTES, Keyring, check, new_key, open_key
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
    rotated = replace(RING, current="w2")

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
        keys.orphan_ref(RING, "s-1"),
        keys.alias(RING, "email", "s-1"),
        keys.alias(RING, "phone", "s-1"),
        keys.subject_ref(replace(RING, reference=b"x" * KEY_BYTES), "s-1"),
        keys.alias(replace(RING, alias=b"x" * KEY_BYTES), "email", "s-1"),
    ]

    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {32}
    assert keys.subject_ref(RING, "s-1") == "befd252d3a3f0ac364c1544793184bb5"
    assert keys.alias(RING, "email", "s-1") == "f9312d474f9e25d2c4f886946b887b1c"


@pytest.mark.parametrize(
    ("ring", "said"),
    [
        (replace(RING, reference=b""), "keys: reference: expected 32 bytes, got 0"),
        (replace(RING, alias=b"x" * 31), "keys: alias: expected 32 bytes, got 31"),
        (replace(RING, log=b"x" * 33), "keys: log: expected 32 bytes, got 33"),
        (replace(RING, wrapping={"w1": b"x"}), r"keys: wrapping\.w1: expected 32 bytes, got 1"),
        (replace(RING, current="w9"), "keys: current: no wrapping key is called 'w9'"),
    ],
)
def test_a_keyring_that_is_not_whole_is_refused_by_the_name_of_the_key(ring: Keyring, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        check(ring)


def test_a_whole_keyring_is_returned_and_shows_no_key() -> None:
    assert check(RING) == RING
    assert repr(RING) == "Keyring(wrapping=['w1', 'w2'], current='w1')"
