"""What the demo prints at its end: who heard what, how fast and on what evidence, and whether the sums are right."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from todoke.schemas.directives import Directive
from todoke.schemas.events import DeadLetter
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Evidence


def quantile(values: Sequence[int], share: float) -> int:
    """The value below which `share` of all lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def partners(obligations: Iterable[Obligation], directives: dict[str, int]) -> RenderableType:
    """Per partner: directives, obligations by state, the evidence of those done, and the time until it was there."""
    table = Table(
        *("partner", "directives", "obligations", "done", "superseded", "blocked", "evidence", "p50 ms", "p99 ms"),
        title="Partners: latency is from the event's append time to the evidence that counts as done",
        title_justify="left",
        box=None,
    )
    grouped: dict[str, list[Obligation]] = {}
    for each in obligations:
        grouped.setdefault(each.partner, []).append(each)
    for partner, owed in sorted(grouped.items()):
        states = Counter(each.state for each in owed)
        done = [each for each in owed if each.state == "done"]
        latencies = [each.ended_at - each.appended_at for each in done]
        rungs = ", ".join(f"{n} {name}" for name, n in Counter(Evidence(each.grade).name for each in done).items())
        table.add_row(
            partner,
            str(directives.get(partner, 0)),
            str(len(owed)),
            str(states["done"]),
            str(states["superseded"]),
            str(states["blocked"]),
            rungs or "-",
            str(quantile(latencies, 0.5)) if latencies else "-",
            str(quantile(latencies, 0.99)) if latencies else "-",
        )
    return table


def blocked(obligations: Iterable[Obligation]) -> RenderableType:
    """What waits for a person, by partner and reason: accounted for, never called done."""
    table = Table(
        "partner", "reason", "obligations", title="Blocked: open, with an owner", title_justify="left", box=None
    )
    counts = Counter((each.partner, each.blocked) for each in obligations if each.state == "blocked")
    for (partner, reason), count in sorted(counts.items()):
        table.add_row(partner, reason, str(count))
    return table if counts else ""


def letters(found: Iterable[DeadLetter]) -> RenderableType:
    """Dead letters by reason."""
    table = Table("reason", "letters", "what to do", title="Dead letters", title_justify="left", box=None)
    for (reason, fix), count in Counter((each.reason, each.fix) for each in found).most_common():
        table.add_row(reason, str(count), fix)
    return table


def directed(values: Iterable[Directive]) -> dict[str, int]:
    """Directives by partner."""
    return dict(Counter(each.partner for each in values))


def page(parts: Sequence[RenderableType]) -> RenderableType:
    """The parts, a blank line between them."""
    spaced: list[RenderableType] = []
    for each in parts:
        spaced += [each, ""]
    return Group(*spaced)
