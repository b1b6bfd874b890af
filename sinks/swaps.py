"""Partners whose interface can't take anybody out of an audience, only put another list in its place: correctness, 18.

What they share, and what each must say. It stays as pure as any connector: whoever swaps (`streams/swaps.py`) decides who
is on the list, when it is sent, and what it closes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected
from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb

from .base import HttpRequest, HttpResponse, Item, Outcome, Plain, Probe, UploadRequest

MULTIPART = "multipart/form-data"
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
NAMED = r"(?::[0-9a-f]{1,32})?"
"""What whoever swaps adds to a `reference`, so that no two swaps have the same: the answer about one is none about another."""
EFFECTS: Mapping[Verb, str] = {"grant": "present", "withdraw": "absent", "suspend": "absent", "delete": "absent"}


class Cargo(Protocol):
    """A list on its way: rows in an order that says nothing, each once."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def rows(self) -> int:
        """How many identifiers."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """All of it from the beginning, in pieces. May be asked for again."""
        ...


class SwapConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of every partner whose lists are swapped."""

    swap_every_hours: Annotated[int, Meta(description="How often a list is swapped where only permissions wait")] = 24
    swap_least_minutes: Annotated[int, Meta(description="The least time between two swaps, for withdrawals too")] = 60
    swap_gather_minutes: Annotated[int, Meta(description="How long a withdrawal waits for others, to share a swap")] = 5
    shrink_percent: Annotated[int, Meta(description="By how much a list may shrink without a person's word")] = 20
    poll_every_minutes: Annotated[int, Meta(description="How long between questions about a job")] = 5
    job_hours: Annotated[int, Meta(description="How long a job may take effect; then the list is swapped anew")] = 12


class Swapped(Plain, ABC):
    """One partner's audiences, each an account of the registry."""

    effects = EFFECTS
    reaches = Evidence.processed
    at_once: int = 1
    """How many swaps may be under way at a time, over all audiences."""
    header: bytes = b""
    """What stands above the rows, with its line end."""

    def __init__(self, config: SwapConfig, accounts: Iterable[str]) -> None:
        """Everything else is the connector's own. The first of the `accounts` is the one that the probe asks about."""
        self.pacing = config
        self.probe: Probe | None = Question(self, min(accounts, default=""))

    @abstractmethod
    def rows(self, identifiers: Sequence[Identifier]) -> list[bytes]:
        """The rows of one person, without line ends; none where no identifier can be said."""

    @abstractmethod
    def before(self, account: str, at: int) -> HttpRequest | None:
        """What to ask before a swap, so that its job can be told from earlier ones; None where nothing need be known."""

    @abstractmethod
    def reference(self, account: str, response: HttpResponse | None) -> str:
        """The name under which the coming job will be asked about, from the answer to `before`. Raises as verdicts do.

        A colon and the swap's own name (`NAMED`) are added to it.
        """

    @abstractmethod
    def upload(self, account: str, cargo: Cargo, at: int) -> UploadRequest:
        """The swap itself."""

    @abstractmethod
    def taken(self, account: str, reference: str, response: HttpResponse) -> Outcome:
        """What the answer to the upload means: `accepted`, with the reference to ask by. Raises as verdicts do."""

    @abstractmethod
    def arrived(self, reference: str, response: HttpResponse) -> bool | None:
        """By an answer to the question about the job: whether the upload has reached the partner, None where that can't be told."""

    def group(self, item: Item) -> str:
        return item.account

    def weight(self, item: Item) -> int:  # noqa: ARG002  # a list weighs what it weighs, whoever is taken out
        return 1

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # no item has a call
        """Nobody can be told of alone: the list says it of all."""
        raise Rejected("only-by-swap")

    def verdict(self, items: Sequence[Item], response: Any) -> Sequence[Outcome]:  # noqa: ARG002
        raise Rejected("only-by-swap")


class Question:
    """A probe: what is asked before a swap changes nothing, and needs the same rights."""

    def __init__(self, connector: Swapped, account: str) -> None:
        self._connector = connector
        self._account = account

    def ask(self, at: int) -> HttpRequest:
        asked = self._connector.before(self._account, at)
        if asked is None:
            raise Rejected("no-question")
        return asked

    def read(self, response: HttpResponse) -> None:
        self._connector.reference(self._account, response)


def judged(reference: str, states: Sequence[object], done: str, failed: Mapping[str, str]) -> Outcome | None:
    """What became of a swap, by the states of every replacement since; `failed` has a reason by state.

    Two mean that somebody else swaps, too: nobody knows whose list stands. And of one that failed nobody says that it
    left the list as it was.
    """
    if not states or any(each != done and each not in failed for each in states):
        return None
    if len(states) > 1:
        return Outcome(grade=Evidence.sent, reference=reference, reason="swapped-elsewhere")
    if states[0] == done:
        return Outcome(grade=Evidence.processed, reference=reference)
    return Outcome(grade=Evidence.sent, reference=reference, reason=failed[str(states[0])])


class Form(Struct, frozen=True):
    """A form in parts around a list, as its head and tail. No row can hold the boundary: rows are hashes or device ids."""

    boundary: str
    head: bytes
    tail: bytes

    @property
    def media(self) -> str:
        """The content type."""
        return f"{MULTIPART}; boundary={self.boundary}"


def form(fields: Mapping[str, str], seed: str) -> Form:
    """The form of `fields` and one `file`."""
    boundary = "todoke-" + sha256(seed.encode()).hexdigest()[:32]
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="list.csv"\r\n'
    head += "Content-Type: text/csv\r\n\r\n"
    return Form(boundary, head.encode(), f"\r\n--{boundary}--\r\n".encode())


def swap_problems(config: SwapConfig, partner: Partner) -> list[str]:
    """What is wrong with an entry whose lists are swapped, whatever its interface."""
    found = []
    if not partner.grants:
        found.append("grants: a list is made of permissions; set grants = true, or nobody would be on it")
    found += [
        f"account: {each.name} has {len(each.scopes)} scopes; give each scope an audience of its own"
        for each in partner.accounts
        if len(each.scopes) != 1
    ]
    least = {
        "swap_every_hours": 1,
        "swap_least_minutes": 1,
        "swap_gather_minutes": 0,
        "poll_every_minutes": 1,
        "job_hours": 1,
    }
    found += [
        f"settings.{name}: {value}; write {lowest} or more"
        for name, lowest in least.items()
        if (value := getattr(config, name)) < lowest
    ]
    if not 0 <= config.shrink_percent < 100:
        found.append(f"settings.shrink_percent: {config.shrink_percent}; write 0 to 99")
    return found
