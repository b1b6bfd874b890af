"""Files in a store; the emulator is one of S3, and the real servers of SFTP and S3 stand in tests/sinks/test_file_drop.py."""

from todoke.schemas.errors import Retry
from todoke.schemas.partners import Limits
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, HANAKO, IDFA, MEMBER, PHONE, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]
ROW = Row(
    settings={
        "url": "https://suppressions.s3.ap-northeast-1.amazonaws.com",
        "region": "ap-northeast-1",
        "folder": "in",
        "acknowledgements": "ack",
    },
    secrets={"access_key_id": Secret("AKIAEMULATED"), "secret_access_key": Secret("secret-key-of-nobody/1+2")},
    addresses={"url": "/bucket"},
    secret="secret_access_key",
    limits=Limits(items=50_000),
    key=("AKIAEMULATED", "secret-key-of-nobody"),
    way="file",
    several=True,
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")),
        Case("batch", (item(), item("withdraw", HANAKO, MEMBER, number=2), item("withdraw", EMAIL, number=3))),
        Case("plain", (item("withdraw", EMAIL, PHONE, IDFA, GAID, MEMBER),), {"identifier_form": "plain"}),
        Case("jsonl", (item(), item("withdraw", HANAKO, number=2)), {"format": "jsonl"}),
        Case(
            "liveramp",
            (item("withdraw", EMAIL, PHONE), item("withdraw", HANAKO, number=2)),
            {"format": "liveramp", "acknowledgements": ""},
            kinds=("email",),
        ),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("http-429", perhaps=False),
        "503": Retry("http-503"),
        "503-retry-after": Retry("http-503", 90.0),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "no-bucket": Retry("http-404", 900.0, perhaps=False),
        "moved": Retry("http-301", 900.0, perhaps=False),
        "conflict": Retry("conflict", perhaps=False),
        "rejected-rows": ACCEPTED,
        "failed": ACCEPTED,
        "unreadable": ACCEPTED,
        "other-file": ACCEPTED,
    },
)
