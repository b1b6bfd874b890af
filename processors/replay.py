"""Which dead letters are worth a replay: a pure choice, made before anything is sent."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from msgspec import Struct

from todoke.schemas.events import DeadLetter, Outcome

Fate = Literal["replay", "replayed-before", "admitted-since", "ended-since"]


class Selection(Struct, frozen=True, kw_only=True):
    """Which letters are meant; an empty field means any. Times in ms, of the refusal: `since` included, `until` not."""

    kind: str = ""
    reason: str = ""
    partner: str = ""
    topic: str = ""
    letter_id: str = ""
    since: int = 0
    until: int = 0

    def wants(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        pairs = (
            (self.kind, letter.kind),
            (self.reason, letter.reason),
            (self.partner, letter.partner),
            (self.topic, letter.topic),
            (self.letter_id, letter.letter_id),
        )
        named = all(wanted in ("", actual) for wanted, actual in pairs)
        return named and self.since <= letter.refused_at and (not self.until or letter.refused_at < self.until)


def fates(
    letters: Iterable[DeadLetter], outcomes: Mapping[str, Outcome], standing: Collection[str], *, again: bool = False
) -> list[tuple[DeadLetter, Fate]]:
    """What a replay would do with each letter.

    `outcomes` are by event id, `standing` are the ids of obligations that have not ended. An event that was admitted
    since, corrected by upstream under the same id, has nothing left to say, and nor has a delivery whose obligation has
    ended; what was replayed already goes out a second time only with `again`.
    """
    return [(letter, _fate(letter, outcomes, standing, again=again)) for letter in letters]


def obligation_of(letter: DeadLetter) -> str:
    """The id of the obligation that a delivery's letter is about; its letter's id begins with it."""
    return letter.letter_id.partition("/")[0]


def _fate(letter: DeadLetter, outcomes: Mapping[str, Outcome], standing: Collection[str], *, again: bool) -> Fate:
    if letter.kind == "delivery" and obligation_of(letter) not in standing:
        return "ended-since"
    outcome = outcomes.get(letter.event_id) if letter.kind == "event" and letter.event_id else None
    if outcome is not None and outcome.outcome != "refused":
        return "admitted-since"
    return "replayed-before" if letter.replayed_at and not again else "replay"
