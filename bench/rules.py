"""The rules as a rival applies them: to one event and one record, with Todoke's own functions, codec and messages.

What a rival is spared: it has no index of aliases, no first outcomes and no state of obligations; it produces them only.
"""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from todoke.processors.enrol import enrol, won
from todoke.processors.keys import subject_ref
from todoke.processors.plan import Cause, obligation
from todoke.schemas import toml
from todoke.schemas.codec import Codec
from todoke.schemas.events import ConsentChange, Outcome
from todoke.schemas.partners import Rules
from todoke.schemas.record import SubjectRecord
from todoke.streams import providers, tuning
from todoke.streams.freshness import Freshness
from todoke.streams.intake import Intake
from todoke.streams.letters import Merged, Taken
from todoke.streams.metrics import Metrics
from todoke.streams.outbox import Letter
from todoke.streams.tools import Tools

from .load import TOPIC

KEYS = "BENCH_KEYS"


class Seen(NamedTuple):
    """A message as intake code asks for it: topic, partition, offset, headers, time."""

    place: tuple[int, int]
    appended_at: int

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.place[0]

    def offset(self) -> int:
        return self.place[1]

    def timestamp(self) -> tuple[int, int]:
        return 2, self.appended_at

    def headers(self) -> None:
        return None


class Kernel:
    """Applies an event to a record, and says what is to be produced."""

    def __init__(self, namespace: str) -> None:
        """Messages go to topics that begin with `namespace`."""
        policy = toml.policy(toml.shipped("policy.toml"), "policy.toml")
        registry = toml.registry(toml.shipped("partners.toml"), "partners.toml", policy, None)
        self.codec = Codec()
        self.tools: Any = SimpleNamespace(
            topic=lambda name: name if name == TOPIC else namespace + name,
            rules=Rules(policy, registry),
            codec=self.codec,
            keyring=providers.load(f"file:{Path(os.environ[KEYS])}", namespace),
            random=os.urandom,
            now=self._now,
            metrics=Metrics(),
            schemas=None,
            largest_event=262_144,
            view=SimpleNamespace(records=None),  # nothing is kept here
        )
        lanes = [f"directives.{each.name}" for each in registry.partners]
        self.names = [namespace + name for name in (*lanes, "obligations", "provision-log", "outcomes")]
        tuning.steady()
        self.at = 0
        self.intake = Intake(cast("Tools", self.tools), cast("Freshness", None))
        self.letters = self.intake.letters

    def _now(self) -> int:
        return self.at

    def ref(self, event: ConsentChange) -> str:
        """The subject's internal name, the key of its record."""
        return subject_ref(self.tools.keyring, event.subject or "")

    def decode(self, value: bytes) -> ConsentChange:
        return self.codec.decode(value, ConsentChange)

    def step(
        self, value: bytes, held: bytes | None, place: tuple[int, int], appended_at: int
    ) -> tuple[bytes, list[Letter]]:
        """The same for who keeps records as bytes: the event's message, the record, partition and offset, time (ms)."""
        before = self.codec.decode(held, SubjectRecord) if held else None
        now = time.time_ns() // 1_000_000
        record, letters = self(self.decode(value), Seen(place, appended_at), before, now)
        return self.codec.encode(record), letters

    def __call__(
        self, event: ConsentChange, seen: Seen, held: SubjectRecord | None, now: int
    ) -> tuple[SubjectRecord, list[Letter]]:
        """The record after, and all messages but the record's own."""
        self.at = now
        tools = self.tools
        one: Taken = self.intake._admit(event, seen, None)  # type: ignore[arg-type]  # asked for these methods alone
        ref = one.refs[0]
        before = held or SubjectRecord(ref)
        record = enrol(before, event, one.change, one.named, tools.keyring, tools.random)
        demands = self.intake._demands(record, (one,), None, now)
        merged = [Merged(record, (one,), frozenset(), one, demands)]
        cause = Cause("event", event.event_id, one.appended_at)
        owed = {}
        for demand in (each for theirs in demands.values() for each in theirs):
            made = obligation(ref, demand, tools.rules.registry.partner(demand.partner), cause, now)
            owed[made.obligation_id] = made
        stands = won(record, one.change)
        outcome = Outcome(
            event_id=event.event_id,
            outcome="applied" if stands else "superseded",
            reason="" if stands else "something later, or as late and stricter, had been said already",
            subject_ref=ref,
            topic=one.topic,
            partition=one.partition,
            offset=one.offset,
            appended_at=one.appended_at,
            decided_at=now,
            partners=tuple(sorted(demands)),
        )
        letters = self.letters
        return record, [
            *letters.obligations(owed.values()),
            *letters.directives(merged, owed),
            *letters.rows(merged),
            *letters.outcomes([outcome]),
        ]
