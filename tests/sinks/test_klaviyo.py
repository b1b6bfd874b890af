"""Klaviyo: who is named in which job, what a job says in the end, and that no profile is made unasked."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from todoke.schemas.errors import Misconfigured, Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.klaviyo import MOST_ADDRESSES, KlaviyoProfiles
from todoke.sinks.emulators import Place, emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

NOW = 1_764_000_000_000
KEY = Secret("pk_s3cret")
TARO = Identifier("email", " Taro.Yamada@Example.com")
HANAKO = Identifier("email", "hanako@example.jp")
PHONE = Identifier("phone", "090-1234-5678")


def klaviyo(
    limit: int = 1_000_000,
    kind: IdentifierKind = "email",
    verbs: tuple[Verb, ...] = ("grant", "withdraw", "suspend", "delete"),
    **settings: Any,
) -> Any:
    entry = replace(
        partner("klaviyo", delete_by=kind, **settings),
        identifiers=(kind,),
        limits=Limits(items=MOST_ADDRESSES, bytes=limit),
        deadline_hours=dict.fromkeys(verbs, 24),
        grants="grant" in verbs,
    )
    built = build(entry, {"api_key": KEY})
    assert isinstance(built, KlaviyoProfiles)
    return built


def item(*identifiers: Identifier, verb: Verb = "withdraw", number: int = 1) -> Item:
    return Item(
        obligation_id=f"o{number}",
        request_id=f"r{number}",
        verb=verb,
        account="main",
        scope="email",
        at=0,
        deadline_at=0,
        identifiers=identifiers,
    )


TWO = [item(TARO), item(HANAKO, number=2)]


def answer(body: Any, status: int = 202, **headers: str) -> HttpResponse:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status=status, headers=found, body=json.dumps(body).encode())


def error(status: int, code: Any = "invalid") -> HttpResponse:
    return answer({"errors": [{"code": code, "title": "taro@example.com", "detail": "taro@example.com"}]}, status)


def job(status: str, identity: str = "01G", **counts: Any) -> HttpResponse:
    attributes = {"status": status, "total_count": 2, "completed_count": 2, "skipped_count": 0, **counts}
    return answer({"data": {"type": "x", "id": identity, "attributes": attributes}}, 200)


def test_each_verb_has_its_job_and_restrictions_share_a_call() -> None:
    app = klaviyo()
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "delete", "grant")

    asked = [app.request([item(TARO, PHONE, verb=verb)], 0) for verb in verbs]
    groups = [app.group(item(TARO, verb=verb)) for verb in verbs]

    assert [each.url.rpartition("/")[2] for each in asked] == [
        "profile-suppression-bulk-create-jobs",
        "profile-suppression-bulk-create-jobs",
        "data-privacy-deletion-jobs",
        "profile-suppression-bulk-delete-jobs",
    ]
    assert all(each.body.count(b"taro.yamada@example.com") == 1 for each in asked)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_addresses_share_a_suppression_each_once_and_a_deletion_has_one_person() -> None:
    app = klaviyo()
    people = [item(TARO, HANAKO), item(TARO, number=2)]

    body = json.loads(app.request(people, 0).body)

    named = [each["attributes"]["email"] for each in body["data"]["attributes"]["profiles"]["data"]]
    assert named == ["taro.yamada@example.com", "hanako@example.jp"]
    assert [app.weight(each) for each in (*people, item(PHONE), item(TARO, HANAKO, verb="delete"))] == [2, 1, 1, 1]
    assert app.group(item(TARO, verb="delete")) != app.group(item(TARO, verb="delete", number=2))
    with pytest.raises(Split, match=r"^one-a-call$"):
        app.request([item(TARO, verb="delete"), item(HANAKO, verb="delete", number=2)], 0)


def test_a_person_may_be_deleted_by_phone() -> None:
    app = klaviyo(kind="phone", verbs=("delete",))

    body = json.loads(app.request([item(TARO, PHONE, verb="delete")], 0).body)

    profile = {"type": "profile", "attributes": {"phone_number": "+819012345678"}}
    assert body["data"]["attributes"]["profile"]["data"] == profile


def test_who_cannot_be_named_stands_alone_and_is_refused() -> None:
    app = klaviyo()

    assert app.group(item(PHONE)) != app.group(item(PHONE, number=2)) != app.group(item(TARO))
    for asked in ([item(TARO), item(PHONE, number=2)], [item(PHONE, verb="delete")]):
        with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
            app.request(asked, 0)


def test_no_profile_is_made_unasked() -> None:
    app = klaviyo(verbs=("delete",), create_profiles=False)

    assert app.group(item(TARO)) != app.group(item(TARO, number=2))
    with pytest.raises(Rejected, match=r"^profiles-not-to-be-created$"):
        app.request([item(TARO)], 0)
    assert app.request([item(TARO, verb="delete")], 0).method == "POST"
    assert app.request([item(TARO, verb="grant")], 0).method == "POST"
    with pytest.raises(Misconfigured, match=r"settings\.create_profiles: false"):
        klaviyo(create_profiles=False)


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    crowd = item(*(Identifier("email", f"p{number}@example.jp") for number in range(MOST_ADDRESSES + 1)))

    for app, asked in ((klaviyo(), crowd), (klaviyo(10), item(TARO))):
        with pytest.raises(Split, match=r"^too-large$") as raised:
            app.request([asked], 0)
        assert raised.value.perhaps is False


def test_a_job_is_accepted_and_a_deletion_has_none() -> None:
    app = klaviyo()
    taken = answer({"data": {"id": "01GSQ", "attributes": {"status": "queued"}}})
    nothing = HttpResponse(status=202, headers={}, body=b"")

    assert app.verdict(TWO, taken) == [Outcome(grade=Evidence.accepted, reference="suppress:01GSQ")] * 2
    assert app.verdict([item(TARO, verb="grant")], taken)[0].reference == "unsuppress:01GSQ"
    assert app.verdict([item(TARO, verb="delete")], nothing) == [Outcome(grade=Evidence.accepted)]
    assert app.verdict([item(TARO, HANAKO, verb="delete")], nothing) == [
        Outcome(grade=Evidence.sent, reason="identifiers-left-out")
    ]


@pytest.mark.parametrize(
    ("response", "several", "wanted"),
    [
        (answer({}), True, Retry("unreadable-answer")),
        (answer({"data": {"id": "taro@example.com"}}), True, Retry("unreadable-answer")),
        (answer({"data": {"id": 7}}), True, Retry("unreadable-answer")),
        (answer({"data": {"id": "01G"}}, 200), True, Retry("unreadable-answer")),
        (answer({"data": {"id": "01G"}, "errors": []}), True, Retry("unreadable-answer")),
        (error(400), True, Split("klaviyo-invalid", perhaps=False)),
        (error(400), False, Rejected("klaviyo-invalid")),
        (error(409, "duplicate_profile"), False, Rejected("klaviyo-duplicate-profile")),
        (error(422, "taro@example.com"), False, Rejected("http-422")),
        (error(400, 7), False, Rejected("http-400")),
        (answer({"errors": "taro"}, 400), False, Rejected("http-400")),
        (error(401), True, Retry("auth", 900.0, perhaps=False)),
        (error(403), True, Retry("forbidden", 900.0, perhaps=False)),
        (error(404), False, Retry("http-404", 900.0, perhaps=False)),
        (error(410), True, Retry("api-version", 900.0, perhaps=False)),
        (error(413), True, Split("too-large", perhaps=False)),
        (error(413), False, Rejected("too-large")),
        (error(429), True, Retry("throttled", perhaps=False)),
        (answer({}, 429, retry_after="7"), True, Retry("throttled", 7.0, perhaps=False)),
        (error(503), True, Retry("http-503")),
        (error(302), True, Rejected("http-302")),
    ],
)
def test_every_other_answer(response: HttpResponse, several: bool, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        klaviyo().verdict(TWO if several else TWO[:1], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


def test_a_deletion_with_errors_in_its_202_is_no_success() -> None:
    with pytest.raises(Retry, match=r"^unreadable-answer$"):
        klaviyo().verdict([item(TARO, verb="delete")], error(202))


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (job("complete"), (Evidence.processed, "")),
        (job("complete", skipped_count=None), (Evidence.processed, "")),
        (job("queued"), None),
        (job("processing", completed_count=1), None),
        (job("something_new"), None),
        (job("complete", skipped_count=1), (Evidence.sent, "skipped")),
        (job("complete", completed_count=1), (Evidence.sent, "not-completed")),
        (job("complete", completed_count=None), (Evidence.sent, "not-completed")),
        (job("complete", total_count=0, completed_count=0), (Evidence.sent, "not-completed")),
        (job("cancelled"), (Evidence.sent, "cancelled")),
    ],
)
def test_the_status_of_a_job(response: HttpResponse, wanted: tuple[Evidence, str] | None) -> None:
    [told] = klaviyo().polls.read(["suppress:01G"], response)

    assert (told and (told.grade, told.reason)) == wanted


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (job("complete", identity="other"), "unreadable-answer"),
        (answer({"data": {"id": "01G"}}, 200), "unreadable-answer"),
        (error(404), "http-404"),
        (error(400), "status-not-told"),
        (error(500), "http-500"),
    ],
)
def test_a_question_without_an_answer_is_asked_again(response: HttpResponse, reason: str) -> None:
    with pytest.raises(Retry, match=f"^{reason}$"):
        klaviyo().polls.read(["suppress:01G"], response)


def test_a_question_goes_to_its_kind_of_job_and_its_id_is_percent_encoded() -> None:
    polls = klaviyo(poll_first_minutes=1, poll_every_minutes=2, poll_ends_hours=3).polls

    assert (polls.first_ms, polls.every_ms, polls.ends_ms, polls.most) == (60_000, 120_000, 10_800_000, 1)
    assert polls.ask(["suppress:a/b="], 0).url.endswith("/api/profile-suppression-bulk-create-jobs/a%2Fb%3D")
    assert polls.ask(["unsuppress:01G"], 0).url.endswith("/api/profile-suppression-bulk-delete-jobs/01G")
    with pytest.raises(Rejected, match=r"^no-reference$"):
        polls.ask(["01G"], 0)


def test_what_an_entry_cannot_mean_is_said() -> None:
    entry = replace(
        partner("klaviyo", revision="latest"),
        identifiers=("email", "phone"),
        accounts=(Account(name="a", scopes=("x",)), Account(name="b", scopes=("x",))),
        limits=Limits(items=101),
        done="processed",
    )

    found = "\n".join(check(entry))

    for said in (
        "accounts: 2",
        "limits.items: 101",
        "identifiers: phone can't be said with delete_by = email",
        "settings.revision",
        "done: processed can't be had of a deletion",
    ):
        assert said in found
    suppressing = replace(
        partner("klaviyo"), done="processed", deadline_hours={"grant": 1, "withdraw": 1, "suspend": 1}
    )
    assert check(suppressing) == []
    by_phone = replace(partner("klaviyo", delete_by="phone"), identifiers=("phone",))
    assert "suppression takes e-mail alone" in "\n".join(check(by_phone))


@asynccontextmanager
async def emulated(
    options: Mapping[str, str] | None = None, journal: Path | None = None
) -> AsyncIterator[tuple[str, Exchange]]:
    place = Place(journal=journal)
    async with (
        emulating("klaviyo", KEY.reveal(), lambda: NOW, options=options, place=place) as address,
        Sender([authority(address)]) as sender,
    ):
        yield address, Exchange(klaviyo(base_url=address), sender, 5)


async def faults(address: str, *kinds: str) -> None:
    async with aiohttp.ClientSession() as session:
        given = [{"kind": kind, "times": 1} for kind in kinds]
        async with session.post(f"{address}/_emulator/faults", json=given) as response:
            assert response.status == 200, await response.text()


async def state(address: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/_emulator/state") as response:
        return await response.json()


async def test_a_suppression_is_accepted_then_queued_then_processing_then_processed() -> None:
    async with emulated({"pending": "1"}) as (address, exchange):
        taken = await exchange.call(TWO, lambda: NOW)
        told = [(await exchange.ask([taken[0].reference], lambda: NOW))[0] for _ in range(3)]
        held = await state(address)

    assert [each and each.grade for each in told] == [None, None, Evidence.processed]
    assert (len(held["suppressed"]), len(held["profiles"])) == (2, 2)  # the over-disclosure: both are profiles now


async def test_a_suppression_ends_and_a_person_is_deleted() -> None:
    async with emulated() as (address, exchange):
        await exchange.call(TWO, lambda: NOW)
        [lifted] = await exchange.call([item(TARO, verb="grant")], lambda: NOW)
        [told] = await exchange.ask([lifted.reference], lambda: NOW)
        [deleted] = await exchange.call([item(HANAKO, verb="delete")], lambda: NOW)
        held = await state(address)

    assert told is not None
    assert (told.grade, deleted) == (Evidence.processed, Outcome(grade=Evidence.accepted))
    assert (len(held["suppressed"]), len(held["profiles"])) == (0, 1)


@pytest.mark.parametrize("fault", ["skipped", "cancelled"])
async def test_a_failure_comes_late_and_nobody_of_the_call_is_sure(fault: str) -> None:
    async with emulated() as (address, exchange):
        await faults(address, fault)
        taken = await exchange.call(TWO, lambda: NOW)
        [told] = await exchange.ask([taken[0].reference], lambda: NOW)

    assert [each.grade for each in taken] == [Evidence.accepted] * 2
    assert told is not None
    assert (told.grade, told.reason) == (Evidence.sent, fault)


async def test_what_became_of_a_call_is_known_after_both_have_restarted(tmp_path: Path) -> None:
    async with emulated(journal=tmp_path / "journal") as (_, exchange):
        [taken] = await exchange.call([item(TARO)], lambda: NOW)
    async with emulated(journal=tmp_path / "journal") as (_, exchange):
        [told] = await exchange.ask([taken.reference], lambda: NOW)

    assert told is not None
    assert told.grade == Evidence.processed


async def test_the_probe_lists_and_changes_nothing() -> None:
    async with emulated() as (address, exchange):
        await exchange.probe(lambda: NOW)
        await faults(address, "denied")
        with pytest.raises(Retry, match=r"^forbidden$"):
            await exchange.probe(lambda: NOW)

        assert (await state(address))["profiles"] == []
