"""Meta: what goes into a row, and what each answer means."""

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from todoke.schemas.errors import Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Account, Limits, Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Item, Outcome
from todoke.sinks.connectors.meta import MOST_ROWS, Config, MetaAudiences, problems
from todoke.sinks.secrets import Secret

EMAIL = Identifier("email", "Taro.Yamada@example.com")
PHONE = Identifier("phone", "090-1234-5678")
EMAIL_ROW = ["b6ebd83922edfa96b0ff9166a958badcc230dd68d2315ddfea22f20eaf05994a", "", ""]
PHONE_ROW = ["", "0ad07193350775c6d4377f8b039d32877e66c69a454ed886b05279771c0fca0b", ""]


def meta(*, app_secret: str = "", most_bytes: int = 10_000_000) -> MetaAudiences:
    secrets = {"access_token": Secret("token"), **({"app_secret": Secret(app_secret)} if app_secret else {})}
    return MetaAudiences(Config(audiences={"main": "1", "other": "2"}), secrets, most_bytes)


def item(*identifiers: Identifier, verb: Verb = "withdraw", account: str = "main", number: int = 1) -> Item:
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


def taken(received: Any = 1, invalid: Any = 0, session: Any = "77") -> HttpResponse:
    return answer(
        {
            "audience_id": "1",
            "session_id": session,
            "num_received": received,
            "num_invalid_entries": invalid,
            "invalid_entry_samples": {"taro@example.com": "bad"},
        }
    )


def error(code: Any, status: int = 400, **more: Any) -> HttpResponse:
    return answer({"error": {"message": "taro@example.com is bad", "code": code, **more}}, status)


def fields(app: MetaAudiences, *items: Item, at: int = 1000) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(app.request(items, at).body.decode()).items()}


def test_each_identifier_has_a_row_and_nobody_has_two() -> None:
    devices = [Identifier("idfa", "6D92078A-8246-4BA4-AE5B-76104861E7DC"), Identifier("member_id", "M")]

    payload = json.loads(fields(meta(), item(EMAIL, PHONE), item(EMAIL, *devices, number=2))["payload"])

    assert payload["schema"] == ["EMAIL", "PHONE", "MADID"]
    assert payload["data"] == [EMAIL_ROW, PHONE_ROW, ["", "", "6d92078a-8246-4ba4-ae5b-76104861e7dc"]]


def test_restrictions_of_one_account_share_a_call_and_grants_do_not() -> None:
    app = meta()
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "delete", "grant")

    groups = [app.group(item(EMAIL, verb=verb)) for verb in verbs]

    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert app.group(item(EMAIL, account="other")) != groups[0]
    assert app.request([item(EMAIL, account="other")], 0).url == "https://graph.facebook.com/v25.0/2/users"
    assert [app.request([item(EMAIL, verb=verb)], 0).method for verb in verbs] == ["DELETE"] * 3 + ["POST"]


def test_adding_names_a_session_of_its_own_and_removing_none() -> None:
    app = meta()
    first = json.loads(fields(app, item(EMAIL, PHONE, verb="grant"))["session"])
    later = json.loads(fields(app, item(EMAIL, PHONE, verb="grant"), at=1001)["session"])

    assert {**first, "session_id": 0} == {
        "session_id": 0,
        "batch_seq": 1,
        "last_batch_flag": True,
        "estimated_num_total": 2,
    }
    assert 0 < first["session_id"] < 1 << 63
    assert first["session_id"] != later["session_id"]
    assert "session" not in fields(app, item(EMAIL))


def test_the_app_secret_proves_token_and_time() -> None:
    proven = fields(meta(app_secret="s"), item(EMAIL), at=1_764_000_000_999)

    assert proven["appsecret_time"] == "1764000000"
    assert proven["appsecret_proof"] == "925dc0efb2b6ede3859575572a27366a5fcf8de524df85af2316583ab327508e"
    assert "appsecret_proof" not in fields(meta(), item(EMAIL))


def test_the_token_is_in_the_header_alone() -> None:
    request = meta(app_secret="s").request([item(EMAIL)], 0)

    assert request.headers["authorization"] == "Bearer token"
    assert b"token" not in request.body
    assert "token" not in request.url


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    many = [item(*(Identifier("email", f"p{number}@example.jp") for number in range(MOST_ROWS + 1)))]

    for app, asked in ((meta(), many), (meta(most_bytes=100), [item(EMAIL, PHONE)])):
        with pytest.raises(Split) as raised:
            app.request(asked, 0)
        assert raised.value.perhaps is False
    assert meta().weight(many[0]) == MOST_ROWS + 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (item(Identifier("member_id", "M")), "no-usable-identifier"),
        (item(Identifier("phone", "119")), "no-usable-identifier"),
        (item(EMAIL, account="elsewhere"), "no-audience"),
    ],
)
def test_what_cannot_be_said_here_is_refused(asked: Item, reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}$"):
        meta().request([asked], 0)


def test_who_has_no_row_stands_alone_and_is_never_taken_for_told() -> None:
    app = meta()
    lacking = item(Identifier("phone", "119"), number=2)

    assert app.group(lacking) != app.group(item(EMAIL))
    assert app.group(lacking) != app.group(item(Identifier("phone", "119"), number=3))
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        app.request([item(EMAIL), lacking], 0)


