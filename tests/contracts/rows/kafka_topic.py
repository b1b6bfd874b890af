"""A topic of a partner's own; the real Kafka stands in tests/sinks/test_kafka_topic.py."""

from todoke.schemas.partners import Limits
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, Case, Row, item

ROW = Row(
    settings={
        "servers": ["broker-1.partner.example:9093", "broker-2.partner.example:9093"],
        "topics": {"main": "shop-suppressions"},
        "security": "SASL_SSL",
        "sasl_username": "todoke",
    },
    secrets={"sasl_password": Secret("password-of-nobody")},
    addresses={},
    secret="",
    limits=Limits(items=1000),
    key=("password-of-nobody",),
    way="topic",
    emulated=False,
    faults={},
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item(), item("withdraw", HANAKO, number=2))),
        Case("plain", (item("withdraw", EMAIL, PHONE, IDFA, GAID, MEMBER),), {"identifier_form": "plain"}),
    ),
)
