"""What Google's interfaces share: how they are opened, and how they say no (a canonical status, details with reasons).

Sources: Google, AIP-193 "Errors"; Data Manager API, "Understand API errors", ErrorReason, "Limits and quotas", read
2026-11-23 in copies of 2026.
"""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from todoke.schemas.errors import Expired, Rejected, Retry, Split
from todoke.schemas.partners import Partner

from .base import SOMEBODY_MUST_ACT_S, Access, HttpResponse
from .http import LONGEST_WAIT_S, json_object, refuse, retry_after
from .oauth import RefreshToken, ServiceAccount
from .secrets import Secret

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
DAY_S = 86_400.0
RESET_S = 8 * 3600
"""A day's quota is back at midnight in California: 07:00 or 08:00 UTC."""

SECRETS: dict[str, tuple[str, bool]] = {
    "service_account": ("The JSON key file of a service account", False),
    "client_secret": ("Secret of the OAuth client, with a refresh token", False),
    "refresh_token": ("Refresh token of a user who has access, in place of a service account", False),
}


def access(partner: Partner, secrets: Mapping[str, Secret], token_url: str, client_id: str, scope: str) -> Access:
    """How a token is got with the secrets that are there. Raises `Misconfigured` for a key file that is none."""
    if "service_account" in secrets:
        where = f"partner {partner.name}: secrets.service_account"
        return ServiceAccount(token_url, secrets["service_account"], scope, where)
    return RefreshToken(token_url, client_id, secrets["client_secret"], secrets["refresh_token"])


def access_problems(client_id: str, partner: Partner) -> list[str]:
    """What is wrong with the secrets of an entry: a service account, or a client's refresh token, and not both."""
    given = set(partner.secrets)
    if "service_account" in given:
        more = sorted(given & {"client_secret", "refresh_token"})
        return [f"secrets.{name}: not needed with a service account; drop one of the two" for name in more]
    fix = "missing; give env:NAME or file:PATH"
    if not given & {"client_secret", "refresh_token"}:
        return [f"secrets.service_account: {fix}, or client_secret and refresh_token in its place"]
    found = [f"secrets.{name}: {fix}" for name in ("client_secret", "refresh_token") if name not in given]
    return found + ([] if client_id else ["settings.client_id: missing; a refresh token belongs to a client"])


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
