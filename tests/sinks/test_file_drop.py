"""Files to a partner, over real stores: whole or not at all, never twice, and believed only when acknowledged."""

import asyncio
import csv
import hashlib
import io
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.contracts.rows import AT, EMAIL_HASH, HANAKO, item, rows
from tests.stores import ID, REGION, VERSITYGW, Place, asyncssh_store, openssh_store, s3proxy_store, versity_store
from todoke.schemas.errors import Misconfigured, Retry
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import FileRequest, HttpRequest, HttpResponse, Item, Outcome, S3Login
from todoke.sinks.connectors import build, check, hosts
from todoke.sinks.exchange import Exchange
from todoke.sinks.s3 import opened
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender

ROW_OF = rows()
TWO = (item(at=AT), item("withdraw", HANAKO, number=2))
STORES = {"asyncssh": asyncssh_store, "openssh": openssh_store, "s3proxy": s3proxy_store}
if VERSITYGW:  # a second server of S3, written apart from the first
    STORES["versitygw"] = versity_store


def now() -> int:
    return int(time.time() * 1000)


class Drop:
    """A store with the connector, the sender and the exchange on our side of it."""

    def __init__(self, place: Place, sender: Sender, timeout_s: float = 10) -> None:
        assert check(place.entry) == []
        self.place = place
        self.connector = build(place.entry, place.secrets)
        self.exchange = Exchange(self.connector, sender, timeout_s)

    async def put(self, items: Sequence[Item] = TWO, guard: Callable[[], None] | None = None) -> Sequence[Outcome]:
        return await self.exchange.call(items, now, guard)

    async def ask(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome | None]:
        return await self.exchange.ask([each.reference for each in outcomes], now)

    def there(self) -> dict[str, bytes]:
        """What lies in our folder, hidden files too."""
        return {each.name: each.read_bytes() for each in sorted((self.place.folder / "in").iterdir())}

    def acknowledge(self, **said: Any) -> None:
        """What the partner writes once it has read the one file."""
        [(name, body)] = [each for each in self.there().items() if not each[0].endswith(".sha256")]
        digest = hashlib.sha256(body).hexdigest()
        whole = {"file": name, "sha256": digest, "status": "processed", "rejected": [], **said}
        (self.place.folder / "ack" / f"{name}.ack").write_text(json.dumps(whole))


@pytest.fixture(params=list(STORES))
async def drop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Drop]:
    async with AsyncExitStack() as opened:
        place = await opened.enter_async_context(STORES[request.param](tmp_path))
        sender = await opened.enter_async_context(Sender(hosts([place.entry])))
        yield Drop(place, sender)


async def test_a_file_lies_there_whole_with_its_checksum_and_nothing_else(drop: Drop) -> None:
    outcomes = await drop.put()

    there = drop.there()
    assert [each.grade for each in outcomes] == [Evidence.accepted] * 2
    [name] = {each.reference.partition("#")[0] for each in outcomes}
    assert list(there) == [name, f"{name}.sha256"]
    assert there[f"{name}.sha256"].decode() == f"{hashlib.sha256(there[name]).hexdigest()}  {name}\n"
    rows = list(csv.DictReader(io.StringIO(there[name].decode(), newline="")))
    assert [(each["request_id"], each["kind"]) for each in rows] == [
        (TWO[0].request_id, "email"),
        (TWO[0].request_id, "phone"),
        (TWO[1].request_id, "email"),
    ]
    assert rows[0]["identifier"] == EMAIL_HASH


async def test_the_same_again_changes_nothing_and_is_answered_the_same(drop: Drop) -> None:
    first = await drop.put()
    before = drop.there()

    assert await drop.put() == first
    assert drop.there() == before


async def test_a_checksum_that_was_not_reached_is_written_by_the_repeat(drop: Drop) -> None:
    await drop.put()
    for each in (drop.place.folder / "in").glob("*.sha256"):
        drop.place.remove(each)

    await drop.put()

    assert [each.endswith(".sha256") for each in drop.there()] == [False, True]


async def test_nothing_that_stands_at_the_name_is_overwritten(drop: Drop) -> None:
    request = drop.connector.request(TWO, AT)
    assert isinstance(request, FileRequest)
    path = drop.place.folder / "in" / request.files[0].path.rpartition("/")[2]
    await drop.place.write(path, b"read, and emptied by the partner")

    outcomes = await drop.put()

    assert [(each.grade, each.reason) for each in outcomes] == [(Evidence.sent, "name-taken")] * 2
    assert drop.there() == {path.name: b"read, and emptied by the partner"}


