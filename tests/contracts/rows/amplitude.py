"""Amplitude's deletions."""

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
    secrets={"api_key": Secret("emulated-api-key"), "secret_key": Secret("amplitude:key-of-nobody")},
    addresses={"base_url": ""},
    secret="secret_key",
    limits=Limits(items=100),
    kinds=("member_id",),
    key=("emulated-api-key", "amplitude:key-of-nobody"),
    verbs=("delete",),
    grants=False,
    asked=MEMBER,
    held=sha256(MEMBER.value.encode()).hexdigest(),
    verb="delete",
    applied=("delete",),
    cases=(
        Case("delete", (item("delete", MEMBER, EMAIL),)),
        Case("batch", (item("delete", MEMBER), item("delete", SECOND, MEMBER, number=2))),
        Case("email", (item("delete", EMAIL, PHONE),), {"user_id": "email"}, kinds=("email",)),
        Case("all-or-nothing", (item("delete", MEMBER),), {"ignore_invalid_id": False, "requester": "privacy@shop"}),
        Case(
            "organisation",
            (item("delete", MEMBER),),
            {"delete_from_org": True, "base_url": "https://analytics.eu.amplitude.com"},
        ),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("throttled", perhaps=False),
        "429-retry-after": Retry("throttled", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "400": Rejected("http-400"),
        "200-errors": Retry("unreadable-answer"),
        "unknown-user": [(Evidence.processed, "")],
        "removed": ACCEPTED,
        "wrong-order": ACCEPTED,
    },
)
