"""Events in a topic of a partner's own, one message for each identifier: see docs/partners/kafka_topic.md.

The contract is ours. Why it is not `SuppressionEntry`: docs/decisions/0017.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from todoke.processors import identifiers
from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import KINDS, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, Item, Message, Outcome, Plain, TopicRequest, TopicResponse
from todoke.sinks.events import Form, event, named
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import ENVIRONMENT, Secret
from todoke.sinks.settings import account_problems, authority, read, sound, this_machine
from todoke.sinks.topics import refusal

Security = Literal["SSL", "SASL_SSL", "PLAINTEXT", "SASL_PLAINTEXT"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_SERVER = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9a-f:.]+\]):\d{1,5}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a partner that reads a topic."""

    servers: Annotated[tuple[str, ...], Meta(description="Brokers to ask first, each host:port")]
    topics: Annotated[dict[str, str], Meta(description="The topic of each account")]
    identifier_form: Annotated[
        Form,
        Meta(description="What messages hold: hex SHA-256 of the canonical form, or that form; keys are hashes always"),
    ] = "sha256"
    security: Annotated[Security, Meta(description="How brokers are reached, by Kafka's names")] = "SSL"
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    sasl_username: str = ""
    ca_file: Annotated[
        str, Meta(description="Certificates of authorities that sign for the brokers; the system's when empty")
    ] = ""
    insecure_plaintext: Annotated[
        bool, Meta(description="Allow a way without TLS to another machine, within a network of your own only")
    ] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "sasl_password": ("The password of sasl_username", False),
    "client_certificate": ("Our certificate, PEM, where the cluster knows clients by theirs", False),
    "client_key": ("The key of that certificate, PEM", False),
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(KINDS)
EFFECTS: Mapping[Verb, str] = {
    "grant": "granted",
    "withdraw": "withdrawn",
    "suspend": "suspended",
    "delete": "deleted",
}


class KafkaTopic(Plain):
    """The topics of one partner."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, client: Mapping[str, str | Secret]) -> None:
        self._config = config
        self._client = client

    def group(self, item: Item) -> str:
        """Account and effect. Who has no message stands alone, so that the refusal touches nobody else."""
        alone = "" if named(item.identifiers, "sha256") else f"|{item.request_id}"
        return f"{item.account}|{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        return max(len(item.identifiers), 1)

    def request(self, items: Sequence[Item], at: int) -> TopicRequest:  # noqa: ARG002  # a repeat is the same to the byte
        topic = self._config.topics.get(items[0].account)
        if topic is None:
            raise Rejected("no-topic")
        messages = tuple(each for item in items for each in self._messages(item))
        return TopicRequest(servers=self._config.servers, topic=topic, client=self._client, messages=messages)

    def verdict(self, items: Sequence[Item], response: TopicResponse) -> Sequence[Outcome]:
        """Every message must lie at the brokers, or all are said again: a reader takes the last of each request."""
        if codes := [each.code for each in response.deliveries if each.code]:
            surely_not = len(codes) == len(response.deliveries) and all(map(refusal, codes))
            wait = SOMEBODY_MUST_ACT_S if refusal(codes[0]) else None
            raise Retry(codes[0] if refusal(codes[0]) else f"kafka-{codes[0]}", wait, perhaps=not surely_not)
        deliveries = iter(response.deliveries)
        outcomes = []
        for item in items:
            places = [next(deliveries) for _ in self._messages(item)]
            reference = f"{places[0].partition}/{places[0].offset}"
            outcomes.append(Outcome(grade=Evidence.accepted, reference=reference))
        return outcomes

    def _messages(self, item: Item) -> list[Message]:
        """One for each identifier, under its hash: so what is said of one stays in order, whichever obligation it is for."""
        found = []
        for each in item.identifiers:
            if not (told := named([each], "plain")):
                continue
            one = replace(item, identifiers=(each,))
            body = {"request_id": item.request_id, **event(one, EFFECTS[item.verb], self._config.identifier_form)}
            key = identifiers.digest(told[0].value).encode()
            found.append(Message(key=key, value=msgspec.json.encode(body)))
        if not found:
            raise Rejected("no-usable-identifier")
        return found


def build(partner: Partner, secrets: Mapping[str, Secret]) -> KafkaTopic:
    config = read(Config, partner)
    client: dict[str, str | Secret] = {"security.protocol": config.security}
    if config.security.startswith("SASL"):
        login = {"sasl.mechanism": config.sasl_mechanism, "sasl.username": config.sasl_username}
        client |= {**login, "sasl.password": secrets["sasl_password"]}
    if config.ca_file:
        client["ssl.ca.location"] = config.ca_file
    if "client_key" in secrets:
        client |= {"ssl.certificate.pem": secrets["client_certificate"], "ssl.key.pem": secrets["client_key"]}
    return KafkaTopic(config, client)


def problems(config: Config, partner: Partner) -> list[str]:
    found = _server_problems(config) + _login_problems(config, partner)
    found += account_problems(partner, "topics", config.topics, give="its topic", drop="topic")
    for name, topic in sorted(config.topics.items()):
        if not sound(_TOPIC, topic):
            found.append(f"settings.topics.{name}: not the name of a topic; letters, digits, . _ - alone")
    return found


def _server_problems(config: Config) -> list[str]:
    found = [] if config.servers else ["settings.servers: none; give at least one host:port"]
    tls = config.security.endswith("SSL")
    for index, each in enumerate(config.servers):
        if each.startswith(ENVIRONMENT):
            continue
        if not _SERVER.fullmatch(each):
            found.append(f"settings.servers[{index}]: not a host:port; write one as in broker.example:9093")
        elif not (tls or config.insecure_plaintext or this_machine(authority(f"kafka://{each}"))):
            found.append("settings.security: people's identifiers would show on the network; use SSL or SASL_SSL")
    return list(dict.fromkeys(found))


def _login_problems(config: Config, partner: Partner) -> list[str]:
    found, given = [], set(partner.secrets)
    if config.security.startswith("SASL"):
        if not config.sasl_username:
            found.append("settings.sasl_username: missing; say who we are there")
        if "sasl_password" not in given:
            found.append("secrets.sasl_password: missing; give env:NAME or file:PATH")
    elif "sasl_password" in given or config.sasl_username:
        found.append(
            f"settings.security: {config.security} has no password; say SASL_SSL, or drop sasl_username and secret"
        )
    if len(given & {"client_certificate", "client_key"}) == 1:
        found.append("secrets: client_certificate and client_key go together; give both or neither")
    return found


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=KafkaTopic.reaches,
    addresses=lambda config: tuple(f"kafka://{each}" for each in config.servers),
    problems=problems,
    make=build,
)
