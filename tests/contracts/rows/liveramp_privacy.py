"""LiveRamp's Privacy API."""

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]
STAGING = {"base_url": "https://privacy-api.staging.liveramp.com"}

ROW = Row(
    settings={"organization": "ORG-1", "account_id": "todoke-account"},
    secrets={"secret_key": Secret("secret-key-of-nobody")},
    addresses={"base_url": "", "token_url": "/authn/v1/oauth2/token"},
    secret="secret_key",
    kinds=("email",),
    grants=False,
    key=("secret-key-of-nobody",),
    applied=("OPT_OUT",),
    cases=(
        *(Case(verb, (item(verb, EMAIL, IDFA),)) for verb in ("withdraw", "suspend", "delete")),
        Case("first-of-two", (item("withdraw", HANAKO, EMAIL),)),
        Case("idfa", (item("delete", IDFA, GAID),), {"data": "idfa"}, kinds=("idfa",)),
        Case("gaid-staging", (item("delete", GAID),), {"data": "gaid", **STAGING}, kinds=("gaid",)),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("http-429", perhaps=False),
        "429-retry-after": Retry("http-429", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "503": Retry("http-503"),
        "expired": ACCEPTED,
        "invalid": Rejected("http-422"),
        "failed": [(Evidence.sent, "request-failed")],
        "late-failure": ACCEPTED,
        "other-request": ACCEPTED,
        "token-refused": Retry("token-invalid-grant", 900.0, perhaps=False),
        "token-down": Retry("token-http-503", perhaps=False),
    },
)
