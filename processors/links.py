"""What an identity link says, in the names used inside: whose an identifier is, and which subjects are one person."""

from collections.abc import Sequence

from msgspec.structs import replace

from todoke.schemas.events import Event, IdentityLink
from todoke.schemas.record import Claim, Merge

from .admit import Change
from .enrol import Named
from .merges import pair


def said(event: Event, change: Change, named: Sequence[Named], refs: Sequence[str]) -> Change:
    """`change` with the claims or the merge that a link says; any other event brings identifiers and claims nothing.

    An unlink keeps its own time, as restrictions do; a link and a merge count from no later than their first append.
    """
    if not isinstance(event, IdentityLink):
        return change
    if event.action == "merge":
        return replace(change, merges={pair(*refs): Merge(change.at, event.event_id)})
    linked = event.action == "link"
    claim = Claim(linked, change.at if linked else event.occurred_at, event.event_id)
    return replace(change, claims={f"{each.kind}/{each.alias}": claim for each in named})
