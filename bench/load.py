"""The load: people with records, and what they say next. Drawn by a seed, so that every run has the same mix."""

import time
import uuid
from collections.abc import Iterator
from random import Random

from todoke.schemas.events import Age, ConsentChange
from todoke.schemas.identity import Identifier

TOPIC = "consent-changes"
PURPOSES = {
    "marketing-communications": 0.3,
    "targeted-advertising": 0.3,
    "cookie-advertising": 0.2,
    "profiling": 0.1,
    "cookie-analysis": 0.1,
}
"""What is spoken of, and how often. Each concerns at least one partner of the default registry."""
NAMED = 0.2
"""How many events bring an identifier along, which is known already."""


class Load:
    """Events of one kind, in the order of their drawing."""

    def __init__(self, seed: int, people: int) -> None:
        """`people` have a record each before anything is measured."""
        self.random = Random(seed)
        self.people = people

    def records(self) -> Iterator[ConsentChange]:
        """Two events for each person, from which everybody makes the records: known by two identifiers, of age."""
        for purpose in ("marketing-communications", "profiling"):
            for number in range(self.people):
                yield self._event(number, purpose, "granted", named=purpose != "profiling")

    def events(self, count: int) -> Iterator[ConsentChange]:
        """What people say next: a grant or a withdrawal of one purpose, by anybody."""
        names, weights = list(PURPOSES), list(PURPOSES.values())
        for _ in range(count):
            purpose = self.random.choices(names, weights)[0]
            decision = "withdrawn" if self.random.random() < 0.5 else "granted"
            number = self.random.randrange(self.people)
            yield self._event(number, purpose, decision, named=self.random.random() < NAMED)

    def _event(self, number: int, purpose: str, decision: str, *, named: bool) -> ConsentChange:
        known = (Identifier("email", f"person{number}@example.jp"), Identifier("member_id", f"M{number:09}"))
        return ConsentChange(
            event_id=str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            subject=f"person-{number:08}",
            occurred_at=time.time_ns() // 1_000_000,
            source="member-site",
            identifiers=known if named else (),
            age=Age(birth_date="1988-04-12") if named else None,
            purpose=purpose,
            decision="withdrawn" if decision == "withdrawn" else "granted",
            method="checkbox",
            policy_version="2024-07",
        )
