"""What every service works with: made once by the composition root, handed to each."""

from collections.abc import Callable

from msgspec import Struct

from todoke.processors.keys import Keyring, Random
from todoke.schemas.codec import Codec
from todoke.schemas.partners import Rules

from .freshness import Marks
from .index import Index
from .metrics import Metrics
from .outbox import Outbox
from .registry import SchemaRegistry
from .turns import Turns
from .view import View


class Tools(Struct, frozen=True):
    """What the batch works with, built once by the composition root. `now` is the clock, in ms.

    No permissive call starts later than `permission_bound_ms` after a restriction was durable, so far as `marks` of the
    intake can tell: see `freshness`.
    """

    view: View
    index: Index
    turns: Turns
    codec: Codec
    schemas: SchemaRegistry | None
    outbox: Outbox
    keyring: Keyring
    rules: Rules
    metrics: Metrics
    topic: Callable[[str], str]
    now: Callable[[], int]
    random: Random
    largest_event: int
    stale_after_ms: int
    marks: Marks
    permission_bound_ms: int
