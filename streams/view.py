"""The view: every subject's record, obligations and told-state in Valkey or Redis, and whether it can be trusted.

The topics are the truth; the view can be lost at any time and is healed by the keeper. One primitive reads it, `read`,
which brings the epoch along and raises `NotCurrent` where that can't be trusted. One primitive writes it: `update`
reads cells, applies a function of values, and writes back by compare-and-set on the bytes that it read, again for the
losers. So two workers at once only cost a second look.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import redis
from msgspec import Struct

from todoke.schemas.codec import Codec
from todoke.schemas.errors import Misconfigured, NotCurrent
from todoke.schemas.obligations import Obligation
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Told

from .epoch import READ, SWAP, Epoch, Watch, epoch

Value = TypeVar("Value", bound=Struct)
Item = TypeVar("Item")
Command = tuple[str | int | bytes, ...]
AT_ONCE = 1000
"""So many cells go in one script, for which the server stops everything else: a few milliseconds."""
AT_HAND = 20_000
"""So many obligations, and told-states, are kept decoded: 60 MB each at most. Records are not, for their keys' sake."""


class Cell(Struct, frozen=True, order=True):
    """The address of one value: a key, and the field where the key is a hash."""

    key: str
    field: str = ""


Change = Callable[[Cell, Value | None], Value | None]
Tag = tuple[str, ...]
"""What can be known of a value without decoding it; empty where it was written before tags were."""
Wanted = Callable[[str, Tag], bool]
"""Whether a field, by its name and its value's tag, is to be decoded."""


class Cells(Generic[Value]):
    """All cells that hold one type of value."""

    def __init__(
        self,
        view: "View",
        kind: type[Value],
        letter: str,
        read: int = 0,
        tag: Callable[[Value], Tag] | None = None,
    ) -> None:
        """Cells of `kind` live under keys that begin with `letter`. Of so many values that were `read`, the bytes are kept.

        A subject's hash is read again and again, and most of it never changes. The `tag` stands before a value's bytes, so
        that who wants some of a hash need not decode the rest.
        """
        self.view = view
        self.kind = kind
        self.letter = letter
        self._most = read
        self._tag = tag
        self._read: dict[bytes, Value] = {}

    def cell(self, ref: str, field: str = "") -> Cell:
        """The cell of one subject, and of one field of its hash."""
        return Cell(self.view.key(self.letter, ref), field)

    def load(self, cells: Sequence[Cell]) -> list[Value | None]:
        """The values of `cells`, in order."""
        return self.load_aged(cells)[0]

    def load_aged(self, cells: Sequence[Cell]) -> tuple[list[Value | None], int]:
        """The values of `cells`, in order, and the age (ms) of what the view knows."""
        answers, age = self.view.read_aged([_get(cell) for cell in cells])
        return [self._decode(raw) for raw in answers], age

    def all(self, refs: Sequence[str], wanted: Wanted | None = None) -> list[dict[str, Value]]:
        """Every field of each subject's hash, or those `wanted`."""
        return [self.fields(flat, wanted) for flat in self.view.read([self.whole(ref) for ref in refs])]

    def whole(self, ref: str) -> Command:
        """The command that reads a subject's hash, for `fields` to decode."""
        return ("HGETALL", self.view.key(self.letter, ref))

    def fields(self, flat: Sequence[bytes], wanted: Wanted | None = None) -> dict[str, Value]:
        """What `whole` was answered with, or what is `wanted` of it, as values by field."""
        pairs = zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True)
        return {name: self._value(raw) for name, raw in pairs if wanted is None or wanted(name, _tag(raw))}

    def tags(self, flat: Sequence[bytes]) -> dict[str, Tag]:
        """What `whole` was answered with, as tags by field."""
        return {name.decode(): tag for name, raw in zip(flat[::2], flat[1::2], strict=True) if (tag := _tag(raw))}

    def _value(self, raw: bytes) -> Value:
        value = self._read.get(raw)
        if value is None:
            value = self.view.codec.decode(_wire(raw), self.kind)
            if self._most:
                if len(self._read) >= self._most:
                    self._read.clear()
                self._read[raw] = value
        return value

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
                before = self._decode(raw)
                after = change(cell, before)
                if after is not None and after != before:
                    swaps.append((cell, raw or b"", after))
                elif before is not None and raw is not None:
                    written[cell] = before
                    self.view.codec.remember(before, _wire(raw))
            won = self.view.swap([(cell, raw, self._encode(after)) for cell, raw, after in swaps])
            written |= {cell: after for (cell, _, after), mine in zip(swaps, won, strict=True) if mine}
            waiting = [cell for (cell, _, _), mine in zip(swaps, won, strict=True) if not mine]
        return written

    def _encode(self, value: Value) -> bytes:
        made = self.view.codec.encode(value)
        self.view.codec.remember(value, made)
        return "|".join(self._tag(value)).encode() + made if self._tag else made

    def _decode(self, raw: bytes | None) -> Value | None:
        return None if raw is None else self._value(raw)


class Found(Struct, frozen=True):
    """What the view holds of one subject. Obligations that weren't wanted are known by their tags alone."""

    record: SubjectRecord | None
    obligations: dict[str, Obligation]
    told: dict[str, Told]
    tags: dict[str, Tag]


