"""The breaker: how long a partner is left alone, by what it said and how often it failed."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.rules import NOW, partner, policy, registry
from todoke.schemas.errors import Retry
from todoke.schemas.partners import Limits
from todoke.streams.gate import LONGEST_HOLD_MS, OPENS_AFTER, ROUND, Breaker, Gate

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


def gate(**limits: Any) -> Gate:
    rules = SimpleNamespace(policy=policy(), registry=registry(partner("shop", "research", limits=Limits(**limits))))
    tools: Any = SimpleNamespace(rules=rules)
    return Gate(None, tools, "shop", lambda *_: [])  # type: ignore[arg-type]  # nothing is called


def test_a_round_grows_while_it_is_quickly_ready_and_shrinks_when_its_calls_could_start_too_late() -> None:
    ours = gate(items=10_000, concurrency=2)
    assert ours.round == ROUND

    ours.paced(ROUND, 100)
    ours.paced(2 * ROUND, 400)  # as it should be
    assert ours.round == 2 * ROUND

    ours.paced(2 * ROUND, 900)
    ours.paced(3, 100)  # that few say nothing of many
    assert ours.round == ROUND


def test_a_round_is_never_larger_than_what_may_be_called_and_never_nothing() -> None:
    ours = gate(items=1, concurrency=4)

    for _ in range(9):
        ours.paced(ours.round, 1)
    assert ours.round == 16

    for _ in range(9):
        ours.paced(ours.round, 5000)
    assert ours.round == 1
