"""Google Data Manager."""

import json
from pathlib import Path

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, WAY, Case, Row, item

PEM = (Path(__file__).parents[2] / "golden/oauth/rfc7515-a2.pem").read_text(encoding="utf-8")
ACCOUNT = {"client_email": "todoke@project.example", "private_key_id": "k1", "private_key": PEM}
ADS = {"account_id": "1234567890", "audience": "7001"}
VIDEO = {"account_id": "55", "account_type": "DISPLAY_VIDEO_ADVERTISER", "audience": "7002", "login_id": "99"}
SHOPPER = Identifier("email", "Cloudy.SanFrancisco+Shopping@GMail.com")

ACCEPTED = [(Evidence.accepted, "")]

ROW = Row(
    settings={"audiences": {"main": [ADS]}, "terms_accepted": True},
    secrets={"service_account": Secret(json.dumps(ACCOUNT))},
    addresses={"base_url": "", "token_url": "/token"},
    secret="service_account",
    limits=Limits(items=10_000),
    kinds=("email", "phone"),
    key=("PRIVATE KEY", "HMQQ60imZV1URk0K"),
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item(), item("delete", HANAKO, SHOPPER, number=2), item("suspend", EMAIL, number=3))),
        Case(
            "destinations",
            (item("withdraw", PHONE),),
            {"audiences": {"main": [ADS, VIDEO]}, "quota_project": "todoke-project"},
        ),
        Case("idfa", (item("withdraw", IDFA, EMAIL),), {"data": "idfa"}, kinds=("idfa",)),
        Case("gaid", (item("withdraw", GAID, IDFA),), {"data": "gaid"}, kinds=("gaid",)),
        Case("member", (item("delete", MEMBER),), {"data": "member_id"}, kinds=("member_id",)),
        Case("older-forms", (item("withdraw", SHOPPER),), {"older_email_forms": True}),
        Case("grant-consent", (item("grant", SHOPPER),), {"older_email_forms": True, "dma_consent": True}),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("quota-minute", 60.0, perhaps=False),
        "429-retry-after": Retry("quota-minute", 90.0, perhaps=False),
        "429-day": Retry("quota-day", 28_800.0, perhaps=False),
        "500": Retry("http-500"),
        "expired": ACCEPTED,
        "denied": Retry("permission-denied", 900.0, perhaps=False),
        "unknown-list": Retry("invalid-user-list-id", 900.0, perhaps=False),
        "invalid-rows": Rejected("invalid-sha256-format"),
        "late-failure": ACCEPTED,
        "partial": ACCEPTED,
        "status-lost": Retry("not-found", 900.0, perhaps=False),
        "token-refused": Retry("token-invalid-grant", 900.0, perhaps=False),
        "token-down": Retry("token-http-503", perhaps=False),
    },
)
