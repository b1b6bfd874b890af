"""Braze."""

from hashlib import sha256

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, HANAKO, MEMBER, PHONE, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]
GROUP = "51c2e8a4-6f0e-4b4e-9a0e-3b8b7f1d2c11"
OTHER = Identifier("member_id", "M-0002")

ROW = Row(
    settings={"base_url": "https://rest.iad-01.braze.com", "subscription_groups": {"main": {"ads": GROUP}}},
    secrets={"api_key": Secret("braze-key-of-nobody")},
    addresses={"base_url": ""},
    secret="api_key",
    limits=Limits(items=50),
    kinds=("member_id",),
    key=("braze-key-of-nobody",),
    asked=MEMBER,
    held=sha256(MEMBER.value.encode()).hexdigest(),
    applied=("unsubscribed",),
    cases=(
        *(Case(verb, (item(verb, MEMBER, EMAIL),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item("withdraw", MEMBER), item("suspend", OTHER, MEMBER, number=2))),
        *(
            Case(
                f"{verb}-by-email", (item(verb, EMAIL), item(verb, HANAKO, number=2)), {"data": "email"}, {}, ("email",)
            )
            for verb in ("withdraw", "delete")
        ),
        *(
            Case(f"{verb}-by-phone", (item(verb, PHONE),), {"data": "phone"}, {}, ("phone",))
            for verb in ("withdraw", "delete")
        ),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("http-429", perhaps=False),
        "429-retry-after": Retry("http-429", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "gone": Rejected("http-404"),
        "invalid-rows": Rejected("http-400"),
        "errors-inside": [(Evidence.sent, "errors-inside")],
        "fewer": ACCEPTED,
        "message": Retry("unreadable-answer"),
    },
)
