"""What every connector must do whose lists are swapped whole, over the rows that say so: as test_connectors.py for the rest."""

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, GAID, HANAKO, IDFA, MEMBER, PHONE, item, partner, rows
from tests.contracts.test_connectors import identifiers
from tests.golden.connectors.make import cargo, sent
from todoke.schemas.errors import Rejected, Retry, TodokeError
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Account
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpResponse, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority
from todoke.sinks.swaps import Swapped

ROWS = {name: row for name, row in rows().items() if row.way == "swap"}
UPLOAD = {"line_ads": "/upload", "yahoo_japan_ads": "/uploadUserList"}
BODIES = [b"", b"taro.yamada@example.com", b"[]", b"{}", b'{"errors": [{"reason": "taro.yamada"}]}', b"\xff"]

pytestmark = pytest.mark.parametrize("name", list(ROWS))


def connector(name: str, **changed: Any) -> Swapped:
    built = build(partner(name, **changed), ROWS[name].secrets)
    assert isinstance(built, Swapped)
    return built


def now() -> int:
    return int(time.time() * 1000)


@pytest.fixture
async def vendor(name: str) -> AsyncIterator[tuple[str, Swapped, Exchange]]:
    row = ROWS[name]
    async with emulating(name, row.secrets[row.secret].reveal(), now, options=row.options) as address:
        own = {key: address + path for key, path in row.addresses.items()}
        built = connector(name, **row.extra, **own)
        async with Sender([authority(address)]) as sender:
            yield address, built, Exchange(built, sender, 0.4)


async def control(address: str, path: str, faults: Any = None) -> Any:
    async with aiohttp.ClientSession() as session:
        method = "GET" if faults is None else "POST"
        async with session.request(method, f"{address}/_emulator/{path}", json=faults) as response:
            assert response.status == 200, await response.text()
            return await response.json()


async def swapped(built: Swapped, exchange: Exchange, *people: Identifier) -> tuple[str, Outcome]:
    """Swap the list as `streams/swaps.py` does: ask, upload."""
    asked = built.before("main", now())
    reference: str = (
        built.reference("main", None)
        if asked is None
        else await exchange.put(lambda: asked, lambda answer: built.reference("main", answer), now, None)
    )
    listed = cargo(built, people)
    outcome: Outcome = await exchange.put(
        lambda: built.upload("main", listed, now()), lambda answer: built.taken("main", reference, answer), now, None
    )
    return outcome.reference, outcome


def test_nobody_can_be_told_of_alone(name: str) -> None:
    built = connector(name)

    for verb in ("grant", "withdraw", "suspend", "delete"):
        with pytest.raises(Rejected, match="only-by-swap"):
            built.request([item(verb)], AT)
    assert built.reaches == Evidence.processed
    assert built.polls is not None


def test_an_audience_has_one_scope_and_a_list_needs_permissions(name: str) -> None:
    two = replace(partner(name), accounts=(Account(name="main", scopes=("ads", "research")),), grants=False)

    found = "\n".join(check(two))

    assert "account: main has 2 scopes; give each scope an audience of its own" in found
    assert "grants: a list is made of permissions" in found
    late = {"swap_least_minutes": 0, "swap_every_hours": 0, "job_hours": 0, "shrink_percent": 100}
    assert {each.split(":")[0] for each in check(partner(name, **late))} == {
        "settings.swap_every_hours",
        "settings.swap_least_minutes",
        "settings.job_hours",
        "settings.shrink_percent",
    }


@given(many=st.lists(identifiers(), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_name_nobody_and_an_upload_is_as_long_as_it_says(name: str, many: list[tuple[Identifier, ...]]) -> None:
    built = connector(name)
    listed = cargo(built, *many)
    upload = built.upload("main", listed, AT)

    request = sent(upload)

    assert listed.text in request.body
    assert upload == built.upload("main", listed, AT)
    assert not any(b"\n" in row or not row for each in many for row in built.rows(each))
    for identifier in (one for each in many for one in each if one.value):
        assert identifier.kind == "member_id" or identifier.value.encode() not in request.body
        assert identifier.value not in request.url or len(identifier.value) < 6


def test_a_repr_shows_no_person_and_no_secret(name: str) -> None:
    built = connector(name)
    listed = cargo(built, [EMAIL, PHONE, IDFA, GAID, MEMBER])

    seen = "".join(f"{each!r}{each}" for each in (built, built.upload("main", listed, AT), built.before("main", AT)))

    assert not [each for each in (EMAIL_HASH, "yamada", *ROWS[name].key) if each in seen]


@pytest.mark.parametrize("status", [199, 200, 204, 302, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("body", BODIES)
def test_no_failure_counts_as_taken_and_none_gives_up_stops(name: str, status: int, body: bytes) -> None:
    answer = HttpResponse(status=status, headers={}, body=body)

    with pytest.raises(Retry) as raised:  # never Rejected: it would be said of everybody at once
        connector(name).taken("main", "7001:1", answer)

    assert "taro" not in repr(raised.value)
    assert raised.value.perhaps or 300 <= status < 500


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [200, 400, 404, 429, 500])
def test_a_question_that_is_not_answered_says_nothing_of_the_job(name: str, status: int, body: bytes) -> None:
    built = connector(name)
    assert built.polls is not None

    with pytest.raises(Retry):
        built.polls.read(["7001:1"], HttpResponse(status=status, headers={}, body=body))


@pytest.mark.parametrize("kind", sorted({kind for row in ROWS.values() for kind in row.faults}))
async def test_a_fault_ends_as_it_must_and_the_next_swap_takes_effect(
    name: str, kind: str, vendor: tuple[str, Swapped, Exchange]
) -> None:
    address, built, exchange = vendor
    if kind not in ROWS[name].faults:
        pytest.skip("not a fault of this partner's")
    expected = ROWS[name].faults[kind]
    delay = 0.05 if kind == "slow" else 5
    fault = {"kind": kind, "times": 1, "after_s": 90, "delay_s": delay}
    await control(address, "faults", fault | ({} if kind.startswith("token-") else {"path": UPLOAD[name]}))

    if isinstance(expected, list):
        _, outcome = await swapped(built, exchange, EMAIL, HANAKO)
        assert [(outcome.grade, outcome.reason)] == expected
    else:
        with pytest.raises(TodokeError) as raised:
            await swapped(built, exchange, EMAIL, HANAKO)
        assert (type(raised.value), vars(raised.value)) == (type(expected), vars(expected))

    reference, _ = await swapped(built, exchange, EMAIL)
    [answer] = await exchange.ask([reference], now)
    assert answer is not None
    assert answer.grade == Evidence.processed
    assert (await control(address, "calls"))[f"fault:{kind}"] == 1
    assert (await control(address, f"state?identifier={EMAIL_HASH}"))["audiences"]
