"""Amplitude: who is named, what each answer means, and what the calendar of jobs says in the end."""

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
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.amplitude import MOST_IDS, AmplitudeDeletions
from todoke.sinks.emulators import Place, emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
SECRETS = {"api_key": Secret("emulated-api-key"), "secret_key": Secret("s3cret")}
TARO = Identifier("member_id", "M-0001")
HANAKO = Identifier("member_id", "M-0002")
EMAIL = Identifier("email", "Taro.Yamada@example.com")


def amplitude(limit: int = 1_000_000, kinds: tuple[IdentifierKind, ...] = ("member_id",), **settings: Any) -> Any:
    entry = partner("amplitude", **settings)
    entry = replace(entry, identifiers=kinds, limits=Limits(items=MOST_IDS, bytes=limit))
    built = build(entry, SECRETS)
    assert isinstance(built, AmplitudeDeletions)
    return built


def item(*identifiers: Identifier, number: int = 1) -> Item:
    return Item(
        obligation_id=f"o{number}",
        request_id=f"r{number}",
        verb="delete",
        account="main",
        scope="analytics",
        at=0,
        deadline_at=0,
        identifiers=identifiers,
    )


TWO = [item(TARO), item(HANAKO, number=2)]


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=json.dumps(body).encode())


def job(status: str, *requesters: str, day: str = "2025-12-01", **more: Any) -> dict[str, Any]:
    users = [{"amplitude_id": number, "requester": each} for number, each in enumerate(requesters)]
    return {"day": day, "status": status, "amplitude_ids": users, **more}


def requester(app: AmplitudeDeletions, *items: Item) -> str:
    return str(json.loads(app.request(items, 0).body)["requester"])


def test_only_the_kind_that_serves_as_user_id_is_named_each_once() -> None:
    body = json.loads(amplitude().request([item(TARO, EMAIL), item(HANAKO, TARO, number=2)], 0).body)

    assert body["user_ids"] == ["M-0001", "M-0002"]
    by_email = amplitude(kinds=("email",), user_id="email")
    assert json.loads(by_email.request([item(EMAIL, TARO)], 0).body)["user_ids"] == ["taro.yamada@example.com"]


def test_who_has_no_user_id_stands_alone_and_is_refused() -> None:
    app = amplitude()

    assert app.group(item(EMAIL)) != app.group(item(EMAIL, number=2)) != app.group(item(TARO))
    assert (app.weight(item(TARO, HANAKO, EMAIL)), app.weight(item(EMAIL))) == (2, 1)
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        app.request([item(TARO), item(EMAIL, number=2)], 0)


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    crowd = item(*(Identifier("member_id", f"M-{number}") for number in range(MOST_IDS + 1)))

    for app, asked in ((amplitude(), crowd), (amplitude(10), item(TARO))):
        with pytest.raises(Split) as raised:
            app.request([asked], 0)
        assert raised.value.perhaps is False


def test_a_job_is_accepted_and_who_is_unknown_needs_none() -> None:
    app = amplitude()
    told = job("staging", requester(app, *TWO), "somebody", invalid_ids=["M-0002"])

    known, unknown = app.verdict(TWO, answer(told))

    assert (known.grade, unknown) == (Evidence.accepted, Outcome(grade=Evidence.processed))
    day, _, count = known.reference.split(":")
    assert (day, count) == ("2025-12-01", "1")
    assert not any(name in known.reference for name in ("M-0001", "M-0002"))
    assert amplitude(unknown_user="look").verdict(TWO, answer(told))[1] == Outcome(
        grade=Evidence.none, reason="unknown-user"
    )
    assert app.verdict(TWO, answer({"invalid_ids": ["M-0001", "M-0002"]})) == [Outcome(grade=Evidence.processed)] * 2


def test_of_two_ids_one_that_is_known_is_enough_for_a_job() -> None:
    both = [item(TARO, HANAKO)]
    [outcome] = amplitude().verdict(both, answer(job("staging", invalid_ids=["M-0002"])))

    assert outcome.grade == Evidence.accepted


def test_an_organisation_answers_with_several_jobs_and_nobody_learns_their_end() -> None:
    app = amplitude(delete_from_org=True)

    [outcome] = app.verdict([item(TARO)], answer([job("staging"), job("staging", day="2025-12-03", app=7)]))

    assert (outcome.grade, outcome.reference[:10], app.polls) == (Evidence.accepted, "2025-12-03", None)
    assert app.reaches == Evidence.accepted


