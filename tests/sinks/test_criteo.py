"""Criteo: what goes into an amendment, and what each answer means."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from todoke.schemas.errors import Expired, Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.criteo import MOST_IDENTIFIERS, CriteoSegments
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
SECRET = Secret("client-secret-of-nobody")
EMAIL = Identifier("email", "Taro.Yamada@example.com")
HANAKO = Identifier("email", "hanako@example.jp")
HASH = "b6ebd83922edfa96b0ff9166a958badcc230dd68d2315ddfea22f20eaf05994a"
IDFA = Identifier("idfa", "6D92078A-8246-4BA4-AE5B-76104861E7DC")


def criteo(limit: int = 10_000_000, kinds: tuple[IdentifierKind, ...] = ("email",), **settings: Any) -> CriteoSegments:
    entry = partner("criteo", **settings)
    entry = replace(entry, identifiers=kinds, limits=Limits(items=MOST_IDENTIFIERS, bytes=limit))
    built = build(entry, {"client_secret": SECRET})
    assert isinstance(built, CriteoSegments)
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


def taken(valid: Any = 1, invalid: Any = 0, operation: str = "remove", errors: Any = ()) -> HttpResponse:
    attributes = {"operation": operation, "nbValidIdentifiers": valid, "nbInvalidIdentifiers": invalid}
    attributes["sampleInvalidIdentifiers"] = ["taro@example.com"]
    return answer({"data": {"type": "ContactlistAmendment", "attributes": attributes}, "errors": list(errors)})


def fault(kind: str, code: Any, status: int = 400, **headers: str) -> HttpResponse:
    described = {"type": kind, "code": code, "title": "taro@example.com", "detail": "taro"}
    return answer({"errors": [described, described], "warnings": []}, status, **headers)


def attributes(app: CriteoSegments, *items: Item) -> Any:
    return json.loads(app.request(items, 0).body)["data"]["attributes"]


def test_identifiers_of_the_segments_type_are_named_once() -> None:
    devices = criteo(kinds=("idfa",), identifier_type="madid")

    assert attributes(criteo(), item(EMAIL, IDFA), item(EMAIL, HANAKO, number=2)) == {
        "operation": "remove",
        "identifierType": "email",
        "identifiers": [HASH, "3aed607c43ded66fdc13201d8cfda8768e0da363a85458eb3d78d15c12bffbc8"],
    }
    assert attributes(devices, item(EMAIL, IDFA, verb="grant")) == {
        "operation": "add",
        "identifierType": "madid",
        "identifiers": ["6d92078a-8246-4ba4-ae5b-76104861e7dc"],
    }


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("plain", "taro.yamada@example.com"),
        ("md5", "e38d570fb835e18f80a5d8ae95a184dd"),
        ("sha256", HASH),
        ("sha256-of-md5", "3c16124b8cb53b14fe43d86b00146cf6503f6dfc6414e99febb7dfe080381e3e"),
    ],
)
def test_an_address_goes_in_the_form_that_is_set(form: str, wanted: str) -> None:
    assert attributes(criteo(email_form=form), item(EMAIL))["identifiers"] == [wanted]


def test_restrictions_of_one_account_share_a_call_and_grants_do_not() -> None:
    app = criteo()
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "delete", "grant")

    groups = [app.group(item(EMAIL, verb=verb)) for verb in verbs]

    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert app.group(item(IDFA)) != app.group(item(IDFA, number=2))
    url = "https://api.criteo.com/2027-01/marketing-solutions/audience-segments/314195/contact-list"
    assert criteo(api_version="2027-01").request([item(EMAIL)], 0).url == url


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ([item(IDFA)], "no-usable-identifier"),
        ([item(EMAIL), item(IDFA, number=2)], "no-usable-identifier"),
        ([item(Identifier("email", "taro"))], "no-usable-identifier"),
        ([item(EMAIL, account="elsewhere")], "no-segment"),
    ],
)
def test_what_cannot_be_said_here_is_refused(asked: list[Item], reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}$"):
        criteo().request(asked, 0)


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    crowd = item(*(Identifier("email", f"p{number}@example.jp") for number in range(MOST_IDENTIFIERS + 1)))

    assert criteo().weight(crowd) == MOST_IDENTIFIERS + 1
    assert (criteo().weight(item(EMAIL, IDFA)), criteo().weight(item(IDFA))) == (1, 1)
    for app, asked in ((criteo(), crowd), (criteo(100), item(EMAIL))):
        with pytest.raises(Split) as raised:
            app.request([asked], 0)
        assert raised.value.perhaps is False


def test_counts_decide() -> None:
    app, one, two = criteo(), [item(EMAIL)], [item(EMAIL), item(HANAKO, number=2)]

    assert app.verdict(two, taken(2)) == [Outcome(grade=Evidence.accepted)] * 2
    assert app.verdict([item(EMAIL), item(EMAIL, number=2)], taken(1)) == [Outcome(grade=Evidence.accepted)] * 2
    assert app.verdict(one, taken(0, 1)) == [Outcome(grade=Evidence.none, reason="invalid-identifier")]
    partly = app.verdict([item(EMAIL, HANAKO)], taken(1, 1))
    assert partly == [Outcome(grade=Evidence.sent, reason="invalid-identifier-partial")]
    with pytest.raises(Split, match=r"^invalid-identifier$") as raised:
        app.verdict(two, taken(1, 1))
    assert raised.value.perhaps is True


@pytest.mark.parametrize(
    ("response", "several", "wanted"),
    [
        (taken(1), True, Retry("fewer-received")),
        (taken(0), False, Retry("fewer-received")),
        (taken("1"), False, Retry("unreadable-answer")),
        (taken(True), False, Retry("unreadable-answer")),
        (taken(operation="add"), False, Retry("unreadable-answer")),
        (answer({}), False, Retry("unreadable-answer")),
        (answer([]), False, Retry("unreadable-answer")),
        (taken(errors=[{"type": "availability", "code": "internal-error"}]), True, Retry("internal-error")),
        (taken(errors=[{"type": "validation", "code": "odd-identifier"}]), True, Split("odd-identifier")),
        (taken(errors=[{"type": "validation", "code": "Taro@example.com"}]), False, Rejected("unnamed-error")),
        (taken(errors=["taro"]), False, Rejected("unnamed-error")),
        (fault("validation", "model-validation-error"), True, Split("model-validation-error", perhaps=False)),
        (fault("validation", "model-validation-error"), False, Rejected("model-validation-error")),
        (fault("access-control", "authorization-token-expired", 401), True, Expired()),
        (fault("access-control", "user-not-authorized", 403), True, Retry("user-not-authorized", 900.0, perhaps=False)),
        (fault("validation", "audience-invalid", 404), True, Retry("audience-invalid", 900.0, perhaps=False)),
        (answer("gone", 404), False, Retry("http-404", 900.0, perhaps=False)),
        (fault("availability", "internal-error", 500), True, Retry("http-500")),
        (fault("quota", "x", 429), True, Retry("throttled", 60.0, perhaps=False)),
        (fault("quota", "x", 429, **{"retry-after": "5"}), True, Retry("throttled", 5.0, perhaps=False)),
        (
            fault("quota", "x", 429, **{"x-ratelimit-reset": "1628249355", "date": "Fri, 06 Aug 2021 11:29:00 GMT"}),
            True,
            Retry("throttled", 15.0, perhaps=False),
        ),
        (
            fault("quota", "x", 429, **{"x-ratelimit-reset": "9999999999", "date": "Fri, 06 Aug 2021 11:29:00 GMT"}),
            True,
            Retry("throttled", 86_400.0, perhaps=False),
        ),
    ],
)
def test_every_other_answer(response: HttpResponse, several: bool, wanted: TodokeError) -> None:
    asked = [item(EMAIL), *([item(HANAKO, number=2)] if several else [])]

    with pytest.raises(TodokeError) as raised:
        criteo().verdict(asked, response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


@asynccontextmanager
async def emulated(**options: str) -> AsyncIterator[tuple[str, Exchange]]:
    async with (
        emulating("criteo", SECRET.reveal(), lambda: NOW, options=options) as address,
        Sender([authority(address)]) as sender,
    ):
        yield address, Exchange(criteo(base_url=address, token_url=f"{address}/oauth2/token"), sender, 5)


async def test_a_batch_with_a_bad_identifier_is_halved_and_one_token_serves() -> None:
    async with emulated() as (address, exchange), aiohttp.ClientSession() as session:
        await session.post(f"{address}/_emulator/faults", json={"kind": "invalid-rows", "times": 1})
        with pytest.raises(Split):
            await exchange.call([item(EMAIL), item(HANAKO, number=2)], lambda: NOW)
        [outcome] = await exchange.call([item(EMAIL)], lambda: NOW)
        async with session.get(f"{address}/_emulator/calls") as response:
            counts = await response.json()

    assert outcome.grade == Evidence.accepted
    assert (counts["tokens"], counts["total"]) == (1, 2)


async def test_who_was_put_in_is_taken_out() -> None:
    async with emulated() as (address, exchange), aiohttp.ClientSession() as session:
        found = []
        for verb in ("grant", "suspend"):
            await exchange.call([item(EMAIL, verb=verb)], lambda: NOW)
            async with session.get(f"{address}/_emulator/state?identifier={HASH}") as response:
                found.append((await response.json())["segments"])

    assert found == [["314195"], []]


async def test_the_probe_finds_a_segment_that_is_not_there() -> None:
    async with emulated() as (_, exchange):
        await exchange.probe(lambda: NOW)

    async with emulated(segments="7") as (_, exchange):
        with pytest.raises(Retry, match=r"^audience-invalid$"):
            await exchange.probe(lambda: NOW)

    async with emulated(api_version="2027-01") as (_, exchange):
        with pytest.raises(Retry, match=r"^route-not-found$"):
            await exchange.probe(lambda: NOW)


def test_a_probe_that_is_not_answered_with_counts_is_no_success() -> None:
    probe = criteo().probe
    assert probe is not None

    with pytest.raises(Retry, match=r"^unreadable-answer$"):
        probe.read(answer({}))


def test_the_entry_must_have_a_segment_for_each_account_and_no_call_above_criteos_limit() -> None:
    segments = {"main": "a7", "old": "8", "shop": "env:SHOP"}
    broken = replace(
        partner("criteo", segments=segments, identifier_type="madid", api_version="v2026"),
        accounts=(Account(name="main", scopes=("ads",)), Account(name="shop", scopes=("ads",))),
        identifiers=("email", "idfa"),
        limits=Limits(items=MOST_IDENTIFIERS + 1),
    )
    lacking = replace(partner("criteo"), accounts=(Account(name="new", scopes=("ads",)),))

    assert [each.split(";")[0] for each in check(broken)] == [
        "settings.segments: old is no account of this partner",
        "settings.segments.main: not the number of a segment",
        "identifiers: email can't be said with identifier_type = madid",
        "settings.api_version: not a version",
        "limits.items: 50001",
    ]
    assert check(lacking)[0] == "settings.segments: account new has none; give its segment's id"
