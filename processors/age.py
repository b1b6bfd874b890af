"""Ages in full years on JST dates, from a birth date or from a band, read on the safe side.

A person reaches an age at the start of the birthday in JST; one born on 29 February on 1 March of other years, the
later of the two readings, so that nobody counts as of age a day too soon.
"""

from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

from todoke.schemas.errors import Refused
from todoke.schemas.events import Age

JST = timezone(timedelta(hours=9))
_YOUNGEST = {"under_13": 0, "13_to_17": 13, "18_and_over": 18}


def day(at: int) -> date:
    """The JST date of an instant in ms."""
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(JST).date()


@lru_cache(65_536)
def instant(on: date) -> int:
    """The first instant (ms) of a JST date."""
    return int(datetime(on.year, on.month, on.day, tzinfo=JST).timestamp() * 1000)


@lru_cache(65_536)
def birthday(born: date, years: int) -> date:
    """The JST date on which somebody born on `born` becomes `years` old."""
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return date(born.year + years, 3, 1)


def youngest(age: Age, at: int) -> date:
    """The latest birth date that fits what was said at `at` (ms): a band counts as its youngest member.

    Raises `Refused` when neither a date nor a band can be read, or the date lies in the future.
    """
    fix = "Give birth_date as YYYY-MM-DD, not in the future, or a band of under_13, 13_to_17, 18_and_over."
    if age.birth_date:
        try:
            born = date.fromisoformat(age.birth_date)
        except ValueError:
            raise Refused("invalid-age", "age.birth_date", fix) from None
        if not date(1870, 1, 1) <= born <= day(at) + timedelta(days=1):
            raise Refused("invalid-age", "age.birth_date", fix)
        return born
    if age.band not in _YOUNGEST:
        raise Refused("invalid-age", "age", fix)
    today = day(at)
    try:
        return today.replace(year=today.year - _YOUNGEST[age.band])
    except ValueError:
        return date(today.year - _YOUNGEST[age.band], 2, 28)  # who was born a day later gets there tomorrow


def reached(born: date, years: int, at: int) -> bool:
    """Whether somebody born on `born` is at least `years` old at `at` (ms), by the JST calendar."""
    return at >= instant(birthday(born, years))
