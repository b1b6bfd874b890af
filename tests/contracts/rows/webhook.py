"""The signed webhook."""

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, IDFA, MEMBER, PHONE, WAY, Case, Row, item

ROW = Row(
    settings={"url": "https://partner.example/suppressions"},
    secrets={"signing_secret": Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")},
    addresses={"url": "/hook"},
    secret="signing_secret",
    options={"receipts": "true"},
    extra={"receipts": True},
    key=("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("plain", (item("withdraw", EMAIL, PHONE, IDFA, GAID, MEMBER),), {"identifier_form": "plain"}),
        Case(
            "two-secrets",
            (item(),),
            {},
            {"previous_secret": Secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfGGHm1Vz0=")},
        ),
    ),
    faults={
        **WAY,
        "slow": [(Evidence.processed, "")],
        "429": Retry("http-429", perhaps=False),
        "429-retry-after": Retry("http-429", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Rejected("http-401"),
        "gone": Rejected("endpoint-gone"),
        "invalid-rows": Rejected("http-422"),
        "bad-receipt": [(Evidence.accepted, "")],
    },
)