class View:
    """A client of one installation's keys. Thread-safe as far as redis-py is: pipelines are made per call."""

    def __init__(
        self, client: Any, codec: Codec, namespace: str, watch: Watch | None = None, now: Callable[[], int] = int
    ) -> None:
        """`client` is a redis-py client (its types leave sync and async open, so it is Any here).

        With a `watch`, what is read must be from a current view at the time of `now` (ms), and nothing is swapped in
        another. Without one, anything goes: that is for those who heal it.
        """
        self.client = client
        self.codec = codec
        self.namespace = namespace
        self.watch = watch
        self.now = now
        self.records = Cells(self, SubjectRecord, "r")
        self.obligations = Cells(self, Obligation, "o", AT_HAND, tag=lambda owed: (owed.partner, owed.verb, owed.state))
        self.told = Cells(self, Told, "t", AT_HAND)
        self._swap = client.register_script(SWAP)
        self._read = client.register_script(READ)

    def unwatched(self) -> "View":
        """The same keys, for those who heal them, and for what must be written down whatever the view has lost."""
        return View(self.client, self.codec, self.namespace)

    def key(self, *parts: str) -> str:
        """A key under this installation's namespace."""
        return ":".join((f"{self.namespace}todoke", *parts))

    def epoch(self) -> Epoch:
        """The epoch of the view now, whatever it is worth."""
        return self._answers([])[1]

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands that read. Raises `NotCurrent` where they can't be trusted."""
        return self.read_aged(commands)[0]

    def read_aged(self, commands: Sequence[Command]) -> tuple[list[Any], int]:
        """The answers, and the age (ms) of what the view knows. Raises `NotCurrent` where they can't be trusted."""
        found: list[Any] = []
        age = 0
        for some in _pieces(commands) if commands else [commands]:
            answers, _, known = self._judged(some)
            age = max(age, known)
            found += answers
        return found, age

    def owners(self) -> tuple[str, ...]:
        """Who heals the view: unlike before when it was lost in between, however whole it is again. Raises `NotCurrent`."""
        _, found, _ = self._judged([])
        return (found.life, *(f"{name} {shard.owner}" for name, shard in sorted(found.shards.items())))

    def require_current(self, at: int, stale_after_ms: int) -> int:
        """The age (ms) of what the view knows. Raises `NotCurrent` when it is lost, rebuilding or stale (law 6).

        What is read afterwards may be of another epoch: whoever decides from a read relies on `read` alone.
        """
        _, _, age = self._judged([], at)
        if age > stale_after_ms:
            raise NotCurrent(f"view: the keeper has been silent for {age // 1000} s: start `todoke worker`")
        return age

    def is_current(self, at: int, stale_after_ms: int) -> bool:
        """Whether the view can be trusted now; not, either, when its server doesn't answer."""
        try:
            self.require_current(at, stale_after_ms)
        except (NotCurrent, redis.ConnectionError, redis.TimeoutError):
            return False
        return True

    def all(self, refs: Sequence[str], told: Wanted | None = None, owed: Wanted | None = None) -> list[Found]:
        """All that is known of each subject, or what is wanted of it."""
        cells = self.records, self.obligations, self.told
        commands: list[Command] = []
        for ref in refs:
            commands += [_get(cells[0].cell(ref)), cells[1].whole(ref), cells[2].whole(ref)]
        answers = self.read(commands)
        return [
            Found(
                None if raw is None else self.codec.decode(raw, SubjectRecord),
                cells[1].fields(o, owed),
                cells[2].fields(t, told),
                cells[1].tags(o),
            )
            for raw, o, t in zip(answers[::3], answers[1::3], answers[2::3], strict=True)
        ]

    def raw(self, cells: Sequence[Cell]) -> list[bytes | None]:
        """The bytes in `cells`."""
        return self.read([_get(cell) for cell in cells]) if cells else []

    def swap(self, swaps: Sequence[tuple[Cell, bytes, bytes]]) -> list[bool]:
        """Compare-and-set each (cell, bytes expected, bytes new); b"" expects nothing. Which of them won.

        Raises `NotCurrent`, and swaps none of a thousand, in a view that has been lost since it was read.
        """
        won: list[bool] = []
        for some in _pieces(swaps):
            keys = [self.key("shards"), *(cell.key for cell, _, _ in some)]
            wanted = self.watch.partitions if self.watch else 0
            arguments = [wanted, *(part for cell, before, after in some for part in (cell.field, before, after))]
            answer: list[int] | None = self._swap(keys=keys, args=arguments)
            if answer is None:
                raise NotCurrent("view: it was lost between a read and a write: the keeper is at work")
            won += [bool(each) for each in answer]
        return won

    def _judged(self, commands: Sequence[Command], at: int | None = None) -> tuple[list[Any], Epoch, int]:
        """The answers, the epoch that came with them, and its age (ms). Raises `NotCurrent`."""
        before = self.watch.before() if self.watch else {}
        answers, came_with = self._answers(commands)
        if self.watch is None:
            return answers, came_with, 0
        return answers, came_with, self.watch.require(came_with, self.now() if at is None else at, before)

    def _answers(self, commands: Sequence[Command]) -> tuple[list[Any], Epoch]:
        words = [part for each in commands for part in (len(each), *each)]
        answers: list[Any] = self._read(keys=[self.key("shards")], args=words)
        return answers[2:], epoch(answers)


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


def _tag(raw: bytes) -> Tag:
    """What stands before the first zero byte, with which every encoded value begins (the wire format's magic byte)."""
    tag = raw[: raw.index(0)]
    return tuple(tag.decode().split("|")) if tag else ()


def _wire(raw: bytes) -> bytes:
    return raw[raw.index(0) :]


def _get(cell: Cell) -> Command:
    return ("HGET", cell.key, cell.field) if cell.field else ("GET", cell.key)


def _pieces(whole: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (whole[start : start + AT_ONCE] for start in range(0, len(whole), AT_ONCE))
