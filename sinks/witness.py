"""Witnesses: they see each checkpoint, check that it extends the one before, and sign that they have (C2SP tlog-witness).

A witness remembers the newest checkpoint it has seen of a log, so that it is also a guard that is not ours: where it knows
more than this log has, the log was rolled back, and where the proof doesn't convince it, there are two histories.
"""

import base64
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from msgspec import Struct

from todoke.processors.checkpoint import Checkpoint, Note, Verifier, parse_note, signed_at
from todoke.processors.merkle import Hashes, consistency
from todoke.schemas.errors import Fenced, Retry, Unproved

from .wire import Wire

log = logging.getLogger(__name__)
SIZE = "text/x.tlog.size"
TRIES = 3
CONFLICT, UNCONVINCED = 409, 422


class Policy(Struct, frozen=True, kw_only=True):
    """At least `quorum` of the witnesses, asked no more often than every `every_s` seconds, each for `timeout_s` at most.

    `required`: a checkpoint that lacks them is signed and guarded, but not shown; otherwise it is shown with what it has.
    """

    quorum: int = 1
    required: bool = False
    every_s: float = 0.0
    timeout_s: float = 5.0


class Witness:
    """One witness: where it takes checkpoints, and its key."""

    def __init__(self, url: str, key: Verifier, timeout_s: float) -> None:
        """`url` is its submission prefix. Opens no connection. Raises `Misconfigured`."""
        self.key = key
        self._wire = Wire(url, timeout_s)
        self._target = f"{urlsplit(url).path.rstrip('/')}/add-checkpoint"
        self._seen = 0

    def ask(self, note: Note, found: Checkpoint, hashes: Hashes) -> str | None:
        """The line of its cosignature, None where it gives none now. Raises `Fenced` where it knows another log."""
        for _ in range(TRIES):
            proof = consistency(self._seen, found.size, hashes)
            answer = self._wire.send("POST", self._target, {}, request(self._seen, proof, note))
            if answer.status == CONFLICT and answer.headers.get("content-type", "").startswith(SIZE):
                self._seen = self._larger(answer.body, found)
            elif answer.status == UNCONVINCED and self._seen:
                raise Fenced(
                    f"witness {self.key.name}: what it saw at {self._seen} entries is no beginning of this log: sign nothing,"
                    " find out who signed the other one"
                )
            elif answer.status == 200:
                line = self._verified(answer.body, note)
                self._seen = found.size if line else self._seen
                return line
            else:
                log.warning(
                    "witness %s answers %d: 403 and 404 mean that it lacks our key", self.key.name, answer.status
                )
                return None
        return None

    def close(self) -> None:
        """Let go of the connection."""
        self._wire.close()

    def _larger(self, body: bytes, found: Checkpoint) -> int:
        """The size that it says it has seen, which must be one that we have."""
        text = body.decode("ascii", "replace").rstrip("\n")
        if not (text.isascii() and text.isdecimal()):
            raise Retry("malformed-answer")
        if int(text) > found.size:
            raise Fenced(
                f"witness {self.key.name}: it has seen {int(text)} entries of this log, which has {found.size}: bring back the"
                " newest copy of the log, and never sign without it"
            )
        return int(text)

    def _verified(self, body: bytes, note: Note) -> str | None:
        """Of the lines in its answer the one that its key made; others, and unknown ones, are ignored."""
        try:
            given = parse_note(note.text.encode() + b"\n" + body)
            theirs = [each for each in given.signatures if (each.name, each.key_id) == (self.key.name, self.key.key_id)]
            if theirs and signed_at(Note(note.text, (theirs[0],)), self.key):
                return theirs[0].line()
        except Unproved as error:
            log.warning("witness %s: %s", self.key.name, error)
            return None
        log.warning("witness %s: its answer has no cosignature of its key, or one without time", self.key.name)
        return None


class Witnesses:
    """All witnesses of a log, and how many of them are enough."""

    def __init__(self, witnesses: Sequence[Witness], policy: Policy, now: Callable[[], float]) -> None:
        """`now` in seconds; it decides only when to ask again."""
        self.policy = policy
        self._witnesses = witnesses
        self._now = now
        self._asked: float | None = None

    def due(self) -> bool:
        """Whether it is time to ask."""
        return self._asked is None or self._now() - self._asked >= self.policy.every_s

    def ask(self, note: Note, found: Checkpoint, hashes: Hashes) -> tuple[Note, bool]:
        """The note with every cosignature that came, and whether they are enough. Raises `Fenced`."""
        self._asked = self._now()

        def one(witness: Witness) -> str | None:
            try:
                return witness.ask(note, found, hashes)
            except Retry as error:
                log.warning("witness %s: %s", witness.key.name, error.reason)
                return None

        with ThreadPoolExecutor(max(len(self._witnesses), 1)) as pool:
            lines = [line for line in pool.map(one, self._witnesses) if line]
        made = parse_note(note.dump() + "".join(lines).encode())
        return made, len(lines) >= self.policy.quorum

    def close(self) -> None:
        """Let go of connections."""
        for each in self._witnesses:
            each.close()


def request(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    """The body of `add-checkpoint`: the size that the witness knows, the proof from there, and the signed checkpoint."""
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof), ""]
    return "".join(f"{line}\n" for line in lines).encode() + note.dump()
