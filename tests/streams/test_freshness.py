"""Marks of the intake: what they may say, with a broker whose answers come when the test lets them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.town import Town
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import INTAKE
from todoke.streams import settings
from todoke.streams.freshness import ASK_MS, Freshness, Marks

ONE, TWO = ("consent-changes", 0), ("unsubscribes", 1)


class Noted(Marks):
    """Marks in memory."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, int], int] = {}

    def write(self, marks: Mapping[tuple[str, int], int]) -> None:
        self.held |= marks


class End:
    def __init__(self, offset: int) -> None:
        self.offset = offset


class Broker:
    """Takes questions; answers are given by the test."""

    def __init__(self) -> None:
        self.now = 10_000
        self.asked: dict[tuple[str, int], Future[Any]] = {}
        self.noted = Noted()
        self.freshness = Freshness(self.noted, self.ask, lambda: self.now)

    def ask(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, "Future[Any]"]:
        made = {each: Future[Any]() for each in places}
        self.asked = {(each.topic, each.partition): future for each, future in made.items()}
        return made

    def answer(self, **ends: int) -> None:
        for (topic, _), future in self.asked.items():
            future.set_result(End(ends[topic.replace("-", "_")]))

    def tick(self, ms: int = ASK_MS) -> None:
        self.now += ms
        self.freshness.idle()


class Read:
    """A message as far as marks look at it."""

    def __init__(self, place: tuple[str, int], offset: int, at: int) -> None:
        self.parts = (*place, offset, at)

    def topic(self) -> str:
        return self.parts[0]

    def partition(self) -> int:
        return self.parts[1]

    def offset(self) -> int:
        return self.parts[2]

    def timestamp(self) -> tuple[int, int]:
        return 2, self.parts[3]


def test_an_idle_partition_is_fresh_as_of_the_question_not_of_the_answer() -> None:
    broker = Broker()
    broker.freshness.ends({ONE: 7})
    broker.tick()
    asked_at = broker.now
    broker.answer(consent_changes=7)

    broker.tick(3000)

    assert broker.noted.held == {ONE: asked_at}


def test_a_partition_with_events_unread_is_not_fresh_until_they_are_done() -> None:
    broker = Broker()
    broker.freshness.ends({ONE: 7})
    broker.tick()
    broker.answer(consent_changes=8)
    broker.tick()
    assert broker.noted.held == {}

    broker.freshness.done([Read(ONE, 7, 9_000)])  # type: ignore[list-item]  # all that is looked at

    assert broker.noted.held == {ONE: 8_999}


def test_what_is_done_between_question_and_answer_counts() -> None:
    broker = Broker()
    broker.freshness.ends({ONE: 7})
    broker.tick()
    asked_at = broker.now
    broker.freshness.done([Read(ONE, 7, 9_000)])  # type: ignore[list-item]  # all that is looked at
    broker.answer(consent_changes=8)

    broker.tick()

    assert broker.noted.held == {ONE: asked_at}


@pytest.mark.parametrize("error", [KafkaException(KafkaError(KafkaError._TIMED_OUT)), TimeoutError()])
def test_no_answer_is_no_mark_and_is_asked_for_again(error: Exception) -> None:
    broker = Broker()
    broker.freshness.ends({ONE: 7})
    broker.tick()
    broker.asked[ONE].set_exception(error)
    broker.tick()
    assert broker.noted.held == {}
    broker.answer(consent_changes=7)

    broker.tick()

    assert broker.noted.held


def test_a_partition_that_somebody_else_has_now_is_his_to_mark() -> None:
    broker = Broker()
    broker.freshness.ends({ONE: 7})
    broker.freshness.ends({TWO: 3})
    broker.tick()
    broker.answer(consent_changes=7, unsubscribes=3)

    broker.freshness.moved([TopicPartition(*TWO)])
    broker.tick()

    assert broker.noted.held.keys() == {TWO}


def test_a_bound_that_no_call_could_keep_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "todoke.toml"
    path.write_text("worker.permission_bound_ms = 1999\n")

    with pytest.raises(Misconfigured, match=r"worker\.permission_bound_ms: 1999"):
        settings.load({}, path)


@pytest.mark.stack
async def test_every_partition_of_the_intake_is_marked_and_one_missing_is_unknown(town: Town) -> None:
    marks = town.made.tools.marks
    assert await town.until(lambda: marks.oldest() > 0)
    names = {name.decode() for name in marks.view.client.hkeys(marks.key)}
    await town.stop_worker(town.workers[0])

    marks.view.client.hdel(marks.key, min(names))

    assert names == {f"{town.made.topic(topic)}/{number}" for topic in INTAKE for number in range(2)}
    assert marks.oldest() == 0
