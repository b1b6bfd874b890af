"""What is noted of the keys of an installation, so that another keyring is noticed at start."""

from msgspec import Struct


class KeyCheck(Struct, frozen=True, kw_only=True):
    """One generation of one key. Key of `keys`: its name (`reference`, `wrapping.w1`).

    `check` tells it from another key of that name; nothing can be opened with it. `noted_at` and `retired_at` (0 while
    it is needed) are in ms.
    """

    name: str
    check: str
    noted_at: int
    retired_at: int = 0
