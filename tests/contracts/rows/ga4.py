"""Google Analytics' deletions of users."""

import json
from hashlib import sha256

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, MEMBER, PHONE, WAY, Case, Row, item
from .google_data_manager import ACCOUNT, SHOPPER

COOKIE = Identifier("cookie_id", " 1234567890.1700000000 ")
ACCEPTED = [(Evidence.accepted, "")]

ROW = Row(
    settings={"properties": {"main": "123456789"}},
    secrets={"service_account": Secret(json.dumps(ACCOUNT))},
    addresses={"base_url": "", "token_url": "/token"},
    secret="service_account",
    kinds=("member_id",),
    key=("PRIVATE KEY", "HMQQ60imZV1URk0K"),
    verbs=("delete",),
    grants=False,
    asked=MEMBER,
    held=sha256(MEMBER.value.encode()).hexdigest(),
    verb="delete",
    applied=("delete",),
    cases=(
        Case("delete", (item("delete", MEMBER, EMAIL),)),
        Case("client", (item("delete", COOKIE, MEMBER),), {"data": "cookie_id"}, kinds=("cookie_id",)),
        Case("email", (item("delete", SHOPPER, EMAIL),), {"data": "email"}, kinds=("email",)),
        Case("phone", (item("delete", PHONE),), {"data": "phone", "quota_project": "todoke-project"}, kinds=("phone",)),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("quota-minute", 60.0, perhaps=False),
        "429-retry-after": Retry("quota-minute", 90.0, perhaps=False),
        "403-quota": Retry("quota-minute", 60.0, perhaps=False),
        "403-day": Retry("quota-day", 3600.0, perhaps=False),
        "500": Retry("http-500"),
        "expired": ACCEPTED,
        "denied": Retry("permission-denied", 900.0, perhaps=False),
        "invalid": Rejected("invalid-argument"),
        "200-empty": Retry("unreadable-answer"),
        "token-refused": Retry("token-invalid-grant", 900.0, perhaps=False),
        "token-down": Retry("token-http-503", perhaps=False),
    },
)
