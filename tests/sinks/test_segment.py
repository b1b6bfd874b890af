"""Segment: which regulation is asked for whom, and what a whole status hides of its places."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from todoke.schemas.errors import Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.segment import MOST_IDS, SegmentRegulations
from todoke.sinks.emulators import Place, emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
TOKEN = Secret("sgp_t0ken")
TARO = Identifier("member_id", "M-0001")
HANAKO = Identifier("member_id", "M-0002")
EMAIL = Identifier("email", "Taro.Yamada@example.com")


def segment(limit: int = 1_000_000, **settings: Any) -> Any:
    entry = replace(partner("segment", **settings), limits=Limits(items=MOST_IDS, bytes=limit))
    built = build(entry, {"token": TOKEN})
    assert isinstance(built, SegmentRegulations)
    return built


def item(*identifiers: Identifier, verb: Verb = "withdraw", number: int = 1) -> Item:
    return Item(
        obligation_id=f"o{number}",
        request_id=f"r{number}",
        verb=verb,
        account="main",
        scope="analytics",
        at=0,
        deadline_at=0,
        identifiers=identifiers,
    )


TWO = [item(TARO), item(HANAKO, number=2)]


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status=status, headers=found, body=json.dumps(body).encode())


def regulation(overall: str, *places: str, identity: str = "1q") -> HttpResponse:
    shown = [{"name": "M-0001", "status": each, "errString": "M-0001"} for each in places]
    streams = [{"id": "s", "destinationStatus": shown[:1]}, {"id": "t", "destinationStatus": shown[1:]}, "odd"]
    return answer({"data": {"regulation": {"id": identity, "overallStatus": overall, "streamStatus": streams}}})


def test_each_verb_is_a_regulation_of_its_own_and_restrictions_share_a_call() -> None:
    app = segment()
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "delete", "grant")

    bodies = [json.loads(app.request([item(TARO, EMAIL, verb=verb)], 0).body) for verb in verbs]
    groups = [app.group(item(TARO, verb=verb)) for verb in verbs]

    assert [each["regulationType"] for each in bodies] == [
        "SUPPRESS_ONLY",
        "SUPPRESS_ONLY",
        "SUPPRESS_WITH_DELETE",
        "UNSUPPRESS",
    ]
    assert all((each["subjectType"], each["subjectIds"]) == ("USER_ID", ["M-0001"]) for each in bodies)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_a_deletion_may_stay_within_segment() -> None:
    app = segment(deletion="SUPPRESS_WITH_DELETE_INTERNAL")

    body = json.loads(app.request([item(TARO, verb="delete")], 0).body)

    assert body["regulationType"] == "SUPPRESS_WITH_DELETE_INTERNAL"


def test_who_has_no_user_id_stands_alone_and_is_refused() -> None:
    app = segment()

    assert app.group(item(EMAIL)) != app.group(item(EMAIL, number=2)) != app.group(item(TARO))
    assert (app.weight(item(TARO, HANAKO, EMAIL)), app.weight(item(EMAIL))) == (2, 1)
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        app.request([item(TARO), item(EMAIL, number=2)], 0)


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    crowd = item(*(Identifier("member_id", f"M-{number}") for number in range(MOST_IDS + 1)))

    for app, asked in ((segment(), crowd), (segment(10), item(TARO))):
        with pytest.raises(Split) as raised:
            app.request([asked], 0)
        assert raised.value.perhaps is False


def test_a_regulation_is_accepted_under_its_id() -> None:
    taken = segment().verdict(TWO, answer({"data": {"regulateId": "1qJkfE1tpwvQ"}}))

    assert taken == [Outcome(grade=Evidence.accepted, reference="1qJkfE1tpwvQ")] * 2


USED_UP = {"x_regulation_ratelimit_remaining": "0", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}
RESET = {"x_regulation_ratelimit_quota_reset": "2026-01-01T01:00:00.000Z"}


@pytest.mark.parametrize(
    ("response", "several", "wanted"),
    [
        (answer({"errors": [{"message": "M-0001"}]}), True, Retry("unreadable-answer")),
        (answer({"data": {"regulateId": "M 0001"}}), True, Retry("unreadable-answer")),
        (answer({"data": {"regulateId": 7}}), True, Retry("unreadable-answer")),
        (answer([]), True, Retry("unreadable-answer")),
        (answer({}, 422), True, Split("http-422", perhaps=False)),
        (answer({}, 422), False, Rejected("http-422")),
        (answer({}, 400), False, Rejected("http-400")),
        (answer({}, 401), True, Retry("auth", 900.0, perhaps=False)),
        (answer({}, 403), True, Retry("forbidden", 900.0, perhaps=False)),
        (answer({}, 404), True, Retry("http-404", 900.0, perhaps=False)),
        (answer({}, 413), True, Split("too-large", perhaps=False)),
        (answer({}, 413), False, Rejected("too-large")),
        (answer({}, 429), True, Retry("throttled", perhaps=False)),
        (answer({}, 429, retry_after="7"), True, Retry("throttled", 7.0, perhaps=False)),
        (answer({}, 429, **USED_UP, **RESET), True, Retry("throttled", 3600.0, perhaps=False)),
        (answer({}, 429, **RESET), True, Retry("throttled", perhaps=False)),
        (answer({}, 429, **{**USED_UP, **RESET, "date": "soon"}), True, Retry("throttled", perhaps=False)),
        (
            answer({}, 429, **{**USED_UP, **RESET, "x_regulation_ratelimit_remaining": "9"}),
            True,
            Retry("throttled", perhaps=False),
        ),
        (answer({}, 503), True, Retry("http-503")),
        (answer({}, 302), True, Rejected("http-302")),
    ],
)
def test_every_other_answer(response: HttpResponse, several: bool, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        segment().verdict(TWO if several else TWO[:1], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (regulation("FINISHED"), (Evidence.processed, "")),
        (regulation("FINISHED", "FINISHED", "FINISHED"), (Evidence.processed, "")),
        (regulation("FINISHED", "FINISHED", "FAILED"), (Evidence.sent, "partial-success")),
        (regulation("FINISHED", "FINISHED", "RUNNING"), None),
        (regulation("RUNNING", "FINISHED"), None),
        (regulation("INITIALIZED"), None),
        (regulation("SOMETHING_NEW", "FINISHED"), None),
        (regulation("FAILED", "FINISHED", "RUNNING"), None),
        (regulation("FAILED", "FINISHED", "NOT_SUPPORTED"), (Evidence.sent, "destination-not-supported")),
        (regulation("NOT_SUPPORTED", "NOT_SUPPORTED"), (Evidence.sent, "failed")),
        (regulation("PARTIAL_SUCCESS", "FINISHED", "FAILED"), (Evidence.sent, "partial-success")),
        (regulation("FAILED", "FAILED"), (Evidence.sent, "failed")),
        (regulation("FAILED"), (Evidence.sent, "failed")),
        (regulation("INVALID"), (Evidence.none, "invalid-regulation")),
    ],
)
def test_the_status_of_a_regulation(response: HttpResponse, wanted: tuple[Evidence, str] | None) -> None:
    [told] = segment().polls.read(["1q"], response)

    assert (told and (told.grade, told.reason)) == wanted


def test_a_destination_that_is_told_otherwise_hides_no_success() -> None:
    polls = segment(unsupported_destinations="told-otherwise").polls

    told = [
        polls.read(["1q"], regulation("FAILED", *places))[0].grade
        for places in (("FINISHED", "NOT_SUPPORTED"), ("NOT_SUPPORTED",), ("FINISHED", "NOT_SUPPORTED", "FAILED"))
    ]

    assert told == [Evidence.processed, Evidence.sent, Evidence.sent]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (regulation("FINISHED", identity="other"), "unreadable-answer"),
        (answer({"data": {}}), "unreadable-answer"),
        (answer({}, 404), "http-404"),
        (answer({}, 422), "status-not-told"),
        (answer({}, 500), "http-500"),
    ],
)
def test_a_question_without_an_answer_is_asked_again(response: HttpResponse, reason: str) -> None:
    with pytest.raises(Retry, match=f"^{reason}$"):
        segment().polls.read(["1q"], response)


def test_a_question_waits_as_long_as_the_settings_say_and_its_id_is_percent_encoded() -> None:
    polls = segment(poll_first_minutes=1, poll_every_minutes=2, poll_ends_days=3).polls

    assert (polls.first_ms, polls.every_ms, polls.ends_ms, polls.most) == (60_000, 120_000, 259_200_000, 1)
    assert polls.ask(["../x"], 0).url.endswith("/regulations/..%2Fx")


def test_what_an_entry_cannot_mean_is_said() -> None:
    entry = replace(
        partner("segment"),
        identifiers=("member_id", "phone"),
        accounts=(Account(name="a", scopes=("x",)), Account(name="b", scopes=("x",))),
        limits=Limits(items=5001),
    )

    found = "\n".join(check(entry))

    for said in ("accounts: 2", "limits.items: 5001", "identifiers: phone"):
        assert said in found


@asynccontextmanager
async def emulated(
    options: Mapping[str, str] | None = None, journal: Path | None = None, **settings: Any
) -> AsyncIterator[tuple[str, Exchange]]:
    place = Place(journal=journal)
    async with (
        emulating("segment", TOKEN.reveal(), lambda: NOW, options=options, place=place) as address,
        Sender([authority(address)]) as sender,
    ):
        yield address, Exchange(segment(base_url=address, **settings), sender, 5)


async def faults(address: str, *kinds: str) -> None:
    async with aiohttp.ClientSession() as session:
        given = [{"kind": kind, "times": 1} for kind in kinds]
        async with session.post(f"{address}/_emulator/faults", json=given) as response:
            assert response.status == 200, await response.text()


async def state(address: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/_emulator/state") as response:
        return await response.json()


async def test_a_suppression_is_accepted_then_under_way_then_processed_and_can_be_ended() -> None:
    async with emulated({"pending": "1"}) as (address, exchange):
        taken = await exchange.call(TWO, lambda: NOW)
        told = [(await exchange.ask([taken[0].reference], lambda: NOW))[0] for _ in range(3)]
        before = await state(address)
        await exchange.call([item(TARO, verb="grant")], lambda: NOW)
        after = await state(address)

    assert [each and each.grade for each in told] == [None, None, Evidence.processed]
    assert (len(before["suppressed"]), len(after["suppressed"]), after["regulations"]) == (2, 1, 2)


@pytest.mark.parametrize(
    ("fault", "settings", "wanted"),
    [
        ("partial", {}, (Evidence.sent, "partial-success")),
        ("unsupported", {}, (Evidence.sent, "destination-not-supported")),
        ("unsupported", {"unsupported_destinations": "told-otherwise"}, (Evidence.processed, "")),
        ("late-failure", {}, (Evidence.sent, "failed")),
        ("invalid", {}, (Evidence.none, "invalid-regulation")),
    ],
)
async def test_a_failure_comes_late(fault: str, settings: dict[str, Any], wanted: tuple[Evidence, str]) -> None:
    async with emulated(**settings) as (address, exchange):
        await faults(address, fault)
        [taken] = await exchange.call([item(TARO, verb="delete")], lambda: NOW)
        [told] = await exchange.ask([taken.reference], lambda: NOW)

    assert taken.grade == Evidence.accepted
    assert told is not None
    assert (told.grade, told.reason) == wanted


async def test_a_call_of_unknown_end_sent_again_is_another_regulation_with_the_same_effect() -> None:
    async with emulated() as (address, exchange):
        await faults(address, "drop-after-apply")
        with pytest.raises(Retry, match=r"^connection-lost$"):
            await exchange.call([item(TARO)], lambda: NOW)
        await exchange.call([item(TARO)], lambda: NOW)
        held = await state(address)

    assert (held["regulations"], len(held["suppressed"])) == (2, 1)


async def test_a_quota_that_is_used_up_is_waited_for() -> None:
    async with emulated({"quota": "1"}) as (_, exchange):
        await exchange.call([item(TARO)], lambda: NOW)
        with pytest.raises(Retry, match=r"^throttled$") as raised:
            await exchange.call([item(HANAKO)], lambda: NOW)

    assert (raised.value.after, raised.value.perhaps) == (7200.0, False)


async def test_what_became_of_a_call_is_known_after_both_have_restarted(tmp_path: Path) -> None:
    async with emulated(journal=tmp_path / "journal") as (_, exchange):
        [taken] = await exchange.call([item(TARO, verb="delete")], lambda: NOW)
    async with emulated(journal=tmp_path / "journal") as (_, exchange):
        [told] = await exchange.ask([taken.reference], lambda: NOW)

    assert told is not None
    assert told.grade == Evidence.processed


async def test_the_probe_lists_and_changes_nothing() -> None:
    async with emulated() as (address, exchange):
        await exchange.probe(lambda: NOW)
        await faults(address, "auth")
        with pytest.raises(Retry, match=r"^auth$"):
            await exchange.probe(lambda: NOW)

        assert (await state(address))["regulations"] == 0