@pytest.mark.parametrize(
    ("response", "several", "wanted"),
    [
        (answer({"error": "M-0001"}), True, Retry("unreadable-answer")),
        (answer({"day": "M-0001"}), True, Retry("unreadable-answer")),
        (answer("M-0001"), False, Retry("unreadable-answer")),
        (answer({"day": "2025-12-01", "invalid_ids": ["X"]}), True, Split("invalid-id")),
        (answer({"error": "M-0001"}, 400), True, Split("http-400", perhaps=False)),
        (answer({"error": "M-0001"}, 400), False, Rejected("http-400")),
        (answer({}, 401), True, Retry("auth", 900.0, perhaps=False)),
        (answer({}, 403), False, Retry("forbidden", 900.0, perhaps=False)),
        (answer({}, 404), False, Retry("http-404", 900.0, perhaps=False)),
        (answer({}, 413), True, Split("too-large", perhaps=False)),
        (answer({}, 413), False, Rejected("too-large")),
        (answer({}, 429, **{"retry-after": "7"}), True, Retry("throttled", 7.0, perhaps=False)),
        (answer({}, 503), True, Retry("http-503")),
        (answer({}, 302), True, Rejected("http-302")),
    ],
)
def test_every_other_answer(response: HttpResponse, several: bool, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        amplitude().verdict(TWO if several else TWO[:1], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


def test_an_unknown_id_that_nobody_sent_is_no_success_of_a_single_item() -> None:
    [outcome] = amplitude().verdict(TWO[:1], answer({"day": "2025-12-01", "invalid_ids": [{"user_id": "M-0001"}]}))

    assert outcome == Outcome(grade=Evidence.sent, reason="invalid-id-partial")


TRACE = "a" * 32
OURS = f"todoke-{TRACE}"


@pytest.mark.parametrize(
    ("jobs", "wanted"),
    [
        ([job("done", OURS, "x")], (Evidence.processed, "")),
        ([job("Done", OURS)], (Evidence.processed, "")),
        ([job("done")], (Evidence.processed, "")),
        ([job("submitted", OURS, active_scrub_done_date="2025-12-02")], None),
        ([job("staging", OURS)], None),
        ([job("cancelled", OURS)], None),
        ([], None),
        ([job("done", OURS, day="2025-12-02")], None),
        ([job("done", OURS), job("submitted", OURS)], None),
        ([job("done", "x")], (Evidence.sent, "removed-from-job")),
        ([job("staging", "x")], (Evidence.sent, "removed-from-job")),
    ],
)
def test_the_calendar(jobs: list[Any], wanted: tuple[Evidence, str] | None) -> None:
    [told] = amplitude().polls.read([f"2025-12-01:{TRACE}:1"], answer(jobs))

    assert (told and (told.grade, told.reason)) == wanted


def test_the_data_in_use_may_be_enough() -> None:
    polls = amplitude(processed_when="scrubbed").polls
    scrubbed = job("submitted", OURS, active_scrub_done_date="2025-12-02")

    [told] = polls.read([f"2025-12-01:{TRACE}:1"], answer([scrubbed]))

    assert told.grade == Evidence.processed


def test_a_question_covers_the_days_of_several_calls_and_half_a_year_at_most() -> None:
    polls = amplitude(poll_first_hours=1, poll_every_hours=2, poll_ends_days=3).polls

    asked = polls.ask([f"2025-12-03:{TRACE}:1", f"2025-12-01:{TRACE}:2"], 0)
    late = polls.ask([f"2025-12-03:{TRACE}:1", f"2027-12-01:{TRACE}:2"], 0)

    assert asked.url.endswith("/api/2/deletions/users?start_day=2025-12-01&end_day=2025-12-03")
    assert late.url.endswith("?start_day=2025-12-03&end_day=2026-06-01")
    assert (polls.first_ms, polls.every_ms, polls.ends_ms) == (3_600_000, 7_200_000, 259_200_000)
    done = answer([job("done", OURS), job("staging", day="2025-12-03")])
    told = polls.read([f"2025-12-03:{TRACE}:1", f"2025-12-01:{TRACE}:1"], done)
    assert [each and each.grade for each in told] == [None, Evidence.processed]


@pytest.mark.parametrize(
    ("response", "reason"),
    [(answer({}, 401), "auth"), (answer({}, 400), "status-not-told"), (answer({"x": 1}), "unreadable-answer")],
)
def test_a_question_without_an_answer_is_asked_again(response: HttpResponse, reason: str) -> None:
    with pytest.raises(Retry, match=f"^{reason}$"):
        amplitude().polls.read([f"2025-12-01:{TRACE}:1"], response)


def test_what_an_entry_cannot_mean_is_said() -> None:
    entry = replace(
        partner("amplitude", base_url="https://analytics.amplitude.com", requester="Taro Yamada"),
        identifiers=("member_id", "phone"),
        accounts=(Account(name="a", scopes=("x",)), Account(name="b", scopes=("x",))),
        limits=Limits(items=101),
        deadline_hours={"delete": 1, "suspend": 1},
    )

    found = "\n".join(check(entry))

    for said in ("the web app's", "accounts: 2", "limits.items: 101", "settings.requester", "identifiers: phone"):
        assert said in found
    assert "deadline_hours.suspend: can't be asked here; known: delete" in found
    organisation = replace(partner("amplitude", delete_from_org=True), done="processed")
    assert "say accepted at most" in "\n".join(check(organisation))


@asynccontextmanager
async def emulated(
    options: Mapping[str, str] | None = None, journal: Path | None = None, **settings: Any
) -> AsyncIterator[tuple[str, Exchange]]:
    place = Place(journal=journal)
    async with (
        emulating("amplitude", "s3cret", lambda: NOW, options=options, place=place) as address,
        Sender([authority(address)]) as sender,
    ):
        yield address, Exchange(amplitude(base_url=address, **settings), sender, 5)


async def faults(address: str, *kinds: str) -> None:
    async with aiohttp.ClientSession() as session:
        given = [{"kind": kind, "times": 1} for kind in kinds]
        async with session.post(f"{address}/_emulator/faults", json=given) as response:
            assert response.status == 200, await response.text()


async def test_a_deletion_is_accepted_then_staged_then_submitted_then_processed() -> None:
    async with emulated({"pending": "1"}) as (_, exchange):
        outcomes = await exchange.call(TWO, lambda: NOW)
        asked = sorted({each.reference for each in outcomes})
        told = [(await exchange.ask(asked, lambda: NOW))[0] for _ in range(3)]

    assert [each.grade for each in outcomes] == [Evidence.accepted] * 2
    assert [each and each.grade for each in told] == [None, None, Evidence.processed]


async def test_who_was_taken_out_of_the_job_is_no_success() -> None:
    async with emulated() as (address, exchange):
        [other] = await exchange.call([item(HANAKO, number=2)], lambda: NOW)
        await faults(address, "removed")
        [taken] = await exchange.call([item(TARO)], lambda: NOW)
        told = await exchange.ask([taken.reference, other.reference], lambda: NOW)

    assert [each and (each.grade, each.reason) for each in told] == [
        (Evidence.sent, "removed-from-job"),
        (Evidence.processed, ""),
    ]


async def test_unknown_users_refuse_all_or_are_passed_over() -> None:
    async with emulated({"known": "M-0001"}, ignore_invalid_id=False) as (_, exchange):
        with pytest.raises(Split, match=r"^http-400$"):
            await exchange.call(TWO, lambda: NOW)
        [known] = await exchange.call(TWO[:1], lambda: NOW)
        with pytest.raises(Rejected, match=r"^http-400$"):
            await exchange.call(TWO[1:], lambda: NOW)
    async with emulated({"known": "M-0001"}) as (_, exchange):
        both = await exchange.call(TWO, lambda: NOW)

    assert known.grade == Evidence.accepted
    assert [each.grade for each in both] == [Evidence.accepted, Evidence.processed]


async def test_jobs_in_another_order_and_after_a_restart_are_the_same(tmp_path: Path) -> None:
    async with emulated(journal=tmp_path / "journal") as (_, exchange):
        [taken] = await exchange.call([item(TARO)], lambda: NOW)
    async with emulated(journal=tmp_path / "journal") as (address, exchange):
        await faults(address, "wrong-order")
        [again] = await exchange.call([item(TARO)], lambda: NOW)
        [told] = await exchange.ask([taken.reference], lambda: NOW)

    assert again == taken
    assert told is not None
    assert told.grade == Evidence.processed


async def test_the_probe_lists_and_changes_nothing() -> None:
    async with emulated() as (address, exchange):
        await exchange.probe(lambda: NOW)
        await faults(address, "auth")
        with pytest.raises(Retry, match=r"^auth$"):
            await exchange.probe(lambda: NOW)
        async with aiohttp.ClientSession() as session, session.get(f"{address}/_emulator/state") as response:
            assert (await response.json())["last"] == {}
