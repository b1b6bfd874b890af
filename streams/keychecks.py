"""Whether this process has the keys of this installation.

With another reference key everybody would be somebody else, and every withdrawal forgotten. So a check of each key, from
which nothing can be learnt, is noted in the view, which everybody asks at start, and in the topic `keys`, which outlives
the view and which workers and dispatchers ask. The first to start with a key notes it.
"""

from collections.abc import Mapping

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

    The view decides between two that start at once with different keys: only the one whose note stands produces it.
    """
    view, at = tools.view, tools.now()
    held = topics.latest(TOPIC, KeyCheck)
    _require(tools.keyring, held)
    mine = [KeyCheck(name=name, check=check, noted_at=at) for name, check in sorted(checks(tools.keyring).items())]
    for each in (*held.values(), *mine):
        view.client.hsetnx(view.key("keys"), each.name, view.codec.encode(each))
    compare(tools.keyring, view)
    _note(tools, [each for each in mine if each.name not in held])


def retire(tools: Tools, topics: Topics, name: str) -> None:
    """Note that a generation is needed no more, so that a keyring without it is this installation's, too."""
    held = topics.latest(TOPIC, KeyCheck).get(name)
    if held is None:
        raise Misconfigured(f"keys: {name} was never used here: see `todoke keys status`")
    retired = msgspec.structs.replace(held, retired_at=tools.now())
    _note(tools, [retired])
    tools.view.client.hset(tools.view.key("keys"), name, tools.codec.encode(retired))


def _noted(view: View) -> dict[str, KeyCheck]:
    held: Mapping[bytes, bytes] = view.client.hgetall(view.key("keys"))
    return {name.decode(): view.codec.decode(raw, KeyCheck) for name, raw in held.items()}


def _require(keyring: Keyring, held: Mapping[str, KeyCheck]) -> None:
    retired = frozenset(name for name, each in held.items() if each.retired_at)
    faults = foreign(keyring, {name: each.check for name, each in held.items()}, retired)
    if faults:
        raise Misconfigured(f"keys: {'; '.join(faults)}: {FIX}")


def _note(tools: Tools, found: list[KeyCheck]) -> None:
    topic = tools.topic(TOPIC)
    tools.outbox.send([Letter(topic, each.name, tools.codec.encode(each)) for each in found])
