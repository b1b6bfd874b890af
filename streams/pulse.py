"""A pulse in every partition of `consent-state`, so that what was shredded leaves the log in time.

The newest segment of a partition is never compacted, and it ends only when something is appended after its time. Where
nobody writes, a shredded person's older record, with the wrapped key in it, would lie on for as long as it stays quiet.
So who keeps a partition appends a tombstone to it when nothing else came for `every_ms`: then every segment has ended
`segment.ms` and one pulse after it began, and the times that `todoke keys destruction` computes hold everywhere.
"""

from .keeper import Keeper, Place
from .outbox import Letter
from .tools import Tools

KEY = "pulse"


class Pulse:
    """Beats for the partitions that this process keeps, while there is nothing to read."""

    def __init__(self, tools: Tools, keeper: Keeper, every_ms: int) -> None:
        """`keeper` knows the partitions, and when each was last appended to."""
        self.tools = tools
        self.keeper = keeper
        self.every_ms = every_ms
        self.topic = tools.topic("consent-state")
        self.beaten: dict[Place, int] = {}

    def idle(self) -> None:
        """The keeper's own idling, then a tombstone to each partition that has been quiet for too long.

        A partition of which nothing has been read since the start may have been quiet for any time: it gets one at once.
        """
        self.keeper.idle()
        now = self.tools.now()
        quiet = [place for place in sorted(self.keeper.ended) if place[0] == self.topic and now >= self._due(place)]
        self.tools.outbox.send([Letter(self.topic, KEY, None, partition=partition) for _, partition in quiet])
        self.beaten |= dict.fromkeys(quiet, now)

    def _due(self, place: Place) -> int:
        return max(self.keeper.appended.get(place, 0), self.beaten.get(place, 0)) + self.every_ms
