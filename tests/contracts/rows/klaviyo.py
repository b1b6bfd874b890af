"""Klaviyo's suppressions and deletions."""

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, HANAKO, WAY, Case, Row, item

TAGGED = Identifier("email", "Taro.Y+Shop@GMail.com")
ACCEPTED = [(Evidence.accepted, "")]

ROW = Row(
    settings={"create_profiles": True},
    secrets={"api_key": Secret("pk_of-nobody")},
    addresses={"base_url": ""},
    secret="api_key",
    limits=Limits(items=100),
    kinds=("email",),
    key=("pk_of-nobody",),
    applied=("suppress",),
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item(), item("suspend", HANAKO, TAGGED, number=2), item("withdraw", EMAIL, number=3))),
        Case("several", (item("delete", HANAKO, TAGGED),), {"revision": "2026-07-15"}),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("throttled", perhaps=False),
        "429-retry-after": Retry("throttled", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "denied": Retry("forbidden", 900.0, perhaps=False),
        "retired": Retry("api-version", 900.0, perhaps=False),
        "invalid": Rejected("klaviyo-invalid"),
        "202-errors": Retry("unreadable-answer"),
        "skipped": ACCEPTED,
        "cancelled": ACCEPTED,
    },
)
