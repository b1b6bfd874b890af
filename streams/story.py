"""One person's story, and one event's: from what was said to the evidence, in order of time. No identifiers."""

from datetime import UTC, datetime

from msgspec import Struct

from todoke.processors.decide import judge
from todoke.processors.merges import members
from todoke.schemas.events import Outcome
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import SubjectRecord

from .kin import person
from .snapshot import Topics
from .tools import Tools


class Step(Struct, frozen=True, order=True):
    """One thing that happened: when (ms), and a sentence."""

    at: int
    text: str


class Story(Struct, frozen=True):
    """What is known of one subject now, and how it came about."""

    record: SubjectRecord | None
    verdicts: tuple[tuple[str, str, str], ...]
    obligations: tuple[Obligation, ...]
    steps: tuple[Step, ...]


def clock(at: int) -> str:
    """An instant for people, in UTC to the millisecond."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def refs(record: SubjectRecord | None, ref: str) -> list[str]:
    """Every reference of the person that somebody who asks for `ref` is shown."""
    return sorted(members(record) | {ref}) if record else [ref]


def of_subject(tools: Tools, ref: str, topics: Topics | None = None) -> Story:
    """The story of one subject. With `topics`, what became of each event is read from them, which takes a while."""
    record = person(tools.view, ref)
    names = refs(record, ref)
    owed = [each for theirs in tools.view.obligations.all(names) for each in theirs.values()]
    obligations = sorted(owed, key=lambda each: (each.opened_at, each.scope))
    steps = [step for each in obligations for step in _of_obligation(each)]
    if topics:
        outcomes = (each for each in topics.values("outcomes", Outcome) if each.subject_ref in names)
        steps += [_of_outcome(each) for each in {each.event_id: each for each in outcomes}.values()]
    verdicts = []
    policy = tools.rules.policy
    for scope in [each.name for each in policy.purposes] + [each.name for each in policy.channels]:
        verdict = judge(record or SubjectRecord(ref), scope, policy, tools.now())
        if verdict.explicit:
            verdicts.append((scope, "allow" if verdict.allowed else "deny", ", ".join(verdict.reasons)))
    return Story(record, tuple(verdicts), tuple(obligations), tuple(sorted(steps)))


def of_event(tools: Tools, event_id: str) -> tuple[Outcome | None, tuple[Obligation, ...]]:
    """What became of one event, and the obligations that it was the last to open."""
    outcome = tools.index.outcomes([event_id])[0]
    if outcome is None or not outcome.subject_ref:
        return outcome, ()
    owed = tools.view.obligations.all([outcome.subject_ref])[0].values()
    return outcome, tuple(each for each in owed if each.event_id == event_id)


def _of_outcome(outcome: Outcome) -> Step:
    partners = ", ".join(outcome.partners) or "nobody"
    text = f"event {outcome.event_id} ({outcome.topic}) was {outcome.outcome}"
    text += f", because {outcome.reason}" if outcome.reason else ""
    return Step(outcome.appended_at, f"{text}; concerns {partners}")


def _of_obligation(each: Obligation) -> list[Step]:
    name = f"{each.partner}/{each.account} {each.scope}: {each.verb}"
    steps = [Step(each.opened_at, f"{name} is owed ({', '.join(each.reasons)})")]
    reached: dict[int, list[str]] = {}
    for grade, at in each.grades.items():
        reached.setdefault(at, []).append(grade)
    for at, grades in reached.items():
        rungs = ", ".join(sorted(grades, key=lambda grade: Evidence[grade]))
        steps.append(Step(at, f"{name} {rungs} after {at - each.appended_at} ms"))
    if each.reopened:
        steps.append(Step(each.reopened_at, f"{name} was opened again: {each.reopened}"))
    if each.superseded_by:
        steps.append(Step(each.updated_at, f"{name} fell away: {each.superseded_by}"))
    if each.blocked:
        steps.append(Step(each.blocked_at, f"{name} is blocked: {each.blocked}"))
    steps += [Step(act.at, f"{name} was {act.act} by {act.by}: {act.ground}") for act in each.acts]
    return steps
