"""Whether this process has the keys of this installation.

With another reference key everybody would be somebody else, and every withdrawal forgotten. So a check of each key, from
which nothing can be learnt, is noted in the view, which everybody asks at start, and in the topic `keys`, which outlives
the view and which workers and dispatchers ask. The first to start with a key notes it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from todoke.processors.keys import Keyring, checks, foreign
from todoke.schemas.errors import Misconfigured
from todoke.schemas.keyring import KeyCheck

from .outbox import Letter
from .snapshot import Topics
from .tools import Tools
from .view import View

TOPIC = "keys"
FIX = (
    "start with the keyring of this installation, from the backup of the keys; "
    "a new one belongs to a new namespace, with topics and a view of its own"
)


def compare(keyring: Keyring, view: View) -> None:
    """Raise `Misconfigured` when the view has noted other keys than these."""
    _require(keyring, _noted(view))


def establish(tools: Tools, topics: Topics) -> None:
    """Raise `Misconfigured` when view or topic has noted other keys than these; note what neither has.

    The view decides between two that start at once with different keys: it is asked and written in one transaction, and
    only who passes produces.
    """
    view, at = tools.view, tools.now()
    held = topics.latest(TOPIC, KeyCheck)
    mine = {
        name: KeyCheck(name=name, check=check, noted_at=at) for name, check in sorted(checks(tools.keyring).items())
    }

    def note(transaction: Any) -> None:
        noted = _decoded(view, transaction.hgetall(view.key("keys")))
        _require(tools.keyring, noted | held)
        transaction.multi()
        for name, each in (mine | noted | held).items():
            transaction.hset(view.key("keys"), name, view.codec.encode(each))

    view.client.transaction(note, view.key("keys"))
    _note(tools, [each for name, each in mine.items() if name not in held])


def retire(tools: Tools, topics: Topics, name: str) -> None:
    """Note that a generation is needed no more, so that a keyring without it is this installation's, too."""
    held = topics.latest(TOPIC, KeyCheck).get(name)
    if held is None:
        raise Misconfigured(f"keys: {name} was never used here: see `todoke keys status`")
    retired = msgspec.structs.replace(held, retired_at=tools.now())
    _note(tools, [retired])
    tools.view.client.hset(tools.view.key("keys"), name, tools.codec.encode(retired))


def _noted(view: View) -> dict[str, KeyCheck]:
    return _decoded(view, view.client.hgetall(view.key("keys")))


def _decoded(view: View, held: Mapping[bytes, bytes]) -> dict[str, KeyCheck]:
    return {name.decode(): view.codec.decode(raw, KeyCheck) for name, raw in held.items()}


def _require(keyring: Keyring, held: Mapping[str, KeyCheck]) -> None:
    retired = frozenset(name for name, each in held.items() if each.retired_at)
    faults = foreign(keyring, {name: each.check for name, each in held.items()}, retired)
    if faults:
        raise Misconfigured(f"keys: {'; '.join(faults)}: {FIX}")


def _note(tools: Tools, found: list[KeyCheck]) -> None:
    topic = tools.topic(TOPIC)
    tools.outbox.send([Letter(topic, each.name, tools.codec.encode(each)) for each in found])
