"""Law 1: every accepted event ends in exactly one outcome: applied, superseded, or refused with a reason."""

import pytest
from msgspec.structs import replace

from tests.laws.events import grant, lives, provide, topic_of, withdraw
from tests.town import Town
from todoke.processors.keys import open_from_log
from todoke.schemas.errors import Retry
from todoke.schemas.events import ConsentChange, Outcome

pytestmark = pytest.mark.stack


async def test_every_event_has_one_outcome_and_bad_ones_a_dead_letter(town: Town) -> None:
    good = [grant("taro"), withdraw("taro"), grant("hanako", at=5), provide("taro", "a-company-nobody-registered")]
    unknown = grant("jiro", "no-such-purpose")
    future = grant("jiro", at=3_600_000 + 600_000)
    for event in [*good, unknown, future]:
        await town.publish(topic_of(event), event)
    await town.publish("consent-changes", b"not avro at all", key="jiro")
    await town.publish("consent-changes", b"\0\0\0\x7f\xff whatever", key="jiro")
    await town.publish("consent-changes", b"\0" * 300_000, key="jiro")
    await town.publish("consent-changes", good[0])

    found = await town.settled()

    assert found.exact
    assert found.events == 9  # the last is a copy of the first
    # what is said later supersedes only if it comes in the same batch
    admitted = found.outcomes["applied"] + found.outcomes.get("superseded", 0)
    assert (admitted, found.outcomes["refused"]) == (4, 5)
    letters = {letter.reason: letter for letter in town.reader().letters()}
    assert set(letters) == {"unknown-purpose", "future", "not-avro", "unknown-schema", "too-large"}
    letter = letters["unknown-purpose"]
    plain = open_from_log(town.made.tools.keyring, f"{letter.letter_id}/value", letter.sealed_value)
    assert town.made.tools.codec.decode(plain, ConsentChange) == unknown
    assert all(each.field and each.fix for each in letters.values())


async def test_a_batch_whose_effects_did_not_all_arrive_is_done_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = town.made.outbox.send
    failures = [Retry("produce: injected"), Retry("produce: injected"), Retry("produce: injected")]

    def failing(letters: object) -> None:
        # the view is written by now, and nothing of it is in any topic: the offsets must not move
        if failures:
            raise failures.pop()
        sending(letters)  # type: ignore[arg-type]  # passed on as it came

    codec, topic = town.made.tools.codec, town.made.topic("consent-changes")
    events = [grant(f"member-{number}") for number in range(50)]
    await town.publish("consent-changes", *events)
    monkeypatch.setattr(town.made.outbox, "send", failing)

    assert await town.until(lambda: not failures)
    found = await town.settled()

    assert found.exact
    assert found.outcomes == {"applied": 50}
    assert codec.decode(codec.encode(events[0]), ConsentChange) == events[0], topic


async def test_a_duplicate_gets_the_outcome_of_the_first_copy(town: Town) -> None:
    first = grant("taro", at=0)
    await town.publish("consent-changes", first)
    assert await town.until(lambda: town.made.tools.index.outcomes([first.event_id])[0] is not None)
    await town.publish("consent-changes", withdraw("taro", at=1000))
    await town.publish("consent-changes", first)

    found = await town.settled()

    assert found.exact
    assert found.outcomes == {"applied": 2}
    outcome = town.reader().latest("outcomes", Outcome)[first.event_id]
    assert (outcome.outcome, outcome.offset) == ("applied", outcome.offset)


async def test_people_who_live_an_hour_are_all_accounted_for(town: Town) -> None:
    said = lives(seed=1, people=60)
    for event in said:
        await town.publish(topic_of(event), event)

    found = await town.settled()

    assert found.exact
    assert found.events == len(said) == sum(found.outcomes.values())
    assert "refused" not in found.outcomes


async def test_an_event_refused_corrected_and_sent_again_under_its_id_is_applied(town: Town) -> None:
    wrong = grant("taro", "no-such-purpose")
    await town.publish("consent-changes", wrong)
    assert (await town.settled()).outcomes == {"refused": 1}

    await town.publish("consent-changes", replace(wrong, purpose="research"))
    found = await town.settled()

    assert found.exact
    assert found.outcomes == {"applied": 1}
