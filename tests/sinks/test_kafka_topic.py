"""Events in a partner's topic, on a real Kafka as it is in earnest: TLS, logins and rights."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition, murmur2
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from msgspec.structs import replace

from tests.contracts.rows import AT, EMAIL, EMAIL_HASH, HANAKO, MEMBER, PHONE, item, partner
from tests.secured import PASSWORDS, Secured, provide
from todoke.processors.identifiers import digest
from todoke.schemas.errors import Misconfigured, Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import Connector, Delivery, TopicRequest, TopicResponse
from todoke.sinks.connectors import build, check, hosts
from todoke.sinks.exchange import Exchange
from todoke.sinks.secrets import Secret
from todoke.sinks.sender import Sender

PARTITIONS = 3


def now() -> int:
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with provide(tmp_path_factory.mktemp("secured")) as found:
        yield found


@pytest.fixture
def topic(secured: Secured) -> str:
    name = f"partner-{secrets.token_hex(4)}"
    admin = secured.admin()  # which has to outlive its answers
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1)]).values():
        future.result(30)
    return name


def connector(
    secured: Secured, topic: str, user: str = "broker", password: str = "", ca: Path | None = None
) -> Connector:
    entry = partner(
        "kafka_topic",
        servers=[secured.bootstrap],
        topics={"main": topic},
        sasl_username=user,
        ca_file=str(ca or secured.ca),
    )
    assert check(entry) == []
    return build(entry, {"sasl_password": Secret(password or PASSWORDS[user])})


@pytest.fixture
async def sender(secured: Secured) -> AsyncIterator[Sender]:
    async with Sender([secured.bootstrap]) as sender:
        yield sender


def read(secured: Secured, topic: str) -> list[Message]:
    """Everything that lies in a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": secured.bootstrap,
            **secured.client("broker"),
            "group.id": "x",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
    found, ended = [], 0
    while ended < PARTITIONS:
        message = consumer.poll(10)
        assert message is not None
        if message.error():
            ended += 1
        else:
            found.append(message)
    consumer.close()
    return found


async def test_what_is_delivered_is_accepted_and_says_where_it_lies(
    secured: Secured, topic: str, sender: Sender
) -> None:
    items = (item("withdraw", EMAIL, PHONE), item("withdraw", HANAKO, number=2))

    outcomes = await Exchange(connector(secured, topic), sender, 20).call(items, now)

    messages = {message.key(): message for message in read(secured, topic)}
    assert [each.grade for each in outcomes] == [Evidence.accepted] * 2
    assert set(messages) == {
        EMAIL_HASH.encode(),
        digest("+819012345678").encode(),
        digest("hanako@example.jp").encode(),
    }
    first = messages[EMAIL_HASH.encode()]
    assert outcomes[0].reference == f"{first.partition()}/{first.offset()}"
    said = json.loads(first.value() or b"")
    assert (said["request_id"], said["data"]["verb"]) == (items[0].request_id, "withdraw")
    assert said["data"]["identifiers"] == [{"kind": "email", "sha256": EMAIL_HASH}]


async def test_what_is_said_of_one_identifier_stays_in_order(secured: Secured, topic: str, sender: Sender) -> None:
    exchange = Exchange(connector(secured, topic), sender, 20)
    for verb in ("grant", "withdraw", "delete"):
        await exchange.call([item(verb, EMAIL)], now)

    messages = read(secured, topic)

    assert {each.partition() for each in messages} == {murmur2(EMAIL_HASH.encode(), PARTITIONS)}
    assert [json.loads(each.value() or b"")["data"]["verb"] for each in messages] == ["grant", "withdraw", "delete"]


async def test_a_guard_that_says_no_is_asked_once_there_is_a_way_and_nothing_is_said(
    secured: Secured, topic: str, sender: Sender
) -> None:
    asked: list[int] = []

    def guard() -> None:
        asked.append(1)
        raise Retry("overdue", 0, perhaps=False)

    with pytest.raises(Retry, match="overdue") as raised:
        await Exchange(connector(secured, topic), sender, 20).call([item()], now, guard)

    assert (asked, raised.value.perhaps) == ([1], False)
    assert read(secured, topic) == []


async def test_a_guard_is_not_asked_where_there_is_no_way(secured: Secured, sender: Sender) -> None:
    asked: list[int] = []

    with pytest.raises(Retry):
        await Exchange(connector(secured, "missing"), sender, 20).call([item()], now, lambda: asked.append(1))

    assert asked == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"password": "wrong-Pa55"}, "auth"),
        ({"user": "worker"}, "denied"),  # known, and without any right here
    ],
)
async def test_a_login_that_is_not_taken_gives_up_nobody(
    secured: Secured, topic: str, sender: Sender, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Retry, match=reason) as raised:
        await Exchange(connector(secured, topic, **given), sender, 6).call([item()], now)

    assert (raised.value.after, raised.value.perhaps) == (900.0, False)
    assert read(secured, topic) == []


