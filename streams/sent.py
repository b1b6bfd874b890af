"""What this process has produced lately, so that what stands unchanged is not produced again and again.

It is proof for this process alone, and of these very bytes: the broker has reported them. After a restart, or when too
much was remembered, all is produced once more. Nothing else may be left out: directives wake, and outcomes answer.
"""

from collections.abc import Iterable

from .outbox import Letter

KEPT = 100_000


class Sent:
    """Letters of compacted topics that the broker has, by topic and key."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | bytes | None], int] = {}

    def unknown(self, letters: Iterable[Letter]) -> list[Letter]:
        """Those of which the broker isn't known to have the very bytes, under their key."""
        return [each for each in letters if self._known.get((each.topic, each.key)) != hash(each.value)]

    def note(self, letters: Iterable[Letter]) -> None:
        """The broker has reported all of these."""
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known.update({(each.topic, each.key): hash(each.value) for each in letters})
