"""What every HTTP interface shares: how long to wait, what a status means where a vendor says nothing else."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from todoke.schemas.errors import Rejected, Retry, Split

from .base import SOMEBODY_MUST_ACT_S, HttpResponse

LONGEST_WAIT_S = 86_400.0
"""No answer may silence a withdrawal for longer than a day, whatever its clock says."""

PASSING = frozenset({408, 429})
NOT_APPLIED = frozenset({429})


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait according to `Retry-After`: a number, or an HTTP date (RFC 9110, 10.2.3). None without a sound one.

    A date is read against the answer's own `Date`, so that neither our clock nor a wrong one of theirs counts.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), LONGEST_WAIT_S)
    then, now = _date(value), _date(headers.get("date", ""))
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), LONGEST_WAIT_S)


def refuse(response: HttpResponse) -> Retry | Rejected | None:
    """What to raise for a status that is no success, None for a 2xx.

    408, 429 and 5xx pass (only a 429 surely changed nothing); 3xx is never followed, since a redirect would carry people
    to a host that nobody listed; any other 4xx is a no for good.
    """
    status = response.status
    if 200 <= status < 300:
        return None
    if status in PASSING or status >= 500 or status < 200:
        return Retry(f"http-{status}", retry_after(response.headers), perhaps=status not in NOT_APPLIED)
    return Rejected(f"http-{status}")


def refused(response: HttpResponse, must_act: Mapping[int, str], *, several: bool) -> Exception | None:
    """What to raise where the status says it all: `must_act` names those that hit everybody. None for another status.

    A 413 is one row's among `several`; a 429 surely changed nothing.
    """
    status = response.status
    if status in must_act:
        return Retry(must_act[status], SOMEBODY_MUST_ACT_S, perhaps=False)
    if status == 413:
        return Split("too-large", perhaps=False) if several else Rejected("too-large")
    if status == 429:
        return Retry("throttled", retry_after(response.headers), perhaps=False)
    return None


def count(answer: Mapping[str, Any] | None, name: str) -> int | None:
    """A whole number of an answer, None where it has none."""
    value = answer.get(name) if answer else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def json_object(response: HttpResponse) -> dict[str, Any] | None:
    """The body as a JSON object, None when it is none: an error page, a truncated answer, nothing."""
    try:
        decoded = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110, 5.6.7). One without a zone can't be compared, so it counts as none."""
    try:
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None
