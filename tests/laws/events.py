"""Short ways to say events in tests; times count from `NOON`, an hour before the test runs."""

import time
import uuid
from random import Random
from typing import Any

from todoke.schemas.events import (
    Age,
    ConsentChange,
    DeletionRequest,
    Event,
    Provision,
    SuspensionRequest,
    Unsubscribe,
)
from todoke.schemas.identity import Identifier

NOON = time.time_ns() // 1_000_000 - 3_600_000
ADULT = Age(birth_date="1980-04-01")


def email(subject: str) -> Identifier:
    return Identifier("email", f"{subject}@example.jp")


def _common(subject: str | None, at: int, given: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": str(uuid.uuid4()), "subject": subject, "occurred_at": NOON + at, **given}


def grant(subject: str, purpose: str = "targeted-advertising", at: int = 0, **given: Any) -> ConsentChange:
    fields = {"policy_version": "2024-07", "identifiers": (email(subject),), "age": ADULT, **given}
    return ConsentChange(purpose=purpose, decision="granted", **_common(subject, at, fields))


def withdraw(subject: str, purpose: str = "targeted-advertising", at: int = 1000, **given: Any) -> ConsentChange:
    return ConsentChange(purpose=purpose, decision="withdrawn", **_common(subject, at, given))


def unsubscribe(subject: str | None, channel: str = "email-magazine", at: int = 1000, **given: Any) -> Unsubscribe:
    return Unsubscribe(channel=channel, **_common(subject, at, given))


def delete(subject: str, at: int = 2000, **given: Any) -> DeletionRequest:
    return DeletionRequest(identity_check="verified", **_common(subject, at, given))


def suspend(subject: str, at: int = 1500, **given: Any) -> SuspensionRequest:
    return SuspensionRequest(identity_check="verified", **_common(subject, at, given))


def provide(subject: str, counterpart: str, at: int = 500, **given: Any) -> Provision:
    return Provision(counterpart=counterpart, items=("email-address",), **_common(subject, at, given))


TOPIC = {
    "ConsentChange": "consent-changes",
    "Unsubscribe": "unsubscribes",
    "DeletionRequest": "deletion-requests",
    "SuspensionRequest": "suspension-requests",
    "Provision": "provisions",
}


def topic_of(event: Event) -> str:
    return TOPIC[type(event).__name__]


def lives(seed: int, people: int) -> list[Event]:
    """What `people` say over an hour: grants, withdrawals, regrets, in the order of time."""
    random = Random(seed)
    said: list[Event] = []
    for number in range(people):
        name = f"person-{seed}-{number}"
        said.append(grant(name, at=0))
        said.append(grant(name, "marketing-communications", at=1))
        at = 10
        for _ in range(random.randrange(4)):
            at += random.randrange(1, 1000)
            match random.randrange(6):
                case 0:
                    said.append(grant(name, at=at))
                case 1:
                    said.append(withdraw(name, at=at))
                case 2:
                    said.append(unsubscribe(name, at=at))
                case 3:
                    said.append(withdraw(name, "*", at=at))
                case 4:
                    said.append(suspend(name, at=at))
                case 5:
                    said.append(suspend(name, at=at, action="lifted"))
    return said
