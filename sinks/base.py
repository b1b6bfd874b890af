"""The contract of a connector: two functions of values, and a few facts about the partner's interface.

A connector never sleeps, retries, batches or reads a clock: it says how a call looks and what an answer means. The
dispatcher owns the rest (batching, limits, retry, bisecting, receipts), the sender owns the network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence, Verb

from .secrets import Secret

SOMEBODY_MUST_ACT_S = 900.0
"""How long to wait after a refusal that hits everybody: nobody's stop is given up for it, and somebody must act."""


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


class UploadRequest(Struct, frozen=True, kw_only=True):
    """One call whose body is `head`, the `pieces` of a list, `tail`: `size` bytes, too many to hold at once.

    `pieces` gives them anew each time that it is called.
    """

    method: str
    url: str
    headers: dict[str, str]
    head: bytes
    pieces: Callable[[], Iterator[bytes]]
    tail: bytes
    size: int

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"UploadRequest({self.method} {self.url.split('/')[2] if '://' in self.url else '…'}, {self.size} bytes)"


class SftpLogin(Struct, frozen=True, kw_only=True):
    """Who we are to an SFTP server, and who it is: its public keys, as lines of OpenSSH."""

    user: str
    host_keys: tuple[str, ...]
    private_key: Secret | None = None
    password: Secret | None = None


class S3Login(Struct, frozen=True, kw_only=True):
    """Keys of an S3 store, for signatures of version 4 in `region`."""

    region: str
    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret | None = None


class File(Struct, frozen=True, kw_only=True):
    """A file at its path below the store's address. Its repr shows the path alone, which names nobody."""

    path: str
    body: bytes

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"File({self.path})"


class FileRequest(Struct, frozen=True, kw_only=True):
    """`files` to be put into the store at `url`, in order, then the paths `wanted` to be read; `at` (ms) for signatures.

    A file appears whole or not at all, and never in the place of another. One that is there already with the same
    content counts as put.
    """

    url: str
    login: SftpLogin | S3Login
    at: int
    files: tuple[File, ...] = ()
    wanted: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"FileRequest({', '.join(each.path for each in self.files)})"


class FileResponse(Struct, frozen=True, kw_only=True):
    """`found` are the wanted files that are there; `taken` is the path at which something else stood, where writing ended."""

    found: Mapping[str, bytes] = {}
    taken: str = ""

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"FileResponse({len(self.found)} found{', taken' if self.taken else ''})"


class Message(Struct, frozen=True, kw_only=True):
    """One record of a topic. Its repr shows nothing: key and value name people."""

    key: bytes
    value: bytes

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return "Message(…)"


class TopicRequest(Struct, frozen=True, kw_only=True):
    """`messages` for a topic at the Kafka cluster behind `servers` (`host:port`); `client` are librdkafka's settings.

    Secrets among those are settings whose value is a `Secret`.
    """

    servers: tuple[str, ...]
    topic: str
    client: Mapping[str, str | Secret]
    messages: tuple[Message, ...]

    @property
    def url(self) -> str:
        """The topic as an address, by the first server."""
        return f"kafka://{self.servers[0]}/{self.topic}"

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"TopicRequest({self.topic}, {len(self.messages)} messages)"


class Delivery(Struct, frozen=True, kw_only=True):
    """What became of one message: where it lies, or the `code` of why it does not."""

    partition: int = -1
    offset: int = -1
    code: str = ""


class TopicResponse(Struct, frozen=True, kw_only=True):
    """One delivery for each message, in order."""

    deliveries: tuple[Delivery, ...]


class ListRequest(Struct, frozen=True, kw_only=True):
    """A work list for people, to be sealed for the `recipients` (keys of age). Nothing is called: a person writes it out."""

    recipients: tuple[str, ...]
    file: File

    @property
    def url(self) -> str:
        """None: nobody is called."""
        return ""

    def __repr__(self) -> str:
        """Nothing that law 7 forbids."""
        return f"ListRequest({self.file.path})"


Request = HttpRequest | FileRequest | TopicRequest | ListRequest
"""What a connector may ask for; each kind has its carrier (`sender`), and an answer of its own kind. A list has neither."""


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

    def ask(self, references: Sequence[str], at: int) -> Request:
        """The question, at `at` (ms)."""
        ...

    def read(self, references: Sequence[str], response: Any) -> Sequence[Outcome | None]:
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

    def ask(self, at: int) -> Request:
        """The call, at `at` (ms)."""
        ...

    def read(self, response: Any) -> None:
        """Returns when all is well. Raises `Retry`, `Expired` or `Rejected` with a reason."""
        ...


class Connector(Protocol):
    """One partner's interface. Built once per partner from its registry entry; all methods are pure and cheap."""

    @property
    def reaches(self) -> Evidence:
        """The highest rung that this interface can ever give evidence of.

        `none`: nobody is called. What is owed stays open, blocked as `by-hand`, until a person brings evidence.
        """
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

    def request(self, items: Sequence[Item], at: int) -> Request:
        """The call for `items`, all of one group, within the limits. `at` is now, in ms, for signatures.

        Raises `Rejected` when no identifier of an item can be brought into the partner's form.
        """
        ...

    def verdict(self, items: Sequence[Item], response: Any) -> Sequence[Outcome]:
        """What `response` means, which is of the request's kind: one outcome for each item in order.

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
