"""A small policy, a small registry, and builders and strategies for what the pure core works on."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

from hypothesis import strategies as st

from todoke.processors.admit import Change, admit
from todoke.processors.keys import KEY_BYTES, Keyring, Ring
from todoke.processors.plan import Cause, demands, identify, obligation
from todoke.schemas.events import (
    Age,
    ConsentChange,
    DeletionRequest,
    Event,
    Provision,
    SuspensionRequest,
    Unsubscribe,
)
from todoke.schemas.identity import IdentifierKind
from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Account, LegalBasis, Partner, Registry, Rules
from todoke.schemas.policy import Answer, Channel, Label, Policy, Purpose, PurposeKind, Regime, Role, Version
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import Key, Register, SealedIdentifier, SubjectRecord, join

REF = "5ub7ec7"
HOURS = {"grant": 24, "withdraw": 12, "suspend": 6, "delete": 72}
Item = TypeVar("Item")


def jst(text: str) -> int:
    """The instant (ms) of an ISO day, or day and time, in JST."""
    return int(datetime.fromisoformat(f"{text}+09:00" if "T" in text else f"{text}T00:00+09:00").timestamp() * 1000)


def utc(text: str) -> int:
    """The instant (ms) of an ISO day and time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOW = jst("2025-06-01T12:00")
LATE = NOW + 1_000_000
"""Later than everything that the strategies make."""


def label(name: str) -> Label:
    return Label(en=name, ja=name)


def purpose(name: str, kind: PurposeKind, *, minors: bool = True, unknown: Answer = "deny") -> Purpose:
    absent: Answer = "deny" if kind == "opt-in" or (not minors and unknown == "deny") else "allow"
    return Purpose(name=name, kind=kind, label=label(name), absent=absent, bars_minors=not minors, age_unknown=unknown)


def policy(**changes: Any) -> Policy:
    """Purposes of each kind, open and barred to minors; two regimes; two versions, the second from 2026 on."""
    fields: dict[str, Any] = {
        "name": "test",
        "revision": 1,
        "label": label("test"),
        "skew_seconds": 300,
        "regimes": (Regime(name="appi", label=label("appi")), Regime(name="gdpr", label=label("gdpr"))),
        "versions": (
            Version(name="v1", effective="2024-07-01"),
            Version(name="v2", effective="2026-01-01", reconsent=("research",)),
        ),
        "purposes": (
            purpose("service", "required"),
            purpose("research", "opt-in"),
            purpose("site", "opt-out"),
            purpose("ads", "opt-in", minors=False),
            purpose("profiling", "opt-out", minors=False),
            purpose("cookies", "opt-out", minors=False, unknown="allow"),
        ),
        "channels": (
            Channel(name="email-magazine", label=label("email"), purposes=("research",)),
            Channel(name="notices", label=label("notices"), purposes=("service",)),
            Channel(name="ad-mail", label=label("ad mail"), purposes=("ads",)),
        ),
        "roles": (
            Role(name="distributor", label=label("distributor"), third_party=True),
            Role(name="subcontractor", label=label("subcontractor"), third_party=False),
        ),
    }
    return Policy(**{**fields, **changes})


def partner(name: str, *scopes: str, basis: LegalBasis = "consent", **changes: Any) -> Partner:
    """A third party that is assumed to hold data, with one account; `basis` entrustment makes it a subcontractor."""
    fields: dict[str, Any] = {
        "name": name,
        "label": name,
        "role": "distributor" if basis == "consent" else "subcontractor",
        "legal_basis": basis,
        "identifiers": ("email", "phone"),
        "accounts": (Account(name="main", scopes=scopes),),
        "connector": "webhook",
        "deadline_hours": HOURS,
        "assumed_to_hold": True,
    }
    return Partner(**{**fields, **changes})


ADS = partner("ads-net", "ads", "profiling")
CRM = partner("crm", "research", "email-magazine", "site", basis="entrustment", grants=True, done="processed")
PANEL = partner(
    "panel",
    assumed_to_hold=False,
    identifiers=("member_id",),
    accounts=(Account(name="jp", scopes=("research",)), Account(name="eu", scopes=("research", "site"))),
)


def registry(*partners: Partner, revision: int = 1) -> Registry:
    return Registry(revision=revision, partners=partners or (ADS, CRM, PANEL))


def rules(*partners: Partner, revision: int = 1, **changes: Any) -> Rules:
    return Rules(policy(**changes), registry(*partners, revision=revision))


def consent(event_id: str, name: str, decision: str = "withdrawn", at: int = NOW, **changes: Any) -> ConsentChange:
    fields = {"event_id": event_id, "subject": "s", "occurred_at": at, "purpose": name, "decision": decision}
    return ConsentChange(**{**fields, **changes})


def grant(event_id: str, name: str, at: int = NOW, **changes: Any) -> ConsentChange:
    return consent(event_id, name, "granted", at, **changes)


def unsubscribe(event_id: str, channel: str, scope: str = "*", at: int = NOW, **changes: Any) -> Unsubscribe:
    return Unsubscribe(event_id=event_id, subject="s", occurred_at=at, channel=channel, scope=scope, **changes)


def deletion(event_id: str, at: int = NOW, **changes: Any) -> DeletionRequest:
    fields = {"event_id": event_id, "subject": "s", "occurred_at": at, "identity_check": "verified"}
    return DeletionRequest(**{**fields, **changes})


def suspension(event_id: str, scope: str = "use", at: int = NOW, **changes: Any) -> SuspensionRequest:
    fields = {"event_id": event_id, "subject": "s", "occurred_at": at, "scope": scope, "identity_check": "verified"}
    return SuspensionRequest(**{**fields, **changes})


