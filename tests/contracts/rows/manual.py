"""A partner that people tell: a list, and no call."""

from msgspec.structs import replace

from todoke.schemas.identity import Identifier

from . import AT, EMAIL, HANAKO, MEMBER, Case, Row, item

ADDRESS = Identifier("postal_address", "〒111-0051 台東区蔵前九丁目8番7号")
UNSOUND = Identifier("email", "=cmd|' /C calc'!A0")

ROW = Row(
    settings={
        "recipients": ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"],
        "how": "A letter to the privacy desk, by registered post",
    },
    secrets={},
    addresses={},
    secret="",
    grants=False,
    key=(),
    way="list",
    emulated=False,
    faults={},
    cases=(
        *(Case(verb, (item(verb),)) for verb in ("withdraw", "suspend", "delete")),
        Case(
            "by-deadline",
            (
                replace(item("delete", HANAKO, ADDRESS), deadline_at=AT + 9_000_000),
                replace(item("withdraw", EMAIL, MEMBER, number=2), deadline_at=AT + 3_600_000),
                item("suspend", UNSOUND, number=3),
            ),
        ),
    ),
)
