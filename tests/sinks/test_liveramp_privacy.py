"""LiveRamp's Privacy API: one identifier a request, a repeat that is the same request, and what becomes of it."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest

from tests.contracts.rows import AT, EMAIL, GAID, HANAKO, IDFA, item, partner
from todoke.schemas.errors import Expired, Rejected, Retry, TodokeError
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Outcome
from todoke.sinks.connectors import check
from todoke.sinks.connectors.liveramp_privacy import Config, LiveRampPrivacy
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

UUID = "456e7890-f12b-34c5-d678-901234567890"


def now() -> int:
    return int(time.time() * 1000)


def liveramp(**settings: Any) -> LiveRampPrivacy:
    return LiveRampPrivacy(Config(organization="ORG-1", account_id="account", **settings), Secret("key"))


def answer(body: Any, status: int = 201, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=json.dumps(body).encode())


def taken(status: Any = "ACCEPTED", *, duplicate: bool = False, uuid: Any = UUID) -> HttpResponse:
    body = {"request_uuid": uuid, "status": status, "message": "taro@example.com", "is_duplicate": duplicate}
    return answer(body, 200 if duplicate else 201)


@asynccontextmanager
async def serving(organization: str) -> AsyncIterator[tuple[str, Exchange]]:
    options = {"organization": organization}
    async with (
        emulating("liveramp_privacy", "key", now, options=options) as address,
        Sender([authority(address)]) as sender,
    ):
        built = liveramp(base_url=address, token_url=f"{address}/authn/v1/oauth2/token")
        yield address, Exchange(built, sender, 2)


@pytest.fixture
async def vendor() -> AsyncIterator[tuple[str, Exchange]]:
    async with serving("ORG-1") as served:
        yield served


async def strike(address: str, kind: str) -> None:
    fault = {"kind": kind, "times": 1}
    async with aiohttp.ClientSession() as session, session.post(f"{address}/_emulator/faults", json=fault) as response:
        assert response.status == 200


async def test_a_request_is_accepted_then_processed_and_a_repeat_has_its_uuid(vendor: tuple[str, Exchange]) -> None:
    [first] = await vendor[1].call([item("withdraw", EMAIL)], now)
    [again] = await vendor[1].call([item("withdraw", EMAIL)], now)

    assert first == again
    assert first.grade == Evidence.accepted
    [settled] = await vendor[1].ask([first.reference], now)
    assert settled == Outcome(grade=Evidence.processed, reference=first.reference)


async def test_a_deletion_and_an_opt_out_are_two_requests(vendor: tuple[str, Exchange]) -> None:
    verbs: tuple[Verb, ...] = ("withdraw", "delete")

    references = [(await vendor[1].call([item(verb, EMAIL)], now))[0].reference for verb in verbs]

    assert len(set(references)) == 2


async def test_a_deletion_that_was_done_before_is_looked_at_by_a_person(vendor: tuple[str, Exchange]) -> None:
    await vendor[1].call([item("delete", EMAIL)], now)

    [again] = await vendor[1].call([item("delete", EMAIL)], now)

    assert (again.grade, again.reason) == (Evidence.sent, "deleted-before")


async def test_a_late_failure_an_unknown_request_and_another_ones_answer(vendor: tuple[str, Exchange]) -> None:
    address, exchange = vendor
    [told] = await exchange.call([item("withdraw", EMAIL)], now)

    await strike(address, "other-request")
    with pytest.raises(Retry, match=r"^answer-of-something-else$"):
        await exchange.ask([told.reference], now)
    await strike(address, "late-failure")
    [failed] = await exchange.ask([told.reference], now)
    [unknown] = await exchange.ask([UUID], now)

    assert failed == Outcome(grade=Evidence.sent, reference=told.reference, reason="request-failed")
    assert unknown == Outcome(grade=Evidence.none, reference=UUID, reason="request-unknown")


async def test_an_organization_without_the_right_gives_up_nobodys_stop() -> None:
    async with serving("OTHER") as (_, exchange):
        with pytest.raises(Retry) as raised:
            await exchange.call([item("withdraw", EMAIL)], now)

    assert (raised.value.reason, raised.value.after, raised.value.perhaps) == ("auth", 900.0, False)


def test_the_token_is_asked_for_by_password() -> None:
    access = liveramp().access
    assert access
    request = access.ask(AT)

    assert request.url == "https://serviceaccounts.liveramp.com/authn/v1/oauth2/token"
    assert {name: values[0] for name, values in parse_qs(request.body.decode()).items()} == {
        "grant_type": "password",
        "client_id": "liveramp-api",
        "scope": "openid",
        "username": "account",
        "password": "key",
    }


def test_of_two_addresses_the_first_is_told_and_a_person_sees_it() -> None:
    asked = item("withdraw", HANAKO, EMAIL, HANAKO)

    assert json.loads(liveramp().request([asked], AT).body) == {"request_type": "OPT_OUT", "email": "hanako@example.jp"}
    [outcome] = liveramp().verdict([asked], taken())
    assert outcome == Outcome(grade=Evidence.sent, reference=UUID, reason="identifiers-left-out")


@pytest.mark.parametrize(
    ("verb", "response", "settings", "wanted"),
    [
        ("delete", taken(), {}, Outcome(grade=Evidence.accepted, reference=UUID)),
        ("delete", taken("PROCESSING", duplicate=True), {}, Outcome(grade=Evidence.accepted, reference=UUID)),
        ("withdraw", taken("COMPLETED", duplicate=True), {}, Outcome(grade=Evidence.accepted, reference=UUID)),
        ("delete", taken("COMPLETED"), {}, Outcome(grade=Evidence.accepted, reference=UUID)),
        (
            "delete",
            taken("COMPLETED", duplicate=True),
            {},
            Outcome(grade=Evidence.sent, reference=UUID, reason="deleted-before"),
        ),
        (
            "delete",
            taken("COMPLETED", duplicate=True),
            {"old_deletions_count": True},
            Outcome(grade=Evidence.accepted, reference=UUID),
        ),
        ("delete", taken("FAILED"), {}, Outcome(grade=Evidence.sent, reference=UUID, reason="request-failed")),
    ],
)
def test_what_is_taken(verb: Verb, response: HttpResponse, settings: dict[str, Any], wanted: Outcome) -> None:
    assert liveramp(**settings).verdict([item(verb, EMAIL)], response) == [wanted]


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (taken(uuid="taro@example.com"), Retry("unreadable-answer")),
        (taken(uuid=None), Retry("unreadable-answer")),
        (taken("DONE"), Retry("unreadable-answer")),
        (answer({"message": "taro@example.com"}, 422), Rejected("http-422")),
        (answer({}, 400), Rejected("http-400")),
        (answer({}, 401), Expired("auth", 900.0)),
        (answer({}, 403), Expired("auth", 900.0)),
        (answer({}, 429, **{"retry-after": "7"}), Retry("http-429", 7.0, perhaps=False)),
        (answer({}, 504), Retry("http-504")),
    ],
)
def test_every_other_answer(response: HttpResponse, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        liveramp().verdict([item("delete", EMAIL)], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


@pytest.mark.parametrize("status", ["ACCEPTED", "PROCESSING"])
def test_what_is_under_way_is_asked_about_again(status: str) -> None:
    polls = liveramp().polls
    assert polls

    assert polls.read([UUID], answer({"privacy_request": {"request_uuid": UUID, "status": status}}, 200)) == [None]
    with pytest.raises(Retry, match=r"^unreadable-answer$"):
        polls.read([UUID], answer({"privacy_request": {"request_uuid": UUID, "status": "?"}}, 200))
    with pytest.raises(Expired):
        polls.read([UUID], answer({}, 401))
    assert polls.ask(["a&status=COMPLETED"], AT).url.endswith("/v1/requests?uuid=a%26status%3DCOMPLETED")


def test_an_entry_has_one_kind_of_identifier() -> None:
    assert check(partner("liveramp_privacy", data="idfa", organization="")) == [
        "settings.organization: not an id; copy it from the file that LiveRamp gave you",
        "identifiers: email can't be said with data = idfa; drop it, or make it a partner of its own",
    ]
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        liveramp().request([item("delete", IDFA, GAID)], AT)
