"""The Trade Desk: what a line says, and what each answer means for whom."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from todoke.schemas.errors import Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Item
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.the_trade_desk import TradeDesk
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
TOKEN = Secret("ttd-token-of-nobody")
IDFA = Identifier("idfa", "6d92078a-8246-4ba4-ae5b-76104861e7dc")
GAID = Identifier("gaid", "CDDA802E-FB9C-47AD-9866-0794D394C912")
OTHER = Identifier("gaid", "11111111-2222-4333-8444-555555555555")
EMAIL = Identifier("email", "taro@example.com")
SHOWN = "6D92078A-8246-4BA4-AE5B-76104861E7DC"


def desk(limit: int = 1_000_000, **settings: Any) -> TradeDesk:
    entry = replace(partner("the_trade_desk", **settings), limits=Limits(items=100, bytes=limit))
    built = build(entry, {"ttd_auth": TOKEN})
    assert isinstance(built, TradeDesk)
    return built


def item(*identifiers: Identifier, verb: Verb = "withdraw", number: int = 1, account: str = "main") -> Item:
    return Item(
        obligation_id=f"o{number}",
        request_id=f"r{number}",
        verb=verb,
        account=account,
        scope="ads",
        at=0,
        deadline_at=0,
        identifiers=identifiers,
    )


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=json.dumps(body).encode())


def failed(*lines: tuple[Any, Any], status: int = 200) -> HttpResponse:
    told = [{"ItemNumber": number, "ErrorCode": code, "Message": SHOWN, "TDID": None} for number, code in lines]
    return answer({"FailedLines": told}, status)


def test_each_device_has_a_line_and_the_verb_says_which_request() -> None:
    request = desk().request([item(IDFA, EMAIL), item(GAID, IDFA, number=2)], 0)
    body = json.loads(request.body)

    assert body["Items"] == [{"DAID": SHOWN}, {"DAID": "cdda802e-fb9c-47ad-9866-0794d394c912"}]
    assert (body["AdvertiserId"], body["RequestType"]) == ("adv7q2", "OptOut")
    assert request.url == "https://usw-data.adsrvr.org/data/deletion-optout/advertiser"
    assert request.headers["ttd-auth"] == "ttd-token-of-nobody"
    kinds = {
        verb: json.loads(desk().request([item(IDFA, verb=verb)], 0).body)["RequestType"]
        for verb in ("suspend", "delete")
    }
    assert kinds == {"suspend": "OptOut", "delete": "Deletion"}
    assert json.loads(desk(daid_form="lower").request([item(IDFA)], 0).body)["Items"] == [{"DAID": SHOWN.lower()}]


@pytest.mark.parametrize(
    ("holder", "held", "wanted"),
    [
        ("advertiser", {"id": "a", "data_provider_id": "p"}, {"AdvertiserId": "a", "DataProviderId": "p"}),
        ("thirdparty", {"id": "p", "brand_id": "b"}, {"DataProviderId": "p", "BrandId": "b"}),
        ("merchant", {"id": "700"}, {"MerchantId": 700}),
    ],
)
def test_the_holder_is_named_as_its_kind_asks(holder: str, held: dict[str, str], wanted: dict[str, Any]) -> None:
    request = desk(holder=holder, ids={"main": held}).request([item(IDFA)], 0)
    body = json.loads(request.body)

    assert request.url.endswith(f"/data/deletion-optout/{holder}")
    assert {key: body[key] for key in body if key.endswith("Id") and key != "DataLoadTraceId"} == wanted


def test_a_deletion_never_shares_a_call_with_an_opt_out() -> None:
    app = desk()

    assert app.group(item(IDFA)) == app.group(item(GAID, verb="suspend", number=2))
    assert app.group(item(IDFA)) != app.group(item(IDFA, verb="delete"))
    assert app.group(item(EMAIL)) != app.group(item(EMAIL, number=2))
    assert (app.weight(item(IDFA, GAID, EMAIL)), app.weight(item(EMAIL))) == (2, 1)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ([item(EMAIL)], "no-usable-identifier"),
        ([item(IDFA), item(EMAIL, number=2)], "no-usable-identifier"),
        ([item(Identifier("idfa", "00000000-0000-0000-0000-000000000000"))], "no-usable-identifier"),
        ([item(IDFA, account="elsewhere")], "no-id"),
    ],
)
def test_what_cannot_be_said_here_is_refused(asked: list[Item], reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}$"):
        desk().request(asked, 0)


def test_the_same_items_have_the_same_trace_and_it_names_nobody() -> None:
    app, two = desk(), [item(IDFA), item(GAID, number=2)]

    first, again, other = (json.loads(app.request(asked, at).body) for asked, at in ((two, 0), (two, 9), (two[:1], 0)))
    [one, _] = app.verdict(two, failed())

    assert first["DataLoadTraceId"] == again["DataLoadTraceId"] == one.reference != other["DataLoadTraceId"]


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (failed(), [("accepted", ""), ("accepted", ""), ("accepted", "")]),
        (answer({"FailedLines": None}), [("accepted", ""), ("accepted", ""), ("accepted", "")]),
        (answer({}), [("accepted", ""), ("accepted", ""), ("accepted", "")]),
        (
            failed(("1", "InvalidUserId")),
            [("sent", "invalid-user-id-partial"), ("accepted", ""), ("none", "invalid-user-id")],
        ),
        (
            failed(("3", "ItemDeserializationError"), ("2", "InvalidUserId")),
            [("sent", "invalid-user-id-partial"), ("none", "invalid-user-id"), ("accepted", "")],
        ),
    ],
)
def test_a_line_that_failed_concerns_everybody_who_has_it_and_nobody_else(
    response: HttpResponse, wanted: list[tuple[str, str]]
) -> None:
    asked = [item(IDFA, GAID), item(OTHER, number=2), item(IDFA, number=3)]  # lines: IDFA, GAID, OTHER
    if wanted[1][0] == "none":
        asked = [item(IDFA, GAID), item(OTHER, GAID, number=2), item(IDFA, number=3)]

    outcomes = desk().verdict(asked, response)

    assert [(each.grade.name, each.reason) for each in outcomes] == wanted


@pytest.mark.parametrize(
    ("response", "several", "wanted"),
    [
        (failed(("1", "Unknown")), True, Split("line-unknown")),
        (failed(("1", "Unknown")), False, Retry("line-unknown")),
        (failed(("1", SHOWN)), False, Retry("line-unknown")),
        (failed(("1", "Uid2Error")), False, Retry("line-uid2-error")),
        (failed(("1", "InvalidUserId"), ("1", "Unknown")), False, Retry("line-unknown")),
        (failed(("1", "Unknown"), ("1", "InvalidUserId")), False, Retry("line-unknown")),
        (failed(("0", "InvalidUserId")), True, Split("failed-line")),
        (failed((None, "InvalidUserId")), True, Split("failed-line")),
        (failed(("7", "InvalidUserId")), True, Split("failed-line")),
        (answer({"FailedLines": ["odd"]}), True, Split("failed-line")),
        (answer({"FailedLines": "taro"}), True, Retry("unreadable-answer")),
        (answer({"Error": "taro"}), True, Retry("unreadable-answer")),
        (answer([]), True, Retry("unreadable-answer")),
        (failed(("1", "InvalidUserId"), status=400), True, Split("http-400", perhaps=False)),
        (failed(status=400), False, Rejected("http-400")),
        (answer("no", 401), True, Retry("auth", 900.0, perhaps=False)),
        (answer("no", 403), True, Retry("forbidden", 900.0, perhaps=False)),
        (answer("no", 413), True, Split("too-large", perhaps=False)),
        (answer("no", 413), False, Rejected("too-large")),
        (answer({}, 429, **{"retry-after": "9"}), True, Retry("throttled", 9.0, perhaps=False)),
        (answer("", 500), True, Retry("http-500")),
        (answer("", 503), True, Retry("http-503")),
        (answer("", 204), True, Retry("unreadable-answer")),
    ],
)
def test_every_other_answer(response: HttpResponse, several: bool, wanted: TodokeError) -> None:
    asked = [item(IDFA), *([item(GAID, number=2)] if several else [])]

    with pytest.raises(TodokeError) as raised:
        desk().verdict(asked, response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


def test_of_a_single_item_a_line_that_cannot_be_told_is_never_surely_nothing() -> None:
    [outcome] = desk().verdict([item(IDFA)], failed(("2", "InvalidUserId")))

    assert (outcome.grade, outcome.reason) == (Evidence.sent, "failed-line-partial")


@asynccontextmanager
async def emulated(**options: str) -> AsyncIterator[tuple[str, Exchange]]:
    async with (
        emulating("the_trade_desk", TOKEN.reveal(), lambda: NOW, options=options) as address,
        Sender([authority(address)]) as sender,
    ):
        yield address, Exchange(desk(base_url=address), sender, 5)


async def test_lines_are_told_apart_in_any_order() -> None:
    """A UUID of a wrong length can't leave the connector, so the emulator's own check is asked by hand."""
    async with emulated() as (address, exchange), aiohttp.ClientSession() as session:
        lines = [{"DAID": SHOWN}, {"DAID": "odd"}, {"TDID": "odd"}, {"Email": "x"}]
        body = {"AdvertiserId": "a", "Items": lines, "RequestType": "Deletion"}
        headers = {"ttd-auth": TOKEN.reveal()}
        await session.post(f"{address}/_emulator/faults", json={"kind": "wrong-order", "times": 1})
        async with session.post(f"{address}/data/deletion-optout/advertiser", json=body, headers=headers) as response:
            told = (await response.json())["FailedLines"]
        outcomes = exchange.connector.verdict(
            [item(IDFA), item(GAID, number=2), item(OTHER, number=3)], answer({"FailedLines": told[1:]})
        )

    assert [(each["ItemNumber"], each["ErrorCode"]) for each in told] == [
        ("4", "ItemDeserializationError"),
        ("3", "InvalidUserId"),
        ("2", "InvalidUserId"),
    ]
    assert [each.grade.name for each in outcomes] == ["accepted", "none", "none"]


async def test_a_request_that_is_too_large_is_halved_until_it_fits() -> None:
    async with emulated(largest="250") as (_, exchange):
        many = [item(GAID), item(OTHER, number=2), item(IDFA, number=3)]
        with pytest.raises(Split, match=r"^too-large$"):
            await exchange.call(many, lambda: NOW)
        [outcome] = await exchange.call(many[:1], lambda: NOW)

    assert outcome.grade == Evidence.accepted


async def test_an_advertiser_that_is_not_set_up_is_refused() -> None:
    async with emulated(holders="other") as (_, exchange):
        with pytest.raises(Rejected, match=r"^http-400$"):
            await exchange.call([item(IDFA)], lambda: NOW)


def test_the_entry_must_have_an_id_for_each_account_and_only_what_its_holder_knows() -> None:
    ids = {"main": {"id": "x/y", "brand_id": "b"}, "old": {"id": "1"}}
    accounts = (Account(name="main", scopes=("ads",)), Account(name="shop", scopes=("ads",)))
    broken = replace(partner("the_trade_desk", holder="merchant", ids=ids), accounts=accounts)
    asked = replace(partner("the_trade_desk"), grants=True)

    assert [each.split(";")[0] for each in check(broken)] == [
        "settings.ids: account shop has none",
        "settings.ids: old is no account of this partner",
        "settings.ids.main.id: not an id",
        "settings.ids.main.brand_id: only a data provider has brands",
    ]
    beside = {"main": {"id": "p", "data_provider_id": "p"}}
    assert [each.split(":")[0] for each in check(partner("the_trade_desk", holder="thirdparty", ids=beside))] == [
        "settings.ids.main.data_provider_id"
    ]
    assert [each.split(":")[0] for each in check(asked)] == ["deadline_hours.grant"]
    [more] = check(replace(partner("the_trade_desk"), identifiers=("email", "idfa")))
    assert more == "identifiers: email can't be said with device ids alone; drop it, or make it a partner of its own"
