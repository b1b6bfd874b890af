"""What every connector must do, run over the table: a new row is tested before its author writes a test."""

import re
import time
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, item, partner, rows
from tests.golden.connectors.make import cargo, golden
from todoke.schemas.errors import Misconfigured, Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import RESTRICTIVE, Evidence
from todoke.sinks.base import Connector, FileRequest, HttpRequest, HttpResponse, Item, Outcome, TopicRequest
from todoke.sinks.connectors import CONNECTORS, build, check, hosts
from todoke.sinks.emulators import EMULATORS, emulating
from todoke.sinks.emulators.server import TRANSPORT_FAULTS
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.sinks.settings import authority
from todoke.sinks.swaps import Swapped

ROOT = Path(__file__).parents[2]
ROWS = rows()
EMULATED = [name for name in CONNECTORS if ROWS[name].emulated and ROWS[name].way != "swap"]
CALLING = [name for name in CONNECTORS if ROWS[name].way != "swap"]
"""Those that tell of people one by one; what the others do instead is in test_swapped.py."""
GOLDEN = [(name, path, content) for name in CONNECTORS for path, content in golden(name).items()]

PEOPLE = ("taro.yamada", "1234", "hanako", "M-0001", "6d92078a", "cdda802e")
KEYS = tuple(key for row in ROWS.values() for key in row.key)


def connector(name: str, **changed: Any) -> Connector:
    return build(partner(name, **changed), ROWS[name].secrets)


def one(name: str, number: int = 1) -> Item:
    """An item that the row's interface can express."""
    return item(ROWS[name].verb, ROWS[name].asked, number=number, at=now())


def now() -> int:
    return int(time.time() * 1000)


def identifiers() -> st.SearchStrategy[tuple[Identifier, ...]]:
    emails = st.builds(lambda word: Identifier("email", f"{word}@example.jp"), st.from_regex(r"\A[a-z]{1,9}\Z"))
    phones = st.builds(lambda digits: Identifier("phone", f"090{digits:08d}"), st.integers(0, 99_999_999))
    opaque = st.builds(lambda word: Identifier("member_id", word), st.text(max_size=5))
    return st.lists(emails | phones | opaque, min_size=1, max_size=4).map(tuple)


def items() -> st.SearchStrategy[list[Item]]:
    verbs = st.sampled_from(["grant", "withdraw", "suspend", "delete"])
    one = st.builds(lambda verb, given, number: item(verb, *given, number=number), verbs, identifiers(), st.just(0))
    return st.lists(one, min_size=1, max_size=6).map(
        lambda many: [
            replace(each, request_id=f"r{index}", obligation_id=f"o{index}") for index, each in enumerate(many)
        ]
    )