async def test_a_guard_that_says_no_leaves_nothing_behind(drop: Drop) -> None:
    def guard() -> None:
        raise Retry("overdue", 0, perhaps=False)

    with pytest.raises(Retry, match="overdue") as raised:
        await drop.put(guard=guard)

    assert not raised.value.perhaps
    assert drop.there() == {}


async def test_the_guard_is_asked_when_nothing_can_be_read_yet(drop: Drop) -> None:
    seen: list[list[str]] = []

    await drop.put(guard=lambda: seen.append([each for each in drop.there() if not each.startswith(".")]))

    assert seen
    assert not any(seen)


async def test_an_acknowledgement_says_for_each_what_became_of_it(drop: Drop) -> None:
    outcomes = await drop.put()
    waiting = await drop.ask(outcomes)
    drop.acknowledge(rejected=[{"request_id": TWO[1].request_id, "reason": "unknown-person"}])

    found = await drop.ask(outcomes)

    assert waiting == [None, None]
    assert [(each.grade, each.reason) for each in found if each] == [
        (Evidence.processed, ""),
        (Evidence.sent, "row-unknown-person"),
    ]
    assert [each.reference for each in found if each] == [each.reference for each in outcomes]


async def test_a_probe_is_let_in_and_changes_nothing(drop: Drop) -> None:
    await drop.exchange.probe(now)

    assert drop.there() == {}


async def test_a_key_that_is_not_taken_gives_up_nobody(drop: Drop) -> None:
    wrong = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    secrets = {key: Secret(ID if key == "access_key_id" else wrong) for key in drop.place.secrets}
    other = Drop(drop.place._replace(secrets=secrets), drop.exchange.sender)

    with pytest.raises(Retry, match="auth") as raised:
        await other.put()

    assert (raised.value.after, raised.value.perhaps) == (900.0, False)


async def test_of_writers_of_one_name_at_s3_one_is_let_in_and_the_rest_are_told(tmp_path: Path) -> None:
    async with s3proxy_store(tmp_path) as place, Sender(hosts([place.entry])) as sender:
        login = S3Login(region=REGION, **place.secrets)

        def call(request: HttpRequest, guard: Callable[[], None] | None) -> Awaitable[HttpResponse]:
            return sender.send(request, 10, guard=guard)

        async with opened(place.entry.settings["url"], login, now(), call) as store:
            stands = await asyncio.gather(*(store.put("in/a.csv", b"%d" % each, None) for each in range(20)))

        assert sorted(stands) == [False] * 19 + [True]
        assert (place.folder / "in" / "a.csv").read_bytes() == b"%d" % stands.index(True)


async def test_a_server_that_is_not_the_one_we_know_is_told_nothing(tmp_path: Path) -> None:
    async with asyncssh_store(tmp_path) as place, Sender(hosts([place.entry])) as sender:
        stranger = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        drop = Drop(place.but(host_keys=[stranger]), sender)

        with pytest.raises(Retry, match="host-key") as raised:
            await drop.put()

        assert (raised.value.after, raised.value.perhaps) == (900.0, False)


async def test_a_folder_that_is_missing_gives_up_nobody(tmp_path: Path) -> None:
    async with asyncssh_store(tmp_path) as place, Sender(hosts([place.entry])) as sender:
        drop = Drop(place.but(folder="nowhere"), sender)

        with pytest.raises(Retry, match="no-such-folder") as raised:
            await drop.put()

        assert (raised.value.after, raised.value.perhaps) == (900.0, False)


class Breaking(asyncssh.SFTPServer):
    """Cuts the connection, or says no, when something is asked of it; `after` it was done, or instead."""

    def __init__(
        self, channel: Any, root: Path, what: str, *, after: bool = False, no: bool = False, spare: int = 0
    ) -> None:
        super().__init__(channel, chroot=os.fsencode(root))
        self.what, self.after, self.no, self.spare = what, after, no, spare

    def _strike(self) -> None:
        self.spare -= 1
        if self.spare >= 0:
            return
        if self.no:
            raise asyncssh.SFTPFailure("disk full at taro.yamada@example.com")
        self.channel.get_connection().abort()
        raise asyncssh.SFTPConnectionLost("cut")

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        if self.what == "write":
            self._strike()
        return super().write(file_obj, offset, data)  # type: ignore[return-value]  # nothing here is awaited

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if self.what == "rename" and not self.after:
            self._strike()
        super().rename(oldpath, newpath)
        if self.what == "rename" and self.after:
            self._strike()


