"""Segment's regulations."""

from hashlib import sha256

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, MEMBER, PHONE, WAY, Case, Row, item

SECOND = Identifier("member_id", "  m/ 0002 ")
ACCEPTED = [(Evidence.accepted, "")]

ROW = Row(
    settings={"user_id": "member_id"},
    secrets={"token": Secret("sgp_token-of-nobody")},
    addresses={"base_url": ""},
    secret="token",
    limits=Limits(items=5000),
    kinds=("member_id",),
    key=("sgp_token-of-nobody",),
    asked=MEMBER,
    held=sha256(MEMBER.value.encode()).hexdigest(),
    applied=("SUPPRESS_ONLY",),
    cases=(
        *(Case(verb, (item(verb, MEMBER, EMAIL),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item("withdraw", MEMBER), item("suspend", SECOND, MEMBER, number=2))),
        Case("email", (item("withdraw", EMAIL, PHONE),), {"user_id": "email"}, kinds=("email",)),
        Case(
            "internal",
            (item("delete", MEMBER),),
            {"deletion": "SUPPRESS_WITH_DELETE_INTERNAL", "base_url": "https://eu1.api.segmentapis.com"},
        ),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("throttled", perhaps=False),
        "429-retry-after": Retry("throttled", 90.0, perhaps=False),
        "429-quota": Retry("throttled", 7200.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "denied": Retry("forbidden", 900.0, perhaps=False),
        "422": Rejected("http-422"),
        "200-errors": Retry("unreadable-answer"),
        "partial": ACCEPTED,
        "unsupported": ACCEPTED,
        "late-failure": ACCEPTED,
        "invalid": ACCEPTED,
    },
)
