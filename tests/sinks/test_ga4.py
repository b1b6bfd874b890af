"""Google Analytics: who is named and how, and which 403 is a quota."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from tests.contracts.rows.google_data_manager import ACCOUNT
from todoke.schemas.errors import Expired, Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.ga4 import AnalyticsDeletions
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
KEY = Secret(json.dumps(ACCOUNT))
TARO = Identifier("member_id", "M-0001")
HANAKO = Identifier("member_id", "M-0002")
COOKIE = Identifier("cookie_id", "1234567890.1700000000")
EMAIL = Identifier("email", "Taro.Yamada+news@Gmail.com")
PHONE = Identifier("phone", "090-1234-5678")


def analytics(kind: IdentifierKind = "member_id", **settings: Any) -> AnalyticsDeletions:
    entry = replace(partner("ga4", data=kind, **settings), identifiers=(kind,))
    built = build(entry, {"service_account": KEY})
    assert isinstance(built, AnalyticsDeletions)
    return built


def item(*identifiers: Identifier, number: int = 1, account: str = "main") -> Item:
    return Item(
        obligation_id=f"o{number}",
        request_id=f"r{number}",
        verb="delete",
        account=account,
        scope="analytics",
        at=0,
        deadline_at=0,
        identifiers=identifiers,
    )


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status=status, headers=found, body=json.dumps(body).encode())


def old(reason: str, status: int = 403, **headers: str) -> HttpResponse:
    errors = [{"domain": "usageLimits", "reason": reason, "message": "M-0001"}, "odd"]
    return answer({"error": {"code": status, "message": "M-0001", "errors": errors}}, status, **headers)


def new(status: int, name: str, reason: str = "M-0001", quota: str = "") -> HttpResponse:
    details = [{"reason": reason, "metadata": {"quota_limit": quota}}, "odd"]
    return answer({"error": {"code": status, "message": "M-0001", "status": name, "details": details}}, status)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("member_id", {"userId": "M-0001"}),
        ("cookie_id", {"clientId": "1234567890.1700000000"}),
        ("email", {"userProvidedData": "taroyamada+news@gmail.com"}),
        ("phone", {"userProvidedData": "+819012345678"}),
    ],
)
def test_one_user_is_named_in_one_way(kind: IdentifierKind, wanted: Mapping[str, str]) -> None:
    asked = analytics(kind).request([item(PHONE, EMAIL, COOKIE, TARO)], 0)

    assert json.loads(asked.body) == wanted
    assert asked.url == "https://analyticsadmin.googleapis.com/v1alpha/properties/123456789:submitUserDeletion"


def test_nobody_shares_a_call() -> None:
    app = analytics()

    assert app.group(item(TARO)) != app.group(item(TARO, number=2))
    with pytest.raises(Split, match=r"^one-a-call$") as raised:
        app.request([item(TARO), item(HANAKO, number=2)], 0)
    assert raised.value.perhaps is False


def test_who_cannot_be_named_is_refused() -> None:
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        analytics().request([item(EMAIL)], 0)
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        analytics("email").request([item(Identifier("email", "no address"))], 0)
    with pytest.raises(Rejected, match=r"^no-property$"):
        analytics().request([item(TARO, account="elsewhere")], 0)


def test_a_request_is_accepted_and_what_was_left_out_is_for_a_person() -> None:
    time = "2026-11-23T09:00:00.123456789Z"
    told = answer({"deletionRequestTime": time})

    assert analytics().verdict([item(TARO, TARO)], told) == [Outcome(grade=Evidence.accepted, reference=time)]
    assert analytics().verdict([item(TARO, HANAKO)], told) == [
        Outcome(grade=Evidence.sent, reference=time, reason="identifiers-left-out")
    ]


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (answer({}), Retry("unreadable-answer")),
        (answer({"deletionRequestTime": "M-0001"}), Retry("unreadable-answer")),
        (answer([]), Retry("unreadable-answer")),
        (old("quotaExceeded"), Retry("quota-day", 3600.0, perhaps=False)),
        (old("dailyLimitExceeded", retry_after="7"), Retry("quota-day", 3600.0, perhaps=False)),
        (old("userRateLimitExceeded"), Retry("quota-minute", 60.0, perhaps=False)),
        (old("rateLimitExceeded", retry_after="90"), Retry("quota-minute", 90.0, perhaps=False)),
        (old("insufficientPermissions"), Retry("http-403", 900.0, perhaps=False)),
        (new(403, "RESOURCE_EXHAUSTED"), Retry("quota-minute", 60.0, perhaps=False)),
        (new(403, "PERMISSION_DENIED"), Retry("permission-denied", 900.0, perhaps=False)),
        (new(403, "PERMISSION_DENIED", "SERVICE_DISABLED"), Retry("service-disabled", 900.0, perhaps=False)),
        (answer("M-0001", 403), Retry("http-403", 900.0, perhaps=False)),
        (new(404, "NOT_FOUND"), Retry("not-found", 900.0, perhaps=False)),
        (new(400, "FAILED_PRECONDITION"), Retry("failed-precondition", 900.0, perhaps=False)),
        (new(400, "INVALID_ARGUMENT"), Rejected("invalid-argument")),
        (new(401, "UNAUTHENTICATED"), Expired()),
        (new(429, "RESOURCE_EXHAUSTED"), Retry("quota-minute", 60.0, perhaps=False)),
        (new(429, "RESOURCE_EXHAUSTED", quota="WritesPerDayPerProject"), Retry("quota-day", 3600.0, perhaps=False)),
        (new(503, "UNAVAILABLE"), Retry("http-503")),
        (answer({}, 302), Rejected("http-302")),
    ],
)
def test_every_other_answer(response: HttpResponse, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        analytics().verdict([item(TARO)], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


def test_what_an_entry_cannot_mean_is_said() -> None:
    entry = replace(
        partner("ga4", properties={"main": "G-ABC", "other": "1"}, api_version="latest"),
        identifiers=("member_id", "email"),
        limits=Limits(items=2),
        secrets={"refresh_token": "env:R"},
    )

    found = "\n".join(check(entry))

    for said in (
        "settings.properties.main: not a number",
        "settings.properties: other is no account",
        "settings.api_version",
        "limits.items: 2",
        "identifiers: email can't be said with data = member_id",
        "secrets.client_secret: missing",
        "settings.client_id: missing",
    ):
        assert said in found
    assert "account main has none" in "\n".join(check(partner("ga4", properties={})))


@asynccontextmanager
async def emulated(options: Mapping[str, str] | None = None, **settings: Any) -> AsyncIterator[tuple[str, Exchange]]:
    async with (
        emulating("ga4", KEY.reveal(), lambda: NOW, options=options) as address,
        Sender([authority(address)]) as sender,
    ):
        app = analytics(base_url=address, token_url=f"{address}/token", **settings)
        yield address, Exchange(app, sender, 5)


async def shown(address: str, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/_emulator/{path}") as response:
        return await response.json()


async def test_a_user_is_deleted_up_to_now_and_one_token_serves_for_many() -> None:
    async with emulated() as (address, exchange):
        [first] = await exchange.call([item(TARO)], lambda: NOW)
        await exchange.call([item(HANAKO, number=2)], lambda: NOW)
        counts, held = await shown(address, "calls"), await shown(address, "state")

    assert first == Outcome(grade=Evidence.accepted, reference="2025-11-24T16:00:00.000Z")
    assert (counts["tokens"], counts["total"], len(held["last"])) == (1, 2, 2)


@pytest.mark.parametrize(("kind", "identifier"), [("email", EMAIL), ("phone", PHONE), ("cookie_id", COOKIE)])
async def test_the_forms_are_those_of_the_reference(kind: IdentifierKind, identifier: Identifier) -> None:
    async with (
        emulating("ga4", KEY.reveal(), lambda: NOW) as address,
        Sender([authority(address)]) as sender,
    ):
        app = analytics(kind, base_url=address, token_url=f"{address}/token")
        [outcome] = await Exchange(app, sender, 5).call([item(identifier)], lambda: NOW)

    assert outcome.grade == Evidence.accepted


async def test_the_probe_changes_nothing_and_finds_a_property_that_is_not_there() -> None:
    async with emulated({"properties": "123456789"}) as (address, exchange):
        await exchange.probe(lambda: NOW)
        assert (await shown(address, "state"))["last"] == {}

    async with emulated({"properties": "1"}) as (_, exchange):
        with pytest.raises(Retry, match=r"^not-found$"):
            await exchange.probe(lambda: NOW)


async def test_a_refresh_token_serves_as_well() -> None:
    secrets = {"client_secret": Secret("client-secret"), "refresh_token": Secret("1//refresh")}
    async with (
        emulating("ga4", "client-secret", lambda: NOW, options={"refresh_token": "1//refresh"}) as address,
        Sender([authority(address)]) as sender,
    ):
        entry = partner("ga4", base_url=address, token_url=f"{address}/token", client_id="c")
        entry = replace(entry, secrets=dict.fromkeys(secrets, "env:X"))
        [outcome] = await Exchange(build(entry, secrets), sender, 5).call([item(TARO)], lambda: NOW)

    assert outcome.grade == Evidence.accepted
