"""Yahoo! JAPAN Ads: three layers of failure, which job is ours, and that a received list is not a reflected one."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, GAID, HANAKO, IDFA, PHONE, partner, rows
from tests.contracts.test_swapped import control
from tests.golden.connectors.make import Rows, cargo, sent
from todoke.schemas.errors import Expired, Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpRequest, HttpResponse
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.yahoo_japan_ads import KINDS, MOST_BYTES, Jobs, YahooJapanAds
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

HOUR = 3_600_000


def yahoo(**settings: Any) -> YahooJapanAds:
    kinds = KINDS[settings.get("upload_type", "MAIL_ADDRESS_AND_PHONE_NUMBER")]
    entry = replace(partner("yahoo_japan_ads", **settings), identifiers=tuple(sorted(kinds)))
    built = build(entry, rows()["yahoo_japan_ads"].secrets)
    assert isinstance(built, YahooJapanAds)
    return built


def polls() -> Jobs:
    found = yahoo().polls
    assert found is not None
    return found


def answer(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, headers={}, body=json.dumps(body).encode())


def job(submitted: int, status: str, number: int = 7001) -> dict[str, Any]:
    return {
        "uploadJobId": f"j{submitted}",
        "audienceListId": number,
        "uploadSubmitDate": str(submitted),
        "jobStatus": status,
    }


def page(*jobs: dict[str, Any]) -> HttpResponse:
    values = [{"operationSucceeded": True, "errors": None, "uploadJob": each} for each in jobs]
    return answer({"errors": None, "rval": {"totalNumEntries": len(jobs), "values": values or None}})


def failed(*codes: str) -> list[dict[str, Any]]:
    return [{"code": each, "message": "taro.yamada"} for each in codes]


OLD, NEW, NEWER = 20261123100000, 20261123110000, 20261123110500


@pytest.mark.parametrize(
    ("kind", "form", "given", "wanted"),
    [
        ("MAIL_ADDRESS_AND_PHONE_NUMBER", "national", EMAIL, EMAIL_HASH),
        (
            "MAIL_ADDRESS_AND_PHONE_NUMBER",
            "national",
            PHONE,
            "9876ccefa1e426aad25916a9cec49e9598bffcd5434d356c7d0c3cd3f0142baa",
        ),
        (
            "MAIL_ADDRESS_AND_PHONE_NUMBER",
            "country",
            PHONE,
            "0ad07193350775c6d4377f8b039d32877e66c69a454ed886b05279771c0fca0b",
        ),
        ("IDFA", "national", IDFA, "6D92078A-8246-4BA4-AE5B-76104861E7DC"),
        ("AAID", "national", GAID, "cdda802e-fb9c-47ad-9866-0794d394c912"),
    ],
)
def test_a_row_is_one_identifier_in_lys_form(kind: str, form: str, given: Identifier, wanted: str) -> None:
    assert yahoo(upload_type=kind, phone_form=form).rows([given]) == [wanted.encode()]


def test_an_upload_names_its_list_and_begins_with_the_line_that_is_asked_for() -> None:
    built = yahoo(first_line="mail_address")
    upload = built.upload("main", cargo(built, [EMAIL], [HANAKO]), AT)

    assert upload.url.endswith(
        "?accountId=1001234&audienceListId=7001&uploadType=MAIL_ADDRESS_AND_PHONE_NUMBER&compressType=NONE"
    )
    assert upload.headers["x-z-base-account-id"] == "1001"
    assert b"\r\n\r\nmail_address\n3aed607c" in sent(upload).body
    with pytest.raises(Rejected, match="too-large"):
        yahoo().upload("main", Rows(Vast(b""), 1), AT)


class Vast(bytes):
    """More than LY takes, without being there."""

    def __len__(self) -> int:
        return MOST_BYTES + 1


def test_an_upload_is_only_accepted_whatever_it_says_of_its_job() -> None:
    for state in ("RECEIVING", "RECEIVED"):
        outcome = yahoo().taken("main", "7001:0", page(job(NEW, state)))
        assert (outcome.grade, outcome.reference) == (Evidence.accepted, "7001:0")
    with pytest.raises(Retry, match="unreadable-answer"):
        yahoo().taken("main", "7001:0", page(job(NEW, "RECEIVED", number=8)))
    with pytest.raises(Retry, match="unreadable-answer"):
        yahoo().taken("main", "7001:0", page())


def test_a_received_list_counts_only_when_it_should_be_reflected() -> None:
    """The question waits: nothing in an answer says that a list is reflected."""
    built = yahoo(reflect_hours=4)
    assert built.polls is not None
    assert (built.polls.first_ms, built.polls.ends_ms) == (4 * HOUR, 12 * HOUR)
    assert any(
        "settings.job_hours: 4" in each for each in check(partner("yahoo_japan_ads", reflect_hours=4, job_hours=4))
    )


def test_a_job_is_ours_when_it_is_the_one_submitted_since() -> None:
    before = yahoo().reference("main", page(job(OLD, "RECEIVED"), job(OLD - 5, "FAILED")))
    assert before == f"7001:{OLD}"
    assert yahoo().reference("main", page()) == "7001:0"

    read = polls().read
    assert read([before], page(job(OLD, "RECEIVED"))) == [None]  # an older one proves nothing
    assert read([before], page(job(NEW, "RECEIVING"))) == [None]
    assert read([before], page(job(NEW, "RECEIVED", number=8))) == [None]
    found = [
        read([before], page(job(OLD, "RECEIVED"), job(NEW, "RECEIVED"))),
        read([before], page(job(NEW, "INVALID_FILE"))),
        read([before], page(job(NEW, "FAILED"))),
        read([before], page(job(NEW, "RECEIVED"), job(NEWER, "RECEIVED"))),
    ]
    assert [(each.grade, each.reason) for [each] in found if each] == [
        (Evidence.processed, ""),
        (Evidence.sent, "invalid-file"),
        (Evidence.sent, "job-failed"),
        (Evidence.sent, "swapped-elsewhere"),
    ]
    assert yahoo().arrived(before, page(job(OLD, "RECEIVED"))) is False
    assert yahoo().arrived(before, page(job(NEW, "RECEIVING"))) is True


@pytest.mark.parametrize("where", ["answer", "value"])
@pytest.mark.parametrize(
    ("codes", "reason", "after", "perhaps"),
    [
        (("0002",), "internal", None, True),
        (("0003",), "throttled", None, False),
        (("0099",), "maintenance", None, False),
        (("F0001", "0002"), "internal", None, True),
        (("0001",), "yahoo-0001", 900.0, False),
        (("210003",), "yahoo-210003", 900.0, False),
        (("RL001",), "yahoo-RL001", 900.0, False),
        (("taro.yamada",), "unreadable-answer", None, True),
        ((), "unreadable-answer", None, True),
    ],
)
def test_a_200_may_be_a_failure_in_two_places(
    where: str, codes: tuple[str, ...], reason: str, after: float | None, perhaps: bool
) -> None:
    body = (
        {"errors": failed(*codes) or [{}]}
        if where == "answer"
        else {"rval": {"values": [{"operationSucceeded": False, "errors": failed(*codes)}]}}
    )

    with pytest.raises(Retry) as raised:
        yahoo().taken("main", "7001:0", answer(body))

    assert (raised.value.reason, raised.value.after, raised.value.perhaps) == (reason, after, perhaps)


def test_a_dead_token_is_got_anew_and_a_value_without_its_word_is_no_success() -> None:
    for response in (answer({}, 401), answer({"errors": failed("0111")})):
        with pytest.raises(Expired):
            yahoo().taken("main", "7001:0", response)
    silent = answer({"rval": {"values": [{"uploadJob": job(NEW, "RECEIVED")}]}})
    with pytest.raises(Retry, match="unreadable-answer"):
        yahoo().taken("main", "7001:0", silent)
    undated = answer({"rval": {"values": [{"operationSucceeded": True, "uploadJob": {"audienceListId": 7001}}]}})
    with pytest.raises(Retry, match="unreadable-answer"):
        yahoo().reference("main", undated)


def test_an_entry_is_refused_until_ly_has_said_what_an_upload_does() -> None:
    [found] = check(partner("yahoo_japan_ads", overwrite_confirmed=False))

    assert found.startswith("settings.overwrite_confirmed: LY doesn't write whether an upload adds or replaces")
    assert "manual" in found


def test_every_problem_of_an_entry_is_named() -> None:
    settings = {
        "account_id": "x",
        "base_account_id": "",
        "api_version": "19",
        "first_line": "a\nb",
        "lists": {"other": "x", "third": "x"},
        "reflect_hours": 0,
        "token_url": "ftp://x",
    }

    found = {each.split(":")[0] for each in check(partner("yahoo_japan_ads", **settings))}

    assert found == {f"settings.{name}" for name in (*settings, "lists.other", "lists.third")}


@pytest.fixture
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, YahooJapanAds, Exchange, list[int]]]:
    clock = [AT]
    options = {"receive_s": "60", "reflect_s": "3600", **getattr(request, "param", {})}
    running = emulating("yahoo_japan_ads", "refresh-of-nobody", lambda: clock[0], options=options)
    async with running as address, Sender([authority(address)]) as sender:
        built = yahoo(base_url=address, token_url=f"{address}/oauth/v1/token")
        yield address, built, Exchange(built, sender, 2.0), clock


async def test_a_list_takes_the_place_of_the_one_before(
    vendor: tuple[str, YahooJapanAds, Exchange, list[int]],
) -> None:
    address, built, exchange, clock = vendor

    for people in ((EMAIL, HANAKO), (HANAKO,)):
        reference = await _swap(built, exchange, clock, *people)
        assert await exchange.ask([reference], lambda: clock[0]) == [None]
        clock[0] += 6 * HOUR
        [found] = await exchange.ask([reference], lambda: clock[0])
        assert found is not None
        assert found.grade == Evidence.processed

    state = await control(address, "state")
    assert state["audiences"] == {"7001": [row.decode() for row in built.rows([HANAKO])]}


@pytest.mark.parametrize("vendor", [{"mode": "add"}], indirect=True)
async def test_where_an_upload_adds_nobody_leaves_which_is_why_it_must_be_confirmed(
    vendor: tuple[str, YahooJapanAds, Exchange, list[int]],
) -> None:
    address, built, exchange, clock = vendor

    for people in ((EMAIL, HANAKO), (HANAKO,)):
        await _swap(built, exchange, clock, *people)
        clock[0] += 6 * HOUR

    assert len((await control(address, "state"))["audiences"]["7001"]) == 2


async def _swap(built: YahooJapanAds, exchange: Exchange, clock: list[int], *people: Identifier) -> str:
    def now() -> int:
        return clock[0]

    def before() -> HttpRequest:
        return built.before("main", now())

    reference: str = await exchange.put(before, lambda found: built.reference("main", found), now, None)
    listed = cargo(built, people)
    await exchange.put(
        lambda: built.upload("main", listed, now()), lambda found: built.taken("main", reference, found), now, None
    )
    return reference
