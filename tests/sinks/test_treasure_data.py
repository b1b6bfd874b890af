"""Treasure Data's tombstone table: rows of values, an import that counts once, and nothing claimed of what follows."""

import gzip
import time
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, HANAKO, PHONE, item, partner, rows
from todoke.processors.identifiers import digest
from todoke.schemas.errors import Rejected, Retry, Split
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpRequest, HttpResponse
from todoke.sinks.connectors import build, check, hosts
from todoke.sinks.connectors.treasure_data import EFFECTS, TreasureData
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender

ROW = rows()["treasure_data"]
ODD = Identifier("member_id", "x'; DELETE FROM members; --\\ \"`${}`")


def now() -> int:
    return int(time.time() * 1000)


def treasure(**settings: Any) -> TreasureData:
    built = build(partner("treasure_data", **settings), ROW.secrets)
    assert isinstance(built, TreasureData)
    return built


def records(request: HttpRequest) -> list[dict[str, Any]]:
    """The maps in a body that has one."""
    return [msgspec.msgpack.decode(gzip.decompress(request.body))]


def test_an_identifier_that_looks_like_a_query_is_a_value_like_any_other() -> None:
    plain = treasure(identifier_form="plain").request([item("delete", ODD)], AT)
    hashed = treasure().request([item("delete", ODD)], AT)

    assert records(plain)[0]["identifier"] == ODD.value
    assert records(hashed)[0]["identifier"] == digest(ODD.value)
    assert ODD.value not in plain.url


def test_a_repeat_is_the_same_import_and_another_obligation_another() -> None:
    one, other = item(), item(number=2)

    assert treasure().request([one], AT) == treasure().request([one], AT + 1000)
    assert treasure().request([one], AT).body[4:8] == bytes(4)  # no time of packing
    assert treasure().request([one], AT).url != treasure().request([other], AT).url
    assert treasure().request([one], AT).url != treasure().request([one, other], AT).url


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"elapsed_time": "3.14"}', Evidence.accepted),
        (200, b'{"elapsed_time": 0}', Evidence.accepted),
        (200, b"{}", Retry("unreadable-answer")),
        (200, b"<html>", Retry("unreadable-answer")),
        (204, b"", Retry("unreadable-answer")),
        (401, b'{"error": "taro@example.com"}', Retry("auth", 900.0, perhaps=False)),
        (403, b"", Retry("denied", 900.0, perhaps=False)),
        (404, b"", Retry("no-such-table", 900.0, perhaps=False)),
        (409, b"", Rejected("http-409")),
        (413, b"", Rejected("http-413")),
        (500, b"", Retry("http-500")),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, expected: Any) -> None:
    answer = HttpResponse(status=status, headers={}, body=body)

    if isinstance(expected, Evidence):
        [outcome] = treasure().verdict([item()], answer)
        assert outcome.grade == expected
    else:
        with pytest.raises(type(expected)) as raised:
            treasure().verdict([item()], answer)
        assert vars(raised.value) == vars(expected)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_one_row_spoils_is_halved(status: int) -> None:
    with pytest.raises(Split) as raised:
        treasure().verdict([item(), item(number=2)], HttpResponse(status=status, headers={}, body=b""))

    assert not raised.value.perhaps


def test_too_many_bytes_are_halved_before_they_are_sent() -> None:
    entry = replace(partner("treasure_data"), limits=Limits(items=10, bytes=300))

    with pytest.raises(Split, match="too-large"):
        build(entry, ROW.secrets).request([item(), item(number=2)], AT)


async def test_rows_of_a_batch_arrive_and_a_repeat_adds_none() -> None:
    options = {"table": "privacy/tombstones"}
    async with emulating("treasure_data", ROW.secrets["api_key"].reveal(), now, options=options) as address:
        entry = partner("treasure_data", base_url=address)
        async with Sender(hosts([entry])) as sender, aiohttp.ClientSession() as session:
            exchange = Exchange(build(entry, ROW.secrets), sender, 5)
            items = [item("delete", EMAIL, PHONE), item("delete", HANAKO, ODD, number=2)]
            first = await exchange.call(items, now)
            second = await exchange.call(items, now)
            async with session.get(f"{address}/_emulator/state") as got:
                state = await got.json()

    assert [each.grade for each in first] == [Evidence.accepted] * 2
    assert first == second
    assert list(state["imports"].values()) == [4]
    assert set(state["last"]) == {
        EMAIL_HASH,
        *(digest(each) for each in ("+819012345678", "hanako@example.jp", ODD.value)),
    }


async def test_a_table_that_is_not_there_gives_up_nobody() -> None:
    key = ROW.secrets["api_key"].reveal()
    async with emulating("treasure_data", key, now, options={"table": "other/table"}) as address:
        entry = partner("treasure_data", base_url=address)
        async with Sender(hosts([entry])) as sender:
            with pytest.raises(Retry, match="no-such-table") as raised:
                await Exchange(build(entry, ROW.secrets), sender, 5).call([item()], now)

    assert (raised.value.after, raised.value.perhaps) == (900.0, False)


@pytest.mark.parametrize("name", ["", "ab", "Upper", "a-b", "a b", "t; drop", "a" * 129, "表表表"])
def test_a_name_that_is_none_is_a_problem(name: str) -> None:
    assert "settings.table: not a name" in "\n".join(check(partner("treasure_data", table=name)))
    assert "settings.database: not a name" in "\n".join(check(partner("treasure_data", database=name)))


def test_no_effect_claims_that_anything_was_deleted() -> None:
    assert set(EFFECTS.values()) == {"tombstone-withdrawn", "tombstone-suspended", "tombstone-deleted"}
    assert treasure().reaches == Evidence.accepted
