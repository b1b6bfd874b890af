"""Google Data Manager: who is named in a call, what each answer and each state means, and what becomes of it in time."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from tests.contracts.rows.google_data_manager import ACCOUNT, ADS, VIDEO
from todoke.schemas.errors import Expired, Misconfigured, Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.google_data_manager import MOST_MEMBERS, GoogleAudiences
from todoke.sinks.emulators import Place, emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
KEY = Secret(json.dumps(ACCOUNT))
EMAIL = Identifier("email", "Taro.Yamada@example.com")
PHONE = Identifier("phone", "090-1234-5678")
IDFA = Identifier("idfa", "6d92078a-8246-4ba4-ae5b-76104861e7dc")
BOTH = {"main": [ADS, VIDEO]}


def google(
    limit: int = 10_000_000, kinds: tuple[IdentifierKind, ...] = ("email", "phone"), **settings: Any
) -> GoogleAudiences:
    entry = partner("google_data_manager", **settings)
    entry = replace(entry, identifiers=kinds, limits=Limits(items=MOST_MEMBERS, bytes=limit))
    built = build(entry, {"service_account": KEY})
    assert isinstance(built, GoogleAudiences)
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


def error(status: int, *reasons: str, whole: str = "INVALID_ARGUMENT", quota: str = "", **headers: str) -> HttpResponse:
    violations = [{"field": "taro@example.com", "description": "taro", "reason": reason} for reason in reasons]
    info = {"reason": whole, "domain": "datamanager.googleapis.com", "metadata": {"quota_limit": quota}}
    details = [info, {"fieldViolations": violations}, "odd"]
    return answer(
        {"error": {"code": status, "message": "taro", "status": whole, "details": details}}, status, **headers
    )


def states(*told: str, reason: str = "") -> HttpResponse:
    errors = {"errorInfo": {"errorCounts": [{"recordCount": "1", "reason": reason}]}} if reason else {}
    return answer({"requestStatusPerDestination": [{"requestStatus": each, **errors} for each in told]})


def members(app: GoogleAudiences, *items: Item) -> list[Any]:
    found = json.loads(app.request(items, 0).body)["audienceMembers"]
    assert isinstance(found, list)
    return found


def test_each_identifier_is_a_member_and_nobody_is_one_twice() -> None:
    named = members(google(), item(EMAIL, PHONE), item(EMAIL, IDFA, number=2))

    assert [each["userData"]["userIdentifiers"] for each in named] == [
        [{"emailAddress": "b6ebd83922edfa96b0ff9166a958badcc230dd68d2315ddfea22f20eaf05994a"}],
        [{"phoneNumber": "3d06a39d40790f11761295e053029378ae28c4b4f6f301693005e079f3d4ca64"}],
    ]


def test_an_older_form_of_an_address_is_taken_out_and_never_put_in() -> None:
    app = google(older_email_forms=True)
    shopper = Identifier("email", "A.B+c@gmail.com")

    assert [len(members(app, item(shopper, verb=verb))) for verb in ("withdraw", "grant")] == [3, 1]
    assert len(members(app, item(EMAIL))) == 1
    assert app.weight(item(shopper, PHONE)) == 4


def test_data_of_another_kind_than_the_audience_takes_is_left_out() -> None:
    app = google(kinds=("idfa",), data="idfa")

    assert members(app, item(EMAIL, IDFA)) == [{"mobileData": {"mobileIds": ["6D92078A-8246-4BA4-AE5B-76104861E7DC"]}}]
    assert app.group(item(EMAIL)) != app.group(item(EMAIL, number=2))
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        app.request([item(IDFA), item(EMAIL, number=2)], 0)
    with pytest.raises(Rejected, match=r"^no-audience$"):
        google().request([item(EMAIL, account="elsewhere")], 0)


def test_restrictions_share_a_call_and_a_grant_says_what_google_asks_of_it() -> None:
    app = google(dma_consent=True)
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "delete", "grant")

    groups = [app.group(item(EMAIL, verb=verb)) for verb in verbs]
    granted = json.loads(app.request([item(EMAIL, verb="grant")], 0).body)

    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert granted["termsOfService"] == {"customerMatchTermsOfServiceStatus": "ACCEPTED"}
    assert granted["consent"] == {"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_GRANTED"}
    assert "consent" not in json.loads(google().request([item(EMAIL, verb="grant")], 0).body)
    assert not {"termsOfService", "consent"} & set(json.loads(app.request([item(EMAIL)], 0).body))


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    crowd = item(*(Identifier("email", f"p{number}@example.jp") for number in range(MOST_MEMBERS + 1)))

    for app, asked in ((google(), crowd), (google(100), item(EMAIL))):
        with pytest.raises(Split) as raised:
            app.request([asked], 0)
        assert raised.value.perhaps is False


def test_a_request_that_was_taken_is_accepted_under_its_id() -> None:
    two = [item(EMAIL), item(PHONE, number=2)]

    assert (
        google(audiences=BOTH).verdict(two, answer({"requestId": "AB-1"}))
        == [Outcome(grade=Evidence.accepted, reference="2:AB-1")] * 2
    )
    bodies: list[Any] = [{}, {"requestId": 7}, {"requestId": "taro@example.com"}, []]
    for body in bodies:
        with pytest.raises(Retry, match=r"^unreadable-answer$"):
            google().verdict(two, answer(body))


@pytest.mark.parametrize(
    ("response", "several", "wanted"),
    [
        (error(400, "INVALID_SHA256_FORMAT"), True, Split("invalid-sha256-format", perhaps=False)),
        (error(400, "INVALID_SHA256_FORMAT"), False, Rejected("invalid-sha256-format")),
        (error(400), False, Rejected("invalid-argument")),
        (error(400, "taro@example.com"), False, Rejected("invalid-argument")),
        (
            error(400, "INVALID_FORMAT", "INVALID_USER_LIST_ID"),
            True,
            Retry("invalid-user-list-id", 900.0, perhaps=False),
        ),
        (error(403, whole="PERMISSION_DENIED"), True, Retry("permission-denied", 900.0, perhaps=False)),
        (error(403, whole="SERVICE_DISABLED"), True, Retry("service-disabled", 900.0, perhaps=False)),
        (answer("taro", 404), True, Retry("http-404", 900.0, perhaps=False)),
        (error(401, whole="UNAUTHENTICATED"), True, Expired()),
        (
            error(429, quota="IngestionMutateRequestsPerMinutePerProject"),
            True,
            Retry("quota-minute", 60.0, perhaps=False),
        ),
        (error(429, quota="XPerMinuteY", **{"retry-after": "7"}), True, Retry("quota-minute", 7.0, perhaps=False)),
        (error(429, quota="XPerDayY"), True, Retry("quota-day", 3600.0, perhaps=False)),
        (
            error(429, quota="XPerDayY", date="Mon, 23 Nov 2026 07:59:00 GMT"),
            True,
            Retry("quota-day", 60.0, perhaps=False),
        ),
        (
            error(429, quota="XPerDayY", date="Mon, 23 Nov 2026 08:00:00 GMT"),
            True,
            Retry("quota-day", 86_400.0, perhaps=False),
        ),
        (error(503, whole="UNAVAILABLE"), True, Retry("http-503")),
        (answer({"error": "taro"}, 500), False, Retry("http-500")),
    ],
)
def test_every_other_answer(response: HttpResponse, several: bool, wanted: TodokeError) -> None:
    asked = [item(EMAIL), *([item(PHONE, number=2)] if several else [])]

    with pytest.raises(TodokeError) as raised:
        google().verdict(asked, response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (states("SUCCESS", "SUCCESS"), (Evidence.processed, "")),
        (states("SUCCESS", "PROCESSING"), None),
        (states("FAILED", "REQUEST_STATUS_UNKNOWN"), None),
        (states("SUCCESS", "SOMETHING_NEW"), None),
        (states("FAILED", "FAILED"), (Evidence.none, "failed")),
        (
            states("FAILED", "FAILED", reason="PROCESSING_ERROR_REASON_INTERNAL_ERROR"),
            (Evidence.none, "internal-error"),
        ),
        (states("SUCCESS", "FAILED", reason="taro@example.com"), (Evidence.sent, "partial-success")),
        (states("PARTIAL_SUCCESS", "SUCCESS"), (Evidence.sent, "partial-success")),
        (states("PARTIAL_SUCCESS", "FAILED"), (Evidence.sent, "partial-success")),
    ],
)
def test_the_states_of_the_destinations(response: HttpResponse, wanted: tuple[Evidence, str] | None) -> None:
    polls = google(audiences=BOTH).polls
    assert polls is not None

    [told] = polls.read(["2:AB-1"], response)

    assert (told and (told.grade, told.reason)) == wanted


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (states("SUCCESS"), "unreadable-answer"),
        (states(), "unreadable-answer"),
        (answer({}), "unreadable-answer"),
        (error(404, whole="NOT_FOUND"), "not-found"),
        (error(400), "status-not-told"),
        (error(429), "quota-minute"),
        (error(500), "http-500"),
    ],
)
def test_a_question_without_an_answer_is_asked_again(response: HttpResponse, reason: str) -> None:
    polls = google().polls
    assert polls is not None

    with pytest.raises(Retry, match=f"^{reason}$"):
        polls.read(["2:AB-1"], response)


def test_a_question_waits_as_long_as_the_settings_say_and_its_id_is_percent_encoded() -> None:
    polls = google(poll_first_minutes=1, poll_every_minutes=2, poll_ends_hours=3).polls
    assert polls is not None

    assert (polls.first_ms, polls.every_ms, polls.ends_ms, polls.most) == (60_000, 120_000, 10_800_000, 1)
    assert polls.ask(["1:A/B+="], 0).url.endswith("/v1/requestStatus:retrieve?requestId=A%2FB%2B%3D")


@asynccontextmanager
async def emulated(
    options: Mapping[str, str] | None = None, journal: Path | None = None, **settings: Any
) -> AsyncIterator[tuple[str, Exchange]]:
    place = Place(journal=journal)
    async with (
        emulating("google_data_manager", KEY.reveal(), lambda: NOW, options=options, place=place) as address,
        Sender([authority(address)]) as sender,
    ):
        yield address, Exchange(google(base_url=address, token_url=f"{address}/token", **settings), sender, 5)


async def faults(address: str, *kinds: str) -> None:
    async with aiohttp.ClientSession() as session:
        given = [{"kind": kind, "times": 1} for kind in kinds]
        async with session.post(f"{address}/_emulator/faults", json=given) as response:
            assert response.status == 200, await response.text()


async def shown(address: str, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/_emulator/{path}") as response:
        return await response.json()


async def test_a_removal_is_accepted_then_under_way_then_processed() -> None:
    async with emulated({"pending": "2"}, audiences=BOTH) as (_, exchange):
        [taken] = await exchange.call([item(EMAIL)], lambda: NOW)
        told = [(await exchange.ask([taken.reference], lambda: NOW))[0] for _ in range(3)]

    assert taken.grade == Evidence.accepted
    assert [each and each.grade for each in told] == [None, None, Evidence.processed]


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [("late-failure", (Evidence.none, "internal-error")), ("partial", (Evidence.sent, "internal-error"))],
)
async def test_a_failure_comes_late(fault: str, wanted: tuple[Evidence, str]) -> None:
    async with emulated(audiences=BOTH) as (address, exchange):
        await faults(address, fault)
        outcomes = await exchange.call([item(EMAIL), item(PHONE, number=2)], lambda: NOW)
        [told] = await exchange.ask([outcomes[0].reference], lambda: NOW)

    assert [each.grade for each in outcomes] == [Evidence.accepted] * 2
    assert told is not None
    assert (told.grade, told.reason) == wanted


async def test_what_became_of_a_call_is_known_after_both_have_restarted(tmp_path: Path) -> None:
    async with emulated(journal=tmp_path / "journal", audiences=BOTH) as (_, exchange):
        [taken] = await exchange.call([item(EMAIL)], lambda: NOW)

    async with emulated(journal=tmp_path / "journal", audiences=BOTH) as (_, exchange):
        [told] = await exchange.ask([taken.reference], lambda: NOW)

    assert told is not None
    assert told.grade == Evidence.processed


async def test_one_token_serves_until_it_is_refused_and_another_is_got_once() -> None:
    async with emulated() as (address, exchange):
        await exchange.call([item(EMAIL)], lambda: NOW)
        await exchange.call([item(PHONE)], lambda: NOW)
        await faults(address, "expired")
        [outcome] = await exchange.call([item(EMAIL)], lambda: NOW)
        counts = await shown(address, "calls")

    assert outcome.grade == Evidence.accepted
    assert (counts["tokens"], counts["total"]) == (2, 4)


@pytest.mark.parametrize("at", [NOW - 7_200_000, NOW + 7_200_000])
async def test_an_assertion_from_another_time_is_refused_by_the_emulator(at: int) -> None:
    async with emulated() as (_, exchange):
        with pytest.raises(Retry, match=r"^token-invalid-grant$"):
            await exchange.call([item(EMAIL)], lambda: at)


async def test_a_refresh_token_serves_as_well() -> None:
    secrets = {"client_secret": Secret("client-secret"), "refresh_token": Secret("1//refresh")}
    options = {"refresh_token": "1//refresh"}
    async with (
        emulating("google_data_manager", "client-secret", lambda: NOW, options=options) as address,
        Sender([authority(address)]) as sender,
    ):
        entry = partner("google_data_manager", base_url=address, token_url=f"{address}/token", client_id="c")
        entry = replace(entry, secrets=dict.fromkeys(secrets, "env:X"))
        [outcome] = await Exchange(build(entry, secrets), sender, 5).call([item(EMAIL)], lambda: NOW)

    assert outcome.grade == Evidence.accepted


async def test_the_probe_changes_nothing_and_finds_an_audience_that_is_not_there() -> None:
    async with emulated({"audiences": "7001"}) as (address, exchange):
        await exchange.probe(lambda: NOW)
        assert (await shown(address, "state"))["last"] == {}

    async with emulated({"audiences": "7001"}, audiences=BOTH) as (_, exchange):
        with pytest.raises(Retry, match=r"^invalid-user-list-id$"):
            await exchange.probe(lambda: NOW)


def test_the_entry_says_how_the_token_is_got_and_where_people_are() -> None:
    entry = partner("google_data_manager")
    shop = [{"account_id": "1-2", "audience": "x", "account_type": "ads"}]
    broken = replace(
        partner("google_data_manager", audiences={"shop": shop, "old": []}, data="gaid", terms_accepted=False),
        accounts=(Account(name="main", scopes=("ads",)), Account(name="shop", scopes=("ads",))),
        identifiers=("email", "gaid"),
        limits=Limits(items=10_001),
    )

    assert [each.split(";")[0] for each in check(broken)] == [
        "settings.audiences: account main has none",
        "settings.audiences: old is no account of this partner",
        "settings.audiences.old: 0 destinations",
        "settings.audiences.shop[0].account_id: not a number",
        "settings.audiences.shop[0].audience: not a number",
        "settings.audiences.shop[0].account_type: not a type of account",
        "identifiers: email can't be said with data = gaid",
        "settings.terms_accepted: false",
        "limits.items: 10001",
    ]
    both = replace(entry, secrets={**entry.secrets, "refresh_token": "env:R"})
    half = replace(entry, secrets={"refresh_token": "env:R"})
    assert check(both) == ["secrets.refresh_token: not needed with a service account; drop one of the two"]
    assert [each.split(":")[0] for each in check(half)] == ["secrets.client_secret", "settings.client_id"]
    with pytest.raises(Misconfigured, match=r"secrets\.service_account: not the JSON key file"):
        build(entry, {"service_account": Secret("{}")})
