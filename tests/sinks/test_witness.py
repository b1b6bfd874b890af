"""Checkpoints before a real witness: it cosigns what extends what it saw, and stops what doesn't."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.sinks.test_log import ENTRIES, whole
from tests.sinks.test_log import SIGNER as KEY
from tests.witnesses import Running, litewitness
from todoke.processors.checkpoint import Verifier, opened, parse_note, signed_at
from todoke.processors.tiles import CHECKPOINT, COSIGNED
from todoke.schemas.errors import Fenced, Misconfigured
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder
from todoke.sinks.witness import Policy, Witness, Witnesses

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "w").mkdir()
    with litewitness(tmp_path / "w") as found:
        yield found


class Site:
    """A log's folders and its witnesses; a clock that a test moves."""

    def __init__(self, place: Path, witnesses: Sequence[tuple[str, Verifier]], policy: Policy) -> None:
        self.place, self.witnesses, self.policy, self.now = place, witnesses, policy, 0.0

    def open(self) -> Log:
        asked = [Witness(url, key, self.policy.timeout_s) for url, key in self.witnesses]
        watching = Witnesses(asked, self.policy, lambda: self.now)
        try:
            return Log(Folder(self.place / "log"), Folder(self.place / "guard"), [KEY], watching)
        except BaseException:
            watching.close()
            raise

    def shown(self, name: str = CHECKPOINT) -> bytes:
        return (self.place / "log" / name).read_bytes()


def size(data: bytes) -> int:
    return opened(data, [KEY.verifier()], KEY.name).size


def test_each_checkpoint_is_cosigned_and_the_proof_is_from_what_the_witness_saw(
    tmp_path: Path, witness: Running
) -> None:
    witness.knows(KEY.verifier())
    site = Site(tmp_path, [(witness.url, witness.key)], Policy(required=True))
    for end in (3, 3, 256, 300, 600):  # and opened anew each time, so that it has to ask what was seen
        log = site.open()
        log.publish(ENTRIES[log.size : end])
        log.close()
        assert size(site.shown()) == size(site.shown(COSIGNED)) == end
        assert signed_at(parse_note(site.shown()), witness.key)
    assert whole(tmp_path / "log") == ENTRIES[:600]


def test_a_log_rolled_back_together_with_its_guard_is_stopped_by_the_witness(tmp_path: Path, witness: Running) -> None:
    witness.knows(KEY.verifier())
    site = Site(tmp_path, [(witness.url, witness.key)], Policy())
    log = site.open()
    log.publish(ENTRIES[:40])
    log.close()
    for name in ("log", "guard"):
        shutil.copytree(tmp_path / name, tmp_path / f"old-{name}")
    log = site.open()
    log.publish(ENTRIES[40:50])
    log.close()
    for name in ("log", "guard"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / f"old-{name}").rename(tmp_path / name)
    log = site.open()
    with pytest.raises(Fenced, match="has seen 50 entries of this log, which has 41"):
        log.publish([b"another history"])
    log.close()
    with pytest.raises(Fenced, match="has seen 50"):
        site.open()


def test_another_history_convinces_no_witness(tmp_path: Path, witness: Running) -> None:
    witness.knows(KEY.verifier())
    first = Site(tmp_path / "one", [(witness.url, witness.key)], Policy()).open()
    first.publish(ENTRIES[:40])
    first.close()
    unseen = Log(Folder(tmp_path / "two" / "log"), Folder(tmp_path / "two" / "guard"), [KEY])
    unseen.publish([b"other", *ENTRIES[1:50]])
    unseen.close()
    second = Site(tmp_path / "two", [(witness.url, witness.key)], Policy()).open()
    with pytest.raises(Fenced, match="what it saw at 40 entries is no beginning of this log"):
        second.publish(ENTRIES[50:51])
    second.close()


@pytest.mark.parametrize("required", [False, True])
def test_a_witness_that_lacks_our_key_or_is_away_holds_up_only_what_requires_it(
    tmp_path: Path, witness: Running, *, required: bool
) -> None:
    away = Verifier("witness.example/away", witness.key.kind, witness.key.public)
    pair = [(witness.url, witness.key), (CLOSED, away)]
    site = Site(tmp_path, pair, Policy(required=required, every_s=60))
    log = site.open()
    assert log.publish(ENTRIES[:5]).size == 5
    assert (tmp_path / "log" / CHECKPOINT).exists() is not required
    assert not (tmp_path / "log" / COSIGNED).exists()
    witness.knows(KEY.verifier())
    log.publish([])
    assert not (tmp_path / "log" / COSIGNED).exists()  # it is not time to ask again
    site.now = 60.0
    log.publish([])
    assert size(site.shown()) == size(site.shown(COSIGNED)) == 5
    log.publish(ENTRIES[5:7])
    assert (size(site.shown()), size(site.shown(COSIGNED))) == ((5 if required else 7), 5)
    log.close()


def test_a_cosignature_by_another_key_counts_for_nothing(tmp_path: Path, witness: Running) -> None:
    witness.knows(KEY.verifier())
    other = Verifier(witness.key.name, witness.key.kind, KEY.verifier().public)
    site = Site(tmp_path, [(witness.url, other)], Policy(required=True))
    log = site.open()
    log.publish(ENTRIES[:5])
    assert not (tmp_path / "log" / CHECKPOINT).exists()
    log.close()


def test_witnesses_need_a_guard(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="need a guard"):
        Log(Folder(tmp_path), None, [KEY], Witnesses([], Policy(), lambda: 0.0))
