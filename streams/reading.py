"""Who looked up whom, when and why: a row of the log of its own, durable before anything is shown.

A command that shows somebody's data is marked with `reading`, and calls `noted` between finding and showing. What cannot be
written down is not shown (decision 0024). Pages of work (`todoke obligations`, `letters`, `balance`) name nobody.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any
from uuid import uuid4

import click
import msgspec
from msgspec import Struct

from todoke.processors.keys import Keyring, Random, seal_for_log
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured, Retry, Stop
from todoke.schemas.events import LogRow

from .outbox import Letter, Outbox
from .tools import Tools

LOOK_UP = "look-up"
SOURCE = "people"
LONGEST = 500


class Look(Struct, frozen=True):
    """Who looks, why, and by which command. None of the three holds an identifier of the person."""

    by: str
    ground: str
    command: str


class Journal(Struct, frozen=True):
    """What a row needs on its way into the log: `topic` is the full name of provision-log, `now` the clock in ms."""

    outbox: Outbox
    codec: Codec
    keyring: Keyring
    topic: str
    now: Callable[[], int]
    random: Random

    @classmethod
    def of(cls, tools: Tools) -> "Journal":
        """The one that these tools write."""
        topic = tools.topic("provision-log")
        return cls(tools.outbox, tools.codec, tools.keyring, topic, tools.now, tools.random)

    def letter(self, kind: str, ref: str, said: tuple[str, str], payload: bytes, row_id: str = "") -> Letter:
        """A row of this kind about a subject, under a new id where none is given; `said` are the source and the cause."""
        row_id, (source, cause) = row_id or str(uuid4()), said
        sealed = seal_for_log(self.keyring, row_id, payload, self.random)
        row = LogRow(row_id, kind, ref, source, 0, self.now(), cause, "", sealed)
        return Letter(self.topic, ref, self.codec.encode(row))


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command ask who looks, and why: it is handed a `look`."""

    @click.option("--by", required=True, help="Who looks.")
    @click.option("--ground", required=True, help="Why; no identifiers of the person.")
    @wraps(command)
    def asked(*words: Any, by: str, ground: str, **given: Any) -> None:
        name = click.get_current_context().command_path.partition(" ")[2]
        command(*words, look=Look(_said("--by", by), _said("--ground", ground), name), **given)

    return asked


def noted(journal: Journal, refs: Iterable[str], look: Look) -> None:
    """Have it written that somebody looked at these subjects, who may be one person. Durable when this returns.

    Raises `Stop` when it isn't: then nothing may be shown.
    """
    said, payload = (SOURCE, str(uuid4())), msgspec.json.encode(look)
    letters = [journal.letter(LOOK_UP, ref, said, payload) for ref in sorted({each for each in refs if each})]
    try:
        journal.outbox.send(letters)
    except (Retry, Stop) as error:
        raise Stop(f"the look-up could not be written to provision-log, so nothing is shown: {error}") from None


def _said(option: str, value: str) -> str:
    value = value.strip()
    if not value or len(value) > LONGEST:
        raise Misconfigured(f"{option}: say it in 1 to {LONGEST} characters")
    return value
