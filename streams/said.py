"""What a desk has written down of obligations and the view doesn't show yet.

Receipts reach the view by way of a worker. While that lags, a desk that looks again would find open what it has closed, and
say so once more: a receipt for each look, of everything that stands, and the lag would feed itself. What is remembered
here is durable in its topic, and applied as the worker will; a desk that starts anew says it once more, which adds nothing.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from threading import Lock

from msgspec.structs import replace

from todoke.schemas.obligations import Obligation, settle
from todoke.schemas.receipts import Receipt

from .outbox import Letter
from .tools import Tools

KEPT = 50_000
"""Obligations; of more, the oldest are forgotten."""


class Said:
    """The receipts of one desk, by obligation. Its rounds run in several threads."""

    def __init__(self, tools: Tools) -> None:
        """See `Tools`."""
        self.tools = tools
        self.topic = tools.topic("receipts")
        self._known: dict[str, tuple[Receipt, ...]] = {}
        self._lock = Lock()

    def send(self, letters: Sequence[Letter]) -> None:
        """Produce all; once the broker has them, remember the receipts among them. Raises as the outbox does."""
        self.tools.outbox.send(letters)
        made = [self.tools.codec.decode(each.value or b"", Receipt) for each in letters if each.topic == self.topic]
        with self._lock:
            for each in made:
                self._known[each.obligation_id] = (*self._known.get(each.obligation_id, ()), each)
            for name in list(self._known)[: max(len(self._known) - KEPT, 0)]:
                del self._known[name]

    def over(self, obligations: Iterable[Obligation]) -> tuple[Obligation, ...]:
        """The obligations as the worker will leave them; what the view shows by now is forgotten here."""
        found = []
        for held in obligations:
            receipts = self._known.get(held.obligation_id, ())
            after = reduce(settle, receipts, held)
            if receipts and replace(after, updated_at=held.updated_at) == held:
                with self._lock:
                    if self._known.get(held.obligation_id) is receipts:  # and nothing was said meanwhile
                        del self._known[held.obligation_id]
            found.append(after)
        return tuple(found)
