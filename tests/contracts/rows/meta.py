"""Meta Custom Audiences."""

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, WAY, Case, Row, item

ROW = Row(
    settings={"audiences": {"main": "120208749119170125"}},
    secrets={"access_token": Secret("EAAB-token-of-nobody"), "app_secret": Secret("app-secret-of-nobody")},
    addresses={"base_url": ""},
    secret="access_token",
    options={"app_secret": "app-secret-of-nobody"},
    limits=Limits(items=10_000),
    key=("EAAB-token-of-nobody", "app-secret-of-nobody"),
    cases=(
        Case("grant", (item("grant"),)),
        *(Case(verb, (item(verb),)) for verb in ("withdraw", "suspend", "delete")),
        Case("devices", (item("withdraw", IDFA, GAID, MEMBER),)),
        Case("batch", (item(), item("delete", HANAKO, number=2), item("suspend", EMAIL, number=3))),
        Case("version", (item(),), {"api_version": "v26.0"}),
    ),
    faults={
        **WAY,
        "slow": [(Evidence.accepted, "")],
        "429": Retry("throttled", perhaps=False),
        "429-retry-after": Retry("throttled", 120.0, perhaps=False),
        "500": Retry("meta-2"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "flagged": Rejected("audience-flagged"),
        "gone": Rejected("meta-100-33"),
        "invalid-rows": [(Evidence.none, "invalid-entry")],
        "partial": Retry("fewer-received"),
    },
)
