"""OpenDSR: what each dialect says, what answers mean, and which reports are believed."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from tests.contracts.rows import AT, EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, item, partner
from todoke.schemas.errors import Misconfigured, Rejected, Retry, TodokeError
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpResponse, Outcome
from todoke.sinks.connectors import build, check
from todoke.sinks.connectors.opendsr import OpenDsr, subject_request_id
from todoke.sinks.emulators import emulating
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority

CALLBACK = "https://controller.example/opendsr/callbacks"
DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "2.0": ("/v2", {}),
    "mparticle": ("/v3", {}),
    "appsflyer": ("/api/gdpr/v1", {"property_ids": {"main": "com.example.app"}}),
}
ASKED = item("delete", EMAIL, PHONE, MEMBER, GAID)
ID = subject_request_id(ASKED)


def now() -> int:
    return int(time.time() * 1000)


def opendsr(dialect: str = "2.0", base: str = "https://processor.example", pem: str = "", **settings: Any) -> OpenDsr:
    root, more = DIALECTS[dialect]
    entry = partner("opendsr", base_url=base + root, dialect=dialect, **more, **settings)
    secrets = {"api_key": Secret("key"), **({"api_secret": Secret("word")} if dialect == "mparticle" else {})}
    secrets |= {"certificate": Secret(pem)} if pem else {}
    named = {name: f"env:{name.upper()}" for name in secrets}
    kinds = ("member_id", "gaid") if dialect == "appsflyer" else entry.identifiers
    built = build(type(entry)(**{**fields(entry), "secrets": named, "identifiers": kinds}), secrets)
    assert isinstance(built, OpenDsr)
    return built


def fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=json.dumps(body).encode())


@pytest.fixture(params=list(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def processor(dialect: str) -> AsyncIterator[tuple[str, OpenDsr, Exchange]]:
    options = {"dialect": dialect, **({"password": "word"} if dialect == "mparticle" else {})}
    async with emulating("opendsr", "key", now, options=options) as address, Sender([authority(address)]) as sender:
        pem = str((await fetch(address, "/cert.pem"))[1].decode())
        reports = {"callback_urls": [CALLBACK], "processor_domains": ["processor.example"]}
        built = opendsr(dialect, address, pem, **reports)
        yield address, built, Exchange(built, sender, 2)


async def fetch(address: str, path: str, built: OpenDsr | None = None) -> tuple[dict[str, str], bytes]:
    own = {"authorization": built.call("GET", "").headers["authorization"]} if built else {}
    async with aiohttp.ClientSession() as session, session.get(address + path, headers=own) as response:
        assert response.status == 200
        return dict(response.headers), await response.read()


async def strike(address: str, kind: str) -> None:
    fault = {"kind": kind, "times": 1}
    async with aiohttp.ClientSession() as session, session.post(f"{address}/_emulator/faults", json=fault) as response:
        assert response.status == 200


async def test_a_request_is_accepted_then_processed_and_a_repeat_is_the_same(
    processor: tuple[str, OpenDsr, Exchange],
) -> None:
    _, built, exchange = processor
    first = built.request([ASKED], AT)

    outcomes = [*await exchange.call([ASKED], now), *await exchange.call([ASKED], now)]

    assert outcomes == [Outcome(grade=Evidence.accepted, reference=ID)] * 2
    assert built.request([ASKED], AT + 86_400_000).body == first.body
    assert await exchange.ask([ID], now) == [Outcome(grade=Evidence.processed, reference=ID)]


async def test_a_request_that_fails_late_is_seen_by_the_question_and_by_the_report(
    processor: tuple[str, OpenDsr, Exchange],
) -> None:
    address, built, exchange = processor
    await exchange.call([ASKED], now)
    await strike(address, "late-failure")
    failed = Outcome(grade=Evidence.none, reference=ID, reason="request-cancelled")

    assert await exchange.ask([ID], now) == [failed]
    assert built.callbacks
    assert built.callbacks.read(*await fetch(address, f"/reports/{ID}", built), now()) == [(ID, failed)]


async def test_a_request_that_nobody_made_is_unknown(processor: tuple[str, OpenDsr, Exchange]) -> None:
    other = subject_request_id(item("delete", HANAKO, number=2))

    unknown = Outcome(grade=Evidence.none, reference=other, reason="request-unknown")
    assert await processor[2].ask([other], now) == [unknown]


async def test_a_report_is_believed_only_when_all_of_it_is_right(processor: tuple[str, OpenDsr, Exchange]) -> None:
    address, built, exchange = processor
    await exchange.call([ASKED], now)
    assert built.callbacks

    good = await fetch(address, f"/reports/{ID}", built)
    assert built.callbacks.read(*good, now()) == [(ID, Outcome(grade=Evidence.processed, reference=ID))]
    folded = {**good[0], "X-OpenDSR-Signature": "\n".join(good[0]["x-opendsr-signature"].partition("A"))}
    del folded["x-opendsr-signature"]
    assert built.callbacks.read(folded, good[1], now())
    refused = {}
    for kind in ("wrong-signature", "wrong-domain"):
        await strike(address, kind)
        refused[kind] = await fetch(address, f"/reports/{ID}", built), now()
    refused["changed"] = (good[0], good[1].replace(b"4308", b"4309")), now()
    refused["unsigned"] = ({**good[0], "x-opendsr-signature": ""}, good[1]), now()
    refused["late"] = good, now() + 400 * 86_400_000
    found = {}
    for kind, (report, at) in refused.items():
        with pytest.raises(Rejected) as raised:
            built.callbacks.read(*report, at)
        found[kind] = raised.value.reason

    assert found == {
        "wrong-signature": "callback-signature",
        "wrong-domain": "callback-domain",
        "changed": "callback-signature",
        "unsigned": "callback-signature",
        "late": "callback-certificate",
    }


@pytest.mark.parametrize("dialect", ["2.0"], indirect=True)
async def test_a_report_to_another_address_is_refused(processor: tuple[str, OpenDsr, Exchange]) -> None:
    address, built, exchange = processor
    await exchange.call([ASKED], now)
    report = await fetch(address, f"/reports/{ID}", built)
    pem = (await fetch(address, "/cert.pem"))[1].decode()
    elsewhere = opendsr(
        "2.0", address, pem, callback_urls=["https://other.example"], processor_domains=["processor.example"]
    )
    assert elsewhere.callbacks

    with pytest.raises(Rejected, match=r"^callback-address$"):
        elsewhere.callbacks.read(*report, now())


def test_the_id_is_a_uuid_of_version_4_and_each_request_has_its_own() -> None:
    assert UUID(ID).version == 4
    assert subject_request_id(item("delete", EMAIL, number=2)) != ID


def test_of_two_identities_of_a_type_mparticle_takes_the_first_and_a_person_sees_it() -> None:
    built = opendsr("mparticle")
    asked = item("delete", EMAIL, HANAKO, MEMBER)
    created = answer({"subject_request_id": ID, "encoded_request": "eyJ0YXJvIjoxfQ=="}, 201)

    told = json.loads(built.request([asked], AT).body)["subject_identities"]

    assert told["email"] == {"value": "taro.yamada@example.com", "encoding": "raw"}
    assert built.verdict([asked], created) == [
        Outcome(grade=Evidence.sent, reference=ID, reason="identifiers-left-out")
    ]
    [both] = opendsr("2.0").verdict([asked], created)
    assert (both.grade, both.reason) == (Evidence.accepted, "")


@pytest.mark.parametrize(
    ("dialect", "response", "wanted"),
    [
        ("mparticle", answer({"code": 400, "message": "Subject request already exists."}, 400), ID),
        ("mparticle", answer({"code": 409, "message": "There is an in progress request with the same"}, 409), ID),
        ("2.0", answer({"error": {"code": 409, "message": "request already exists"}}, 409), ID),
        ("appsflyer", answer({"error": {"code": 400, "af_gdpr_code": "e213"}}, 400), ID),
        ("appsflyer", answer({"error": {"code": 400, "af_gdpr_code": "e215"}}, 400), ID),
        (
            "appsflyer",
            answer({"subject_request_id": ID, "original_request_id": "a7551968-d5d6-44b2-9831-815ac9017798"}, 201),
            "a7551968-d5d6-44b2-9831-815ac9017798",
        ),
    ],
)
def test_what_is_there_already_is_ours(dialect: str, response: HttpResponse, wanted: str) -> None:
    assert opendsr(dialect).verdict([ASKED], response) == [Outcome(grade=Evidence.accepted, reference=wanted)]


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (answer({"code": 400, "message": "taro@example.com is bad"}, 400), Rejected("http-400")),
        (answer({"code": 409}, 409), Rejected("http-409")),
        (answer({"error": {"af_gdpr_code": "e319"}}, 400), Rejected("appsflyer-e319")),
        (answer({"error": {"af_gdpr_code": "taro@example.com"}}, 400), Rejected("http-400")),
        (answer({"error": {"af_gdpr_code": "e511"}}, 400), Retry("appsflyer-e511", 3600.0)),
        (answer({}, 401), Retry("auth", 900.0, perhaps=False)),
        (answer({}, 403), Retry("auth", 900.0, perhaps=False)),
        (answer({}, 429, **{"retry-after": "7"}), Retry("http-429", 7.0, perhaps=False)),
        (answer({}, 503), Retry("http-503")),
        (answer({"subject_request_id": "taro"}, 201), Retry("unreadable-answer")),
        (answer({"message": "already exists"}, 200), Retry("unreadable-answer")),
        (answer({"subject_request_id": str(UUID(int=7))}, 201), Retry("answer-of-something-else")),
    ],
)
def test_every_other_answer(response: HttpResponse, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        opendsr().verdict([ASKED], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"request_status": "pending"}, None),
        ({"request_status": "in_progress"}, None),
        ({"request_status": "in-progress"}, None),
        ({"request_status": "completed"}, Outcome(grade=Evidence.processed, reference=ID)),
        ({"request_status": "canceled"}, Outcome(grade=Evidence.none, reference=ID, reason="request-cancelled")),
    ],
)
def test_what_a_question_learns(body: dict[str, str], wanted: Outcome | None) -> None:
    polls = opendsr().polls
    assert polls

    assert polls.read([ID], answer({"subject_request_id": ID, **body})) == [wanted]
    with pytest.raises(Retry, match=r"^answer-of-something-else$"):
        polls.read([ID], answer({"subject_request_id": "x", **body}))
    with pytest.raises(Retry, match=r"^unreadable-answer$"):
        polls.read([ID], answer({"subject_request_id": ID, "request_status": "done"}))
    with pytest.raises(Retry, match=r"^auth$"):
        polls.read([ID], answer({}, 401))


def test_a_reference_cannot_leave_its_path() -> None:
    polls = opendsr().polls

    assert polls
    assert polls.ask(["../../x?y"], AT).url == "https://processor.example/v2/requests/..%2F..%2Fx%3Fy"


def test_what_cannot_be_said_is_refused() -> None:
    for dialect, asked in (("2.0", item("delete", PHONE)), ("appsflyer", item("delete", EMAIL, IDFA))):
        with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
            opendsr(dialect).request([asked], AT)


def test_a_certificate_that_is_none_is_a_problem_and_is_not_shown() -> None:
    with pytest.raises(Misconfigured) as raised:
        opendsr(pem="hunter2", callback_urls=[CALLBACK], processor_domains=["processor.example"])

    assert "secrets.certificate: not a certificate in PEM" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_the_entry_of_each_dialect_is_judged() -> None:
    entry = partner(
        "opendsr",
        dialect="mparticle",
        identity_format="sha256",
        property_ids={"main": "x"},
        callback_urls=["ftp://x", CALLBACK, CALLBACK, CALLBACK],
        processor_domains=["Processor.example"],
    )
    apps = partner("opendsr", dialect="appsflyer", skip_waiting_period=True)

    assert [each.split(";")[0] for each in check(entry)] == [
        "settings.callback_urls: not an http(s) address",
        "settings.callback_urls: 4",
        "settings.callback_urls: reports need processor_domains and secrets.certificate too",
        "settings.processor_domains: write each domain in lower case",
        "settings.identity_format: mparticle takes raw identities alone",
        "secrets.api_secret: missing",
        "settings.property_ids: AppsFlyer's alone",
    ]
    found = "\n".join(check(apps))
    assert "settings.skip_waiting_period: mParticle's alone" in found
    assert "settings.property_ids: account main has none" in found
    assert "identifiers" in found
