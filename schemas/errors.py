"""Errors, named by what happens next.

::

    TodokeError
    ├── Refused        this input will never do: dead letter, go on
    ├── Retry          not now: again after a delay
    ├── Split          one row spoils the batch: again in halves
    ├── Rejected       the partner said no for good: a person must look
    └── Stop           nothing may go on until somebody acts
        ├── Misconfigured   a file, a variable or an address is wrong
        ├── NotCurrent      the view cannot be trusted: unknown, until the keeper has healed it
        ├── Unopened        a sealed value cannot be opened with the keys at hand
        ├── Unproved        a log, a checkpoint or a proof does not say what it must
        └── Fenced          somebody else writes to the same log: this writer must end
"""


class TodokeError(Exception):
    """Root of everything that Todoke raises on purpose."""


class Refused(TodokeError):
    """An input that can't be accepted as it is.

    `reason` is a code of `REASONS`, `field` the field at fault, `fix` a sentence that says what to do.
    None of the three may hold a value of the input: they are logged, counted and shown.
    """

    def __init__(self, reason: str, field: str, fix: str) -> None:
        """Keep the three parts; the message joins them."""
        super().__init__(f"{reason}: {field}: {fix}")
        self.reason = reason
        self.field = field
        self.fix = fix


class Retry(TodokeError):
    """A passing fault. `after` is the delay in seconds that the other side asked for, None when it named none.

    `perhaps` is true when the call may have taken effect all the same (a time-out, a 5xx), false when it surely did not
    (connection refused, a 429).
    """

    def __init__(self, reason: str, after: float | None = None, *, perhaps: bool = True) -> None:
        """Keep the code, the delay and the doubt."""
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.perhaps = perhaps


class Expired(Retry):
    """The partner takes the token no longer, and changed nothing: get another, and call once more."""

    def __init__(self, reason: str = "token-expired", after: float | None = None) -> None:
        """Keep the code; it surely changed nothing."""
        super().__init__(reason, after, perhaps=False)


class Split(TodokeError):
    """A batch refused for one of its rows, with the code: the caller sends halves, and a single row is `Rejected`.

    `perhaps` is true when the good rows may have been applied.
    """

    def __init__(self, reason: str, *, perhaps: bool = True) -> None:
        """Keep the code and the doubt."""
        super().__init__(reason)
        self.reason = reason
        self.perhaps = perhaps


class Rejected(TodokeError):
    """A partner's final no, with its code. Sending the same again would end the same."""

    def __init__(self, reason: str) -> None:
        """Keep the code."""
        super().__init__(reason)
        self.reason = reason


class Stop(TodokeError):
    """Nothing may go on until somebody acts: the process ends, and its supervisor starts it again."""


class Misconfigured(Stop):
    """A file, a variable or an address is wrong; the message names it and the fix."""


class NotCurrent(Stop):
    """The view of the state cannot be trusted now, so every answer is unknown."""


class Unopened(Stop):
    """A sealed value can't be opened: wrong or missing key, or bytes that were changed."""


REASONS: dict[str, str] = {
    "not-avro": "The value is not in the Confluent wire format.",
    "unknown-schema": "The schema id is not one that this topic carries.",
    "undecodable": "The value does not decode with the schema that it names.",
    "too-large": "The value is larger than the limit for an event.",
    "missing-event-id": "The event has no event_id.",
    "missing-subject": "The event names neither a subject nor an identifier, or a merge only one subject.",
    "missing-identifier": "An unlink names no identifier.",
    "too-long": "A field is longer than its limit.",
    "unknown-purpose": "The policy has no such purpose.",
    "purpose-required": "The purpose is required for the service and can't be withdrawn; ask for deletion instead.",
    "grant-of-everything": "A grant must name its purpose; only a withdrawal may say '*'.",
    "unknown-channel": "The policy has no such channel.",
    "unknown-regime": "The policy has no such regime.",
    "unknown-policy-version": "The policy has no such version.",
    "unknown-value": "A field has a value outside its list.",
    "future": "The event claims to have occurred later than the allowed clock skew.",
    "not-a-time": "The time of the event is not a plausible count of milliseconds.",
    "identity-unverified": "The request needs a verified identity, and of an agent a verified mandate.",
    "invalid-identifier": "An identifier does not have the form of its kind.",
    "invalid-age": "The birth date or age band can't be read.",
    "not-yet-supported": "This kind of event is accepted by the schema, but not acted on yet.",
}
"""Every reason for which an input is refused, with the sentence shown to people."""


class Unproved(Stop):
    """A log, a checkpoint or a proof doesn't say what it must; the message names the first thing that is wrong."""


class Fenced(Stop):
    """Another writer has the log, or has written to it since: this one must sign nothing more."""
