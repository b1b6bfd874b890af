"""Every metric of Todoke, in one table, and the recorder that each process owns.

No label ever holds a person, a subject or an event (law 7). Times are in seconds, instants in seconds since 1970. The
documentation includes this file; nothing retypes it.
"""

import collections
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import write_to_textfile
from prometheus_client.metrics import MetricWrapperBase

from todoke.processors.balance import Balance
from todoke.schemas.events import Outcome

Name = Literal[
    "todoke_outcomes_total",
    "todoke_schema_waiting_messages",
    "todoke_batch_messages",
    "todoke_directives_total",
    "todoke_propagation_seconds",
    "todoke_receipts_total",
    "todoke_calls_total",
    "todoke_call_seconds",
    "todoke_call_items",
    "todoke_obligations_pending",
    "todoke_obligations_oldest_timestamp_seconds",
    "todoke_obligations_created_total",
    "todoke_obligations_ended_total",
    "todoke_obligations_reopened_total",
    "todoke_permission_seen_seconds",
    "todoke_obligations_held_total",
    "todoke_due_entries",
    "todoke_jobs_under_way",
    "todoke_jobs_oldest_timestamp_seconds",
    "todoke_polls_total",
    "todoke_callbacks_total",
    "todoke_swaps_total",
    "todoke_swap_rows",
    "todoke_swap_oldest_timestamp_seconds",
    "todoke_swap_refused",
    "todoke_lane_held",
    "todoke_breaker_state",
    "todoke_quota_left",
    "todoke_quota_waits_total",
    "todoke_reviews_total",
    "todoke_sweep_partitions",
    "todoke_view_current",
    "todoke_view_fresh_timestamp_seconds",
    "todoke_keeper_repairs_total",
    "todoke_provisions_after_restriction_total",
    "todoke_letters_total",
    "todoke_conservation_missing",
    "todoke_ledger_records_total",
    "todoke_ledger_incomplete_total",
    "todoke_ledger_entries",
    "todoke_ledger_published_timestamp_seconds",
]

LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)

