"""The events of the intake topics, as values.

Times are int milliseconds since 1970 UTC, dates are ISO days in JST. Which fields a topic carries, and why, is in
`avro/`; `examples/` has one message of each kind and more.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from .identity import Identifier

AgeBand = Literal["under_13", "13_to_17", "18_and_over"]
Check = Literal["verified", "pending", "failed", "not_required"]


class Age(Struct, frozen=True):
    """What upstream knows of a person's age: a birth date (ISO day) or a band as of the event."""

    birth_date: str | None = None
    band: AgeBand | None = None

    def __repr__(self) -> str:
        """A birth date is a person's own: never printed."""
        return "Age(…)"


class Event(Struct, frozen=True, kw_only=True):
    """What every event carries.

    `event_id` is upstream's own and makes the event idempotent; `subject` is upstream's id of the person, or None
    where only identifiers are known; `occurred_at` is when the person said it, by upstream's clock.
    """

    event_id: str
    subject: str | None = None
    occurred_at: int
    source: str = ""
    identifiers: tuple[Identifier, ...] = ()
    age: Age | None = None

    def __repr__(self) -> str:
        """Subject and identifiers stay inside: the type and the event id are enough to find it."""
        return f"{type(self).__name__}(event_id={self.event_id!r})"


class ConsentChange(Event, frozen=True, kw_only=True):
    """A purpose granted or withdrawn; `purpose` "*" withdraws everything, purposes added later included."""

    purpose: str
    decision: Literal["granted", "withdrawn"]
    regime: str = "appi"
    method: str = ""
    policy_version: str = ""
    expires_at: int | None = None


class Unsubscribe(Event, frozen=True, kw_only=True):
    """A channel stopped, or taken up again. `scope` names one list of the channel; "*" is all of it."""

    channel: str
    scope: str = "*"
    action: Literal["unsubscribed", "resubscribed"] = "unsubscribed"
    method: str = ""


class DeletionRequest(Event, frozen=True, kw_only=True):
    """A deletion asked for (APPI Art. 22, 35; policy section 9), or the asking taken back."""

    action: Literal["requested", "cancelled"] = "requested"
    ground: str = ""
    scope: str = "*"
    channel: str = ""
    identity_check: Check = "pending"
    agent_check: Check = "not_required"


class SuspensionRequest(Event, frozen=True, kw_only=True):
    """Use, or provision to third parties, suspended or the suspension lifted (APPI Art. 35)."""

    action: Literal["suspended", "lifted"] = "suspended"
    scope: Literal["use", "provision"] = "use"
    ground: str = ""
    channel: str = ""
    until: int | None = None
    identity_check: Check = "pending"
    agent_check: Check = "not_required"


class RightsRequest(Event, frozen=True, kw_only=True):
    """A request that changes no permission: access, source, correction, provision records, purpose notice."""

    right: Literal["access", "source", "correction", "provision_records", "purpose_notice"]
    channel: str = ""
    identity_check: Check = "pending"
    agent_check: Check = "not_required"


class Provision(Event, frozen=True, kw_only=True):
    """Data given to (APPI Art. 29), received from (Art. 30) or joined with that of (Art. 31) somebody else.

    `period_start` and `period_end` are ISO days in JST; `corrects` or `annuls` is the event id of an earlier provision, whose
    record this one's takes the place of.
    """

    direction: Literal["given", "received", "joined"] = "given"
    counterpart: str
    counterpart_name: str = ""
    counterpart_address: str = ""
    counterpart_representative: str = ""
    country: str = "JP"
    legal_basis: str = "consent"
    purposes: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    how_acquired: str = ""
    consent_confirmed: str = ""
    method: Literal["each", "lump-sum", "substitute"] = "each"
    period_start: str = ""
    period_end: str = ""
    consent_event: str = ""
    foreign_information: str = ""
    opt_out_publication: str = ""
    corrects: str = ""
    annuls: str = ""


class IdentityLink(Event, frozen=True, kw_only=True):
    """Identifiers linked to a subject, or subjects merged or parted."""

    action: Literal["link", "merge", "unlink"] = "link"
    other_subject: str | None = None


INTAKE: dict[str, type[Event]] = {
    "consent-changes": ConsentChange,
    "unsubscribes": Unsubscribe,
    "deletion-requests": DeletionRequest,
    "suspension-requests": SuspensionRequest,
    "rights-requests": RightsRequest,
    "provisions": Provision,
    "identity-links": IdentityLink,
}
"""Which event each intake topic carries."""


class Outcome(Struct, frozen=True):
    """What became of one event: law 1. Key of `outcomes`: the event id."""

    event_id: str
    outcome: Literal["applied", "superseded", "refused"]
    reason: str
    subject_ref: str
    topic: str
    partition: int
    offset: int
    appended_at: int
    decided_at: int
    partners: tuple[str, ...] = ()


class DeadLetter(Struct, frozen=True):
    """A refused input or a delivery given up, whole and sealed, so that it can be replayed. Times in ms."""

    letter_id: str
    kind: Literal["event", "delivery"]
    reason: str
    field: str
    fix: str
    topic: str
    partition: int
    offset: int
    appended_at: int
    refused_at: int
    event_id: str = ""
    partner: str = ""
    sealed_key: bytes = b""
    sealed_value: bytes = b""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    replayed_at: int = 0


class LogRow(Struct, frozen=True):
    """One row for the ledger. `payload` is sealed before it is produced; `number` counts per source and subject."""

    row_id: str
    kind: str
    subject_ref: str
    source: str
    number: int
    at: int
    cause: str
    partner: str
    payload: bytes
