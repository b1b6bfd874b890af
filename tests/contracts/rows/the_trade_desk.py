"""The Trade Desk's deletions and opt-outs."""

from hashlib import sha256

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, IDFA, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]

ROW = Row(
    settings={"holder": "advertiser", "ids": {"main": {"id": "adv7q2"}}},
    secrets={"ttd_auth": Secret("ttd-token-of-nobody")},
    addresses={"base_url": ""},
    secret="ttd_auth",
    limits=Limits(items=1000),
    key=("ttd-token-of-nobody",),
    kinds=("idfa", "gaid"),
    grants=False,
    asked=IDFA,
    held=sha256(IDFA.value.lower().encode()).hexdigest(),
    applied=("OptOut",),
    cases=(
        *(Case(verb, (item(verb, IDFA, GAID, EMAIL),)) for verb in ("withdraw", "suspend", "delete")),
        Case("batch", (item("withdraw", IDFA), item("suspend", GAID, number=2), item("withdraw", IDFA, number=3))),
        Case("lower", (item("delete", IDFA),), {"daid_form": "lower"}),
        Case("tokyo", (item("withdraw", GAID),), {"base_url": "https://tok-data.adsrvr.org"}),
        Case(
            "thirdparty",
            (item("withdraw", GAID),),
            {"holder": "thirdparty", "ids": {"main": {"id": "provider1", "brand_id": "brand1"}}},
        ),
        Case("merchant", (item("delete", GAID),), {"holder": "merchant", "ids": {"main": {"id": "700123"}}}),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("throttled", perhaps=False),
        "429-retry-after": Retry("throttled", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "503": Retry("http-503"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "denied": Retry("forbidden", 900.0, perhaps=False),
        "too-large": Rejected("too-large"),
        "invalid-rows": [(Evidence.none, "invalid-user-id")],
        "line-unknown": Retry("line-unknown"),
        "wrong-order": ACCEPTED,
    },
)
