"""Criteo contact lists."""

from todoke.schemas.errors import Retry
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]

ROW = Row(
    settings={"segments": {"main": "314195"}, "client_id": "client-of-nobody"},
    secrets={"client_secret": Secret("client-secret-of-nobody")},
    addresses={"base_url": "", "token_url": "/oauth2/token"},
    secret="client_secret",
    limits=Limits(items=50_000),
    kinds=("email",),
    key=("client-secret-of-nobody",),
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item(), item("delete", HANAKO, PHONE, number=2), item("suspend", EMAIL, number=3))),
        Case(
            "devices",
            (item("withdraw", IDFA, GAID, MEMBER, EMAIL),),
            {"identifier_type": "madid"},
            kinds=("idfa", "gaid"),
        ),
        *(Case(f"email-{form}", (item(),), {"email_form": form}) for form in ("md5", "sha256-of-md5", "plain")),
        Case("version", (item(),), {"api_version": "2026-07"}),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("throttled", 60.0, perhaps=False),
        "429-retry-after": Retry("throttled", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "expired": ACCEPTED,
        "denied": Retry("user-not-authorized", 900.0, perhaps=False),
        "gone": Retry("audience-invalid", 900.0, perhaps=False),
        "invalid-rows": [(Evidence.none, "invalid-identifier")],
        "errors-inside": Retry("internal-error"),
        "partial": Retry("fewer-received"),
        "token-refused": Retry("token-invalid-grant", 900.0, perhaps=False),
        "token-down": Retry("token-http-503", perhaps=False),
    },
)
