"""How long a shredded value lives on: the sums, at the settings that are applied and at others."""

from typing import Any

import pytest

from todoke.streams import destruction
from todoke.streams.topics import DAY, HOUR, TOPICS, configuration

PULSE = 12 * HOUR
STATE = next(configuration(each) for each in TOPICS if each.name == "consent-state")


def gone(**found: dict[str, str]) -> dict[str, int | None]:
    plain = {name.replace("_", "-"): config for name, config in found.items()}
    return {each.where: each.gone_after for each in destruction.topics(plain, PULSE)}


def test_with_what_todoke_applies_the_times_are_those_of_the_documents() -> None:
    copies = destruction.topics({}, PULSE)

    assert gone()["consent-state"] == 7 * DAY + HOUR
    assert gone()["deletion-requests"] == 31 * DAY + HOUR
    assert gone()["dead-letters"] == 91 * DAY + HOUR
    assert gone()["provision-log"] is None
    assert destruction.longest(copies, without_log=True) == 31 * DAY + HOUR
    assert destruction.longest(copies, without_log=False) is None


@pytest.mark.parametrize(
    ("drifted", "pulse", "after"),
    [
        ({}, PULSE, 7 * DAY),
        ({}, 10 * DAY, 12 * DAY),  # a segment's day, a pulse's ten, and the shortest lag's one
        ({"segment.ms": str(30 * DAY)}, PULSE, 8 * DAY + PULSE),  # the longest lag ends the segment, then the shortest
        ({"max.compaction.lag.ms": str(3 * DAY)}, PULSE, 3 * DAY),
        ({"min.compaction.lag.ms": str(9 * DAY)}, PULSE, 10 * DAY + PULSE),
        ({"max.compaction.lag.ms": str(2**63 - 1)}, PULSE, None),
        ({"cleanup.policy": "compact,delete"}, PULSE, 7 * DAY),
    ],
)
def test_what_a_cluster_has_set_counts(drifted: dict[str, str], pulse: int, after: int | None) -> None:
    assert destruction.compacted({**STATE, **drifted}, pulse) == (None if after is None else after + HOUR)


def test_a_topic_that_keeps_for_ever_has_no_limit() -> None:
    assert gone(consent_changes={"retention.ms": "-1"})["consent-changes"] is None
    assert gone(consent_changes={"retention.ms": str(DAY)})["consent-changes"] == 2 * DAY + HOUR


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        (None, "no limit"),
        (0, "T + 0 s"),
        (500, "T + 0.5 s"),
        (HOUR, "T + 1 h"),
        (DAY + HOUR, "T + 1 d 1 h"),
        (DAY, "T + 1 d"),
    ],
)
def test_a_time_is_shown_for_people(after: int | None, shown: str) -> None:
    assert destruction.said(after) == shown


class Server:
    """Answers CONFIG GET, or forbids it, as managed servers do."""

    def __init__(self, config: dict[str, str] | None) -> None:
        self.config = config

    def config_get(self, name: str) -> dict[str, Any]:
        if self.config is None:
            raise ConnectionError("unknown command")
        return {name: self.config[name]}


@pytest.mark.parametrize(
    ("config", "after", "because"),
    [
        ({"appendonly": "no", "save": ""}, 0, "neither"),
        ({"appendonly": "yes", "save": ""}, None, "append-only file: until next rewritten"),
        ({"appendonly": "no", "save": "3600 1"}, None, "snapshots (3600 1): until next rewritten"),
        (None, None, "the server does not say"),
    ],
)
def test_the_views_disk_is_asked_of_its_server(config: dict[str, str] | None, after: int | None, because: str) -> None:
    found = destruction.view(Server(config))

    assert found.gone_after == after
    assert found.because.startswith(because)
