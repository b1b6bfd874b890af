"""The examples: whole, of their types, and what people read in them."""

import json
from pathlib import Path

import pytest

from todoke.schemas import contracts
from todoke.schemas.codec import Codec
from todoke.schemas.events import INTAKE
from todoke.schemas.examples import abouts, examples

FOLDER = Path(str(contracts.folder())) / "examples"


def test_every_intake_topic_has_examples_and_nothing_else_has() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(INTAKE)


@pytest.mark.parametrize("topic", INTAKE)
def test_every_example_is_of_its_type_and_travels(topic: str) -> None:
    codec = Codec()

    events = examples(topic)

    assert len(events) >= 3
    assert [codec.decode(codec.encode(each), INTAKE[topic]) for each in events] == events


@pytest.mark.parametrize("topic", INTAKE)
def test_no_example_has_a_field_that_the_contract_lacks(topic: str) -> None:
    told = json.loads((FOLDER / f"{topic}.json").read_text())

    assert {key for each in told for key in each} <= {"_about", *INTAKE[topic].__struct_fields__}


@pytest.mark.parametrize("topic", INTAKE)
def test_every_example_says_what_it_shows(topic: str) -> None:
    assert all(len(each) > 20 for each in abouts(topic))
    assert len(abouts(topic)) == len(examples(topic))


def test_no_two_examples_share_an_id() -> None:
    ids = [event.event_id for topic in INTAKE for event in examples(topic)]

    assert len(set(ids)) == len(ids)


def test_every_address_is_one_that_nobody_has() -> None:
    addresses = [
        identifier.value
        for topic in INTAKE
        for event in examples(topic)
        for identifier in event.identifiers
        if identifier.kind == "email"
    ]

    assert [each for each in addresses if not each.endswith((".example.jp", "@example.jp"))] == []
