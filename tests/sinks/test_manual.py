"""Partners that people tell: a list that only they can read, and no evidence that anybody but they brings."""

import csv
import io
from typing import Any

import pyrage
import pytest

from tests.contracts.rows import AT, EMAIL, HANAKO, MEMBER, PHONE, item, partner
from todoke.schemas.errors import Misconfigured, Rejected
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import HttpResponse, ListRequest
from todoke.sinks.connectors import build, check
from todoke.sinks.exchange import Exchange
from todoke.sinks.sender import Sender
from todoke.streams.worklist import sealed


def listed(*items: Any, **settings: Any) -> ListRequest:
    request = build(partner("manual", **settings), {}).request(items, AT)
    assert isinstance(request, ListRequest)
    return request


def test_only_a_recipient_opens_the_list() -> None:
    ours, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    request = listed(item("delete", EMAIL), recipients=[str(ours.to_public())])

    data = sealed(request)

    assert pyrage.decrypt(data, [ours]) == request.file.body
    assert b"taro.yamada" not in data
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(data, [other])


def test_a_recipient_whose_key_has_a_slip_is_named_before_anything_is_written() -> None:
    key = str(pyrage.x25519.Identity.generate().to_public())
    slip = key[:-1] + ("q" if key[-1] != "q" else "p")  # sound by its letters, not by its checksum

    assert check(partner("manual", recipients=[slip])) == []
    with pytest.raises(Misconfigured, match="recipients: not public keys"):
        sealed(listed(item(), recipients=[slip]))


def test_a_list_has_a_row_for_each_identifier_and_the_most_urgent_first() -> None:
    text = listed(item("delete", HANAKO, MEMBER), item("withdraw", PHONE, number=2, at=AT - 1000)).file.body.decode(
        "utf-8-sig"
    )

    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(each["verb"], each["kind"], each["identifier"]) for each in rows] == [
        ("withdraw", "phone", "'+819012345678"),
        ("delete", "email", "hanako@example.jp"),
        ("delete", "member_id", "M-0001"),
    ]


@pytest.mark.parametrize("value", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(value: str) -> None:
    body = listed(item("delete", Identifier("member_id", value))).file.body.decode("utf-8-sig")

    [row] = csv.DictReader(io.StringIO(body, newline=""))
    assert row["identifier"][0] not in "=+-@\t\r"


async def test_nobody_is_called() -> None:
    connector = build(partner("manual"), {})
    async with Sender([]) as sender:
        with pytest.raises(Rejected, match="by-hand"):
            await Exchange(connector, sender, 1).call([item()], lambda: AT)
    with pytest.raises(Rejected, match="by-hand"):
        connector.verdict([item()], HttpResponse(status=200, headers={}, body=b""))
    assert connector.reaches == Evidence.none


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"recipients": []}, "settings.recipients: none"),
        ({"recipients": ["AGE-SECRET-KEY-1…"]}, "settings.recipients[0]: not a public key"),
        ({"how": " "}, "settings.how: empty"),
    ],
)
def test_what_is_wrong_with_an_entry(settings: dict[str, Any], problem: str) -> None:
    assert problem in "\n".join(check(partner("manual", **settings)))
