"""What the shop's systems get wrong: a message for every reason for which an event can be refused."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from todoke.schemas.codec import Codec
from todoke.schemas.events import Age, ConsentChange, DeletionRequest, IdentityLink, Unsubscribe
from todoke.schemas.identity import Identifier, IdentifierKind

from .people import chance, person
from .roles import PROTAGONIST
from .scene import HOUR, MAIL, MINUTE, SECOND, VERSION

RARE = frozenset({"too-large"})
"""Made once or twice, since each is large itself."""


class Mistake(Struct, frozen=True):
    """A message that will be refused, and why."""

    arrives: int
    topic: str
    key: bytes | None
    value: bytes
    reason: str

    def __repr__(self) -> str:
        return f"Mistake({self.reason!r})"


class Slip:
    """Somebody about to make a mistake: a sound event of each kind, to be spoilt."""

    def __init__(self, number: int, now: int, rng: Random, codec: Codec) -> None:
        """Of the member of that number, shortly before `now` (ms)."""
        self.now = now
        self.rng = rng
        self.codec = codec
        self.ids = chance(rng.getrandbits(64), now)
        self.who = person(number, now)

    def consent(self, **wrong: Any) -> tuple[str, bytes]:
        """A grant with something wrong in it."""
        event = ConsentChange(**self._common("member-site"), purpose=MAIL, decision="granted", policy_version=VERSION)
        return "consent-changes", self.codec.encode(replace(event, **wrong))

    def unsubscribe(self, **wrong: Any) -> tuple[str, bytes]:
        """An unsubscription with something wrong in it."""
        event = Unsubscribe(**self._common("call-centre"), channel="sms", method="operator")
        return "unsubscribes", self.codec.encode(replace(event, **wrong))

    def deletion(self, **wrong: Any) -> tuple[str, bytes]:
        """A verified deletion with something wrong in it."""
        event = DeletionRequest(**self._common("privacy-desk"), identity_check="verified", channel="web-form")
        return "deletion-requests", self.codec.encode(replace(event, **wrong))

    def link(self, **wrong: Any) -> tuple[str, bytes]:
        """A link with something wrong in it."""
        return "identity-links", self.codec.encode(replace(IdentityLink(**self._common("web-shop")), **wrong))

    def identified(self, kind: IdentifierKind, value: str) -> tuple[str, bytes]:
        """A grant with one identifier of that value."""
        return self.consent(identifiers=(Identifier(kind, value),))

    def _common(self, source: str) -> dict[str, Any]:
        return {
            "event_id": str(UUID(int=self.ids.getrandbits(128), version=4)),
            "subject": self.who.subject,
            "occurred_at": self.now - self.rng.randint(SECOND, 30 * MINUTE),
            "source": source,
            "identifiers": self.who.known(source, self.rng),
        }


def _json(slip: Slip) -> tuple[str, bytes]:
    return "consent-changes", b'{"subject": "%s", "purpose": "research"}' % slip.who.subject.encode()


def _unregistered(slip: Slip) -> tuple[str, bytes]:
    topic, value = slip.consent()
    return topic, value[:1] + (0x7FFF_FF00).to_bytes(4, "big") + value[5:]


def _truncated(slip: Slip) -> tuple[str, bytes]:
    topic, value = slip.consent()
    return topic, value[: -slip.rng.randint(3, len(value) // 2)]


def _dumped(slip: Slip) -> tuple[str, bytes]:
    """A synchronisation that sends all cookies it ever saw as those of one person."""
    cookies = tuple(Identifier("cookie_id", f"ck-{slip.rng.getrandbits(128):032x}") for _ in range(6500))
    return slip.link(identifiers=cookies)


Slips = tuple[Callable[[Slip], tuple[str, bytes]], ...]

MISTAKES: dict[str, Slips] = {
    "not-avro": (_json, lambda _: ("provisions", b"")),
    "unknown-schema": (_unregistered, lambda slip: ("consent-changes", slip.unsubscribe()[1])),
    "undecodable": (_truncated,),
    "too-large": (_dumped,),
    "missing-event-id": (lambda slip: slip.unsubscribe(event_id=""),),
    "missing-subject": (lambda slip: slip.unsubscribe(subject=None, identifiers=()),),
    "too-long": (lambda slip: slip.consent(source="member-site/" + "retry/" * 50),),
    "unknown-purpose": (
        lambda slip: slip.consent(purpose="newsletter"),
        lambda slip: slip.consent(purpose="Marketing-Communications"),
    ),
    "purpose-required": (
        lambda slip: slip.consent(purpose="service", decision="withdrawn"),
        lambda slip: slip.consent(purpose="cookie-functional", decision="withdrawn"),
    ),
    "grant-of-everything": (lambda slip: slip.consent(purpose="*"),),
    "unknown-channel": (
        lambda slip: slip.unsubscribe(channel="fax"),
        lambda slip: slip.unsubscribe(channel="email"),
    ),
    "unknown-regime": (lambda slip: slip.consent(regime="lgpd"),),
    "unknown-policy-version": (lambda slip: slip.consent(policy_version="2021-10"),),
    "unknown-value": (lambda slip: slip.consent(decision="agreed"),),
    "future": (
        lambda slip: slip.consent(occurred_at=slip.now + 9 * HOUR),  # Japan's time taken for UTC
        lambda slip: slip.unsubscribe(occurred_at=slip.now + 40 * MINUTE),
    ),
    "not-a-time": (lambda slip: slip.consent(occurred_at=slip.now // 1000),),  # seconds
    "identity-unverified": (
        lambda slip: slip.deletion(identity_check="pending"),
        lambda slip: slip.deletion(agent_check="failed"),
    ),
    "invalid-identifier": (
        lambda slip: slip.identified("email", "not given"),
        lambda slip: slip.identified("phone", "0120"),
        lambda slip: slip.identified("idfa", "00000000-0000-0000-0000-000000000000"),
    ),
    "invalid-age": (lambda slip: slip.consent(age=Age(birth_date="1990/04/01")),),
    "missing-identifier": (lambda slip: slip.link(action="unlink", identifiers=()),),
    "not-yet-supported": (lambda slip: slip.link(action="unlink", other_subject="member-000007"),),
}
"""How each refusal comes about. Members are real ones of the shop, so a refused event must leave no trace of them."""


def mistakes(seed: int, members: int, now: int, codec: Codec, *, many: int) -> Iterator[Mistake]:
    """At least `many`, and at least one of each; never of the protagonist."""
    rng = chance(seed, "mistakes")
    reasons = [reason for reason in MISTAKES if reason not in RARE]
    drawn = [*MISTAKES, *(reasons[place % len(reasons)] for place in range(many - len(MISTAKES)))]
    for place, reason in enumerate(drawn):
        slip = Slip(rng.randint(1, members), now, rng, codec)
        while slip.who.subject == PROTAGONIST:
            slip = Slip(rng.randint(1, members + 1), now, rng, codec)
        ways = MISTAKES[reason]
        topic, value = ways[place // len(MISTAKES) % len(ways)](slip)
        key = None if reason in ("missing-subject", "not-avro") else slip.who.subject.encode()
        yield Mistake(now - rng.randint(0, 55 * MINUTE), topic, key, value, reason)
