"""Makes the blocks of docs/ that stand between markers: tables of what the code declares, so that nobody retypes them.

Run it after a change of what they show: `python -m tests.golden.make_docs`. `tests/test_docs.py` compares.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import click

from tests.contracts.rows import Expected, rows
from todoke.processors import decide
from todoke.processors.disclosure import DECISIONS, GROUNDS
from todoke.schemas import errors, toml
from todoke.schemas.errors import Rejected, Retry, Split
from todoke.schemas.recordkeeping import Reader
from todoke.sinks.base import SOMEBODY_MUST_ACT_S
from todoke.streams import acls
from todoke.streams.cli import main
from todoke.streams.metrics import METRICS
from todoke.streams.topics import DAY, FOREVER, TOPICS, Topic

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- /made -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [[*head], ["---" for _ in head], *rows]
    return "".join(f"| {' | '.join(each.replace('|', chr(92) + '|') for each in line)} |\n" for line in lines)


def metrics() -> str:
    """Every metric: kind, labels, meaning."""
    rows = (
        (f"`{name}`", kind.__name__.lower(), ", ".join(f"`{each}`" for each in labels), text)
        for name, (kind, labels, text) in METRICS.items()
    )
    return table(["metric", "kind", "labels", "meaning"], rows)


def codes(reasons: Mapping[str, str]) -> str:
    """Codes, with the sentence that people are shown."""
    return table(["code", "means"], ((f"`{code}`", text) for code, text in reasons.items()))


def topics() -> str:
    """Every topic: what it carries, its key, how long it keeps it."""
    rows = ((f"`{each.name}`", f"`{each.carries.__name__}`", each.key, kept(each), each.doc) for each in TOPICS)
    return table(["topic", "carries", "key", "kept", "meaning"], rows)


def rights() -> str:
    """What each role needs to be allowed at the cluster."""
    events = frozenset(acls.EVENTS)

    def named(rows: tuple[str, ...]) -> str:
        first = ["intake topics"] if events <= set(rows) else []
        return ", ".join(first + [f"`{each}`" for each in rows if each not in events]) or "–"

    lines = (
        (
            f"`{role}`: {each.doc}",
            named(each.reads),
            named(each.writes),
            ", ".join(f"`{one}…`" for one in each.groups) or "–",
        )
        for role, each in acls.ACCESS.items()
    )
    return table(["role", "Read", "Write", "Read on groups"], lines)


def kept(topic: Topic) -> str:
    """For how long."""
    if topic.cleanup == "compact":
        return "last of each key"
    return "for ever" if topic.retention_ms == FOREVER else f"{topic.retention_ms // DAY} days"


def commands() -> str:
    """Every command of the console script."""
    return table(["command", "does"], ((f"`{usage(*each)}`", sentence(each[1])) for each in leaves("todoke", main)))


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The commands that do something, by the words that lead to them."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield name, command
    if isinstance(command, click.Group):
        for word, inner in sorted(command.commands.items()):
            yield from leaves(f"{name} {word}", inner)


def usage(name: str, command: click.Command) -> str:
    """The words, the arguments, the options."""
    parts = [name]
    for each in command.params:
        if isinstance(each, click.Argument):
            parts.append((each.name or "").upper() if each.required else f"[{(each.name or '').upper()}]")
        elif isinstance(each, click.Option):
            option = each.opts[0] if each.is_flag else f"{each.opts[0]} …"
            parts.append(option if each.required else f"[{option}]")
    return " ".join(parts)


def sentence(command: click.Command) -> str:
    """What the help says."""
    return " ".join((command.help or "").split())


ENDS = (
    "told all the same",
    "tried again, nothing applied",
    "tried again, perhaps applied",
    "waits for somebody",
    "refused",
)
"""What a fault may lead to, as `docs/partners/README.md` explains it."""


def faults() -> str:
    """What each connector makes of each fault of its emulator: what the contract suite holds it to."""
    lines = []
    for name, row in rows().items():
        found: dict[str, list[str]] = {each: [] for each in ENDS}
        for fault, expected in sorted(row.faults.items()):
            end, code = outcome(expected)
            found[end].append(f"`{fault}`" + (f" ({code})" if code and code != fault else ""))
        if row.faults:  # the others are tested against real servers
            lines.append((f"[{name}]({name}.md)", *("<br>".join(found[each]) or "–" for each in ENDS)))
    return table(["connector", *ENDS], lines)


def outcome(expected: Expected) -> tuple[str, str]:
    """The column that a fault falls into, and the code that people see."""
    if isinstance(expected, Retry):
        if expected.after == SOMEBODY_MUST_ACT_S and not expected.perhaps:
            return ENDS[3], expected.reason
        return ENDS[2] if expected.perhaps else ENDS[1], expected.reason
    if isinstance(expected, Split):
        return ENDS[4], f"{expected.reason}, alone"
    if isinstance(expected, Rejected):
        return ENDS[4], expected.reason
    assert isinstance(expected, list)
    reasons = ", ".join(sorted({reason for _, reason in expected if reason}))
    return (ENDS[4], reasons) if reasons else (ENDS[0], "")


READS: dict[Reader, str] = {"subject": "S", "desk": "D", "partner": "P", "auditor": "A", "commission": "C"}


def records() -> str:
    """Every record rule: of which row, since when, how long it is kept, by which law."""
    rules = toml.default_records()
    lines = (
        (
            f"`{each.name}`",
            f"`{each.row}`" + (f": {', '.join(each.bases)}" if each.bases else ""),
            each.since,
            "law" if each.duty else "ours",
            "; ".join(f"{one}: {rules.period(one).label.en}" for one in [each.retention]),
            each.law,
        )
        for each in rules.record
    )
    return table(["record", "row", "since", "asked for by", "kept", "law"], lines)


def items() -> str:
    """Every item of every record: whether it must be there, whether it is statutory, who may see it."""
    lines = (
        (
            f"`{rule.name}`",
            f"`{item.name}`",
            item.label.en,
            ", ".join(["required"] * item.required + ["statutory"] * item.statutory) or "–",
            " ".join(mark for reader, mark in READS.items() if reader in item.readers),
            item.law,
        )
        for rule in toml.default_records().record
        for item in rule.items
    )
    return table(["record", "item", "what it is", "", "who sees it", "law"], lines)


def grounds() -> str:
    """On what something is left out of a disclosure."""
    lines = (
        (f"`{name}`", each.label.en, each.law, "a decision" if name in DECISIONS else "the rules")
        for name, each in GROUNDS.items()
    )
    return table(["ground", "means", "law", "who says so"], lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "metrics": metrics,
    "refusals": lambda: codes(errors.REASONS),
    "decisions": lambda: codes(decide.REASONS),
    "topics": topics,
    "commands": commands,
    "acls": rights,
    "faults": faults,
    "records": records,
    "items": items,
    "grounds": grounds,
}
"""What stands in each block, by its name."""


def made(text: str) -> str:
    """A page with its blocks made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    for page in sorted(DOCS.rglob("*.md")):
        page.write_text(made(page.read_text("utf-8")), "utf-8")
