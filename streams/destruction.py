"""How long something of a shredded person can still be opened, place by place, computed from what the cluster has set.

The instant from which it counts, T, is the shredding (docs/keys.md). A topic that deletes keeps a record for its
retention, and up to a segment's time more, since it deletes whole segments. A topic that compacts keeps what was
overwritten until its segment has ended (its time, and one pulse more where nobody writes), has been left alone for the
shortest lag, and is overdue by the longest; then the cleaner comes.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .topics import DAY, FOREVER, HOUR, TOPICS, configuration

CLEANER_MS = HOUR
"""Allowance for the cleaner's pause (log.cleaner.backoff.ms, 15 s) and its run, or the deletion's (5 min, and 1 min)."""

OPENED = {
    "consent-state": "keyring",
    "dead-letters": "a log key",
    "provision-log": "a log key",
}
"""Topics that hold what a key opens, and which. Intake topics need none; no other holds an identifier."""

INTAKE = (
    "consent-changes",
    "unsubscribes",
    "deletion-requests",
    "suspension-requests",
    "rights-requests",
    "provisions",
    "identity-links",
)


class Copy(Struct, frozen=True):
    """Where a copy lies, what opens it, and when (ms after T) it is gone; None where no time bounds it."""

    where: str
    opened_by: str
    gone_after: int | None
    because: str


def compacted(config: Mapping[str, str], pulse_ms: int) -> int | None:
    """When what was overwritten at T is gone from a compacted topic, in ms after T; None when nothing compels it.

    Kafka ends a segment by the lesser of its own time and the longest lag (`LogConfig.maxSegmentMs`).
    """
    longest = int(config["max.compaction.lag.ms"])
    if longest >= 2**63 - 1 or "compact" not in config["cleanup.policy"].split(","):
        return None
    ends = min(int(config["segment.ms"]), longest) + pulse_ms
    return max(longest, ends + int(config["min.compaction.lag.ms"])) + CLEANER_MS


def deleted(config: Mapping[str, str]) -> int | None:
    """When what was appended at T is gone from a topic that deletes, in ms after T; None when it keeps for ever."""
    retention = int(config["retention.ms"])
    return None if retention == FOREVER else retention + int(config["segment.ms"]) + CLEANER_MS


def topics(found: Mapping[str, Mapping[str, str]], pulse_ms: int) -> list[Copy]:
    """The copies in topics, from each topic's settings by its plain name; what is not found is taken as it should be."""
    copies = []
    for topic in TOPICS:
        if topic.name not in OPENED and topic.name not in INTAKE:
            continue
        config = {**configuration(topic), **found.get(topic.name, {})}
        opened = OPENED.get(topic.name, "nothing: in the clear")
        if topic.cleanup == "compact":
            names = ("segment.ms", "min.compaction.lag.ms", "max.compaction.lag.ms")
            after = compacted(config, pulse_ms)
            because = f"{_said(config, names)}, pulse {_time(pulse_ms)}"
        else:
            after = deleted(config)
            because = _said(config, ("retention.ms", "segment.ms"))
        copies.append(Copy(topic.name, opened, after, because))
    return copies


def view(client: Any) -> Copy:
    """The copies that the view's server has on disk. It does not say when it rewrites them: that is the operator's."""
    try:
        told = {name: client.config_get(name).get(name, "") for name in ("appendonly", "save")}
    except Exception:  # noqa: BLE001  # a managed server forbids CONFIG, each with an error of its own
        return Copy("the view's disk", "keyring", None, "the server does not say how it is set")
    if told["appendonly"] != "yes" and not told["save"]:
        return Copy("the view's disk", "keyring", 0, "neither append-only file nor snapshots")
    written = "append-only file" if told["appendonly"] == "yes" else f"snapshots ({told['save']})"
    return Copy("the view's disk", "keyring", None, f"{written}: until next rewritten (BGREWRITEAOF, BGSAVE)")


def longest(copies: list[Copy], *, without_log: bool) -> int | None:
    """The longest of the times, in ms; None when something is not bounded."""
    counted = [each.gone_after for each in copies if not (without_log and each.opened_by == "a log key")]
    return None if any(each is None for each in counted) else max(each or 0 for each in counted)


def said(after: int | None) -> str:
    """A time for people."""
    return "no limit" if after is None else f"T + {_time(after)}"


def _said(config: Mapping[str, str], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name.removesuffix('.ms')} {_time(int(config[name]))}" for name in names)


def _time(ms: int) -> str:
    if ms == FOREVER:
        return "for ever"
    if ms < HOUR:
        return f"{ms / 1000:g} s"
    return f"{ms // DAY} d" + (f" {ms % DAY / HOUR:g} h" if ms % DAY else "") if ms >= DAY else f"{ms / HOUR:g} h"
