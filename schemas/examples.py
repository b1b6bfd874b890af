"""Example messages, one file for each intake topic: documentation, test and demo data at once."""

from importlib.resources import files

import msgspec

from .events import INTAKE, Event


def examples(topic: str) -> list[Event]:
    """The examples of an intake topic, in the order of the file. Each `_about` is for people, and left out."""
    kind = INTAKE[topic]
    text = files(__package__ or "").joinpath("examples", f"{topic}.json").read_bytes()
    told = msgspec.json.decode(text, type=list[dict[str, object]])
    return [msgspec.convert({key: each[key] for key in each if key != "_about"}, kind) for each in told]


def abouts(topic: str) -> list[str]:
    """What each example shows, in the same order."""
    text = files(__package__ or "").joinpath("examples", f"{topic}.json").read_bytes()
    return [str(each["_about"]) for each in msgspec.json.decode(text, type=list[dict[str, object]])]
