"""Cutting what is to be sent into calls: one group each, within the partner's limits of items and bytes."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from todoke.processors.reconcile import Call
from todoke.schemas.partners import Limits
from todoke.sinks.base import Connector, Item

from .due import Entry

ROW_BYTES = 200


class Opened(Struct, frozen=True):
    """One call for one obligation, with the wake-up that it came from and the item that its connector sends."""

    entry: Entry
    call: Call
    item: Item


def cut(opened: Iterable[Opened], connector: Connector, limits: Limits) -> Iterator[list[Opened]]:
    """Batches of one group each, none above the limits, but for a single item that is larger by itself."""
    groups: dict[str, list[Opened]] = {}
    for each in opened:
        groups.setdefault(connector.group(each.item), []).append(each)
    for members in groups.values():
        batch: list[Opened] = []
        weight = 0
        for each in members:
            more = connector.weight(each.item)
            if batch and (weight + more > limits.items or (weight + more) * ROW_BYTES > limits.bytes):
                yield batch
                batch, weight = [], 0
            batch.append(each)
            weight += more
        if batch:
            yield batch
