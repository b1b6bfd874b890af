"""People who change their minds: a stream of plain events, the same for the same seed. Imports nothing of the product.

Each line says what is sent, and whether it must be refused, and why. It is written down before it is sent: what the
checker judges by is this file and nothing that the product says.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from tests.faults.topics import INTAKE, Contracts

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
PURPOSES = (
    "marketing-communications",
    "targeted-advertising",
    "cross-border-transfer",
    "cookie-advertising",
    "cookie-analysis",
    "profiling",
)
CHANNELS = ("email-magazine", "direct-mail", "sms", "line")
RECIPIENTS = ("hoshi-dmp", "hoshi-dmp", "meta", "kura-crm", "aozora-analytics", "fukuro-research")
KINDS: dict[str, int] = {
    "grant": 30,
    "withdraw": 22,
    "withdraw-all": 3,
    "unsubscribe": 12,
    "resubscribe": 6,
    "suspend": 4,
    "lift": 3,
    "delete": 3,
    "cancel": 1,
    "provide": 8,
    "request": 1,
    "link": 2,
    "tie": 2,
    "bad": 3,
}
"""How often each kind of event comes, of about a hundred."""


class Plan(NamedTuple):
    """What is asked for: how many messages of how many people, from when (ms) on, and how many a second."""

    seed: int
    events: int
    people: int
    start: int
    rate: float
    tag: str


class Line(NamedTuple):
    """One message: its topic and key, the bytes, the event in plain, of whom, and the reason why it must be refused."""

    topic: str
    key: str
    value: bytes
    event: Mapping[str, Any] | None
    subject: str
    refuse: str

    def text(self) -> str:
        """The line as it is written down."""
        sha = sha256(self.value).hexdigest()
        fields = {"topic": self.topic, "event": self.event, "subject": self.subject, "refuse": self.refuse, "sha": sha}
        return json.dumps(fields, separators=(",", ":"))


class Member:
    """One person: how they are known, and the instants already used, so that no two words tie by accident."""

    def __init__(self, number: int, tag: str, random: Random) -> None:
        self.subject = f"person-{tag}-{number:06d}"
        self.random = random
        digits = f"{int(sha256(self.subject.encode()).hexdigest()[:12], 16) % 10**8:08d}"
        device = sha256(f"{self.subject}/gaid".encode()).hexdigest()
        every = {
            "email": f"{self.subject}@fire.example.jp",
            "phone": f"090-{digits[:4]}-{digits[4:]}",
            "member_id": f"M-{self.subject}",
            "cookie_id": f"ck-{self.subject}",
            "gaid": f"{device[:8]}-{device[8:12]}-{device[12:16]}-{device[16:20]}-{device[20:32]}",
        }
        kinds = random.choice(
            [
                tuple(every),
                ("email", "member_id"),
                ("email", "phone", "member_id"),
                ("cookie_id", "gaid"),
                ("member_id",),
            ]
        )
        self.kit = [{"kind": kind, "value": every[kind]} for kind in kinds]
        self.aged = random.random() < 0.85
        self.links = 0
        self._used: set[int] = set()

    def instant(self, wanted: int) -> int:
        """`wanted` (ms), or the first instant after it at which this person has said nothing yet."""
        while wanted in self._used:
            wanted += 1
        self._used.add(wanted)
        return wanted

    def named(self) -> list[dict[str, str]]:
        """How an event names the person: in full, mostly; in another spelling, sometimes; or only by the subject's id."""
        dice = self.random.random()
        if dice < 0.15:
            return []
        if dice < 0.3:
            return [
                {**each, "value": f" {each['value'].upper()} "} if each["kind"] == "email" else each
                for each in self.kit
            ]
        return list(self.kit)