@pytest.fixture(params=list(CONNECTORS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked_of(built: Connector, asked: Sequence[Item]) -> Any:
    """The call for items: where lists are swapped, the swap to a list of them."""
    if isinstance(built, Swapped):
        return built.upload("main", cargo(built, *(each.identifiers for each in asked)), AT)
    return built.request(asked, AT)


def shown(request: Any) -> str:
    """What others than the partner may come to see of a request: the way's addresses and names."""
    match request:
        case HttpRequest():
            return request.url + "".join(value for key, value in request.headers.items() if key != "authorization")
        case FileRequest():
            return request.url + "".join(each.path for each in request.files)
        case TopicRequest():
            return request.url + "".join(each.key.decode() for each in request.messages)
    return str(request.file.path)


@pytest.fixture
async def vendor(name: str) -> AsyncIterator[tuple[str, Connector, Sender]]:
    """The connector of a row, its emulator, and the real sender between them."""
    token = ROWS[name].secrets[ROWS[name].secret].reveal()
    async with emulating(name, token, now, options=ROWS[name].options) as address:
        own = {key: address + path for key, path in ROWS[name].addresses.items()}
        built = connector(name, **ROWS[name].extra, **own)
        async with Sender([authority(address)]) as sender:
            yield address, built, sender


async def control(address: str, path: str, faults: Any = None) -> Any:
    async with aiohttp.ClientSession() as session:
        method = "GET" if faults is None else "POST"
        async with session.request(method, f"{address}/_emulator/{path}", json=faults) as response:
            assert response.status == 200, await response.text()
            return await response.json()


async def call(built: Connector, sender: Sender, asked: Sequence[Item]) -> Sequence[Outcome]:
    return await Exchange(built, sender, 0.4).call(asked, now)


async def settled(built: Connector, sender: Sender, outcome: Outcome) -> Evidence:
    """The grade in the end: of the answer to a question where the interface takes questions."""
    if built.polls is None:
        return outcome.grade
    assert outcome.grade == Evidence.accepted
    [answer] = await Exchange(built, sender, 0.4).ask([outcome.reference], now)
    assert answer is not None
    return answer.grade


def test_every_module_has_its_row_its_golden_folder_its_emulator_and_its_page() -> None:
    modules = {path.stem for path in (ROOT / "sinks/connectors").glob("*.py")} - {"__init__"}

    missing = [
        f"CONNECTORS has no row {each}: add it in sinks/connectors/__init__.py" for each in modules - set(CONNECTORS)
    ]
    missing += [
        f"{each} has no {what}"
        for each in CONNECTORS
        for what, there in {
            "module": each in modules,
            "module in tests/contracts/rows": each in ROWS,
            "row in sinks/emulators/__init__.py": each in EMULATORS or not ROWS[each].emulated,
            "page in docs/partners": (ROOT / f"docs/partners/{each}.md").is_file(),
        }.items()
        if not there
    ]
    assert missing == []


def test_the_page_of_a_partner_names_every_setting_and_secret(name: str) -> None:
    page = (ROOT / f"docs/partners/{name}.md").read_text(encoding="utf-8")
    maker = CONNECTORS[name]

    wanted = {*maker.config.__struct_fields__, *maker.secrets, *maker.effects.values()}
    assert [each for each in sorted(wanted) if f"`{each}`" not in page] == []


def test_the_example_of_a_page_is_a_sound_entry(name: str) -> None:
    page = (ROOT / f"docs/partners/{name}.md").read_text(encoding="utf-8")
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        [entry] = tomllib.loads(block)["partner"]
        entry["accounts"] = entry.pop("account")

        assert check(msgspec.convert(entry, Partner)) == []


@pytest.mark.parametrize(("name", "path", "content"), GOLDEN, ids=[f"{name}/{path.stem}" for name, path, _ in GOLDEN])
def test_a_request_is_the_golden_one(name: str, path: Path, content: str) -> None:
    assert path.read_text(encoding="utf-8") == content


def test_no_golden_file_is_left_over(name: str) -> None:
    assert set((ROOT / "tests/golden/connectors" / name).iterdir()) == set(golden(name))


def test_a_sound_entry_has_no_problem_and_its_host_is_allowed(name: str) -> None:
    entry = partner(name)

    assert check(entry) == []
    url = asked_of(build(entry, ROWS[name].secrets), [one(name)]).url
    assert authority(url) in hosts([entry]) or (ROWS[name].way, url) == ("list", "")


def test_every_problem_of_an_entry_is_named_with_its_fix(name: str) -> None:
    elsewhere = dict.fromkeys(list(ROWS[name].addresses)[:1], "http://elsewhere.example/x")
    broken = replace(
        partner(name, **elsewhere, adress="x"),
        secrets={**dict.fromkeys(list(CONNECTORS[name].secrets)[:1], "hunter2"), "tokn": "env:T"},
        identifiers=(),
        done="confirmed",
    )

    found = "\n".join(check(broken))

    assert "settings.adress: unknown setting" in found
    assert "secrets.tokn: unknown secret" in found
    assert ("give env:NAME or file:PATH instead" in found) is bool(CONNECTORS[name].secrets)
    assert "hunter2" not in found
    assert "identifiers:" in found
    without_typo = "\n".join(check(replace(broken, settings={**ROWS[name].settings, **elsewhere})))
    assert ("done: confirmed is more than this interface gives evidence of" in without_typo) is (
        ROWS[name].way != "list"  # of which a person brings the evidence
    )
    assert ("use https" in without_typo) is bool(elsewhere)
    with pytest.raises(Misconfigured, match=f"partner {broken.name}: "):
        build(broken, ROWS[name].secrets)


def test_a_missing_setting_or_secret_and_a_verb_that_cannot_be_asked_are_problems(name: str) -> None:
    entry = partner(name)
    maker = CONNECTORS[name]

    assert "settings" in "\n".join(check(replace(entry, settings={})))
    without = "\n".join(check(replace(entry, secrets={})))
    assert ("missing; give env:NAME or file:PATH" in without) is bool(ROWS[name].secrets)
    nothing = maker._replace(effects={})
    asked = sorted([*ROWS[name].verbs, *(["grant"] if ROWS[name].grants else [])])
    assert [each.split(":")[0] for each in nothing.check(entry)] == [f"deadline_hours.{verb}" for verb in asked]


def test_an_unknown_connector_is_a_problem_with_a_guess() -> None:
    entry = replace(partner("meta"), connector="mata")

    assert check(entry) == ["connector: no connector is called mata; did you mean meta?"]
    with pytest.raises(Misconfigured, match="did you mean meta"):
        build(entry, {})


def test_every_restriction_can_be_asked_and_none_ends_like_a_grant(name: str) -> None:
    built = connector(name)

    assert RESTRICTIVE & set(built.effects) == set(ROWS[name].verbs)
    assert ("grant" in built.effects) is ROWS[name].grants
    assert built.effects.get("grant") not in {built.effects[verb] for verb in built.effects if verb != "grant"}
    assert Evidence.accepted <= built.reaches < Evidence.confirmed or ROWS[name].way == "list"


@pytest.mark.parametrize("name", CALLING)
@given(many=items())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_items_make_sound_calls_group_by_group(name: str, many: list[Item]) -> None:
    built = connector(name)
    groups: dict[str, list[Item]] = {}
    for each in many:
        if each.verb in built.effects:
            groups.setdefault(built.group(each), []).append(each)

    for members in groups.values():
        assert all(built.weight(each) >= 1 for each in members)
        try:
            request = built.request(members, AT)
        except Rejected:
            assert len(members) == 1  # nobody else is refused along with it
            continue
        assert request == built.request(members, AT)
        assert len({built.effects[each.verb] for each in members}) == 1 or ROWS[name].way == "list"
        assert not any(
            identifier.value in shown(request)
            for each in members
            for identifier in each.identifiers
            if identifier.kind != "member_id"
        )


def test_a_repr_shows_no_person_and_no_secret(name: str) -> None:
    built = connector(name)
    asked = [item(ROWS[name].verb, EMAIL, PHONE, IDFA, GAID, MEMBER)]
    request = asked_of(built, asked)
    answer = HttpResponse(status=200, headers={"x": "taro.yamada"}, body=b"taro.yamada")

    seen = "".join(f"{each!r}{each}" for each in (asked, request, answer, built, ROWS[name].secrets))

    assert [each for each in (*PEOPLE, *KEYS) if each.lower() in seen.lower()] == []


@pytest.mark.parametrize("name", [name for name in CONNECTORS if ROWS[name].way == "http"])
@pytest.mark.parametrize("status", [199, 302, 400, 401, 403, 404, 408, 409, 410, 413, 422, 429, 500, 502, 503, 599])
@pytest.mark.parametrize("body", [b"", b"taro.yamada@example.com", b"[]", b"{}", b'{"error": "taro.yamada"}', b"\xff"])
def test_no_failure_counts_as_success_and_none_quotes_the_answer(name: str, status: int, body: bytes) -> None:
    answer = HttpResponse(status=status, headers={}, body=body)

    with pytest.raises((Retry, Rejected)) as raised:
        connector(name).verdict([one(name)], answer)

    assert "taro" not in repr(raised.value)
    if isinstance(raised.value, Retry):
        assert raised.value.perhaps is (status != 429) or (400 <= status < 500 and not raised.value.perhaps)
    else:
        assert 300 <= status < 500


@pytest.mark.parametrize("name", [name for name in CONNECTORS if ROWS[name].emulated])
def test_every_fault_of_the_emulator_has_its_expectation(name: str) -> None:
    faults = EMULATORS[name].make.faults  # type: ignore[attr-defined]  # the makers are the classes

    assert set(ROWS[name].faults) == {*TRANSPORT_FAULTS, *faults}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in EMULATED for kind in ROWS[name].faults])