def test_an_unsound_identifier_beside_a_sound_one_is_left_out() -> None:
    mixed = [item(EMAIL, Identifier("phone", "119")), item(EMAIL, number=2)]

    assert json.loads(fields(meta(), *mixed)["payload"])["data"] == [EMAIL_ROW]
    assert [each.grade for each in meta().verdict(mixed, taken(received=1))] == [Evidence.accepted] * 2
    with pytest.raises(Retry, match=r"^fewer-received$"):
        meta().verdict(mixed, taken(received=0))


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (taken(), Outcome(grade=Evidence.accepted, reference="77")),
        (taken(session=77), Outcome(grade=Evidence.accepted, reference="77")),
        (taken(session="taro@example.com"), Outcome(grade=Evidence.accepted)),
        (taken(received=5), Outcome(grade=Evidence.accepted, reference="77")),
        (taken(invalid=1), Outcome(grade=Evidence.none, reason="invalid-entry")),
    ],
)
def test_a_single_row(response: HttpResponse, wanted: Outcome) -> None:
    assert meta().verdict([item(EMAIL)], response) == [wanted]


def test_of_several_rows_some_may_have_been_taken_so_it_is_never_surely_nothing() -> None:
    [outcome] = meta().verdict([item(EMAIL, PHONE)], taken(received=2, invalid=1))

    assert outcome == Outcome(grade=Evidence.sent, reason="invalid-entry-partial")


def test_a_batch_is_accepted_whole_or_halved() -> None:
    two = [item(EMAIL), item(PHONE, number=2)]

    assert [each.grade for each in meta().verdict(two, taken(received=2))] == [Evidence.accepted] * 2
    with pytest.raises(Split) as raised:
        meta().verdict(two, taken(received=2, invalid=1))
    assert raised.value.perhaps is True


REGAIN = json.dumps(
    {
        "1": [{"type": "ads_management", "estimated_time_to_regain_access": 2}, "odd"],
        "2": [
            {"type": "custom_audience", "estimated_time_to_regain_access": 7},
            {"estimated_time_to_regain_access": "x"},
        ],
    }
)


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        *[(error(code), Retry(f"meta-{code}")) for code in (1, 2, 341, 368, 5000, 21009)],
        *[(error(code), Retry("throttled", perhaps=False)) for code in (4, 17, 613, 80003)],
        *[
            (error(code), Rejected(f"meta-{code}"))
            for code in (3, 100, 105, 194, 200, 294, 2650, 2655, 1487301, 1487366)
        ],
        (error(190), Retry("auth", 900.0, perhaps=False)),
        (error(190, 200), Retry("auth", 900.0, perhaps=False)),
        (error(2635), Retry("api-version", 900.0, perhaps=False)),
        (error(100, error_subcode=33), Rejected("meta-100-33")),
        (error(100, error_subcode=1713230), Rejected("audience-flagged")),
        (error(2, 200), Retry("meta-2")),
        (error(999), Rejected("meta-999")),
        (error(999, 500), Retry("meta-999")),
        (error(999, is_transient=True), Retry("meta-999")),
        (error("taro@example.com"), Retry("meta-unknown")),
        (taken(received=0), Retry("fewer-received")),
        (taken(received="1"), Retry("unreadable-answer")),
        (taken(invalid=None), Retry("unreadable-answer")),
        (taken(invalid=True), Retry("unreadable-answer")),
        (answer({"success": True}), Retry("unreadable-answer")),
        (answer([]), Retry("unreadable-answer")),
        (HttpResponse(status=200, headers={}, body=b"Service Unavailable"), Retry("unreadable-answer")),
        (HttpResponse(status=502, headers={}, body=b"<html>"), Retry("http-502")),
        (HttpResponse(status=404, headers={}, body=b"<html>"), Rejected("http-404")),
        (
            answer({"error": {"code": 80003}}, 400, **{"x-business-use-case-usage": REGAIN, "retry-after": "60"}),
            Retry("throttled", 420.0, perhaps=False),
        ),
        (
            answer({"error": {"code": 4}}, 400, **{"x-business-use-case-usage": "{", "retry-after": "60"}),
            Retry("throttled", 60.0, perhaps=False),
        ),
    ],
)
def test_every_other_answer(response: HttpResponse, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        meta().verdict([item(EMAIL)], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


def test_the_entry_must_have_an_audience_for_each_account_and_no_call_above_metas_limit() -> None:
    partner = Partner(
        name="meta",
        label="Meta",
        role="ad-distributor",
        legal_basis="consent",
        identifiers=("email",),
        accounts=(Account(name="main", scopes=("ads",)), Account(name="shop", scopes=("ads",))),
        connector="meta",
        limits=Limits(items=MOST_ROWS + 1),
        deadline_hours={},
    )

    audiences = {"main": "act_7", "old": "8", "shop": "env:SHOP"}
    found = problems(Config(audiences=audiences, api_version="25"), partner)
    lacking = problems(Config(audiences={"main": "7"}, api_version="env:VERSION"), partner)

    assert [each.split(";")[0] for each in found] == [
        "settings.audiences: old is no account of this partner",
        "settings.audiences.main: not the number of an audience",
        "settings.api_version: not a version",
        "limits.items: 10001",
    ]
    assert lacking == [
        "settings.audiences: account shop has none; give its audience's id",
        "limits.items: 10001; Meta takes 10000 rows a call",
    ]
