"""Where a log may lie, real each: one contract for all of them, and the log on each of them."""

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.sinks.test_log import ENTRIES, SIGNER
from tests.stores import REGION, VERSITYGW, Place, s3proxy_store, versity_store
from todoke.processors.audit import verify
from todoke.processors.checkpoint import opened
from todoke.processors.merkle import leaf_hash, root_of
from todoke.processors.tiles import CHECKPOINT, bundle, unpack
from todoke.schemas.errors import Fenced, Misconfigured, Retry
from todoke.sinks.base import S3Login
from todoke.sinks.bucket import Bucket, Fence, Lock, storage
from todoke.sinks.log import Log
from todoke.sinks.secrets import Secret
from todoke.sinks.tiles import Folder, Storage

OPENED: list[Storage] = []
Make = Callable[[], Storage]
KINDS = ("folder", "s3proxy-claims", "s3proxy-match", "versity-claims", "versity-match")
"""With `match`, both servers let two racing writers in at times: docs/decisions/0021."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """Servers, each started when it is first asked for."""
    loop = asyncio.new_event_loop()
    started: dict[str, Place] = {}
    closing = []

    def place(name: str) -> Place:
        if name == "versity" and VERSITYGW is None:
            pytest.skip("no versitygw on the PATH: go install github.com/versity/versitygw/cmd/versitygw@latest")
        if name not in started:
            opened = {"s3proxy": s3proxy_store, "versity": versity_store}[name](tmp_path_factory.mktemp(name))
            started[name] = loop.run_until_complete(opened.__aenter__())
            closing.append(opened)
        return started[name]

    yield place
    for each in closing:
        loop.run_until_complete(each.__aexit__(None, None, None))
    loop.close()


def bucket(place: Place, prefix: str, fence: Fence = "claims", lock: Lock | None = None) -> Bucket:
    return at(f"{place.entry.settings['url']}/{prefix}", place, fence=fence, lock=lock)


def at(url: str, place: Place, fence: Fence = "match", lock: Lock | None = None) -> Bucket:
    made = Bucket(url, S3Login(region=REGION, **place.secrets), fence=fence, lock=lock)
    OPENED.append(made)
    return made


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, places: Callable[[str], Place], tmp_path: Path) -> Make:
    """Opens the same place again and again."""
    if request.param == "folder":
        return lambda: Folder(tmp_path / "log")
    server, _, fence = request.param.partition("-")
    place, prefix = places(server), secrets.token_hex(4)
    return lambda: bucket(place, prefix, fence)


def test_a_name_is_created_once(make: Make) -> None:
    first = make()
    assert first.read("tile/0/000") is None
    first.create("tile/0/000", b"one")
    first.create("tile/0/000", b"one")
    with pytest.raises(Fenced, match="tile/0/000: other bytes"):
        first.create("tile/0/000", b"two")
    first.close()
    assert make().read("tile/0/000") == b"one"


def test_a_name_is_swapped_only_by_who_knows_what_stands_there(make: Make) -> None:
    first = make()
    with pytest.raises(Fenced):
        first.swap(CHECKPOINT, b"nothing of the kind", b"one")
    first.swap(CHECKPOINT, None, b"one")
    first.swap(CHECKPOINT, b"one", b"two")
    first.swap(CHECKPOINT, b"two", b"two")
    first.swap(CHECKPOINT, b"two", b"one")
    first.swap(CHECKPOINT, b"one", b"two")  # the same again is another turn
    for old in (None, b"one"):
        with pytest.raises(Fenced, match="another writer"):
            first.swap(CHECKPOINT, old, b"three")
    first.close()
    assert make().read(CHECKPOINT) == b"two"


def test_of_many_who_swap_at_once_one_comes_through(make: Make) -> None:
    first = make()
    if isinstance(first, Bucket) and first._fence == "match":
        pytest.skip("If-Match of this server is checked before it writes, not as it writes")
    first.swap(CHECKPOINT, None, b"0")
    first.close()
    for turn in range(5):
        gate = threading.Barrier(8, timeout=30)

        def go(
            number: int,
            old: bytes = f"{turn}".encode(),
            new: bytes = f"{turn + 1}".encode(),
            at: threading.Barrier = gate,
        ) -> bool:
            mine = make()
            at.wait()
            try:
                mine.swap(CHECKPOINT, old, new + b" " * number)
            except Fenced:
                return False
            finally:
                mine.close()
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(go, range(8))) == 1
        after = make()
        found = after.read(CHECKPOINT)
        assert found is not None
        after.swap(CHECKPOINT, found, f"{turn + 1}".encode())
        after.close()


def test_what_is_below_a_name_is_cleared_and_what_is_beside_it_stays(make: Make) -> None:
    first = make()
    for name in ("tile/0/000", "tile/0/000.p/1", "tile/0/000.p/2", "tile/0/001.p/1"):
        first.create(name, name.encode())
    first.clear("tile/0/000.p")
    first.clear("tile/0/000.p")
    first.delete("tile/0/001.p/1")
    first.delete("tile/0/001.p/1")
    assert first.read("tile/0/000") == b"tile/0/000"
    assert [first.read(f"tile/0/000.p/{each}") for each in (1, 2)] == [None, None]
    assert first.read("tile/0/001.p/1") is None
    first.create("tile/0/000.p/1", b"again")
    first.close()


def test_a_log_goes_on_from_one_writer_to_the_next_and_only_one_signs(make: Make, tmp_path: Path) -> None:
    def log() -> Log:
        return Log(make(), Folder(tmp_path / "guard"), [SIGNER])

    first = log()
    first.publish(ENTRIES[:250])
    first.close()
    second = log()
    second.publish(ENTRIES[250:515])
    second.close()
    with pytest.raises(Fenced):
        first.publish([b"another history"])
    first.close()
    read = make().read
    found = opened(read(CHECKPOINT) or b"", [SIGNER.verifier()], SIGNER.name)
    parts = [read(bundle(0)), read(bundle(1)), read(bundle(2, 3))]
    entries = [entry for part in parts for entry in unpack(part or b"")]
    assert entries == ENTRIES[:515]
    assert root_of([leaf_hash(each) for each in entries]) == found.root
    assert verify(read, [SIGNER.verifier()], SIGNER.name, ours=False).entries == 515


def test_a_claim_that_outlived_its_writer_is_the_next_checkpoint(places: Callable[[str], Place]) -> None:
    mine = bucket(places("s3proxy"), secrets.token_hex(4))
    mine.swap(CHECKPOINT, None, b"one")
    dying = bucket(places("s3proxy"), mine._url.rpartition("/")[2])
    real = dying._send
    dying._send = lambda method, name, *rest: (  # type: ignore[method-assign]  # it dies before its last call
        (_ for _ in ()).throw(Retry("died")) if (method, name) == ("PUT", CHECKPOINT) else real(method, name, *rest)
    )
    with pytest.raises(Retry):
        dying.swap(CHECKPOINT, b"one", b"two")
    with pytest.raises(Fenced):
        mine.swap(CHECKPOINT, b"one", b"three")
    assert mine.read(CHECKPOINT) == b"two"
    mine.swap(CHECKPOINT, b"two", b"three")
    assert mine.read(CHECKPOINT) == b"three"


def test_a_store_that_is_away_is_tried_again_and_then_said_to_be(places: Callable[[str], Place]) -> None:
    waited: list[float] = []
    gone = at("http://127.0.0.1:9/bucket", places("s3proxy"))
    gone.pause = waited.append
    with pytest.raises(Retry, match="connection-lost"):
        gone.read(CHECKPOINT)
    assert len(waited) == 4


def test_a_wrong_key_or_bucket_is_said_at_once_and_shown_to_nobody(places: Callable[[str], Place]) -> None:
    place = places("s3proxy")
    wrong = place._replace(secrets={**place.secrets, "secret_access_key": Secret("wrong")})
    with pytest.raises(Misconfigured, match="403 SignatureDoesNotMatch"):
        at(str(place.entry.settings["url"]), wrong).read(CHECKPOINT)
    url = str(place.entry.settings["url"]).replace("/bucket", "/no-such-bucket")
    with pytest.raises(Misconfigured, match="404 NoSuchBucket"):
        at(url, place).create("a", b"b")


def test_the_lock_is_asked_for_tiles_and_checkpoints_and_never_for_entries(places: Callable[[str], Place]) -> None:
    mine = bucket(places("s3proxy"), "x", lock=Lock("compliance", 365))
    for name in ("tile/0/000", "tile/1/000.p/3", CHECKPOINT, "checkpoint.claims/000000000001"):
        kept = mine._kept(name, b"x")
        assert kept["x-amz-object-lock-mode"] == "COMPLIANCE"
        assert kept["x-amz-object-lock-retain-until-date"] == f"{mine.now() + timedelta(days=365):%Y-%m-%dT%H:%M:%SZ}"
    assert mine._kept("tile/entries/000", b"x") == mine._kept("journal/000000.json", b"x") == {}
    with pytest.raises(Misconfigured, match="501 NotImplemented"):
        mine.create("tile/0/000", b"x")  # a store that can't lock says no, and nothing stands there unlocked


ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hidden"}


def test_a_place_is_a_folder_or_a_bucket(tmp_path: Path) -> None:
    assert storage(str(tmp_path), {}, "0").place == tmp_path / "0"  # type: ignore[attr-defined]  # a Folder
    found = storage("s3://logs/todoke?region=ap-northeast-1&lock=governance&days=30", ENVIRON, "0")
    assert repr(found) == "Bucket(https://s3.ap-northeast-1.amazonaws.com/logs/todoke/0)"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://logs/todoke", "region="),
        ("s3://logs?region=a&look=compliance", "lock"),
        ("s3://logs?region=a&fence=hope", "match or claims"),
        ("s3://logs?region=a&lock=forever&days=3", "governance or compliance"),
        ("s3://logs?region=a&lock=compliance", "days"),
        ("s3://logs?region=a&days=3", "lock"),
        ("s3://logs?region=a&secret=hidden", "env:NAME or file:PATH"),
        ("s3://logs?region=a&secret=env:NOWHERE", "NOWHERE is missing"),
        ("s3://logs?region=a&endpoint=ftp://x", "expected http"),
    ],
)
def test_a_place_that_is_none_says_what_to_write(place: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as told:
        storage(place, ENVIRON)
    assert "hidden" not in str(told.value)
