from typing import Any

import pytest

from todoke.processors.replay import Selection, fates
from todoke.schemas.events import DeadLetter, Outcome


def letter(name: str = "consent-changes/0/7", **given: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "kind": "event",
        "reason": "unknown-purpose",
        "field": "purpose",
        "fix": "",
        "topic": "consent-changes",
        "partition": 0,
        "offset": 7,
        "appended_at": 1000,
        "refused_at": 2000,
        "event_id": "e-1",
        **given,
    }
    return DeadLetter(letter_id=name, **fields)


def delivery(**given: Any) -> DeadLetter:
    return letter("o-1/1", kind="delivery", reason="auth", partner="meta", topic="directives.meta", **given)


def outcome(what: Any) -> Outcome:
    return Outcome("e-1", what, "", "", "consent-changes", 0, 9, 3000, 4000)


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), True),
        (Selection(kind="event"), True),
        (Selection(kind="delivery"), False),
        (Selection(reason="unknown-purpose"), True),
        (Selection(reason="unknown"), False),
        (Selection(partner="meta"), False),
        (Selection(topic="unsubscribes"), False),
        (Selection(letter_id="consent-changes/0/7"), True),
        (Selection(since=2000), True),
        (Selection(since=2001), False),
        (Selection(until=2001), True),
        (Selection(until=2000), False),
    ],
)
def test_a_selection_means_what_it_names(selection: Selection, wanted: bool) -> None:
    assert selection.wants(letter()) is wanted


def fate(each: DeadLetter, *outcomes: Outcome, standing: tuple[str, ...] = (), again: bool = False) -> str:
    ((_, found),) = fates([each], {one.event_id: one for one in outcomes}, standing, again=again)
    return found


def test_an_event_that_is_still_refused_is_replayed() -> None:
    assert fate(letter(), outcome("refused")) == "replay"


@pytest.mark.parametrize("since", ["applied", "superseded"])
def test_an_event_admitted_since_has_nothing_left_to_say(since: str) -> None:
    assert fate(letter(), outcome(since), again=True) == "admitted-since"


def test_a_message_whose_event_could_not_be_read_is_replayed() -> None:
    assert fate(letter(event_id="")) == "replay"


def test_a_second_replay_has_to_be_asked_for() -> None:
    before = letter(replayed_at=5000)

    assert fate(before, outcome("refused")) == "replayed-before"
    assert fate(before, outcome("refused"), again=True) == "replay"


def test_a_delivery_is_woken_while_its_obligation_stands() -> None:
    assert fate(delivery(), standing=("o-1",)) == "replay"
    assert fate(delivery(), standing=("o-2",)) == "ended-since"
