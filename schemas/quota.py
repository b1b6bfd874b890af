"""What a partner lets itself be asked within a time."""

from math import ceil
from typing import Literal

from msgspec import Struct

PARTS = 50
"""A window moves on by a fiftieth of its length: a call may be let go so much later than it might."""


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `most` of what is `counted` within any `seconds`. An item is one obligation of a call."""

    most: int
    seconds: int
    counted: Literal["calls", "items"] = "calls"

    @property
    def key(self) -> str:
        """Its name in a ledger: what was spent of it is spent when it comes to stand elsewhere, or holds more."""
        return f"{self.counted}/{self.seconds}"

    @property
    def part_ms(self) -> int:
        """The length (ms) of the parts in which it is counted."""
        return max(self.seconds * 1000 // PARTS, 1)

    def kept(self, percent: int) -> int:
        """What is left to restrictions alone when so many of a hundred are kept for them."""
        return ceil(self.most * percent / 100)
