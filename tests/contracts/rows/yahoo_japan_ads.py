"""Yahoo! JAPAN Ads: lists that are swapped."""

from todoke.schemas.errors import Retry
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, WAY, Case, Row, item

TAKEN = [(Evidence.accepted, "")]

ROW = Row(
    settings={
        "account_id": "1001234",
        "base_account_id": "1001",
        "client_id": "client-of-nobody",
        "lists": {"main": "7001"},
        "upload_type": "MAIL_ADDRESS_AND_PHONE_NUMBER",
        "overwrite_confirmed": True,
    },
    secrets={"client_secret": Secret("emulated-client-secret"), "refresh_token": Secret("refresh-of-nobody")},
    addresses={"base_url": "", "token_url": "/oauth/v1/token"},
    secret="refresh_token",
    key=("emulated-client-secret", "refresh-of-nobody"),
    kinds=("email", "phone"),
    way="swap",
    verb="grant",
    cases=(
        Case("addresses-and-phones", (item("grant"), item("grant", HANAKO, EMAIL, MEMBER, number=2))),
        Case("first-line", (item("grant"),), {"first_line": "mail_address,phone_number"}),
        Case("phones-with-country", (item("grant", PHONE),), {"phone_form": "country"}, kinds=("phone",)),
        Case("ios", (item("grant", IDFA),), {"upload_type": "IDFA"}, kinds=("idfa",)),
        Case("android", (item("grant", GAID),), {"upload_type": "AAID"}, kinds=("gaid",)),
        Case("version", (), {"api_version": "v20"}),
    ),
    faults={
        **WAY,
        "slow": TAKEN,
        "429": Retry("http-429", perhaps=False),
        "429-retry-after": Retry("http-429", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "503": Retry("http-503"),
        "expired": TAKEN,
        "denied": Retry("token-expired", 900.0, perhaps=False),
        "internal": Retry("internal"),
        "frequency": Retry("throttled", perhaps=False),
        "maintenance": Retry("maintenance", perhaps=False),
        "not-permitted": Retry("yahoo-210003", 900.0, perhaps=False),
        "value-failed": Retry("yahoo-110005", 900.0, perhaps=False),
        "garbled": Retry("unreadable-answer"),
        "invalid-file": TAKEN,
        "job-failed": TAKEN,
        "token-refused": Retry("token-invalid-grant", 900.0, perhaps=False),
        "token-down": Retry("token-http-503", perhaps=False),
    },
)
