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


class Token(Struct, frozen=True, kw_only=True):
    """What an authorization server gave: a bearer token (RFC 6750) and for how long (ms) it is good. Its repr shows neither."""

    value: str
    lasts_ms: int

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return "Token(…)"


class Access(Protocol):
    """How a partner's bearer token is got (RFC 6749). The exchange keeps it, once for all who call, and adds the header.

    A connector that has one leaves `authorization` to it, and raises `Expired` for the answer that a dead token gets.
    """

    def ask(self, at: int) -> HttpRequest:
        """The call for a new token, at `at` (ms)."""
        ...

    def read(self, response: HttpResponse) -> Token:
        """The token. Raises `Retry`; a refusal too, since nobody's stop is given up for a secret that ran out."""
        ...


class Polls(Protocol):
    """How to learn what became of a call that was only accepted: by the `reference` of its outcomes.

    What has been asked, and when to ask again, survives restarts.
    """

    @property
    def first_ms(self) -> int:
        """How long after a call to ask first."""
        ...

    @property
    def every_ms(self) -> int:
        """How long between questions."""
        ...

    @property
    def ends_ms(self) -> int:
        """How long after a call a person must look."""
        ...

    @property
    def most(self) -> int:
        """How many references a question may name."""
        ...

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:
        """The question, at `at` (ms)."""
        ...

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        """What became of each, in order; None while it is under way. A `grade` of `none` with a `reason`: it failed,
        surely without effect; `sent` with a `reason`: it failed, perhaps with some. Raises `Retry`, `Expired`.
        """
        ...


class Callbacks(Protocol):
    """How to read what a partner reports by itself, by HTTP to us."""

    def read(self, headers: Mapping[str, str], body: bytes, at: int) -> Sequence[tuple[str, Outcome]]:
        """References and what became of them. The signature is verified over the raw `body` before that is parsed.

        Raises `Rejected` for what does not verify.
        """
        ...


class Probe(Protocol):
    """A call that changes nothing at the partner, and shows whether credentials and settings are right."""

    def ask(self, at: int) -> HttpRequest:
        """The call, at `at` (ms)."""
        ...

    def read(self, response: HttpResponse) -> None:
        """Returns when all is well. Raises `Retry`, `Expired` or `Rejected` with a reason."""
        ...


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

    @property
    def access(self) -> Access | None:
        """How its token is got; None where a secret is enough."""
        ...

    @property
    def polls(self) -> Polls | None:
        """How to ask what became of a call; None where the answer to the call is all that there is."""
        ...

    @property
    def callbacks(self) -> Callbacks | None:
        """How to read the partner's own reports; None where it sends none."""
        ...

    @property
    def probe(self) -> Probe | None:
        """A call that changes nothing; None where the interface has none."""
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

        Raises `Retry` (not now), `Expired` (with another token), `Split` (one row spoils the batch) or `Rejected` (all of
        them, for good).
        """
        ...


class Plain:
    """What a connector is that needs no token, no question afterwards, no report and offers no harmless call."""

    access: Access | None = None
    polls: Polls | None = None
    callbacks: Callbacks | None = None
    probe: Probe | None = None
