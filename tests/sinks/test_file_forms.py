"""What files to a partner hold and are called, what an acknowledgement means, and how S3 is signed."""

import hashlib
import json
import time
from typing import Any

import aiohttp
import asyncssh
import pytest
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, HANAKO, PHONE, item, partner, rows
from todoke.schemas.errors import Rejected, Split
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


def now() -> int:
    return int(time.time() * 1000)


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


def test_a_name_can_not_be_used_to_guess_who_is_in_the_file() -> None:
    entry = replace(partner("file_drop", format="liveramp", acknowledgements=""), identifiers=("email",))
    connector = build(entry, ROW_OF["file_drop"].secrets)
    one, other = (connector.request([item(number=number)], AT) for number in (1, 2))
    assert isinstance(one, FileRequest)
    assert isinstance(other, FileRequest)

    assert one.files[0].body == other.files[0].body
    assert one.files[0].path != other.files[0].path


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
    with pytest.raises(Rejected, match="no-usable-identifier"):
        connector.request([item("withdraw", EMAIL), item("withdraw", PHONE, number=2)], AT)
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
