"""Files to a partner, over real stores: whole or not at all, never twice, and believed only when acknowledged."""

import asyncio
import csv
import hashlib
import io
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, HANAKO, PHONE, item, partner, rows
from tests.stores import Place, asyncssh_store, openssh_store, s3_store
from todoke.schemas.errors import Misconfigured, Rejected, Retry, Split
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import FileRequest, FileResponse, Item, Outcome, S3Login, SftpLogin
from todoke.sinks.connectors import build, check, hosts
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.s3 import sign
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender

ROW_OF = rows()
TWO = (item(at=AT), item("withdraw", HANAKO, number=2))
STORES = {"asyncssh": asyncssh_store, "openssh": openssh_store, "s3": s3_store}


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


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"status": "failed"}, (Evidence.sent, "file-failed")),
        ({"sha256": "0" * 64}, (Evidence.sent, "acknowledges-something-else")),
        ({"file": "another.csv"}, (Evidence.sent, "acknowledges-something-else")),
        ({"status": "reading"}, None),
        ({"rejected": "taro.yamada@example.com"}, (Evidence.processed, "")),
        (
            {"rejected": [{"request_id": TWO[0].request_id, "reason": "taro@example.com"}]},
            (Evidence.sent, "row-rejected"),
        ),
    ],
)
def test_what_an_acknowledgement_means(said: dict[str, Any], expected: Any) -> None:
    connector = build(partner("file_drop"), ROW_OF["file_drop"].secrets)
    assert connector.polls
    reference = f"a.csv#{TWO[0].request_id}"
    whole = {"file": "a.csv", "sha256": "1" * 64, "status": "processed", "rejected": [], **said}
    found = {"ack/a.csv.ack": json.dumps(whole).encode(), "in/a.csv.sha256": b"1" * 64 + b"  a.csv\n"}

    [outcome] = connector.polls.read([reference], FileResponse(found=found))

    assert (outcome and (outcome.grade, outcome.reason)) == expected


def test_half_an_acknowledgement_or_one_without_our_checksum_beside_it_is_none() -> None:
    connector = build(partner("file_drop"), ROW_OF["file_drop"].secrets)
    assert connector.polls
    whole = json.dumps({"file": "a.csv", "sha256": "1" * 64, "status": "processed"}).encode()
    checksum = b"1" * 64 + b"  a.csv\n"

    def read(**found: bytes) -> Outcome | None:
        assert connector.polls
        names = {"ack": "ack/a.csv.ack", "sum": "in/a.csv.sha256"}
        response = FileResponse(found={names[key]: value for key, value in found.items()})
        [outcome] = connector.polls.read(["a.csv#r"], response)
        return outcome

    assert read(ack=whole, sum=checksum)
    assert read(ack=whole[:-5], sum=checksum) is None
    assert read(ack=whole) is None
    assert read(sum=checksum) is None
    assert read(ack=b"[]", sum=checksum) is None


async def test_a_probe_is_let_in_and_changes_nothing(drop: Drop) -> None:
    await drop.exchange.probe(now)

    assert drop.there() == {}


async def test_a_key_that_is_not_taken_gives_up_nobody(drop: Drop) -> None:
    wrong = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    secrets = {key: Secret("AKIATEST" if key == "access_key_id" else wrong) for key in drop.place.secrets}
    other = Drop(drop.place._replace(secrets=secrets), drop.exchange.sender)

    with pytest.raises(Retry, match="auth") as raised:
        await other.put()

    assert (raised.value.after, raised.value.perhaps) == (900.0, False)


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

    def __init__(self, channel: Any, root: Path, what: str, *, after: bool = False, no: bool = False) -> None:
        super().__init__(channel, chroot=os.fsencode(root))
        self.what, self.after, self.no = what, after, no

    def _strike(self) -> None:
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
        if self.what == "rename":
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


@pytest.mark.parametrize(
    ("kind", "grade", "reason"),
    [
        ("rejected-rows", Evidence.sent, "row-unknown-person"),
        ("failed", Evidence.sent, "file-failed"),
        ("other-file", Evidence.sent, "acknowledges-something-else"),
        ("unreadable", None, ""),
    ],
)
async def test_the_emulators_acknowledgements(kind: str, grade: Evidence | None, reason: str) -> None:
    row = ROW_OF["file_drop"]
    async with emulating("file_drop", row.secrets["secret_access_key"].reveal(), now) as address:
        entry = partner("file_drop", url=f"{address}/bucket")
        async with Sender(hosts([entry])) as sender, aiohttp.ClientSession() as session:
            exchange = Exchange(build(entry, row.secrets), sender, 5)
            [outcome] = await exchange.call([item()], now)
            await session.post(f"{address}/_emulator/faults", json={"kind": kind, "times": 1})
            [first] = await exchange.ask([outcome.reference], now)
            [later] = await exchange.ask([outcome.reference], now)

    assert (first.grade if first else None, first.reason if first else "") == (grade, reason)
    assert later
    assert later.grade == Evidence.processed


