"""What people order about a partner's lane: that it waits, or goes on."""

from typing import Literal

from msgspec import Struct

LaneState = Literal["open", "restrictions", "paused"]


class LaneOrder(Struct, frozen=True):
    """The last word about one lane. Key of `lane-orders`: the partner.

    `open` sends everything, `restrictions` sends no grant, `paused` sends nothing; `at` is in ms. Obligations stand and
    deadlines run in every state.
    """

    partner: str
    state: LaneState
    at: int
    by: str
    ground: str
