"""Publishing events of any kind from JSON Lines, so that people can try their own."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from todoke.schemas.codec import Codec
from todoke.schemas.events import INTAKE

from .outbox import Letter, Outbox, producer_config
from .settings import Settings


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """One line: the intake topic, and the event's fields as `schemas/avro` names them."""

    topic: str
    event: dict[str, Any]


def publish(settings: Settings, codec: Codec, lines: Iterable[bytes]) -> tuple[int, list[str]]:
    """Send every good line; how many, and a sentence for each line that is none. Blank lines are passed over.

    A line is only held against its schema here: whether it is admitted is said by its outcome (`todoke event`).
    """
    letters: list[Letter] = []
    problems: list[str] = []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=Line)
            event = msgspec.convert(line.event, INTAKE[line.topic])
        except KeyError:
            problems.append(f"line {number}: topic: use one of {', '.join(INTAKE)}")
        except msgspec.DecodeError as error:
            problems.append(f"line {number}: {error}")
        else:
            letters.append(Letter(settings.namespace + line.topic, event.subject, codec.encode(event)))
    outbox = Outbox(producer_config(settings.kafka.bootstrap, dict(settings.kafka.client)))
    try:
        outbox.send(letters)
    finally:
        outbox.close()
    return len(letters), problems
