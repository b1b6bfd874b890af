"""What a registry may say of quota, and what it is told when that can't be kept."""

from typing import Any

import pytest

from tests.rules import partner, policy, registry
from todoke.schemas.partners import Limits, examine
from todoke.schemas.quota import Window


def problems(**limits: Any) -> list[str]:
    one = partner("shop", "research", limits=Limits(**limits))
    found = [each for each in examine(registry(one), policy()) if "limits" in each.path]
    return [f"{'.'.join(map(str, each.path[2:]))}: {each.what}" for each in found]


def test_windows_that_let_every_call_through_are_fine() -> None:
    windows = (Window(most=10, seconds=1), Window(most=5000, seconds=86_400, counted="items"))

    assert problems(items=1000, quota=windows) == []


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (
            {"quota": (Window(most=1, seconds=1),)},
            "limits.quota.0.most: 1 leave 0 for permissions, and one call takes up to 1",
        ),
        (
            {"items": 90, "quota": (Window(most=100, seconds=9, counted="items"),)},
            "limits.quota.0.most: 100 leave 80 for permissions, and one call takes up to 90",
        ),
        ({"quota": (Window(most=9, seconds=0),)}, "limits.quota.0.seconds: expected 1 to 2592000, got 0"),
        (
            {"quota": (Window(most=9, seconds=1), Window(most=5, seconds=1))},
            "limits.quota: calls/1 stands twice",
        ),
        ({"kept_percent": 91}, "limits.kept_percent: expected 90 or less, got 91"),
        ({"kept_percent": -1}, "limits.kept_percent: expected 0 or more, got -1"),
        ({"account_concurrency": -1}, "limits.account_concurrency: expected 0 or more, got -1"),
    ],
)
def test_what_could_never_be_kept_is_named(limits: dict[str, Any], expected: str) -> None:
    assert problems(**limits) == [expected]