async def test_a_fault_ends_as_it_must_and_the_next_call_applies_once(
    name: str, kind: str, vendor: tuple[str, Connector, Sender]
) -> None:
    address, built, sender = vendor
    row = ROWS[name]
    asked = [item(row.verb, row.asked, at=now())]
    delay = 0.05 if kind == "slow" else 5
    await control(address, "faults", {"kind": kind, "times": 1, "after_s": 90, "delay_s": delay})
    expected = ROWS[name].faults[kind]

    if isinstance(expected, list):
        outcomes = await call(built, sender, asked)
        assert [(each.grade, each.reason) for each in outcomes] == expected
    else:
        with pytest.raises(TodokeError) as raised:
            await call(built, sender, asked)
        assert (type(raised.value), vars(raised.value)) == (type(expected), vars(expected))

    [outcome] = await call(built, sender, asked)
    counts = await control(address, "calls")
    assert await settled(built, sender, outcome) == built.reaches
    state = await control(address, f"state?identifier={row.held}")
    [last] = state["last"][row.held].values()
    assert last["op"] in row.applied
    calls = 2 + (kind == "expired") - kind.startswith("token-")  # once more with a new token; none without a token
    assert counts[f"fault:{kind}"] == 1
    assert row.several or counts["total"] == calls


@pytest.mark.parametrize("name", EMULATED)
async def test_a_lasting_fault_strikes_by_its_seed(name: str, vendor: tuple[str, Connector, Sender]) -> None:
    address, built, sender = vendor
    runs = []
    for seed in (1, 1, 2):
        await control(address, "faults", [{"kind": "429", "rate": 0.5, "seed": seed}])
        struck = []
        for number in range(12):
            try:
                await call(built, sender, [one(name, number=number)])
            except Retry:
                struck.append(number)
        runs.append(struck)

    assert runs[0] == runs[1] != runs[2]
    assert 0 < len(runs[0]) < 12


async def test_a_batch_with_a_bad_row_is_split_and_a_single_one_is_judged() -> None:
    token = ROWS["meta"].secrets["access_token"].reveal()
    async with emulating("meta", token, now) as address, Sender([authority(address)]) as sender:
        built = connector("meta", base_url=address)
        two = [item(), item("withdraw", HANAKO, number=2)]
        await control(address, "faults", {"kind": "invalid-rows"})

        with pytest.raises(Split, match="invalid-entry"):
            await call(built, sender, two)
        [outcome] = await call(built, sender, two[:1])

        assert (outcome.grade, outcome.reason) == (Evidence.sent, "invalid-entry-partial")
