"""When to try again: never sooner than asked, later each time, and not for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules import NOW
from todoke.processors.retry import ATTEMPTS, FIRST_MS, LONGEST_MS, GiveUp, Later, after

JITTER = st.floats(0, 1)


def wait(attempt: int, jitter: float, asked: float | None = None) -> int:
    later = after("busy", asked, attempt, NOW, jitter)
    assert isinstance(later, Later)
    return later.at - NOW


@pytest.mark.parametrize(("attempt", "full"), [(1, 500), (2, 1000), (5, 8000), (11, 512_000), (12, LONGEST_MS)])
def test_the_delay_doubles_up_to_a_quarter_of_an_hour(attempt: int, full: int) -> None:
    assert (wait(attempt, 0), wait(attempt, 1)) == (full // 2, full)


@given(st.integers(1, ATTEMPTS - 1), JITTER)
def test_every_delay_lies_between_its_halves(attempt: int, jitter: float) -> None:
    assert FIRST_MS // 2 <= wait(attempt, 0) <= wait(attempt, jitter) <= wait(attempt, 1) <= LONGEST_MS


@given(st.integers(1, ATTEMPTS - 1), JITTER, st.integers(0, 86_400))
def test_the_delay_that_a_partner_asks_for_is_never_shortened(attempt: int, jitter: float, asked: int) -> None:
    assert asked * 1000 <= wait(attempt, jitter, asked) <= asked * 1100


@pytest.mark.parametrize("asked", [None, 1.0])
def test_after_the_last_attempt_a_person_must_look_whatever_the_partner_asks(asked: float | None) -> None:
    assert isinstance(after("busy", asked, ATTEMPTS - 1, NOW, 0), Later)
    assert after("busy", asked, ATTEMPTS, NOW, 0) == GiveUp("gave-up-after-200:busy")