def provision(event_id: str, counterpart: str, at: int = NOW, **changes: Any) -> Provision:
    return Provision(event_id=event_id, subject="s", occurred_at=at, counterpart=counterpart, **changes)


def born(event_id: str, birth_date: str, at: int = NOW) -> Unsubscribe:
    """An event that says an age, and otherwise nothing that concerns a partner of the registry."""
    return Unsubscribe(
        event_id=event_id, subject="s", occurred_at=at, channel="notices", age=Age(birth_date=birth_date)
    )


def admitted(event: Event, under: Policy | None = None) -> Change:
    return admit(event, under or policy(), event.occurred_at)


def apply(record: SubjectRecord, change: Change) -> SubjectRecord:
    """The record joined with what a change writes."""
    return join(record, SubjectRecord(record.subject_ref, registers=change.writes, holdings=change.holdings))


def written(*events: Event, under: Policy | None = None) -> SubjectRecord:
    """The record after the events, in whatever order."""
    record = SubjectRecord(REF)
    for each in events:
        record = apply(record, admitted(each, under))
    return record


def with_identifiers(
    record: SubjectRecord, *aliases: str, at: int = NOW, kind: IdentifierKind = "email"
) -> SubjectRecord:
    """The record with identifiers under a key of their own; nothing here can be opened."""
    sealed = {f"{each}.g{at}": SealedIdentifier(kind, each, f"g{at}", b"?") for each in aliases}
    return join(record, SubjectRecord(record.subject_ref, keys={f"g{at}": Key(b"?", "w", at)}, identifiers=sealed))


def ids(record: SubjectRecord, name: str = "ads-net", under: Rules | None = None, at: int = LATE) -> set[str]:
    """The ids of what a record demands of one partner."""
    return {
        identify(record.subject_ref, each) for each in demands(record, under or rules(), at) if each.partner == name
    }


def owed(record: SubjectRecord, under: Rules, at: int = LATE, opened_at: int = NOW) -> dict[str, Obligation]:
    """The obligations that a record demands, as a worker creates them."""
    cause = Cause("event", "e", opened_at)
    made = (
        obligation(record.subject_ref, each, under.registry.partner(each.partner), cause, opened_at)
        for each in demands(record, under, at)
    )
    return {each.obligation_id: each for each in made}


def receipt(obligation: Obligation, kind: str, at: int = NOW, **changes: Any) -> Receipt:
    fields = {
        "receipt_id": f"{kind}@{at}",
        "obligation_id": obligation.obligation_id,
        "subject_ref": obligation.subject_ref,
        "partner": obligation.partner,
        "account": obligation.account,
        "scope": obligation.scope,
        "verb": obligation.verb,
        "kind": kind,
        "at": at,
    }
    return Receipt(**{**fields, **changes})


def events() -> st.SearchStrategy[Event]:
    """Events of every kind that decides, close enough in time to tie, with ids that tell them apart."""
    ids = st.uuids().map(str)
    ats = st.integers(0, 12).map(lambda tick: NOW + tick * 1000)
    everything = st.sampled_from(["research", "site", "ads", "profiling", "cookies", "*"])
    regimes = st.sampled_from(["appi", "gdpr"])
    until = st.none() | st.integers(1, 20).map(lambda tick: NOW + tick * 1000)
    births = st.sampled_from(["1980-01-31", "2007-06-01", "2007-06-02", "2012-06-02", "2015-02-28"])
    ages = st.none() | births.map(lambda day: Age(birth_date=day))
    return st.one_of(
        st.builds(consent, ids, everything, st.just("withdrawn"), ats, regime=regimes, age=ages),
        st.builds(grant, ids, everything.filter(lambda name: name != "*"), ats, regime=regimes, expires_at=until),
        st.builds(
            unsubscribe,
            ids,
            st.sampled_from(["email-magazine", "ad-mail"]),
            st.sampled_from(["*", "weekly"]),
            ats,
            action=st.sampled_from(["unsubscribed", "resubscribed"]),
        ),
        st.builds(deletion, ids, ats),
        st.builds(
            suspension,
            ids,
            st.sampled_from(["use", "provision"]),
            ats,
            action=st.sampled_from(["suspended", "lifted"]),
            until=until,
        ),
        st.builds(provision, ids, st.sampled_from(["ads-net", "crm", "panel", "nobody"]), ats),
    )


def register(at: int, event_id: str = "e", *, restrictive: bool = False, value: str = "granted") -> Register:
    return Register(value, at, restrictive, event_id)


def bracketed(pieces: list[Item], join_two: Callable[[Item, Item], Item], draw: st.DataObject) -> Item:
    """All pieces joined, two neighbours at a time, in whatever order of brackets is drawn."""
    left = list(pieces)
    while len(left) > 1:
        place = draw.draw(st.integers(0, len(left) - 2))
        left[place : place + 2] = [join_two(left[place], left[place + 1])]
    return left[0]


def keyring() -> Keyring:
    wrapping = Ring("w1", {"w1": b"1" * KEY_BYTES, "w2": b"2" * KEY_BYTES})
    alias, log = Ring("a1", {"a1": b"a" * KEY_BYTES}), Ring("l1", {"l1": b"l" * KEY_BYTES})
    return Keyring(b"r" * KEY_BYTES, alias, wrapping, log)


def random_bytes(seed: int = 0) -> Callable[[int], bytes]:
    """Bytes that never come twice from one seed, and are the same in every run."""
    numbers = count((seed << 40) + 1)
    return lambda size: next(numbers).to_bytes(size, "big")
