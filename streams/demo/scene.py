"""The stage: one person, the clock, and what that person says to the systems of the shop.

Times count back from `now`. Everybody registers more than half an hour ago or earlier and is heard of again within the
last half hour, so that whoever is later named by an identifier alone has long been known by it (`ALONE`).
"""

from random import Random
from typing import Any
from uuid import UUID

from msgspec import Struct

from todoke.schemas.events import ConsentChange, Event, Provision

from .people import Person, chance

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

VERSION = "2024-07"
ADS = "targeted-advertising"
MAIL = "marketing-communications"

COUNTERPARTS: dict[str, dict[str, Any]] = {
    "kura-crm": {
        "counterpart_name": "株式会社クラCRM",
        "counterpart_address": "東京都台東区蔵前九丁目8番7号 蔵前水門ビル5階",
        "counterpart_representative": "代表取締役 倉田 実",
        "legal_basis": "entrustment",
        "purposes": (MAIL,),
        "items": ("email-address", "name"),
    },
    "meta": {
        "counterpart_name": "Meta Platforms, Inc.",
        "country": "US",
        "purposes": (ADS, "cross-border-transfer"),
        "items": ("email-address", "telephone-number"),
    },
    "hoshi-dmp": {"counterpart_name": "ホシDMP株式会社", "purposes": (ADS,), "items": ("email-address",)},
    "aozora-analytics": {
        "counterpart_name": "あおぞらアナリティクス株式会社",
        "legal_basis": "entrustment",
        "purposes": ("cookie-analysis",),
        "items": ("cookie-data", "usage-history"),
    },
    "fukuro-research": {
        "counterpart_name": "株式会社フクロウリサーチ",
        "legal_basis": "entrustment",
        "purposes": ("research",),
        "items": ("email-address", "age-group"),
    },
}
"""To whom the shop gives data. The registry of the demo has all of them but the last."""

ALONE = frozenset({"one-click", "stopped-by-phone", "line-blocked", "story:one-click"})
"""What names somebody who registered by an identifier alone.

It finds them only once they are known by it, and topics are read side by side: so publish all that comes before the
first of these, wait until that was taken in, then publish the rest."""


class Said(Struct, frozen=True):
    """An event, when it reaches its topic (ms), and what it is, for people."""

    arrives: int
    event: Event
    about: str


class Scene:
    """One person on stage: collects what they say."""

    def __init__(self, who: Person, now: int, rng: Random) -> None:
        """`now` in ms; `rng` decides all. Event ids hang on both, so that another run doesn't take them for its own."""
        self.who = who
        self.now = now
        self.rng = rng
        self.ids = chance(rng.getrandbits(64), now)
        self.said: list[Said] = []

    def ago(self, longest: float, shortest: float, unit: int = MINUTE) -> int:
        """Some instant so many units ago."""
        return self.now - self.rng.randint(int(shortest * unit), int(longest * unit))

    def say(self, kind: type[Event], about: str, at: int, **fields: Any) -> None:
        """Say something at `at`. `source` is the system that hears it, `arrives` when it is in the topic, if not soon."""
        source = fields.setdefault("source", "member-site")
        arrives = fields.pop("arrives", min(at, self.now) + self._delay())
        common: dict[str, Any] = {
            "event_id": str(UUID(int=self.ids.getrandbits(128), version=4)),
            "subject": self.who.subject,
            "identifiers": self.who.known(source, self.rng),
            "occurred_at": at,
        }
        self.said.append(Said(min(arrives, self.now), kind(**(common | fields)), about))

    def consent(self, about: str, at: int, purpose: str, decision: str = "granted", **fields: Any) -> None:
        """Grant or withdraw a purpose, under the version in force unless `fields` say else."""
        told = {"method": "preference-centre", "policy_version": VERSION} | fields
        self.say(ConsentChange, about, at, purpose=purpose, decision=decision, **told)

    def give(self, about: str, at: int, counterpart: str, **fields: Any) -> None:
        """Hand data over to a counterpart."""
        told = {"source": "batch-export", "counterpart": counterpart} | COUNTERPARTS[counterpart] | fields
        self.say(Provision, about, at, **told)

    def _delay(self) -> int:
        """Mostly at once, at times a minute, seldom longer."""
        drawn = self.rng.random()
        return self.rng.randint(50, 3000 if drawn < 0.85 else MINUTE if drawn < 0.97 else 2 * MINUTE)
