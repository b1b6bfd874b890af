"""The breaker: how long a partner is left alone, by what it said and how often it failed."""

import pytest

from tests.rules import NOW
from todoke.schemas.errors import Retry
from todoke.streams.gate import LONGEST_HOLD_MS, OPENS_AFTER, Breaker

HOUR_S = 3600.0


@pytest.mark.parametrize("reason", ["throttled", "quota-minute", "quota-day", "http-429"])
def test_a_partner_that_says_when_to_come_back_is_left_alone_until_then(reason: str) -> None:
    breaker = Breaker(alone=True)

    breaker.failed(Retry(reason, HOUR_S, perhaps=False), NOW, 0.0)

    assert breaker.held_until == NOW + 3_600_000


@pytest.mark.parametrize(
    ("reason", "after", "alone"),
    [("auth", HOUR_S, True), ("timeout", None, True), ("throttled", None, True), ("throttled", HOUR_S, False)],
)
def test_else_somebody_looks_again_soon(reason: str, after: float | None, alone: bool) -> None:
    breaker = Breaker(alone=alone)

    for _ in range(50):
        breaker.failed(Retry(reason, after, perhaps=False), NOW, 0.0)

    assert NOW < breaker.held_until <= NOW + LONGEST_HOLD_MS


def test_it_opens_after_failures_in_a_row_lets_one_through_when_its_time_is_over_and_closes_by_an_answer() -> None:
    breaker = Breaker(alone=True)
    for _ in range(OPENS_AFTER - 1):
        breaker.failed(Retry("timeout"), NOW, 0.0)
    assert breaker.state(NOW) == "closed"

    breaker.failed(Retry("timeout"), NOW, 0.0)

    assert breaker.state(NOW) == "open"
    assert breaker.state(breaker.held_until) == "half-open"
    breaker.answered()
    assert breaker.state(NOW) == "closed"