async def test_rights_that_are_given_afterwards_are_enough(
    secured: Secured, topic: str, sender: Sender, capfd: pytest.CaptureFixture[str]
) -> None:
    exchange = Exchange(connector(secured, topic, "dispatcher"), sender, 6)
    for _ in range(3):  # until the client itself has given up, which it does only a moment later
        with pytest.raises(Retry, match="denied"):
            await exchange.call([item()], now)
        await asyncio.sleep(0.3)

    admin = secured.admin()
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    rights = [
        AclBinding(ResourceType.TOPIC, topic, literal, "User:dispatcher", "*", operation, allow)
        for operation in (AclOperation.WRITE, AclOperation.DESCRIBE)
    ]
    for future in admin.create_acls(rights).values():
        future.result(30)

    for _ in range(20):  # rights take a moment, too
        with contextlib.suppress(Retry):
            await exchange.call([item()], now)
            break
        await asyncio.sleep(0.3)

    assert read(secured, topic)
    assert "authorization failed" not in "".join(capfd.readouterr())


async def test_a_topic_that_is_missing_gives_up_nobody(secured: Secured, sender: Sender) -> None:
    with pytest.raises(Retry, match="unknown-topic") as raised:
        await Exchange(connector(secured, "missing"), sender, 20).call([item()], now)

    assert (raised.value.after, raised.value.perhaps) == (900.0, False)


async def test_brokers_whose_authority_we_do_not_trust_are_told_nothing(
    secured: Secured, topic: str, sender: Sender
) -> None:
    with pytest.raises(Retry, match="tls") as raised:
        await Exchange(connector(secured, topic, ca=secured.other_ca), sender, 6).call([item()], now)

    assert (raised.value.after, raised.value.perhaps) == (900.0, False)


async def test_nobody_there_is_no_answer() -> None:
    entry = replace(
        partner("kafka_topic", servers=["127.0.0.1:9"], topics={"main": "t"}, security="PLAINTEXT", sasl_username=""),
        secrets={},
    )
    assert check(entry) == []
    async with Sender(hosts([entry])) as sender:
        with pytest.raises(Retry, match="not-connected") as raised:
            await Exchange(build(entry, {}), sender, 2).call([item()], now)

    assert not raised.value.perhaps


async def test_brokers_that_no_partner_names_are_not_spoken_to(secured: Secured, topic: str) -> None:
    async with Sender(["elsewhere.example:9093"]) as sender:
        with pytest.raises(Misconfigured, match="no host of a partner"):
            await Exchange(connector(secured, topic), sender, 5).call([item()], now)


def built() -> Connector:
    return build(partner("kafka_topic"), {"sasl_password": Secret("x")})


@pytest.mark.parametrize(
    ("codes", "reason", "after", "perhaps"),
    [
        (["msg-timed-out", ""], "kafka-msg-timed-out", None, True),
        (["", "no-report"], "kafka-no-report", None, True),
        (["denied", "denied"], "denied", 900.0, False),
        (["", "denied"], "denied", 900.0, True),
        (["denied", "msg-timed-out"], "denied", 900.0, True),
    ],
)
def test_one_message_that_does_not_lie_there_has_all_said_again(
    codes: list[str], reason: str, after: float | None, perhaps: bool
) -> None:
    response = TopicResponse(deliveries=tuple(Delivery(code=each) for each in codes))

    with pytest.raises(Retry) as raised:
        built().verdict([item()], response)

    assert (raised.value.reason, raised.value.after, raised.value.perhaps) == (reason, after, perhaps)


def test_an_unsound_identifier_keeps_nobody_from_being_told() -> None:
    unsound = Identifier("email", "taro")
    request = built().request([item("withdraw", unsound, MEMBER)], AT)
    assert isinstance(request, TopicRequest)

    assert len(request.messages) == 1
    with pytest.raises(Rejected, match="no-usable-identifier"):
        built().request([item("withdraw", unsound)], AT)


@pytest.mark.parametrize(
    ("settings", "secrets", "problem"),
    [
        ({"servers": []}, ("sasl_password",), "settings.servers: none"),
        ({"servers": ["broker"]}, ("sasl_password",), "settings.servers[0]: not a host:port"),
        ({"security": "PLAINTEXT", "sasl_username": ""}, (), "settings.security: people's identifiers would show"),
        ({"sasl_username": ""}, ("sasl_password",), "settings.sasl_username: missing"),
        ({}, (), "secrets.sasl_password: missing"),
        ({"security": "SSL"}, ("sasl_password",), "settings.security: SSL has no password"),
        ({}, ("sasl_password", "client_key"), "go together"),
        ({"topics": {}}, ("sasl_password",), "settings.topics: account main has none"),
        ({"topics": {"main": "a", "b": "c"}}, ("sasl_password",), "settings.topics: b is no account"),
        ({"topics": {"main": "a/b"}}, ("sasl_password",), "settings.topics.main: not the name of a topic"),
    ],
)
def test_what_is_wrong_with_an_entry(settings: dict[str, Any], secrets: tuple[str, ...], problem: str) -> None:
    entry = replace(partner("kafka_topic", **settings), secrets=dict.fromkeys(secrets, "env:X"))

    assert problem in "\n".join(check(entry))