class Generator:
    """Makes the lines."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.contracts = Contracts()
        self.members = [Member(number, plan.tag, self.random) for number in range(plan.people)]
        self._kinds, self._weights = list(KINDS), list(KINDS.values())

    def lines(self) -> Iterator[Line]:
        """As many as planned: sound ones, bad ones, and copies of earlier ones; neighbours change places now and then."""
        held: Line | None = None
        recent: list[Line] = []
        count = 0
        while count < self.plan.events:
            member = self._member()
            for line in self._some(member, self._now(count)):
                count += 1
                recent = [*recent[-400:], line]
                if held is None and self.random.random() < 0.05:
                    held = line
                    continue
                yield line
                if held is not None and self.random.random() < 0.3:
                    yield held
                    held = None
            if recent and self.random.random() < 0.03:
                count += 1
                yield self.random.choice(recent)
        if held is not None:
            yield held

    def _now(self, count: int) -> int:
        return self.plan.start + int(count * SECOND / self.plan.rate)

    def _member(self) -> Member:
        """A few people are in a hurry, so that their events fall into one batch."""
        few = max(1, self.plan.people // 10)
        return self.members[self.random.randrange(few if self.random.random() < 0.5 else self.plan.people)]

    def _some(self, member: Member, now: int) -> list[Line]:
        kind = self.random.choices(self._kinds, self._weights)[0]
        if kind == "bad":
            return [self._bad(member, now)]
        if kind == "tie":
            purpose, at = self.random.choice(PURPOSES), member.instant(now - self.random.randrange(SECOND))
            return [self.consent(member, at, purpose, decision) for decision in self._shuffled("granted", "withdrawn")]
        return [getattr(self, kind.replace("-", "_"))(member, self._when(member, now, kind))]

    def _shuffled(self, *words: str) -> list[str]:
        return self.random.sample(words, len(words))

    def _when(self, member: Member, now: int, kind: str) -> int:
        """When the person said it: just now mostly, some minutes ago at times, by a clock that is fast now and then."""
        dice = self.random.random()
        if dice < 0.12:
            return member.instant(now - self.random.randrange(MINUTE, 20 * MINUTE))
        if dice < 0.15 and kind not in ("provide", "delete"):
            return member.instant(now + self.random.randrange(SECOND, 2 * MINUTE))
        return member.instant(now - self.random.randrange(2 * SECOND))

    def line(self, topic: str, member: Member, at: int, refuse: str = "", **fields: Any) -> Line:
        """A message of one person, encoded by the contract of its topic."""
        event = {
            "event_id": str(UUID(int=self.random.getrandbits(128), version=4)),
            "subject": member.subject,
            "occurred_at": at,
            "source": "fire",
            "identifiers": member.named(),
            "age": {"birth_date": "1984-05-17", "band": None} if member.aged and self.random.random() < 0.7 else None,
            **fields,
        }
        return Line(topic, member.subject, self.contracts.encode(INTAKE[topic], event), event, member.subject, refuse)

    def consent(self, member: Member, at: int, purpose: str, decision: str, refuse: str = "", **more: Any) -> Line:
        """A purpose granted or withdrawn."""
        fields = {"regime": "appi", "method": "site", "policy_version": "2024-07", "expires_at": None, **more}
        return self.line("consent-changes", member, at, refuse, purpose=purpose, decision=decision, **fields)

    def grant(self, member: Member, at: int) -> Line:
        return self.consent(member, at, self.random.choice(PURPOSES), "granted")

    def withdraw(self, member: Member, at: int) -> Line:
        return self.consent(member, at, self.random.choice(PURPOSES), "withdrawn")

    def withdraw_all(self, member: Member, at: int) -> Line:
        return self.consent(member, at, "*", "withdrawn")

    def unsubscribe(self, member: Member, at: int, action: str = "unsubscribed", channel: str = "") -> Line:
        channel = channel or self.random.choice(CHANNELS)
        return self.line("unsubscribes", member, at, channel=channel, scope="*", action=action, method="link")

    def resubscribe(self, member: Member, at: int) -> Line:
        return self.unsubscribe(member, at, "resubscribed")

    def suspend(self, member: Member, at: int, action: str = "suspended", scope: str = "") -> Line:
        scope = scope or self.random.choice(("use", "provision"))
        more: dict[str, Any] = {"ground": "art-35", "channel": "desk", "until": None, **CHECKED}
        return self.line("suspension-requests", member, at, action=action, scope=scope, **more)

    def lift(self, member: Member, at: int) -> Line:
        return self.suspend(member, at, "lifted")

    def delete(self, member: Member, at: int, action: str = "requested", refuse: str = "", **more: Any) -> Line:
        fields = {"action": action, "ground": "art-35", "scope": "*", "channel": "desk", **CHECKED, **more}
        return self.line("deletion-requests", member, at, refuse, **fields)

    def cancel(self, member: Member, at: int) -> Line:
        return self.delete(member, at, "cancelled")

    def provide(self, member: Member, at: int, recipient: str = "") -> Line:
        fields: dict[str, Any] = dict.fromkeys(
            ("counterpart_name", "counterpart_address", "counterpart_representative"), ""
        )
        more: dict[str, Any] = {"country": "JP", "legal_basis": "consent", "purposes": [], "items": ["cookie-data"]}
        return self.line(
            "provisions",
            member,
            at,
            direction="given",
            counterpart=recipient or self.random.choice(RECIPIENTS),
            how_acquired="",
            consent_confirmed="",
            **fields,
            **more,
        )

    def request(self, member: Member, at: int) -> Line:
        return self.line("rights-requests", member, at, right="access", channel="desk", **CHECKED)

    def link(self, member: Member, at: int) -> Line:
        """A new address: whoever knows the person by e-mail must hear of it, too."""
        member.links = min(3, member.links + 1)
        new = {"kind": "email", "value": f"{member.subject}.{member.links}@fire.example.jp"}
        if new not in member.kit:
            member.kit = [*member.kit, new]
        more: dict[str, Any] = {"action": "link", "other_subject": None}
        return self.line("identity-links", member, at, identifiers=[new], **more)

    def _bad(self, member: Member, now: int) -> Line:
        at = member.instant(now - self.random.randrange(SECOND))
        return self.random.choice(BAD)(self, member, at)


CHECKED = {"identity_check": "verified", "agent_check": "not_required"}


def _not_avro(_: Generator, member: Member, at: int) -> Line:
    value = json.dumps({"subject": member.subject, "at": at}).encode()
    return Line("consent-changes", member.subject, value, None, member.subject, "not-avro")


BAD: tuple[Callable[[Generator, Member, int], Line], ...] = (
    _not_avro,
    lambda make, who, at: make.consent(who, at, "newsletter", "granted", "unknown-purpose"),
    lambda make, who, at: make.consent(who, at, "*", "granted", "grant-of-everything"),
    lambda make, who, at: make.consent(who, at, "service", "withdrawn", "purpose-required"),
    lambda make, who, at: make.consent(who, at + 10 * HOUR, "profiling", "withdrawn", "future"),
    lambda make, who, at: make.consent(who, at // 1000, "profiling", "withdrawn", "not-a-time"),
    lambda make, who, at: make.consent(who, at, "profiling", "withdrawn", "missing-event-id", event_id=""),
    lambda make, who, at: make.delete(who, at, refuse="identity-unverified", identity_check="pending"),
    lambda make, who, at: make.consent(
        who, at, "profiling", "granted", "invalid-identifier", identifiers=[{"kind": "email", "value": "nobody"}]
    ),
)
"""Events that must be refused, each with the reason."""
