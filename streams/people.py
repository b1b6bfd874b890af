"""Pages for people at a terminal, and what people of the privacy office do. No page shows an identifier."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from uuid import uuid4, uuid5

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from todoke.processors.balance import Balance
from todoke.processors.jobs import FAILED_LATE, NO_RESULT
from todoke.processors.keys import seal_for_log
from todoke.processors.merges import members
from todoke.processors.reconcile import ANSWERED
from todoke.schemas.errors import Misconfigured
from todoke.schemas.events import DeadLetter, LogRow, Outcome
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.receipts import Evidence, Receipt

from .due import Due, entries
from .notes import NOTES
from .outbox import Letter
from .story import Story, clock
from .tools import Tools

EVERY = 1_000_000
ACTS = {"assign": "assigned", "close": "closed", "waive": "waived", "reopen": "reopened"}


def subject_page(found: Story, ref: str) -> RenderableType:
    """What is known of one subject, what is owed, and how it came about."""
    record = found.record
    known = Counter(each.kind for each in record.identifiers.values()) if record else {}
    head = f"subject {ref}: identifiers {', '.join(f'{kind} x{n}' for kind, n in sorted(known.items())) or 'none'}"
    if record and record.subject_ref != ref:
        head = head.replace(f"subject {ref}", f"subject {ref}, merged into {record.subject_ref}", 1)
    if record and (others := members(record) - {ref, record.subject_ref}):
        head += f"; the same person as {', '.join(sorted(others))}"
    if record and record.erased_through:
        head += f"; deletion asked {clock(record.erased_through)}"
        head += ", identifiers shredded" if record.shredded_through else ""
    verdicts = Table("purpose or channel", "now", "because", box=None, title="What may be done", title_justify="left")
    for row in found.verdicts:
        verdicts.add_row(*row)
    steps = Table("when (UTC)", "what", box=None, title="How it came about", title_justify="left")
    for step in found.steps:
        steps.add_row(clock(step.at), step.text)
    return Group(head, "", verdicts, "", _obligations(found.obligations, "What is owed, and the evidence"), "", steps)


def event_page(outcome: Outcome, owed: Sequence[Obligation]) -> RenderableType:
    """What became of one event."""
    head = f"event {outcome.event_id}: {outcome.outcome}"
    head += f" ({outcome.reason})" if outcome.reason else ""
    where = f"taken in at {clock(outcome.appended_at)} from {outcome.topic}/{outcome.partition}/{outcome.offset}"
    concerned = f"concerns {', '.join(outcome.partners) or 'no partner'}; subject {outcome.subject_ref or 'none'}"
    return Group(head, where, concerned, "", _obligations(owed, "Obligations that it opened"))


def obligations_page(tools: Tools, partner: str, limit: int) -> RenderableType:
    """The oldest obligations that stand, per partner."""
    known = [each.name for each in tools.rules.registry.partners]
    names = [name for name in [*known, *tools.index.recipients()] if not partner or name == partner]
    pages: list[RenderableType] = []
    for name in dict.fromkeys(names):
        standing = tools.index.standing([name])[name]
        if not standing.pending:
            continue
        pairs = tools.index.oldest(name, limit)
        cells = [tools.view.obligations.cell(*pair) for pair in pairs]
        owed = [each for each in tools.view.obligations.load(cells) if each]
        age = (tools.now() - standing.oldest_at) / 1000
        pages.append(_obligations(owed, f"{name}: {standing.pending} pending, the oldest since {age:.0f} s"))
    return Group(*pages) if pages else Text("nothing is owed")


def balance_page(found: Balance) -> RenderableType:
    """The sums, and what breaks them."""
    sums = Table(box=None, show_header=False)
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(found.outcomes.items()))
    sums.add_row("events", f"{found.events} distinct: {outcomes or 'none'}")
    states = ", ".join(f"{count} {name}" for name, count in sorted(found.states.items()))
    sums.add_row("obligations", f"{found.obligations}: {states or 'none'}")
    sums.add_row("demanded now", str(found.demanded))
    sums.add_row("demanded by time since a moment", str(len(found.coming)))
    broken = {
        "events without an outcome": found.undecided,
        "obligations missing": found.missing,
        "obligations surplus": found.surplus,
        "done without evidence": found.unproven,
    }
    for name, ids in broken.items():
        sums.add_row(name, str(len(ids)) + (f": {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}" if ids else ""))
    verdict = Text("balance exact", style="green") if found.exact else Text("balance NOT exact", style="bold red")
    return Group(sums, verdict)


def letters_page(found: Sequence[DeadLetter], limit: int) -> RenderableType:
    """Dead letters by reason, then the newest."""
    reasons = Table("kind", "reason", "letters", "what to do", box=None)
    for (kind, reason, fix), count in Counter((each.kind, each.reason, each.fix) for each in found).most_common():
        reasons.add_row(kind, reason, str(count), fix)
    newest = Table("when (UTC)", "letter", "reason", "field", "event", "partner", "replayed (UTC)", box=None)
    for each in sorted(found, key=lambda each: each.refused_at)[-limit:]:
        replayed = clock(each.replayed_at) if each.replayed_at else "-"
        row = (each.letter_id, each.reason, each.field, each.event_id, each.partner, replayed)
        newest.add_row(clock(each.refused_at), *row)
    return Group(reasons, "", newest)


def act(tools: Tools, obligation_id: str, done: str, *, by: str, ground: str, evidence: str) -> None:
    """Note what a person does about an obligation: a receipt, and a row of the log. Raises `Misconfigured`.

    Only what is done or closed can be `reopened`: the partner said afterwards that it failed; and what was given up since
    the partner never said anything. Everything else is done to what stands.
    """
    again = done == ACTS["reopen"]
    found = chain(tools.index.all_ended(), tools.index.all_standing()) if again else tools.index.all_standing()
    ref = next((ref for ref, name in found if name == obligation_id), None)
    if ref is None:
        fix = (
            "see `todoke subject` for those that have ended" if again else "see `todoke obligations` for those that do"
        )
        raise Misconfigured(f"{obligation_id}: no such obligation {'has ended' if again else 'stands'}: {fix}")
    cells = tools.view.obligations
    (owed,) = cells.load([cells.cell(ref, obligation_id)])
    unheard = owed is not None and owed.state == "blocked" and owed.blocked == NO_RESULT
    if owed is None or (owed.state in ENDED) != (again and not unheard):
        raise Misconfigured(f"{obligation_id}: it has {'not ended' if again else 'ended already'}")
    if again and owed.state not in ANSWERED and not unheard:
        raise Misconfigured(
            f"{obligation_id}: it is {owed.state}: only what counts as told can turn out to have failed"
        )
    tools.outbox.send(noted(tools, owed, done, by=by, ground=ground, evidence=evidence))


def noted(tools: Tools, owed: Obligation, done: str, *, by: str, ground: str, evidence: str = "") -> list[Letter]:
    """What says that a person did something about an obligation: a receipt, and a row of the log."""
    at, again, ref = tools.now(), done == ACTS["reopen"], owed.subject_ref
    receipt = Receipt(
        receipt_id=str(uuid4()),
        obligation_id=owed.obligation_id,
        subject_ref=ref,
        partner=owed.partner,
        account=owed.account,
        scope=owed.scope,
        verb=owed.verb,
        kind="reopened" if again else "person",
        at=at,
        generation=owed.round + 1 if again else 0,
        grade=Evidence.none,
        reason=FAILED_LATE if again else done,
        reference=evidence,
        ground=ground,
        by=by,
    )
    row_id = str(uuid5(NOTES, receipt.receipt_id))
    payload = json.dumps({"act": done, "by": by, "ground": ground, "evidence": evidence}).encode()
    row = LogRow(
        row_id=row_id,
        kind="person-act",
        subject_ref=ref,
        source="people",
        number=0,
        at=at,
        cause=owed.obligation_id,
        partner=owed.partner,
        payload=seal_for_log(tools.keyring, row_id, payload, tools.random),
    )
    codec = tools.codec
    return [
        Letter(tools.topic("receipts"), ref, codec.encode(receipt)),
        Letter(tools.topic("provision-log"), ref, codec.encode(row)),
    ]


def wake(tools: Tools, due: Due, partitions: int, partner: str, reason: str) -> int:
    """Have everything that stands at a partner looked at again now: after its fault was mended. How many subjects.

    With `reason`, only what is blocked or was given up for it.
    """
    pairs = tools.index.oldest(partner, EVERY)
    cells = tools.view.obligations
    found = [each for each in cells.load([cells.cell(*pair) for pair in pairs]) if each]
    wanted = [each for each in found if not reason or each.blocked == reason]
    woken = entries(wanted, partitions, tools.now() * 1000)
    due.forgive(woken)
    due.wake(woken)
    return len({each.subject_ref for each in wanted})


def _obligations(owed: Sequence[Obligation], title: str) -> Table:
    table = Table("partner", "scope", "verb", "state", "evidence", "latency", "owner", "obligation", box=None)
    table.title, table.title_justify = title, "left"
    for each in owed:
        grade = Evidence(each.grade).name
        reached = min((at for name, at in each.grades.items() if name == grade), default=0)
        latency = f"{reached - each.appended_at} ms" if reached else "-"
        state = f"{each.state}: {each.blocked}" if each.state == "blocked" else each.state
        state += f" (opened again: {each.reopened})" if each.reopened else ""
        table.add_row(each.partner, each.scope, each.verb, state, grade, latency, each.owner or "-", each.obligation_id)
    return table
