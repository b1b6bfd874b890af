"""LINE Ads: lists that are swapped."""

from todoke.schemas.errors import Retry
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, WAY, Case, Row, item

ROW = Row(
    settings={
        "ad_account": "A1234567",
        "access_key": "LINEADSAMPLE",
        "audiences": {"main": "7001"},
        "id_type": "HASHED_EMAIL",
    },
    secrets={"secret_key": Secret("LINEADSECRETKEYSAMPLE")},
    addresses={"base_url": ""},
    secret="secret_key",
    key=("LINEADSECRETKEYSAMPLE",),
    kinds=("email",),
    way="swap",
    verb="grant",
    cases=(
        Case("addresses", (item("grant", EMAIL), item("grant", HANAKO, EMAIL, MEMBER, number=2))),
        Case("empty", ()),
        Case("phones", (item("grant", PHONE),), {"id_type": "HASHED_PHONE_NUMBER"}, kinds=("phone",)),
        Case(
            "phones-with-country",
            (item("grant", PHONE),),
            {"id_type": "HASHED_PHONE_NUMBER", "phone_form": "country"},
            kinds=("phone",),
        ),
        Case("devices", (item("grant", IDFA, GAID),), {"id_type": "IFA"}, kinds=("idfa", "gaid")),
        Case("base-path", (item("grant", EMAIL),), {"base_url": "https://proxy.example/line/"}),
    ),
    faults={
        **WAY,
        "slow": [(Evidence.accepted, "")],
        "429": Retry("throttled", perhaps=False),
        "429-retry-after": Retry("throttled", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "forbidden": Retry("role", 900.0, perhaps=False),
        "400": Retry("request", 900.0, perhaps=False),
        "garbled": Retry("unreadable-answer"),
        "job-failed": [(Evidence.accepted, "")],
        "job-lost": [(Evidence.accepted, "")],
    },
)
