"""How Google's interfaces say no: a status of the canonical codes, and details with reasons.

Sources: Google, AIP-193 "Errors"; Data Manager API, "Understand API errors", ErrorReason, "Limits and quotas", read
2026-11-23 in copies of 2026.
"""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from todoke.schemas.errors import Expired, Rejected, Retry, Split

from .base import HttpResponse
from .http import LONGEST_WAIT_S, json_object, refuse, retry_after
from .oauth import SOMEBODY_MUST_ACT_S

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
DAY_S = 86_400.0
RESET_S = 8 * 3600
"""A day's quota is back at midnight in California: 07:00 or 08:00 UTC."""


def raised(response: HttpResponse, everybody: Collection[str], *, several: bool) -> Exception:
    """What to raise for an answer that is no 200, by its status and reasons.

    Of the reasons in `everybody` and of 403 and 404 nobody's stop is given up: somebody must act. Any other 4xx is one
    item's, so of `several` it is a `Split`. Messages and descriptions may quote a person, so they are not read.
    """
    if response.status == 401:
        return Expired()
    if response.status == 408 or response.status >= 500 or response.status < 400:
        return refuse(response) or Retry("unreadable-answer")
    error = (json_object(response) or {}).get("error")
    reasons, quota = _reasons(error if isinstance(error, dict) else {})
    if response.status == 429:
        return _throttled(response, quota)
    shared = next((reason for reason in reasons if reason in everybody), "")
    name = code(shared or next(iter(reasons), f"http-{response.status}"))
    if shared or response.status in {403, 404}:
        return Retry(name, SOMEBODY_MUST_ACT_S, perhaps=False)
    return Split(name, perhaps=False) if several else Rejected(name)


def code(reason: str) -> str:
    """A reason as one of ours."""
    return reason.lower().replace("_", "-")


def _reasons(error: Mapping[str, Any]) -> tuple[list[str], str]:
    """Every reason, those of single fields first, and the quota that is used up."""
    fields: list[Any] = []
    whole: list[Any] = []
    quota = ""
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict):
            continue
        violations = detail.get("fieldViolations")
        fields += [each.get("reason") for each in violations or [] if isinstance(each, dict)]
        whole.append(detail.get("reason"))
        metadata = detail.get("metadata")
        quota = str(metadata.get("quota_limit", "")) if isinstance(metadata, dict) else quota
    named = [*fields, *whole, error.get("status")]
    return [each for each in named if isinstance(each, str) and NAME.fullmatch(each)], quota


def _throttled(response: HttpResponse, quota: str) -> Retry:
    """A minute's quota is back in a minute, a day's at its end; without a clock in the answer, asked again in an hour."""
    wait = retry_after(response.headers) or 0.0
    if "PerDay" not in quota:
        return Retry("quota-minute", wait or 60.0, perhaps=False)
    try:
        now = parsedate_to_datetime(response.headers.get("date", ""))
        since = timedelta(hours=now.hour, minutes=now.minute, seconds=now.second).total_seconds()
        left = (RESET_S - since) % DAY_S or DAY_S
    except ValueError:
        left = 3600.0
    return Retry("quota-day", min(max(wait, left), LONGEST_WAIT_S), perhaps=False)
