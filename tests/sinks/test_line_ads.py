"""LINE Ads: what is signed, what a list looks like, and what jobs and answers mean."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, GAID, HANAKO, IDFA, PHONE, partner
from tests.contracts.test_swapped import control
from tests.golden.connectors.make import cargo, sent
from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpResponse
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.line_ads import KINDS, Jobs, LineAds, Signer
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

DAY = 1_640_131_200_000  # Wed, 22 Dec 2021 00:00:00 GMT
PATH = "/api/v3/adaccounts/A1/campaigns"
SIGNER = Signer("LINEADSAMPLE", Secret("LINEADSECRETKEYSAMPLE"))


def line(**settings: Any) -> LineAds:
    kinds = KINDS[settings.get("id_type", "HASHED_EMAIL")]
    entry = replace(partner("line_ads", **settings), identifiers=tuple(sorted(kinds)))
    built = build(entry, {"secret_key": Secret("LINEADSECRETKEYSAMPLE")})
    assert isinstance(built, LineAds)
    return built


def polls() -> Jobs:
    found = line().polls
    assert found is not None
    return found


def listing(*jobs: dict[str, Any]) -> HttpResponse:
    return HttpResponse(status=200, headers={}, body=json.dumps({"jobs": list(jobs)}).encode())


def job(number: int, status: str, kind: str = "DIFF_REPLACE", audience: int = 7001) -> dict[str, Any]:
    return {"audienceGroupId": audience, "audienceGroupJobId": number, "type": kind, "jobStatus": status}


def test_a_call_with_a_body_is_signed_as_lines_first_example() -> None:
    body = b'{"name":"test","campaignObjective":"VISIT_MY_WEBSITE"}'

    headers = SIGNER.headers(PATH, DAY, body, "application/json")

    assert headers["date"] == "Wed, 22 Dec 2021 00:00:00 GMT"
    assert headers["authorization"] == (
        "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6IkxJTkVBRFNBTVBMRSIsInR5cCI6InRleHQvcGxhaW4ifQ=="
        ".NDljODdjMWViNmU1NTg4NTgyYzEzYjE1MjEyOTczZjZhM2VmNjQ0ODcyZDQ4ZmNhMzI1MmY2OTA0MzUyMmIxYQphcHBsaWNhdGlvbi9qc29uCj"
        "IwMjExMjIyCi9hcGkvdjMvYWRhY2NvdW50cy9BMS9jYW1wYWlnbnM="
        ".Krh1Xh-kWldS-MkOmNH6dmMdkWDTBVmnkDCZHlMRUoo="
    )


def test_a_call_without_a_body_is_signed_as_lines_second_example() -> None:
    assert SIGNER.headers(PATH, DAY)["authorization"].endswith(".xHzIHHbWvIZUiek7Jy0fuyG6U0FQpobUyFXybcx9t4c=")


@pytest.mark.parametrize(
    ("kind", "form", "given", "wanted"),
    [
        ("HASHED_EMAIL", "national", EMAIL, EMAIL_HASH),
        ("HASHED_PHONE_NUMBER", "national", PHONE, "9876ccefa1e426aad25916a9cec49e9598bffcd5434d356c7d0c3cd3f0142baa"),
        ("HASHED_PHONE_NUMBER", "country", PHONE, "0ad07193350775c6d4377f8b039d32877e66c69a454ed886b05279771c0fca0b"),
        ("IFA", "national", IDFA, "6D92078A-8246-4BA4-AE5B-76104861E7DC"),
        ("IFA", "national", GAID, "cdda802e-fb9c-47ad-9866-0794d394c912"),
    ],
)
def test_a_row_is_one_identifier_in_lines_form(kind: str, form: str, given: Identifier, wanted: str) -> None:
    assert line(id_type=kind, phone_form=form).rows([given]) == [wanted.encode()]


def test_what_line_does_not_take_has_no_row() -> None:
    long = Identifier("email", f"{'a' * 60}@{'b' * 50}.{'c' * 10}.jp")

    assert line().rows([long, Identifier("email", "nobody"), PHONE, IDFA]) == []


def test_the_form_in_parts_has_no_boundary_in_what_is_signed_and_is_as_long_as_it_says() -> None:
    upload = line().upload("main", cargo(line(), [EMAIL], [HANAKO]), AT)

    body = sent(upload).body

    boundary = upload.headers["content-type"].partition("boundary=")[2]
    assert body.count(boundary.encode()) == 5
    assert b'name="action"\r\n\r\nREPLACE\r\n' in body
    assert b"ADD" not in body
    signed = Signer("LINEADSAMPLE", Secret("LINEADSECRETKEYSAMPLE")).headers(
        "/api/v3/adaccounts/A1234567/custom-audiences/upload", AT, kind="multipart/form-data"
    )
    assert upload.headers["authorization"] == signed["authorization"]


def test_a_job_is_ours_when_it_is_the_one_replacement_since() -> None:
    read = polls().read
    before = line().reference(
        "main", listing(job(40, "FINISHED"), job(41, "FINISHED", "DIFF_ADD"), job(99, "FINISHED", audience=8))
    )
    assert before == "7001:41"

    for state, wanted in {"QUEUED": None, "WORKING": None, "FINISHED": Evidence.processed}.items():
        [outcome] = read([before], listing(job(40, "FINISHED"), job(42, state), job(43, "FINISHED", "DIFF_ADD")))
        assert (outcome and outcome.grade) == wanted
    [failed] = read([before], listing(job(42, "FAILED")))
    assert failed is not None
    assert (failed.grade, failed.reason) == (Evidence.sent, "job-failed")
    [foreign] = read([before], listing(job(42, "FINISHED"), job(43, "FINISHED")))
    assert foreign is not None
    assert foreign.reason == "swapped-elsewhere"
    assert read([before], listing(job(42, "FINISHED"), job(43, "WORKING"))) == [None]
    assert read([before], listing(job(40, "FINISHED"))) == [None]  # an older one proves nothing
    assert read([before], listing(job(42, "ELSE"))) == [None]


def test_an_upload_has_arrived_when_its_job_is_known() -> None:
    assert line().arrived("7001:41", listing(job(42, "QUEUED"))) is True
    assert line().arrived("7001:41", listing(job(41, "FINISHED"))) is False
    with pytest.raises(Retry):
        line().arrived("7001:41", HttpResponse(status=500, headers={}, body=b""))


@pytest.mark.parametrize(
    "body", [b'{"jobs": [{"jobStatus": "FINISHED"}]}', b'{"jobs": [{"audienceGroupJobId": true}]}', b'{"jobs": {}}']
)
def test_jobs_that_cannot_be_told_apart_are_no_answer(body: bytes) -> None:
    with pytest.raises(Retry, match="unreadable-answer"):
        polls().read(["7001:1"], HttpResponse(status=200, headers={}, body=body))


def test_what_concerns_everybody_is_tried_again_and_nobody_is_given_up() -> None:
    for status, code in {400: "request", 401: "auth", 403: "role", 404: "audience", 413: "http-413"}.items():
        with pytest.raises(Retry) as raised:
            line().taken("main", "7001:1", HttpResponse(status=status, headers={}, body=b'{"errors":[]}'))
        assert (raised.value.reason, raised.value.after, raised.value.perhaps) == (code, 900.0, False)


def test_an_account_without_an_audience_and_a_reference_that_is_none_are_refused() -> None:
    with pytest.raises(Rejected, match="no-audience"):
        line().upload("other", cargo(line()), AT)
    with pytest.raises(Rejected, match="no-reference"):
        polls().ask(["../x"], AT)


def test_every_problem_of_an_entry_is_named() -> None:
    found = check(
        partner("line_ads", ad_account="../A1", access_key="", audiences={"main": "x", "other": "x"}, id_type="IFA")
    )

    assert [each.split(":")[0] for each in found] == [
        "identifiers",
        "settings.ad_account",
        "settings.access_key",
        "settings.audiences",
        "settings.audiences.main",
        "settings.audiences.other",
        "settings.audiences",
    ]


@pytest.fixture
async def vendor() -> AsyncIterator[tuple[str, LineAds, Exchange, list[int]]]:
    clock = [AT]
    running = emulating("line_ads", "LINEADSECRETKEYSAMPLE", lambda: clock[0], options={"work_s": "60"})
    async with running as address, Sender([authority(address)]) as sender:
        built = line(base_url=address)
        yield address, built, Exchange(built, sender, 2.0), clock


async def test_a_list_takes_the_place_of_the_one_before_when_its_job_is_done(
    vendor: tuple[str, LineAds, Exchange, list[int]],
) -> None:
    address, built, exchange, clock = vendor
    references = []
    for people in ((EMAIL, HANAKO), (HANAKO,)):
        outcome = await _swap(built, exchange, clock, *people)
        references.append(outcome)
        assert await exchange.ask([outcome], lambda: clock[0]) == [None]
        clock[0] += 60_000
        [answer] = await exchange.ask([outcome], lambda: clock[0])
        assert answer is not None
        assert answer.grade == Evidence.processed

    state = await control(address, "state")
    assert references == ["7001:0", "7001:9000"]
    assert state["audiences"] == {"7001": [row.decode() for row in built.rows([HANAKO])]}


async def test_a_fourth_replacement_at_a_time_is_too_many(vendor: tuple[str, LineAds, Exchange, list[int]]) -> None:
    _, built, exchange, clock = vendor
    for _ in range(built.at_once):
        await _swap(built, exchange, clock, EMAIL)

    with pytest.raises(Retry, match="throttled"):
        await _swap(built, exchange, clock, EMAIL)


async def _swap(built: LineAds, exchange: Exchange, clock: list[int], *people: Identifier) -> str:
    def now() -> int:
        return clock[0]

    reference: str = await exchange.put(
        lambda: built.before("main", now()), lambda answer: built.reference("main", answer), now, None
    )
    listed = cargo(built, people)
    await exchange.put(
        lambda: built.upload("main", listed, now()), lambda answer: built.taken("main", reference, answer), now, None
    )
    return reference
