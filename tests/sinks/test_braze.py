"""Braze: what goes into a call, and what each answer means."""

import json
from typing import Any

import pytest

from tests.contracts.rows import EMAIL, HANAKO, MEMBER, PHONE, item, partner
from todoke.schemas.errors import Rejected, Retry, Split, TodokeError
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Account, Limits
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpResponse, Outcome
from todoke.sinks.connectors.braze import MOST_IDS, Braze, Config, problems
from todoke.sinks.secrets import Secret

GROUP = "51c2e8a4-6f0e-4b4e-9a0e-3b8b7f1d2c11"
ACCEPTED = Outcome(grade=Evidence.accepted)


def braze(**settings: Any) -> Braze:
    config = {"base_url": "https://rest.iad-01.braze.com", "subscription_groups": {"main": {"ads": GROUP}}, **settings}
    return Braze(Config(**config), Secret("key"))


def answer(body: Any, status: int = 201, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=json.dumps(body).encode())


def deleted(number: Any) -> HttpResponse:
    return answer({"message": "success", "deleted": number})


def test_withdraw_and_suspend_share_a_call_and_delete_and_grant_do_not() -> None:
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "grant", "delete")

    groups = [braze().group(item(verb, MEMBER)) for verb in verbs]

    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_each_id_is_sent_once() -> None:
    body = json.loads(braze().request([item("delete", MEMBER), item("delete", MEMBER, number=2)], 0).body)

    assert body == {"external_ids": ["M-0001"]}


def test_a_call_that_is_too_large_is_to_be_halved() -> None:
    many = [Identifier("member_id", f"M{number}") for number in range(MOST_IDS + 1)]

    assert braze().weight(item("delete", *many)) == MOST_IDS + 1
    with pytest.raises(Split) as raised:
        braze().request([item("delete", *many)], 0)
    assert raised.value.perhaps is False


def test_what_cannot_be_said_is_refused_and_stands_alone() -> None:
    app, lost = braze(subscription_groups={}), item("withdraw", MEMBER, number=2)

    assert app.group(lost) != app.group(item("withdraw", MEMBER))
    assert app.group(item("delete", EMAIL)) != app.group(item("delete", MEMBER))
    with pytest.raises(Rejected, match=r"^no-subscription-group$"):
        app.request([lost], 0)
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        app.request([item("delete", MEMBER), item("delete", EMAIL, PHONE, number=2)], 0)


@pytest.mark.parametrize(
    ("settings", "response", "wanted"),
    [
        ({}, deleted(1), ACCEPTED),
        ({}, deleted(0), ACCEPTED),
        ({"data": "email"}, deleted(1), ACCEPTED),
        ({"data": "email"}, deleted(0), Outcome(grade=Evidence.none, reason="fewer-queued")),
        (
            {},
            answer({"message": "success", "deleted": 1, "errors": ["taro"]}),
            Outcome(grade=Evidence.sent, reason="errors-inside"),
        ),
        ({"not_found_is_done": True}, answer({}, 404), Outcome(grade=Evidence.accepted, reference="not-found")),
    ],
)
def test_a_deletion_of_one(settings: dict[str, Any], response: HttpResponse, wanted: Outcome) -> None:
    assert braze(**settings).verdict([item("delete", MEMBER, EMAIL)], response) == [wanted]


def test_of_two_addresses_of_one_person_one_may_be_left() -> None:
    [outcome] = braze(data="email").verdict([item("delete", EMAIL, HANAKO)], deleted(1))

    assert outcome == Outcome(grade=Evidence.sent, reason="fewer-queued")


@pytest.mark.parametrize(
    ("response", "perhaps"), [(deleted(1), True), (answer({"message": "Bad Request"}, 400), False)]
)
def test_a_batch_that_holds_a_doubt_is_halved(response: HttpResponse, *, perhaps: bool) -> None:
    two = [item("delete", EMAIL), item("delete", HANAKO, number=2)]

    with pytest.raises(Split) as raised:
        braze(data="email").verdict(two, response)
    assert raised.value.perhaps is perhaps


@pytest.mark.parametrize(
    ("verb", "response", "wanted"),
    [
        ("delete", deleted("1"), Retry("unreadable-answer")),
        ("delete", deleted(True), Retry("unreadable-answer")),
        ("delete", answer({"deleted": 1}), Retry("unreadable-answer")),
        ("delete", answer({}, 404), Rejected("http-404")),
        ("withdraw", answer({"message": "taro@example.com is bad"}), Retry("unreadable-answer")),
        ("withdraw", answer({"message": "success"}, 400), Rejected("http-400")),
        ("withdraw", answer({}, 401), Retry("auth", 900.0, perhaps=False)),
        ("withdraw", answer({}, 403), Retry("auth", 900.0, perhaps=False)),
        ("withdraw", answer({}, 429, **{"retry-after": "7"}), Retry("http-429", 7.0, perhaps=False)),
        ("withdraw", answer({}, 502), Retry("http-502")),
    ],
)
def test_every_other_answer(verb: Verb, response: HttpResponse, wanted: TodokeError) -> None:
    with pytest.raises(TodokeError) as raised:
        braze().verdict([item(verb, MEMBER)], response)

    assert (type(raised.value), vars(raised.value)) == (type(wanted), vars(wanted))


def test_a_404_to_a_subscription_is_never_done() -> None:
    with pytest.raises(Rejected, match=r"^http-404$"):
        braze(not_found_is_done=True).verdict([item("withdraw", MEMBER)], answer({}, 404))


def test_the_entry_has_a_group_for_each_scope_and_one_kind_of_identifier() -> None:
    entry = partner("braze")
    accounts = (Account(name="main", scopes=("ads", "mail")), Account(name="shop", scopes=("ads",)))
    changed = type(entry)(
        **{
            **{name: getattr(entry, name) for name in entry.__struct_fields__},
            "accounts": accounts,
            "identifiers": ("member_id", "email"),
            "limits": Limits(items=51),
        }
    )
    groups = {"main": {"ads": "x", "old": GROUP}, "gone": {}}
    config = Config(
        base_url="https://b.example", subscription_groups=groups, prioritization=("identified", "unidentified")
    )

    assert [each.split(";")[0] for each in problems(config, changed)] == [
        "identifiers: email can't be said with data = member_id",
        "settings.subscription_groups.main: scope mail has none",
        "settings.subscription_groups.main: old is no scope of the account",
        "settings.subscription_groups.main.ads: not the id of a group",
        "settings.subscription_groups.shop: scope ads has none",
        "settings.subscription_groups: gone is no account of this partner",
        "settings.prioritization: give one of identified and unidentified, most_recently_updated, or both",
        "limits.items: 51",
    ]
