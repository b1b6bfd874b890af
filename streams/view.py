"""The view: every subject's record, obligations and told-state in Valkey or Redis, and whether it can be trusted.

The topics are the truth; the view can be lost at any time and is healed by the keeper. One primitive writes it:
`update` reads cells, applies a function of values, and writes back by compare-and-set on the bytes that it read, again
for the losers. So two workers at once only cost a second look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import redis
from msgspec import Struct

from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured, NotCurrent
from todoke.schemas.obligations import Obligation
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Told

Value = TypeVar("Value", bound=Struct)

SWAP = """
local held = redis.call('GET', KEYS[1])
if (held or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
SWAP_FIELD = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if (held or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
GATE = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local healed, oldest = 0, nil
for _, mark in ipairs(redis.call('HVALS', KEYS[1])) do
  if mark == run then healed = healed + 1 end
end
for _, at in ipairs(redis.call('HVALS', KEYS[2])) do
  local seen = tonumber(at)
  if not oldest or seen < oldest then oldest = seen end
end
return {run, healed, tostring(oldest or 0)}
"""


class Cell(Struct, frozen=True, order=True):
    """The address of one value: a key, and the field where the key is a hash."""

    key: str
    field: str = ""


Change = Callable[[Cell, Value | None], Value | None]


class Gate(Struct, frozen=True):
    """Whether the view can be trusted: the server's run, how many partitions are healed in it, how old its news is."""

    run_id: str
    healed: int
    fresh_at: int


class Cells(Generic[Value]):
    """All cells that hold one type of value."""

    def __init__(self, view: "View", kind: type[Value], letter: str) -> None:
        """Cells of `kind` live under keys that begin with `letter`."""
        self.view = view
        self.kind = kind
        self.letter = letter

    def cell(self, ref: str, field: str = "") -> Cell:
        """The cell of one subject, and of one field of its hash."""
        return Cell(self.view.key(self.letter, ref), field)

    def load(self, cells: Sequence[Cell]) -> list[Value | None]:
        """The values of `cells`, in order, in one round trip."""
        return [None if raw is None else self.view.codec.decode(raw, self.kind) for raw in self.view.raw(cells)]

    def all(self, refs: Sequence[str]) -> list[dict[str, Value]]:
        """Every field of each subject's hash, in one round trip."""
        pipeline = self.view.client.pipeline(transaction=False)
        for ref in refs:
            pipeline.hgetall(self.view.key(self.letter, ref))
        hashes: list[dict[bytes, bytes]] = pipeline.execute()
        return [
            {name.decode(): self.view.codec.decode(raw, self.kind) for name, raw in fields.items()} for fields in hashes
        ]

    def update(self, cells: Iterable[Cell], change: Change[Value]) -> dict[Cell, Value]:
        """Write `change(cell, held)` to each cell, and return what they hold then.

        `change` must be pure: it is called again for a cell that somebody else has written in between. A result of None,
        or equal to what is held, writes nothing.
        """
        written: dict[Cell, Value] = {}
        waiting = list(dict.fromkeys(cells))
        while waiting:
            held = self.view.raw(waiting)
            swaps: list[tuple[Cell, bytes, Value]] = []
            for cell, raw in zip(waiting, held, strict=True):
                before = None if raw is None else self.view.codec.decode(raw, self.kind)
                after = change(cell, before)
                if after is not None and after != before:
                    swaps.append((cell, raw or b"", after))
                elif before is not None:
                    written[cell] = before
            won = self.view.swap([(cell, raw, self.view.codec.encode(after)) for cell, raw, after in swaps])
            written |= {cell: after for (cell, _, after), mine in zip(swaps, won, strict=True) if mine}
            waiting = [cell for (cell, _, _), mine in zip(swaps, won, strict=True) if not mine]
        return written


class View:
    """A client of one installation's keys. Thread-safe as far as redis-py is: pipelines are made per call."""

    def __init__(self, client: Any, codec: Codec, namespace: str, partitions: int) -> None:
        """`client` is a redis-py client (its types leave sync and async open, so it is Any here).

        `partitions` is how many partitions of compacted topics a keeper must have healed for the view to be current.
        """
        self.client = client
        self.codec = codec
        self.namespace = namespace
        self.partitions = partitions
        self.records = Cells(self, SubjectRecord, "r")
        self.obligations = Cells(self, Obligation, "o")
        self.told = Cells(self, Told, "t")
        self._swap = client.register_script(SWAP)
        self._swap_field = client.register_script(SWAP_FIELD)
        self._gate = client.register_script(GATE)

    def key(self, *parts: str) -> str:
        """A key under this installation's namespace."""
        return ":".join((f"{self.namespace}todoke", *parts))

    def gate(self) -> Gate:
        """The state of the view now."""
        answer: Any = self._gate(keys=[self.key("epoch"), self.key("fresh")])
        return Gate(answer[0].decode(), int(answer[1]), int(float(answer[2])))

    def require_current(self, at: int, stale_after_ms: int) -> int:
        """The age (ms) of what the view knows. Raises `NotCurrent` when it is lost, rebuilding or stale (law 6)."""
        gate = self.gate()
        if gate.healed < self.partitions:
            raise NotCurrent(f"view: {gate.healed} of {self.partitions} partitions are healed: the keeper is at work")
        age = at - gate.fresh_at
        if age > stale_after_ms:
            raise NotCurrent(f"view: the keeper has been silent for {age // 1000} s: start `todoke worker`")
        return max(age, 0)

    def is_current(self, at: int, stale_after_ms: int) -> bool:
        """Whether the view can be trusted now; not, either, when its server doesn't answer."""
        try:
            self.require_current(at, stale_after_ms)
        except (NotCurrent, redis.ConnectionError, redis.TimeoutError):
            return False
        return True

    def raw(self, cells: Sequence[Cell]) -> list[bytes | None]:
        """The bytes in `cells`, in one round trip."""
        if not cells:
            return []
        pipeline = self.client.pipeline(transaction=False)
        for cell in cells:
            pipeline.hget(cell.key, cell.field) if cell.field else pipeline.get(cell.key)
        answers: list[bytes | None] = pipeline.execute()
        return answers

    def swap(self, swaps: Sequence[tuple[Cell, bytes, bytes]]) -> list[bool]:
        """Compare-and-set each (cell, bytes expected, bytes new); b"" expects nothing. Which of them won."""
        if not swaps:
            return []
        pipeline = self.client.pipeline(transaction=False)
        for cell, before, after in swaps:
            if cell.field:
                self._swap_field(keys=[cell.key], args=[cell.field, before, after], client=pipeline)
            else:
                self._swap(keys=[cell.key], args=[before, after], client=pipeline)
        return [bool(won) for won in pipeline.execute()]


def connect(url: str) -> Any:
    """A client for `url`. Raises `Misconfigured` when the server may evict what it holds, or does not answer."""
    client = redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=15)
    try:
        info: Any = client.info("memory")
        policy = info.get("maxmemory_policy", "noeviction")
    except redis.AuthenticationError:
        raise Misconfigured("redis.url: user or password is refused: correct them there, or in TODOKE_REDIS") from None
    except redis.exceptions.NoPermissionError:
        fix = "allow +@read +@write +@scripting +info on ~todoke:*, after the namespace"
        raise Misconfigured(f"redis.url: the user may not do what Todoke does: {fix}") from None
    except (redis.RedisError, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            fix = "name its CA with ?ssl_ca_certs=PATH, and its host as the certificate does"
            raise Misconfigured(f"redis.url: the server's certificate is not trusted: {fix}") from None
        if isinstance(error, FileNotFoundError) or "No such file" in str(error):
            raise Misconfigured("redis.url: ssl_ca_certs names no file that can be read: correct it") from None
        raise Misconfigured(f"redis.url: no answer ({type(error).__name__}): start the server or correct it") from None
    if policy != "noeviction":
        fix = "set maxmemory-policy to noeviction: an evicted record would read as a person of whom nothing is known"
        raise Misconfigured(f"redis: maxmemory-policy is {policy}: {fix}")
    return client


def join_with(incoming: Mapping[Cell, Value], join: Callable[[Value, Value], Value]) -> Change[Value]:
    """The change that joins what comes in with what is held."""

    def change(cell: Cell, held: Value | None) -> Value:
        return incoming[cell] if held is None else join(held, incoming[cell])

    return change
