"""Everything the shop publishes in an hour, in the order in which it reaches the topics.

Real traffic is untidy, and so is this: the same event twice, events out of order and far too late, yes and no in one
millisecond, clocks that are ahead, bursts, and mistakes of every kind. Same seed, members and time: same bytes.
"""

from collections.abc import Iterator

from msgspec import Struct

from todoke.schemas.codec import Codec
from todoke.schemas.events import INTAKE

from .mistakes import mistakes
from .people import chance, person
from .plots import DECK
from .roles import PROTAGONIST, burst, protagonist, register, visit
from .scene import ALONE, MINUTE, Said, Scene

__all__ = ["ALONE", "MEMBERS", "PROTAGONIST", "Message", "messages"]

MEMBERS = 1200
"""As many as a demo has. From a hundred on, every plot is played."""

DUPLICATES = 0.04
MISTAKES = 0.015
TOPICS = {kind: topic for topic, kind in INTAKE.items()}


class Message(Struct, frozen=True):
    """One message to publish to the intake topic named, which still lacks its prefix.

    `about` is for people: what it is, `duplicate:` and what it repeats, or `bad:` and the reason for its refusal.
    """

    topic: str
    key: bytes | None
    value: bytes
    about: str

    def __repr__(self) -> str:
        """Key and value are a person's: never printed."""
        return f"Message({self.topic!r}, {self.about!r})"


def messages(seed: int, members: int, now: int, codec: Codec) -> Iterator[Message]:
    """What so many members do in the hour before `now` (ms), and what else reaches the topics with it.

    Nothing occurs after `now`, but for the clocks that are ahead and the mistakes. The protagonist is always there.
    """
    said = _said(seed, members, now)
    rng = chance(seed, "duplicates")
    said += [_again(each, now, rng.randint(200, 4 * MINUTE)) for each in said if rng.random() < DUPLICATES]
    arriving = [(each.arrives, _message(each, codec)) for each in said]
    spoilt = mistakes(seed, members, now, codec, many=round(MISTAKES * len(said)))
    arriving += [(each.arrives, Message(each.topic, each.key, each.value, f"bad:{each.reason}")) for each in spoilt]
    arriving.sort(key=lambda pair: pair[0])
    yield from (message for _, message in arriving)


def _said(seed: int, members: int, now: int) -> list[Said]:
    deck = [plot for plot, cards in DECK.items() for _ in range(cards)]
    chance(seed, "deck").shuffle(deck)
    said = protagonist(now, seed)
    for number in range(1, members + 1):
        scene = Scene(person(number, now), now, chance(seed, number))
        if scene.who.subject != PROTAGONIST:
            register(scene)
            deck[number % len(deck)](scene)
            said += scene.said
    for number in range(1 + members // 400):
        said += burst(number, now, seed)
    for number in range(1 + members // 12):
        said += visit(number, now, seed)
    return said


def _again(each: Said, now: int, later: int) -> Said:
    return Said(min(each.arrives + later, now), each.event, f"duplicate:{each.about.removeprefix('duplicate:')}")


def _message(each: Said, codec: Codec) -> Message:
    event = each.event
    key = event.subject.encode() if event.subject else None
    return Message(TOPICS[type(event)], key, codec.encode(event), each.about)