def test_names_tell_files_apart_and_say_nothing_of_anybody() -> None:
    connector = build(partner("file_drop"), ROW_OF["file_drop"].secrets)

    def name(*items: Item) -> str:
        request = connector.request(items, AT)
        assert isinstance(request, FileRequest)
        return request.files[0].path

    one, other = item(), item(number=2)
    assert name(one) == name(one)
    assert len({name(one), name(other), name(one, other), name(replace(one, identifiers=(EMAIL,)))}) == 4
    assert hashlib.sha256(EMAIL_HASH.encode()).hexdigest()[:24] not in name(one)


def test_a_file_above_the_limit_is_halved_and_one_row_is_sent_whatever_its_size() -> None:
    entry = replace(partner("file_drop"), limits=Limits(items=10, bytes=300))
    connector = build(entry, ROW_OF["file_drop"].secrets)

    with pytest.raises(Split, match="too-large"):
        connector.request(TWO, AT)
    assert connector.request(TWO[:1], AT).url


def test_liveramps_profile_has_addresses_alone_and_no_checksum() -> None:
    entry = replace(partner("file_drop", format="liveramp", acknowledgements=""), identifiers=("email",))
    connector = build(entry, ROW_OF["file_drop"].secrets)
    request = connector.request([item("withdraw", EMAIL, PHONE), item("withdraw", EMAIL, number=2)], AT)
    assert isinstance(request, FileRequest)

    assert connector.polls is None
    assert connector.reaches == Evidence.accepted
    assert [each.body.decode() for each in request.files] == [f'audience_key,email\n"{EMAIL_HASH}","{EMAIL_HASH}"']
    with pytest.raises(Rejected, match="no-usable-identifier"):
        connector.request([item("withdraw", PHONE)], AT)
    assert connector.group(item("withdraw", PHONE)) != connector.group(item("withdraw", EMAIL))


@pytest.mark.parametrize(
    ("settings", "secrets", "problem"),
    [
        ({"url": "sftp://files.example/in"}, (), "settings.url: not an address of a server"),
        ({"url": "sftp://files.example"}, (), "settings.user: missing"),
        ({"url": "sftp://files.example", "user": "u"}, (), "settings.host_keys: missing"),
        ({"url": "sftp://files.example", "user": "u"}, (), "secrets.private_key: missing"),
        (
            {"url": "sftp://files.example", "user": "u"},
            ("access_key_id",),
            "secrets.access_key_id: of no use over SFTP",
        ),
        ({"region": ""}, ("access_key_id", "secret_access_key"), "settings.region: missing"),
        ({}, ("access_key_id",), "secrets.secret_access_key: missing"),
        ({}, ("password",), "secrets.password: of no use at S3"),
        ({"folder": "../elsewhere"}, (), "settings.folder: not a path"),
        ({"folder": "in/受信"}, (), "settings.folder: not a path"),
        ({"format": "liveramp"}, (), "settings.acknowledgements: LiveRamp writes none"),
        ({"format": "liveramp"}, (), "identifiers: phone can't be said with format = liveramp"),
    ],
)
def test_what_is_wrong_with_an_entry(settings: dict[str, Any], secrets: tuple[str, ...], problem: str) -> None:
    entry = replace(partner("file_drop", **settings), secrets=dict.fromkeys(secrets, "env:X"))

    assert problem in "\n".join(check(entry))


def test_a_repr_shows_no_key() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    login = SftpLogin(user="todoke", host_keys=(), private_key=Secret(key), password=Secret("hunter2"))
    request = FileRequest(url="sftp://files.example", login=login, at=AT)

    assert "hunter2" not in repr(login) + repr(request)
    assert key[40:80] not in repr(login) + repr(request)


@pytest.mark.parametrize(
    ("method", "path", "headers", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"range": "bytes=0-9", "x-amz-content-sha256": hashlib.sha256(b"").hexdigest()},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
                "x-amz-content-sha256": hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
            },
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    ],
)
def test_signatures_are_those_of_amazons_examples(
    method: str, path: str, headers: dict[str, str], signature: str
) -> None:
    login = S3Login(
        region="us-east-1",
        access_key_id=Secret("AKIAIOSFODNN7EXAMPLE"),
        secret_access_key=Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    )

    signed = sign(
        method,
        f"https://examplebucket.s3.amazonaws.com{path}",
        {**headers, "x-amz-date": "20130524T000000Z"},
        login,
    )

    assert signed["authorization"].endswith(f"Signature={signature}")
