"""The log's writer on a real folder: what is published stays, whenever it dies; and there is one history."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from todoke.processors.checkpoint import Signer, opened
from todoke.processors.merkle import leaf_hash, root_of
from todoke.processors.tiles import CHECKPOINT, WIDTH, bundle, unpack
from todoke.schemas.errors import Fenced, Unproved
from todoke.sinks import tiles
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder, Storage

ROOT = Path(__file__).parents[2]
SIGNER = Signer("log.example/shard-0", bytes(range(32)))
ENTRIES = [f"entry {number}".encode() for number in range(600)]
STEPS = (1, 254, 1, 1, 3, 252, 80, 8)


class Died(BaseException):
    """The process ended here."""


class Dying:
    """A storage whose process dies at its nth write: before the write, or after it."""

    def __init__(self, inner: Storage, left: list[int], *, after: bool) -> None:
        self.inner, self.left, self.after = inner, left, after

    def _step(self, write: Callable[[], None]) -> None:
        self.left[0] -= 1
        if self.left[0] < 0 and not self.after:
            raise Died
        write()
        if self.left[0] < 0:
            raise Died

    def read(self, name: str) -> bytes | None:
        return self.inner.read(name)

    def create(self, name: str, data: bytes) -> None:
        self._step(lambda: self.inner.create(name, data))

    def swap(self, name: str, old: bytes | None, new: bytes) -> None:
        self._step(lambda: self.inner.swap(name, old, new))

    def delete(self, name: str) -> None:
        self._step(lambda: self.inner.delete(name))

    def clear(self, name: str) -> None:
        self._step(lambda: self.inner.clear(name))

    def close(self) -> None:
        self.inner.close()


def read_back(place: Path, key: Signer) -> list[bytes]:
    """The entries of a log, read back from its bundles and held against its signed root."""
    folder = Folder(place)
    data = folder.read(CHECKPOINT)
    assert data is not None
    found = opened(data, [key.verifier()], key.name)
    entries: list[bytes] = []
    for number in range(-(-found.size // WIDTH)):
        width = min(WIDTH, found.size - number * WIDTH)
        part = folder.read(bundle(number, width)) or folder.read(bundle(number))
        assert part is not None
        entries += unpack(part)[:width]
    assert root_of([leaf_hash(each) for each in entries]) == found.root
    return entries


def whole(place: Path) -> list[bytes]:
    """The entries of the log of these tests."""
    return read_back(place, SIGNER)


def publish(log: Log, steps: Sequence[int] = STEPS) -> None:
    """Publish what is missing, in steps."""
    for step in steps:
        log.publish(ENTRIES[log.size : min(log.size + step, sum(steps))])


def test_what_is_published_in_steps_is_one_log_whoever_opens_it_in_between(tmp_path: Path) -> None:
    for step in STEPS:
        log = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])
        before = log.size
        assert log.publish(ENTRIES[before : before + step]).size == before + step
        log.close()
        assert whole(tmp_path / "log") == ENTRIES[: before + step]
    assert (tmp_path / "guard" / CHECKPOINT).read_bytes() == (tmp_path / "log" / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("after", [False, True])
def test_a_writer_that_dies_at_any_write_is_followed_by_one_that_goes_on(tmp_path: Path, *, after: bool) -> None:
    deaths = 0
    while True:
        left = [deaths]
        storage, guard = Folder(tmp_path / f"{deaths}" / "log"), Folder(tmp_path / f"{deaths}" / "guard")
        acknowledged = 0
        try:
            log = Log(Dying(storage, left, after=after), Dying(guard, left, after=after), [SIGNER])
            for step in STEPS:
                acknowledged = log.publish(ENTRIES[log.size : log.size + step]).size
            finished = True
        except Died:
            finished = False
        storage.close()
        guard.close()
        again = Log(Folder(tmp_path / f"{deaths}" / "log"), Folder(tmp_path / f"{deaths}" / "guard"), [SIGNER])
        assert again.size >= acknowledged
        again.publish(ENTRIES[again.size : sum(STEPS)])
        again.close()
        assert whole(tmp_path / f"{deaths}" / "log") == ENTRIES[: sum(STEPS)]
        if finished:
            break
        deaths += 1
    assert deaths > 30


def test_a_writer_killed_before_any_file_operation_loses_nothing_acknowledged_and_forks_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.sinks.killing", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 400


def test_what_a_killed_writer_left_is_made_durable_before_it_is_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Folder(tmp_path)
    first.create("tile/0/000.p/1", b"one")
    first.close()
    synced: list[Path] = []
    monkeypatch.setattr(tiles, "_sync", synced.append)
    second = Folder(tmp_path)
    second.create("tile/0/000.p/1", b"one")
    second.close()
    folders = [tmp_path / each for each in ("tile/0/000.p", "tile/0", "tile")]
    assert {*folders, tmp_path, tmp_path.parent} <= set(synced)


def test_a_new_key_signs_beside_the_old_one_and_then_alone(tmp_path: Path) -> None:
    new = Signer(SIGNER.name, bytes(32))

    def published(signers: Sequence[Signer], entries: Sequence[bytes]) -> bytes:
        log = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), signers)
        log.publish(entries)
        log.close()
        return (tmp_path / "log" / CHECKPOINT).read_bytes()

    published([SIGNER], ENTRIES[:3])
    both = published([SIGNER, new], [])
    for key in (SIGNER, new):
        assert opened(both, [key.verifier()], SIGNER.name).size == 3
    alone = published([new], ENTRIES[3:4])
    assert opened(alone, [new.verifier()], SIGNER.name).size == 4
    with pytest.raises(Unproved, match="none of the log's keys"):
        opened(alone, [SIGNER.verifier()], SIGNER.name)
    assert read_back(tmp_path / "log", new) == ENTRIES[:4]


def test_partial_tiles_go_when_the_full_one_is_a_tile_old_and_no_sooner(tmp_path: Path) -> None:
    log = Log(Folder(tmp_path), None, [SIGNER])
    for end in (7, 200, 256, 300, 511):
        log.publish(ENTRIES[log.size : end])
    assert sorted(each.name for each in (tmp_path / "tile" / "0" / "000.p").iterdir()) == ["200", "7"]
    log.publish(ENTRIES[511:513])
    assert not (tmp_path / "tile" / "0" / "000.p").exists()
    assert not (tmp_path / "tile" / "entries" / "000.p").exists()
    assert (tmp_path / "tile" / "0" / "001.p" / "44").exists()
    log.close()
    assert whole(tmp_path) == ENTRIES[:513]


def test_what_the_guard_knows_is_held_against_the_tiles_below_the_edge_too(tmp_path: Path) -> None:
    log = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])
    log.publish(ENTRIES[:40])
    log.close()
    shutil.copytree(tmp_path / "guard", tmp_path / "older")
    log = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])
    log.publish(ENTRIES[40:600])
    log.close()
    path = tmp_path / "log" / "tile" / "0" / "000"
    path.write_bytes(path.read_bytes()[:-32] + bytes(32))
    with pytest.raises(Fenced, match="another history of 40"):
        Log(Folder(tmp_path / "log"), Folder(tmp_path / "older"), [SIGNER])


def test_of_two_writers_one_stops(tmp_path: Path) -> None:
    first = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])
    first.publish(ENTRIES[:3])
    with pytest.raises(Fenced, match="another process"):
        Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER]).publish(ENTRIES[3:5])
    first.close()
    second = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])
    second.publish(ENTRIES[3:5])
    second.close()
    with pytest.raises(Fenced, match=r"somebody else|other bytes"):
        first.publish([b"another history"])
    assert whole(tmp_path / "log") == ENTRIES[:5]


def test_a_log_brought_back_from_an_older_copy_signs_nothing(tmp_path: Path) -> None:
    log = Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])
    log.publish(ENTRIES[:300])
    shutil.copytree(tmp_path / "log", tmp_path / "old")
    log.publish(ENTRIES[300:301])
    log.close()
    shutil.rmtree(tmp_path / "log")
    shutil.copytree(tmp_path / "old", tmp_path / "log")
    with pytest.raises(Fenced, match="301 have been signed"):
        Log(Folder(tmp_path / "log"), Folder(tmp_path / "guard"), [SIGNER])


def test_a_guard_with_another_history_is_heeded(tmp_path: Path) -> None:
    for name, entries in (("one", ENTRIES[:40]), ("two", [b"other", *ENTRIES[1:41]])):
        log = Log(Folder(tmp_path / name), Folder(tmp_path / f"{name}-guard"), [SIGNER])
        log.publish(entries)
        log.close()
    with pytest.raises(Fenced, match="another history"):
        Log(Folder(tmp_path / "two"), Folder(tmp_path / "one-guard"), [SIGNER])


@pytest.mark.parametrize("name", [CHECKPOINT, "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"])
def test_a_log_with_a_changed_byte_at_its_edge_is_not_gone_on_with(tmp_path: Path, name: str) -> None:
    log = Log(Folder(tmp_path / "log"), None, [SIGNER])
    log.publish(ENTRIES[:300])
    log.close()
    path = tmp_path / "log" / name
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Unproved):
        Log(Folder(tmp_path / "log"), None, [SIGNER])


def test_the_key_of_another_log_does_not_open_this_one(tmp_path: Path) -> None:
    log = Log(Folder(tmp_path / "log"), None, [SIGNER])
    log.publish(ENTRIES[:3])
    log.close()
    with pytest.raises(Unproved, match="none of the log's keys"):
        Log(Folder(tmp_path / "log"), None, [Signer(SIGNER.name, bytes(32))])
    with pytest.raises(Unproved, match="is of the log"):
        Log(Folder(tmp_path / "log"), None, [Signer("log.example/shard-1", SIGNER.seed)])