METRICS: dict[Name, tuple[type[MetricWrapperBase], tuple[str, ...], str]] = {
    "todoke_outcomes_total": (Counter, ("topic", "outcome", "reason"), "Events by what became of them: law 1."),
    "todoke_schema_waiting_messages": (
        Gauge,
        (),
        "Events whose schema the registry can't be asked for now: not committed, and taken in when it is back.",
    ),
    "todoke_batch_messages": (Histogram, ("service",), "Messages in one batch of a service."),
    "todoke_directives_total": (Counter, ("partner", "kind"), "Directives produced: work that is due."),
    "todoke_propagation_seconds": (
        Histogram,
        ("partner", "kind", "grade"),
        "From the event's append time to the first evidence of each grade.",
    ),
    "todoke_receipts_total": (Counter, ("partner", "kind", "grade"), "Receipts applied to obligations."),
    "todoke_calls_total": (Counter, ("partner", "outcome"), "Calls to partners by how they ended."),
    "todoke_call_seconds": (Histogram, ("partner",), "Time of one call to a partner."),
    "todoke_call_items": (Histogram, ("partner",), "Obligations in one call."),
    "todoke_obligations_pending": (Gauge, ("partner",), "Obligations that have not ended, blocked ones included."),
    "todoke_obligations_oldest_timestamp_seconds": (
        Gauge,
        ("partner",),
        "When the event of the oldest pending obligation was appended; 0 for none.",
    ),
    "todoke_obligations_created_total": (Counter, ("partner", "kind"), "Obligations created."),
    "todoke_obligations_ended_total": (Counter, ("partner", "state"), "Obligations that ended, by how."),
    "todoke_obligations_reopened_total": (
        Counter,
        ("partner", "reason"),
        "Obligations that had ended and were opened again.",
    ),
    "todoke_permission_seen_seconds": (
        Histogram,
        ("partner",),
        "When a permissive call starts: since when a restriction could be durable and not known.",
    ),
    "todoke_obligations_held_total": (
        Counter,
        ("partner", "reason"),
        "Looks at an obligation that wasn't told then: a permission by `intake`, either by `rival` calls.",
    ),
    "todoke_due_entries": (Gauge, ("partner",), "Subjects in this process's due-queues, due or waiting."),
    "todoke_jobs_under_way": (
        Gauge,
        ("partner",),
        "Jobs that a partner has taken in and not reported of; the same from each of its dispatchers.",
    ),
    "todoke_jobs_oldest_timestamp_seconds": (
        Gauge,
        ("partner",),
        "When the call of the oldest job under way began; 0 for none.",
    ),
    "todoke_polls_total": (
        Counter,
        ("partner", "outcome"),
        "Jobs asked about: `under-way`, the grade reached, `failed`, or why a question was not answered.",
    ),
    "todoke_callbacks_total": (
        Counter,
        ("partner", "outcome"),
        "Reports of partners by HTTP: `taken`, `nothing-new`, `unknown-reference`, `refused`, `too-large`, `later`.",
    ),
    "todoke_ledger_records_total": (Counter, ("kind",), "Records kept in the vault."),
    "todoke_ledger_incomplete_total": (
        Counter,
        ("rule",),
        "Records that lack an item which their rule asks for; the record names it under `missing`.",
    ),
    "todoke_ledger_entries": (Gauge, (), "Entries of this shard's log, as its checkpoint says."),
    "todoke_ledger_published_timestamp_seconds": (Gauge, (), "When the log last held all that the vault has kept."),
    "todoke_breaker_state": (
        Gauge,
        ("partner",),
        "Whether calls may go: 0 closed, all; 1 half-open, one at a time; 2 open, none.",
    ),
    "todoke_quota_left": (
        Gauge,
        ("partner", "account", "window"),
        "What restrictions may still spend of a window of the quota; the account is `*` where all share it.",
    ),
    "todoke_quota_waits_total": (
        Counter,
        ("partner", "kind"),
        "Calls put off because a window of the quota was spent.",
    ),
    "todoke_swaps_total": (
        Counter,
        ("partner", "outcome"),
        "Swaps of whole lists: `accepted`, why one was not sent or taken, or what came to light of it later.",
    ),
    "todoke_swap_rows": (Gauge, ("partner", "account"), "Rows of the list that was taken last."),
    "todoke_swap_oldest_timestamp_seconds": (
        Gauge,
        ("partner", "account"),
        "When the event of the oldest withdrawal was appended that no finished swap contains; 0 for none.",
    ),
    "todoke_swap_refused": (Gauge, ("partner", "account"), "1 while a list waits for a person's word."),
    "todoke_lane_held": (
        Gauge,
        ("partner",),
        "A lane held by people: 0 not at all, 1 no grants go out, 2 nothing does.",
    ),
    "todoke_reviews_total": (
        Counter,
        ("cause",),
        "Subjects looked at again: time came, or the policy or partners changed.",
    ),
    "todoke_sweep_partitions": (Gauge, (), "Partitions of this worker that the newest rules have not been swept over."),
    "todoke_view_current": (Gauge, (), "1 while the view can be trusted, else 0: look-ups answer unknown."),
    "todoke_view_fresh_timestamp_seconds": (Gauge, (), "Up to when the keeper has read the compacted topics."),
    "todoke_keeper_repairs_total": (Counter, ("topic", "side"), "What the keeper healed: in the view or in the topic."),
    "todoke_provisions_after_restriction_total": (Counter, ("partner",), "Data given although a restriction stood."),
    "todoke_letters_total": (Counter, ("kind", "reason"), "Dead letters written."),
    "todoke_conservation_missing": (
        Gauge,
        ("what",),
        "What the last `todoke balance --textfile` found missing, surplus, undecided or unproven.",
    ),
}
"""Name, kind, labels and meaning of each metric."""


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        """Register all of them, so that a scrape shows also those that have not happened yet."""
        self.registry = CollectorRegistry()
        self._held = {name: self._make(name) for name in get_args(Name)}

    def _make(self, name: Name) -> MetricWrapperBase:
        kind, labels, text = METRICS[name]
        if kind is Histogram:
            buckets = LATENCY if name.endswith("_seconds") else SIZES
            return Histogram(name, text, labels, registry=self.registry, buckets=buckets)
        return kind(name, text, labels, registry=self.registry)

    def count(self, name: Name, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        held = self._held[name]
        (held.labels(*labels) if labels else held).inc(by)  # type: ignore[attr-defined]  # the table says which kind

    def observe(self, name: Name, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        held = self._held[name]
        (held.labels(*labels) if labels else held).observe(value)  # type: ignore[attr-defined]  # likewise

    def set(self, name: Name, value: float, *labels: str) -> None:
        """Set a gauge."""
        held = self._held[name]
        (held.labels(*labels) if labels else held).set(value)  # type: ignore[attr-defined]  # likewise

    def outcomes(self, decided: Iterable[Outcome]) -> None:
        """Events decided; only codes of refusals are labels."""
        found = collections.Counter(
            (each.topic, each.outcome, each.reason if each.outcome == "refused" else "") for each in decided
        )
        for labels, count in found.items():
            self.count("todoke_outcomes_total", *labels, by=count)

    def batch(self, service: str, messages: int) -> None:
        """One batch done."""
        self.observe("todoke_batch_messages", messages, service)


def kind(*, restrictive: bool) -> str:
    """The label that keeps withdrawals apart from permissions: they are the legally urgent half."""
    return "restriction" if restrictive else "permission"


def write_conservation(found: Balance, path: Path) -> None:
    """Write what a balance found as a file for the node exporter's textfile collector, whole or not at all."""
    name: Name = "todoke_conservation_missing"
    _, labels, text = METRICS[name]
    registry = CollectorRegistry()
    gauge = Gauge(name, text, labels, registry=registry)
    broken = {
        "undecided": found.undecided,
        "missing": found.missing,
        "surplus": found.surplus,
        "unproven": found.unproven,
    }
    for what, ids in broken.items():
        gauge.labels(what).set(len(ids))
    write_to_textfile(str(path), registry)
