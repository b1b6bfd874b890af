"""Ages, by the JST calendar, on the safe side but never beyond what was said."""

from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.rules import jst, utc
from todoke.processors.age import birthday, day, instant, reached, youngest
from todoke.schemas.errors import REASONS, Refused
from todoke.schemas.events import Age, AgeBand

DAYS = st.dates(date(1900, 1, 1), date(2090, 12, 31))
BANDS: list[tuple[AgeBand, int, int]] = [("under_13", 0, 13), ("13_to_17", 13, 18), ("18_and_over", 18, 200)]
LEAP_DAY = date(2008, 2, 29)


def test_a_day_begins_at_fifteen_hours_utc_of_the_day_before() -> None:
    assert day(utc("2025-05-31T14:59:59.999")) == date(2025, 5, 31)
    assert day(utc("2025-05-31T15:00:00")) == date(2025, 6, 1)
    assert instant(date(2025, 6, 1)) == utc("2025-05-31T15:00:00")


@given(DAYS)
def test_a_day_begins_at_its_instant_and_not_a_millisecond_before(on: date) -> None:
    assert (day(instant(on)), day(instant(on) - 1)) == (on, on - timedelta(days=1))


@pytest.mark.parametrize(("years", "wanted"), [(4, date(2012, 2, 29)), (13, date(2021, 3, 1)), (18, date(2026, 3, 1))])
def test_who_was_born_on_the_leap_day_comes_of_age_on_the_later_reading(years: int, wanted: date) -> None:
    assert birthday(LEAP_DAY, years) == wanted


@pytest.mark.parametrize(
    ("at", "wanted"),
    [("2026-02-28T23:59:59.999", False), ("2026-03-01T00:00", True)],
)
def test_an_age_is_reached_at_the_start_of_the_birthday_in_jst(at: str, wanted: bool) -> None:
    assert reached(LEAP_DAY, 18, jst(at)) == wanted
    assert reached(date(2008, 3, 1), 18, jst(at)) == wanted


@given(DAYS, st.integers(0, 120))
def test_an_age_once_reached_stays_reached(born: date, years: int) -> None:
    turning = instant(birthday(born, years))

    assert [reached(born, years, turning + shift) for shift in (-1, 0, 86_400_000)] == [False, True, True]


def test_a_birth_date_is_taken_as_it_is() -> None:
    assert youngest(Age(birth_date="2008-02-29", band="under_13"), jst("2025-06-01")) == LEAP_DAY


@pytest.mark.parametrize(
    ("band", "wanted"),
    [("under_13", date(2025, 6, 1)), ("13_to_17", date(2012, 6, 1)), ("18_and_over", date(2007, 6, 1))],
)
def test_a_band_counts_as_its_youngest_member(band: AgeBand, wanted: date) -> None:
    assert youngest(Age(band=band), jst("2025-06-01T00:00")) == wanted


@given(DAYS, st.sampled_from(BANDS))
@example(date(2024, 2, 29), BANDS[1])
@example(date(2024, 2, 29), BANDS[2])
def test_the_youngest_of_a_band_is_in_it_on_that_day_and_one_born_a_day_later_is_not(
    on: date, band: tuple[AgeBand, int, int]
) -> None:
    name, least, most = band

    born = youngest(Age(band=name), instant(on))

    assert (reached(born, least, instant(on)), reached(born, most, instant(on))) == (True, False)
    assert not reached(born + timedelta(days=1), least, instant(on))


@pytest.mark.parametrize("text", ["2025-02-29", "yesterday", "1869-12-31", "2025-06-03", "01/02/2003"])
def test_a_birth_date_that_cannot_be_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(Refused) as raised:
        youngest(Age(birth_date=text, band="18_and_over"), jst("2025-06-01"))

    error = raised.value
    assert (error.reason, error.field) == ("invalid-age", "age.birth_date")
    assert error.reason in REASONS
    assert text not in str(error)
    assert error.__suppress_context__ or error.__context__ is None


def test_a_birth_date_of_tomorrow_is_a_clock_elsewhere() -> None:
    assert youngest(Age(birth_date="2025-06-02"), jst("2025-06-01")) == date(2025, 6, 2)


def test_an_age_that_says_nothing_is_refused() -> None:
    with pytest.raises(Refused) as raised:
        youngest(Age(), jst("2025-06-01"))

    assert (raised.value.reason, raised.value.field) == ("invalid-age", "age")
