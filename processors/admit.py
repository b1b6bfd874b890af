"""Admission: from an event of the intake to the writes that it means, or the reason why not.

Pure: the time against which an event is judged is the broker's append time, so a replay judges as the first time did.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from msgspec import Struct

from todoke.schemas.errors import Refused
from todoke.schemas.events import (
    Check,
    ConsentChange,
    DeletionRequest,
    Event,
    IdentityLink,
    Provision,
    RightsRequest,
    SuspensionRequest,
    Unsubscribe,
)
from todoke.schemas.policy import Policy
from todoke.schemas.record import (
    AGE,
    ERASED,
    EVERYTHING,
    Claim,
    Holding,
    Merge,
    Register,
    channel_register,
    purpose_register,
    suspension_register,
)

from .age import reached, youngest

LONGEST = 256
EARLIEST = 946_684_800_000  # 2000-01-01: an older time is a count of seconds, or a mistake


class Change(Struct, frozen=True):
    """What an admitted event writes. Empty `writes` with no holding is right for requests that change nothing.

    `at` is the effective time of what the event brings along: no fast clock puts an identifier after a deletion that it
    came before. `claims` and `merges` are what a link says: they name aliases and references, and are filled in by
    `links.said`.
    """

    kind: str
    at: int
    writes: dict[str, Register]
    holdings: dict[str, Holding]
    claims: dict[str, Claim] = {}
    merges: dict[str, Merge] = {}


def admit(event: Event, policy: Policy, appended_at: int, first_appended_at: int | None = None) -> Change:
    """The change that `event` means.

    `appended_at` is the broker's append time of this copy, `first_appended_at` that of the first copy of the same event
    where it is known: a grant counts from the earlier of its own time and that (correctness, 5). Raises `Refused`.
    """
    _envelope(event, policy, appended_at)
    seen = min(appended_at, first_appended_at if first_appended_at is not None else appended_at)
    writes: dict[str, Register] = {}
    holdings: dict[str, Holding] = {}
    _ADMIT[type(event)](event, policy, seen, writes, holdings)
    if event.age is not None:
        born = youngest(event.age, event.occurred_at)
        minor = not reached(born, policy.minors.marketing_below, event.occurred_at)
        at = event.occurred_at if minor else min(event.occurred_at, seen)
        writes[AGE] = Register(born.isoformat(), at, minor, event.event_id)
    return Change(type(event).__name__, min(event.occurred_at, seen), writes, holdings)


def _envelope(event: Event, policy: Policy, appended_at: int) -> None:
    if not event.event_id:
        raise Refused("missing-event-id", "event_id", "Give every event an id of its own, such as a UUID.")
    if not event.subject and not event.identifiers:
        raise Refused("missing-subject", "subject", "Give the subject's id, or at least one identifier.")
    for name, value in (("event_id", event.event_id), ("subject", event.subject or ""), ("source", event.source)):
        if len(value) > LONGEST:
            raise Refused("too-long", name, f"Keep it within {LONGEST} characters.")
    _time("occurred_at", event.occurred_at)
    if event.occurred_at > appended_at + policy.skew_seconds * 1000:
        fix = f"The clock of the sender is ahead by more than {policy.skew_seconds} s: set it right and send again."
        raise Refused("future", "occurred_at", fix)


def _time(field: str, at: int) -> None:
    if at < EARLIEST:
        raise Refused("not-a-time", field, "Give milliseconds since 1970 UTC.")


def _consent(
    event: ConsentChange, policy: Policy, seen: int, writes: dict[str, Register], _: dict[str, Holding]
) -> None:
    if event.regime not in {regime.name for regime in policy.regimes}:
        raise Refused("unknown-regime", "regime", f"Use one of {', '.join(each.name for each in policy.regimes)}.")
    if event.policy_version and event.policy_version not in {version.name for version in policy.versions}:
        raise Refused("unknown-policy-version", "policy_version", "Register the version in the policy, or correct it.")
    withdrawn = event.decision == "withdrawn"
    if event.purpose == EVERYTHING:
        if not withdrawn:
            raise Refused("grant-of-everything", "purpose", "Send one grant for each purpose.")
    else:
        purpose = policy.purpose(event.purpose)
        if purpose is None:
            raise Refused("unknown-purpose", "purpose", "Use a purpose of the policy, or add it there first.")
        if withdrawn and purpose.kind == "required":
            raise Refused("purpose-required", "purpose", "Send a deletion or suspension request instead.")
    if event.expires_at is not None and not withdrawn:  # 0 would mean for ever
        _time("expires_at", event.expires_at)
    writes[purpose_register(event.regime, event.purpose)] = Register(
        value=event.decision,
        at=event.occurred_at if withdrawn else min(event.occurred_at, seen),
        restrictive=withdrawn,
        event_id=event.event_id,
        until=event.expires_at or 0,
        policy_version=event.policy_version,
    )


def _unsubscribe(
    event: Unsubscribe, policy: Policy, seen: int, writes: dict[str, Register], _: dict[str, Holding]
) -> None:
    if policy.channel(event.channel) is None:
        raise Refused("unknown-channel", "channel", f"Use one of {', '.join(each.name for each in policy.channels)}.")
    if len(event.scope) > LONGEST:
        raise Refused("too-long", "scope", f"Keep it within {LONGEST} characters.")
    stopped = event.action == "unsubscribed"
    writes[channel_register(event.channel, event.scope or EVERYTHING)] = Register(
        event.action, event.occurred_at if stopped else min(event.occurred_at, seen), stopped, event.event_id
    )


def _verified(identity: Check, agent: Check) -> None:
    if identity != "verified" or agent not in ("verified", "not_required"):
        fix = "Verify the person, and the agent's mandate if there is one, and send the request again as verified."
        raise Refused("identity-unverified", "identity_check", fix)


def _deletion(event: DeletionRequest, _: Policy, __: int, writes: dict[str, Register], ___: dict[str, Holding]) -> None:
    _verified(event.identity_check, event.agent_check)
    if event.scope != EVERYTHING:
        raise Refused("not-yet-supported", "scope", "Only '*' is acted on: ask for everything, or correct the data.")
    if event.action == "requested":  # a cancellation lowers nothing: it is recorded, and that is all (correctness, 3)
        writes[ERASED] = Register(
            "erased", event.occurred_at, restrictive=True, event_id=event.event_id, ground=event.ground[:LONGEST]
        )


def _suspension(
    event: SuspensionRequest, _: Policy, seen: int, writes: dict[str, Register], __: dict[str, Holding]
) -> None:
    _verified(event.identity_check, event.agent_check)
    suspended = event.action == "suspended"
    if event.until and suspended:  # in seconds, it would have ended before it began
        _time("until", event.until)
    writes[suspension_register(event.scope)] = Register(
        event.action,
        event.occurred_at if suspended else min(event.occurred_at, seen),
        suspended,
        event.event_id,
        until=(event.until or 0) if suspended else 0,
        ground=event.ground[:LONGEST],
    )


def _provision(event: Provision, _: Policy, __: int, ___: dict[str, Register], holdings: dict[str, Holding]) -> None:
    if not event.counterpart or len(event.counterpart) > LONGEST:
        raise Refused("too-long", "counterpart", f"Name the other side in 1 to {LONGEST} characters.")
    if event.annuls and event.corrects:
        raise Refused("unknown-value", "annuls", "Say either which provision this one corrects, or which it annuls.")
    if event.event_id in {event.annuls, event.corrects}:
        raise Refused("unknown-value", "corrects", "Name an earlier event; this one can't take its own place.")
    for name, day in (("period_start", event.period_start), ("period_end", event.period_end)):
        if day and not _is_day(day):
            raise Refused("unknown-value", name, "Write a day such as 2026-11-23, in JST.")
    # to a recipient that the registry lacks too: recorded, never refused. What is annulled gave nobody anything
    if event.direction == "given" and not event.annuls:
        items = tuple(sorted(set(event.items)))
        holdings[event.counterpart] = Holding(event.occurred_at, event.occurred_at, items)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _link(event: IdentityLink, *_: Any) -> None:
    if not event.subject:
        raise Refused("missing-subject", "subject", "A link names the subject that it is about.")
    if event.action == "merge":
        if not event.other_subject or event.other_subject == event.subject:
            raise Refused("missing-subject", "other_subject", "A merge names two subjects, one in each field.")
        if len(event.other_subject) > LONGEST:
            raise Refused("too-long", "other_subject", f"Keep it within {LONGEST} characters.")
    elif event.other_subject:
        fix = "Only identifiers are linked and unlinked; two subjects that were merged stay one person."
        raise Refused("not-yet-supported", "other_subject", fix)
    elif not event.identifiers and event.action == "unlink":
        raise Refused("missing-identifier", "identifiers", "An unlink names the identifiers that are no longer theirs.")


def _request(*_: Any) -> None:
    """A rights request changes no register; its row in the log, with a deadline, is its effect."""


_ADMIT: dict[type[Event], Callable[..., None]] = {
    ConsentChange: _consent,
    Unsubscribe: _unsubscribe,
    DeletionRequest: _deletion,
    SuspensionRequest: _suspension,
    RightsRequest: _request,
    Provision: _provision,
    IdentityLink: _link,
}
"""What each kind of event writes."""
