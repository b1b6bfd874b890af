"""A directive: "look at this subject for this partner". No identifiers inside, no verdict to be believed."""

from msgspec import Struct

from .record import Stamp


class Directive(Struct, frozen=True, kw_only=True):
    """A wake-up for one lane. The sink loads the record, waits until it contains `stamps`, and decides afresh.

    `obligations` are those that the event made or touched; `restrictive` puts it ahead of grants; `appended_at` is the
    broker's time of the event (ms), the start of every latency; `deadline_at` the earliest deadline among them.
    """

    subject_ref: str
    partner: str
    cause: str
    event_id: str
    stamps: tuple[Stamp, ...]
    obligations: tuple[str, ...]
    restrictive: bool
    appended_at: int
    deadline_at: int
    registry_revision: int
