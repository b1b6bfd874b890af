"""The contract of a connector: two functions of values, and a few facts about the partner's interface.

A connector never sleeps, retries, batches or reads a clock: it says how a call looks and what an answer means. The
dispatcher owns the rest (batching, limits, retry, bisecting, receipts), the sender owns the network.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence, Verb


class Item(Struct, frozen=True, kw_only=True):
    """One obligation at its partner: what is asked, for whom, under which stable request id.

    `request_id` stays the same when a call of unknown end is sent again (correctness, 10). `identifiers` are of the
    kinds that the partner accepts, as upstream gave them; never empty, except for connectors that accept none.
    """

    obligation_id: str
    request_id: str
    verb: Verb
    account: str
    scope: str
    at: int
    deadline_at: int
    reasons: tuple[str, ...] = ()
    identifiers: tuple[Identifier, ...] = ()


class HttpRequest(Struct, frozen=True, kw_only=True):
    """One call. Its repr shows method and host alone: headers carry secrets, paths and bodies carry people."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"HttpRequest({self.method} {self.url.split('/')[2] if '://' in self.url else '…'})"


class HttpResponse(Struct, frozen=True, kw_only=True):
    """One answer, header names in lower case. Its repr shows the status alone: bodies echo identifiers."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"HttpResponse({self.status})"


class Outcome(Struct, frozen=True, kw_only=True):
    """What an answer means for one item: the grade of evidence, the partner's reference, a code when it is a no.

    `grade` `none` with a `reason` means: refused for good, surely not applied; a person must look.
    """

    grade: Evidence
    reference: str = ""
    reason: str = ""


class Connector(Protocol):
    """One partner's interface. Built once per partner from its registry entry; all methods are pure and cheap."""

    @property
    def reaches(self) -> Evidence:
        """The highest rung that this interface can ever give evidence of."""
        ...

    @property
    def effects(self) -> Mapping[Verb, str]:
        """The state that each verb leaves behind at the partner; a verb that is missing can't be asked there.

        Two verbs with the same effect need not both be sent (withdraw and suspend both mean `absent` from a list).
        """
        ...

    def group(self, item: Item) -> str:
        """Items of the same group may share a call."""
        ...

    def weight(self, item: Item) -> int:
        """How much of the partner's limit of items per call the item uses up (rows, most often)."""
        ...

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:
        """The call for `items`, all of one group, within the limits. `at` is now, in ms, for signatures.

        Raises `Rejected` when no identifier of an item can be brought into the partner's form.
        """
        ...

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """What `response` means, one outcome for each item in order.

        Raises `Retry` (not now), `Split` (one row spoils the batch) or `Rejected` (all of them, for good).
        """
        ...
