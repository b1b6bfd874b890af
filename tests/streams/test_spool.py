"""Lists too long for memory: each row once, in an order that says nothing, and nothing that the disk could tell."""

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoke.processors.identifiers import digest
from todoke.streams import spool
from todoke.streams.spool import Sealed, Spool

ROWS = st.lists(st.binary(min_size=1, max_size=6).map(lambda raw: raw.hex().encode()), max_size=60)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "RUN", 5)
    monkeypatch.setattr(spool, "PIECE", 7)


def made(rows: list[bytes], barred: list[bytes], header: bytes = b"") -> bytes:
    with Spool(os.urandom) as found:
        for start in range(0, len(rows), 3):
            found.add(rows[start : start + 3])
        found.seal(frozenset(barred), header)
        text = b"".join(found.pieces())
        assert (found.size, found.rows) == (len(text), len(set(rows) - set(barred)))
        assert b"".join(found.pieces()) == text  # as often as it is asked for
    return text


@given(rows=ROWS, barred=ROWS)
def test_every_row_stands_once_sorted_without_those_that_are_barred(rows: list[bytes], barred: list[bytes]) -> None:
    wanted = sorted(set(rows) - set(barred))

    assert made(rows, barred) == b"".join(row + b"\n" for row in wanted)
    assert made(rows[::-1], barred) == made(rows, barred)  # who came when, nobody sees


def test_a_header_stands_first_and_an_empty_list_is_empty() -> None:
    assert made([b"b", b"a"], [], b"head\n") == b"head\na\nb\n"
    assert made([b"a"], [b"a"]) == b""


def test_what_lies_on_disk_has_no_name_and_no_row() -> None:
    sealed = Sealed(os.urandom)
    row = digest("taro.yamada@example.com").encode()
    sealed.write(row + b"\n")
    sealed._file.flush()
    place = Path(f"/proc/self/fd/{sealed._file.fileno()}")

    assert place.read_bytes() != b""
    assert row[:8] not in place.read_bytes()
    assert not Path(str(place.readlink()).removesuffix(" (deleted)")).exists()
    assert next(sealed.lines()) == row
    sealed.close()


def test_a_long_list_takes_the_memory_of_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "RUN", 2000)
    monkeypatch.setattr(spool, "PIECE", 1 << 12)

    assert peak(40_000) < 3 * peak(4000)


def peak(count: int) -> int:
    def rows() -> Iterator[bytes]:
        for number in range(count):
            yield digest(str(number)).encode()

    tracemalloc.start()
    with Spool(os.urandom) as found:
        for row in rows():
            found.add([row])
        found.seal(frozenset())
        for _ in found.pieces():
            pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most
