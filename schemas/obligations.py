"""Obligations: that one recipient must hear one decision, until there is evidence (law 3).

An obligation is a join, like the record: copies that saw different receipts merge into one that saw them all, so late,
doubled or reordered receipts change nothing that a stronger one has settled (correctness, 12). A failure that comes to
light later begins a new generation, which takes the place of the earlier one: the later generation wins, and within one
generation evidence only rises, so the order of arrival still doesn't matter.
"""

from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from .receipts import RESTRICTIVE, Evidence, Receipt, Verb
from .record import Stamp

State = Literal["open", "blocked", "done", "closed", "waived", "superseded"]
ENDED: frozenset[State] = frozenset({"done", "closed", "waived", "superseded"})


class Act(Struct, frozen=True, order=True):
    """What a person did: at (ms), the act (`closed`, `waived`, `assigned`), who, on what ground, with what evidence."""

    at: int
    act: str
    by: str
    ground: str
    evidence: str = ""


class Obligation(Struct, frozen=True, kw_only=True):
    """One recipient, one decision. Key of `obligations`: the id.

    `obligation_id` is computed from the fields above the line in `plan`, so creating it twice is creating it once.
    `grades` holds when (ms) each rung was first reached; `done_at_grade` is the rung that the partner counts as done.
    Evidence belongs to a `generation`: a later one begins without any. `reopened_at` (ms) and `reopened` say when and
    why this one began, where it is not the first.
    """

    obligation_id: str
    subject_ref: str
    partner: str
    account: str
    scope: str
    verb: Verb
    stamps: tuple[Stamp, ...]
    registry_revision: int
    boundary: int
    identifier_generation: int
    reasons: tuple[str, ...]

    cause: str
    event_id: str
    appended_at: int
    opened_at: int
    deadline_at: int
    done_at_grade: int

    grades: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    blocked: str = ""
    blocked_at: int = 0
    owner: str = ""
    superseded_by: str = ""
    acts: tuple[Act, ...] = ()
    updated_at: int = 0
    reopened: str = ""
    reopened_at: int = 0

    @property
    def restrictive(self) -> bool:
        """Whether it takes a permission away."""
        return self.verb in RESTRICTIVE

    @property
    def grade(self) -> int:
        """The highest rung reached."""
        return max((Evidence[name] for name in self.grades), default=Evidence.none)

    @property
    def state(self) -> State:
        """Exactly one state, derived: done before what people did, before superseded, before blocked, before open.

        What was closed outside is open again with a later generation; what was waived has to be met no more.
        """
        if self.grades and self.grade >= self.done_at_grade:
            return "done"
        for act in reversed(self.acts):
            if act.act == "waived" or (act.act == "closed" and act.at >= self.reopened_at):
                return "waived" if act.act == "waived" else "closed"
            if act.act == "closed":
                break
        if self.superseded_by:
            return "superseded"
        return "blocked" if self.blocked else "open"

    @property
    def ended_at(self) -> int:
        """When it ended, in ms; 0 while it is open or blocked."""
        if self.state not in ENDED:
            return 0
        reached = [at for name, at in self.grades.items() if Evidence[name] >= self.done_at_grade]
        return min(reached) if reached else self.updated_at

    @property
    def round(self) -> int:
        """The generation, from 1: before its first attempt an obligation is in its first."""
        return max(self.generation, 1)


def join(one: Obligation, other: Obligation) -> Obligation:
    """The least obligation that has seen what both have seen. Raises ValueError when they are two."""
    if one.obligation_id != other.obligation_id:
        raise ValueError("expected two copies of one obligation, got two obligations")
    first = min(
        one, other, key=lambda each: (each.opened_at, each.appended_at, each.event_id, each.cause, each.reasons)
    )
    blocked_at, blocked = max((one.blocked_at, one.blocked), (other.blocked_at, other.blocked))
    acts = tuple(sorted({*one.acts, *other.acts}))
    newest = [each for each in (one, other) if each.round == max(one.round, other.round)]
    reopened_at, reopened = max((each.reopened_at, each.reopened) for each in newest)
    return replace(
        first,
        deadline_at=min(one.deadline_at, other.deadline_at),
        done_at_grade=max(one.done_at_grade, other.done_at_grade),
        grades={
            name: min(each.grades[name] for each in newest if name in each.grades)
            for name in sorted({name for each in newest for name in each.grades})
        },
        generation=max(one.generation, other.generation),
        reopened=reopened,
        reopened_at=reopened_at,
        blocked=blocked,
        blocked_at=blocked_at,
        owner=acts[-1].by if acts else max(one.owner, other.owner),
        superseded_by=max(one.superseded_by, other.superseded_by),
        acts=acts,
        updated_at=max(one.updated_at, other.updated_at),
    )


def ask_again(standing: Obligation, asked: Obligation) -> Obligation:
    """The obligation after the same demand was made anew: as it stands, unless the demand says more than it does.

    `join`, but that being asked again is no news by itself: it leaves `updated_at` alone.
    """
    known = (
        standing.opened_at < asked.opened_at
        and standing.deadline_at <= asked.deadline_at
        and standing.done_at_grade >= asked.done_at_grade
        and not asked.blocked
    )
    return standing if known else join(standing, asked)


def settle(obligation: Obligation, receipt: Receipt) -> Obligation:
    """The obligation after one receipt; applying a receipt again, or late, changes nothing more."""
    seen = replace(obligation, updated_at=max(obligation.updated_at, receipt.at))
    match receipt.kind:
        case "attempting":
            return _advance(seen, receipt.generation)
        case "reopened":
            later = _advance(seen, receipt.generation)
            if receipt.generation < later.round:
                return later
            reopened_at, reopened = max((later.reopened_at, later.reopened), (receipt.at, receipt.reason))
            return replace(later, reopened=reopened, reopened_at=reopened_at)
        case "ended" | "settled":
            cleared = _block(seen, "", receipt.at) if receipt.grade >= Evidence.accepted else seen
            later = _advance(cleared, receipt.generation)
            if max(receipt.generation, 1) < later.round:
                return later  # evidence of an earlier generation: kept in `receipts`, and proof of nothing here
            reached = {
                rung.name: min(later.grades.get(rung.name, receipt.at), receipt.at)
                for rung in Evidence
                if Evidence.none < rung <= receipt.grade
            }
            return replace(later, grades={**later.grades, **reached})
        case "superseded":
            return replace(seen, superseded_by=max(seen.superseded_by, receipt.reference))
        case "blocked" | "given-up":
            return _block(seen, receipt.reason, receipt.at)
        case _:  # person
            act = Act(receipt.at, receipt.reason, receipt.by, receipt.ground, receipt.reference)
            acts = tuple(sorted({*seen.acts, act}))
            return replace(seen, acts=acts, owner=acts[-1].by)


def _advance(obligation: Obligation, generation: int) -> Obligation:
    """The obligation in `generation` if that is a later one, where it has no evidence yet."""
    if generation <= obligation.round:
        return replace(obligation, generation=max(obligation.generation, generation))
    return replace(obligation, generation=generation, grades={}, reopened="", reopened_at=0)


def _block(obligation: Obligation, reason: str, at: int) -> Obligation:
    blocked_at, blocked = max((obligation.blocked_at, obligation.blocked), (at, reason))
    return replace(obligation, blocked=blocked, blocked_at=blocked_at)