@pytest.mark.parametrize(
    ("what", "given", "reason", "perhaps"),
    [
        ("write", {}, "connection-lost", False),
        ("write", {"no": True}, "sftp-failure", False),
        ("rename", {}, "connection-lost", True),
        ("rename", {"after": True}, "connection-lost", True),
        ("rename", {"no": True}, "sftp-failure", False),
    ],
)
async def test_a_way_that_breaks_says_whether_the_file_may_be_there(
    tmp_path: Path, what: str, given: dict[str, bool], reason: str, perhaps: bool
) -> None:
    root = tmp_path / "store"
    async with (
        asyncssh_store(tmp_path, lambda channel: Breaking(channel, root, what, **given)) as place,
        Sender(hosts([place.entry])) as sender,
    ):
        drop = Drop(place, sender)

        with pytest.raises(Retry, match=reason) as raised:
            await drop.put()

        visible = [each for each in drop.there() if not each.startswith(".")]
        assert raised.value.perhaps is perhaps
        assert perhaps or not visible
        assert bool(visible) is given.get("after", False)


@pytest.mark.parametrize("what", ["write", "rename"])
@pytest.mark.parametrize("no", [True, False])
async def test_once_the_data_stands_there_whatever_breaks_it_may_have_been_read(
    tmp_path: Path, what: str, no: bool
) -> None:
    root = tmp_path / "store"
    async with (
        asyncssh_store(tmp_path, lambda channel: Breaking(channel, root, what, no=no, spare=1)) as place,
        Sender(hosts([place.entry])) as sender,
    ):
        drop = Drop(place, sender)

        with pytest.raises(Retry) as raised:
            await drop.put()

        assert [each for each in drop.there() if not each.startswith(".")]
        assert raised.value.perhaps


async def test_a_guard_that_says_no_just_before_the_name_appears_leaves_nothing_behind(tmp_path: Path) -> None:
    asked: list[int] = []

    def guard() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Retry("overdue", 0, perhaps=False)

    async with asyncssh_store(tmp_path) as place, Sender(hosts([place.entry])) as sender:
        drop = Drop(place, sender)

        with pytest.raises(Retry, match="overdue") as raised:
            await drop.put(guard=guard)

        assert not raised.value.perhaps
        assert drop.there() == {}


async def test_a_name_that_was_taken_while_we_wrote_is_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with asyncssh_store(tmp_path) as place, Sender(hosts([place.entry])) as sender:
        drop = Drop(place, sender)
        request = drop.connector.request(TWO, AT)
        assert isinstance(request, FileRequest)
        data = request.files[0]
        asked: list[int] = []

        def guard() -> None:
            asked.append(1)
            if len(asked) == 2:  # just before the rename: another process of ours was quicker
                (root / data.path).write_bytes(data.body)

        outcomes = await drop.put(guard=guard)

        assert [each.grade for each in outcomes] == [Evidence.accepted] * 2
        assert not [each for each in drop.there() if each.startswith(".")]


async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    silent = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncssh_store(tmp_path) as place:
        other = place.but(url=f"sftp://127.0.0.1:{port}")
        async with Sender(hosts([other.entry])) as sender:
            with pytest.raises(Retry, match="timeout") as raised:
                await Drop(other, sender, 0.5).put()
    silent.set()
    server.close()

    assert not raised.value.perhaps


async def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    async with asyncssh_store(tmp_path) as place:
        entry, secrets = place.entry, place.secrets
    async with Sender(hosts([entry])) as sender:
        with pytest.raises(Retry, match="not-connected") as raised:
            await Exchange(build(entry, secrets), sender, 2).call(TWO, now)

    assert not raised.value.perhaps


async def test_a_store_that_no_partner_names_is_not_spoken_to(tmp_path: Path) -> None:
    async with asyncssh_store(tmp_path) as place, Sender(["elsewhere.example:22"]) as sender:
        with pytest.raises(Misconfigured, match="no host of a partner"):
            await Drop(place, sender).put()
