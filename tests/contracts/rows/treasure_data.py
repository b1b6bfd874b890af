"""Treasure Data's tombstone table."""

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]
QUOTED = Identifier("member_id", "x' OR '1'='1; DROP TABLE members --")

ROW = Row(
    settings={"database": "privacy", "table": "tombstones"},
    secrets={"api_key": Secret("1234/key-of-nobody")},
    addresses={"base_url": ""},
    secret="api_key",
    options={"table": "privacy/tombstones"},
    limits=Limits(items=5000),
    grants=False,
    key=("key-of-nobody",),
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("withdraw", "suspend", "delete")),
        Case("batch", (item("delete"), item("delete", HANAKO, QUOTED, number=2))),
        Case("plain", (item("delete", EMAIL, PHONE, IDFA, GAID, MEMBER, QUOTED),), {"identifier_form": "plain"}),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("http-429", perhaps=False),
        "429-retry-after": Retry("http-429", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "503": Retry("http-503"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "denied": Retry("denied", 900.0, perhaps=False),
        "no-table": Retry("no-such-table", 900.0, perhaps=False),
        "bad-record": Rejected("http-422"),
        "too-large": Rejected("http-413"),
        "no-json": Retry("unreadable-answer"),
    },
)
