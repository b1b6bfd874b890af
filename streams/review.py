"""Looking at subjects again though nobody said anything: their time has come, or the rules have changed.

As the intake does, what a record demands is made an obligation in the view, then in its topic, with a directive to the
partner, before whoever asked moves on. Obligations have deterministic ids, so a review that is repeated adds nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.instants import next_instant
from todoke.processors.plan import NO_CONNECTOR, Cause, Demand, demands, identify, obligation, supersessions
from todoke.schemas.directives import Directive
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.obligations import join as join_obligations
from todoke.schemas.record import SubjectRecord

from .letters import Letters
from .metrics import kind
from .outbox import Letter
from .tools import Tools
from .view import Cell, join_with

Why = Literal["time", "policy"]
KEEPER_OF_LOST = "privacy-office"


class Seen(Struct, frozen=True):
    """A record as it was looked at: its bytes, and its next turn (ms, 0 for none)."""

    ref: str
    raw: bytes
    turn: int


class Found(Struct, frozen=True):
    """What one subject demands that has not ended, by id, and what stands of it."""

    record: SubjectRecord
    wanted: Mapping[str, Demand]
    current: Sequence[Demand]
    standing: Sequence[Obligation]


class Review:
    """Reviews subjects, from a current view."""

    def __init__(self, tools: Tools) -> None:
        """See `Tools`."""
        self.tools = tools
        self.letters = Letters(tools)

    def __call__(self, refs: Sequence[str], why: Why, *, restrictive: bool | None = None) -> list[Seen]:
        """Make what the subjects' records demand now, all of it or one side; durable when this returns.

        Raises `NotCurrent`, or `Retry`, and then may be repeated.
        """
        tools = self.tools
        at = tools.now()
        # obligations first: whatever a worker has made meanwhile comes of what the records, read after them, say
        held = tools.view.obligations.all(refs)
        raws = tools.view.raw([tools.view.records.cell(ref) for ref in refs])
        found, seen = [], []
        for ref, raw, owed in zip(refs, raws, held, strict=True):
            record = None if raw is None else tools.codec.decode(raw, SubjectRecord)
            seen.append(Seen(ref, raw or b"", next_instant(record, tools.rules.policy, at) if record else 0))
            if record is not None:
                found.append(self._find(record, owed, at, side=restrictive))
        made = self._make(found, why, at)
        letters = [*self.letters.obligations(made.values()), *self._directives(found, made, why, at)]
        tools.outbox.send([*letters, *self.letters.superseded(self._fallen(found))])
        tools.metrics.count("todoke_reviews_total", why, by=len(refs))
        return seen

    def _find(self, record: SubjectRecord, owed: Mapping[str, Obligation], at: int, *, side: bool | None) -> Found:
        current = demands(record, self.tools.rules, at)
        ids = {identify(record.subject_ref, each): each for each in current}
        wanted = {
            name: each
            for name, each in ids.items()
            if (name not in owed or owed[name].state not in ENDED) and side in (None, each.verb != "grant")
        }
        standing = [each for each in owed.values() if each.state not in ENDED]
        return Found(record, wanted, current, standing)

    def _make(self, found: Sequence[Found], why: Why, at: int) -> dict[str, Obligation]:
        """The demands as obligations of the view; what stands at a partner that is gone gets an owner."""
        tools = self.tools
        wanted: dict[Cell, Obligation] = {}
        for each in found:
            ref = each.record.subject_ref
            for name, demand in each.wanted.items():
                cause = Cause(why, "", demand.boundary if why == "time" and demand.boundary else at)
                partner = tools.rules.registry.partner(demand.partner)
                wanted[tools.view.obligations.cell(ref, name)] = obligation(ref, demand, partner, cause, at)
            for owed in each.standing:
                if tools.rules.registry.partner(owed.partner) is None and owed.blocked != NO_CONNECTOR:
                    owner = owed.owner or KEEPER_OF_LOST
                    lost = replace(owed, blocked=NO_CONNECTOR, blocked_at=at, owner=owner, updated_at=at)
                    wanted.setdefault(tools.view.obligations.cell(ref, owed.obligation_id), lost)
        written = tools.view.obligations.update(wanted, join_with(wanted, join_obligations))
        tools.index.track(written.values())
        for made in written.values():
            if made.opened_at == at:
                label = kind(restrictive=made.restrictive)
                tools.metrics.count("todoke_obligations_created_total", made.partner, label)
        return {each.obligation_id: each for each in written.values()}

    def _directives(
        self, found: Iterable[Found], made: Mapping[str, Obligation], why: Why, at: int
    ) -> Iterable[Letter]:
        """A wake-up for each partner at whom something is owed, or stands that may have fallen away."""
        tools = self.tools
        for each in found:
            ref = each.record.subject_ref
            names = {one.partner for one in each.wanted.values()} | {one.partner for one in each.standing}
            for name in sorted(names):
                if tools.rules.registry.partner(name) is None:
                    continue
                theirs = [made[key] for key, one in each.wanted.items() if one.partner == name]
                directive = Directive(
                    subject_ref=ref,
                    partner=name,
                    cause=why,
                    event_id="",
                    stamps=tuple(sorted({stamp for one in theirs for stamp in one.stamps})),
                    obligations=tuple(sorted(one.obligation_id for one in theirs)),
                    restrictive=any(one.restrictive for one in theirs),
                    appended_at=min((one.appended_at for one in theirs), default=at),
                    deadline_at=min((one.deadline_at for one in theirs), default=0),
                    registry_revision=tools.rules.revision,
                )
                yield Letter(tools.topic(f"directives.{name}"), ref, tools.codec.encode(directive))
                tools.metrics.count("todoke_directives_total", name, kind(restrictive=directive.restrictive))

    def _fallen(self, found: Iterable[Found]) -> Iterable[tuple[Obligation, str]]:
        """What a newer obligation takes the place of at recipients that have no desk which would say so."""
        for each in found:
            strangers = [one for one in each.current if NO_CONNECTOR in one.reasons]
            names = {one.partner for one in strangers}
            standing = [one for one in each.standing if one.partner in names]
            by = supersessions(strangers, standing, each.record.subject_ref)
            yield from ((one, by[one.obligation_id]) for one in standing if one.obligation_id in by)
