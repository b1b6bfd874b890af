"""Who may do what at the cluster: the table from which its administrator gives rights, held true by a test with an authorizer."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from todoke.schemas.events import INTAKE

from .topics import PARTNER, TOPICS

Role = Literal["worker", "dispatcher", "ledger", "operator", "deployer", "upstream"]
LANE = f"directives.{PARTNER}"


class Access(Struct, frozen=True, kw_only=True):
    """What a role does with topics, by their rows in `TOPICS`; how the groups begin that it reads in; and why.

    `cuts` are topics whose oldest messages it deletes.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    administers: bool = False
    groups: tuple[str, ...] = ()
    doc: str


EVENTS = tuple(INTAKE)
KEPT = ("consent-state", "obligations", "told")
ACCESS: dict[Role, Access] = {
    "worker": Access(
        reads=(*EVENTS, "receipts", *KEPT, "registry", "keys"),
        writes=(*KEPT, "outcomes", "receipts", "provision-log", "dead-letters", "keys", LANE),
        groups=("todoke.",),
        doc="`todoke worker`",
    ),
    "dispatcher": Access(
        reads=(LANE, "lane-orders", "registry", "keys"),
        writes=("receipts", "obligations", "told", "provision-log", "dead-letters", "keys"),
        groups=("todoke.dispatch.", "todoke.reader"),
        doc="`todoke dispatch`; the lanes of its partners are enough",
    ),
    "ledger": Access(
        reads=("provision-log",),
        cuts=("provision-log",),
        groups=("todoke.ledger.",),
        doc="`todoke ledger run`; Delete on the topic that it reads, to let go of rows that it has",
    ),
    "operator": Access(
        reads=(*EVENTS, *KEPT, "outcomes", "receipts", "dead-letters", "lane-orders", "registry", "keys"),
        writes=(*EVENTS, "consent-state", "receipts", "provision-log", "dead-letters", "lane-orders", "keys"),
        groups=("todoke.reader",),
        doc="the commands that look, and act for people; intake topics are written by `todoke replay` alone, `consent-state` by `todoke keys`",
    ),
    "deployer": Access(
        reads=("registry",),
        writes=("registry",),
        administers=True,
        groups=("todoke.reader",),
        doc="`todoke topics apply`, `todoke registry publish`",
    ),
    "upstream": Access(writes=EVENTS, doc="producers of events, `todoke publish`"),
}
"""By role. Every read and write takes Describe with it; `administers` is Create, Describe, DescribeConfigs, AlterConfigs."""


def topics_of(role: Role, namespace: str, partners: Iterable[str]) -> set[str]:
    """The full names of the topics that a role reads or writes."""
    access, every = ACCESS[role], [each.name for each in TOPICS]
    rows = every if access.administers else dict.fromkeys((*access.reads, *access.writes))
    return set(full(rows, namespace, partners))


def full(rows: Iterable[str], namespace: str, partners: Iterable[str]) -> list[str]:
    """Full names of rows of the table: one, or one for each partner."""
    served = list(partners)
    return [
        namespace + row.replace(PARTNER, partner) for row in rows for partner in (served if PARTNER in row else [""])
    ]
