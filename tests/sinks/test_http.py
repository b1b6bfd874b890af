"""Waits and statuses, as RFC 9110 has them."""

import pytest

from todoke.schemas.errors import Rejected, Retry
from todoke.sinks.base import HttpResponse
from todoke.sinks.http import json_object, refuse, retry_after

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "99999999999"}, 86_400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "１２"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT", "date": DATE}, 60.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:37 GMT", "date": DATE}, 60.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:40:37 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Sun, 06 Nov 2094 08:49:37 GMT", "date": DATE}, 86_400.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37", "date": DATE}, None),
        ({"retry-after": "Sun, 99 Nov 1994 08:50:37 GMT", "date": DATE}, None),
    ],
)
def test_retry_after(headers: dict[str, str], wanted: float | None) -> None:
    assert retry_after(headers) == wanted


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (200, None),
        (299, None),
        (100, Retry("http-100", 5.0)),
        (301, Rejected("http-301")),
        (400, Rejected("http-400")),
        (408, Retry("http-408", 5.0)),
        (410, Rejected("http-410")),
        (429, Retry("http-429", 5.0, perhaps=False)),
        (500, Retry("http-500", 5.0)),
        (503, Retry("http-503", 5.0)),
    ],
)
def test_statuses(status: int, wanted: Retry | Rejected | None) -> None:
    found = refuse(HttpResponse(status=status, headers={"retry-after": "5"}, body=b""))

    assert (type(found), vars(found) if found else None) == (type(wanted), vars(wanted) if wanted else None)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b'{"a":', b'"a"'])
def test_what_is_no_object_is_none(body: bytes) -> None:
    assert json_object(HttpResponse(status=200, headers={}, body=body)) is None
