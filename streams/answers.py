"""What partners say of jobs, asked or by themselves, written down: one path for both.

The answer ends the attempt that began the job, in the told-state first. Then come the letters, all of which can be made
again from there: who dies in between hears the answer again, and says the same once more.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.fence import NAMED_BY, clear_from
from todoke.processors.jobs import FAILED_LATE
from todoke.processors.reconcile import Call
from todoke.processors.retry import GiveUp, after
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told, note, reported
from todoke.sinks.base import Outcome

from .due import Due, entries
from .jobs import Jobs
from .kept import letter
from .notes import Ending, Notes, Try
from .outbox import Letter
from .said import Said
from .tools import Tools
from .view import Cell, Found

ROUNDS = 5
"""The generation in which a failed job is begun anew no more: a person must look."""
PAUSE_S = 60.0
"""Before a failed job is begun anew; then four times as long."""


class Part(Struct, frozen=True):
    """An attempt that a job was begun by, as it is told after the answer, and where."""

    ref: str
    name: str
    attempt: Attempt
    told: tuple[Told, ...]


class Answers:
    """Takes down what one partner says of its jobs. Its methods block."""

    def __init__(self, notes: Notes, said: Said, tools: Tools, due: Due, lanes: int) -> None:
        """`lanes` is how many partitions a lane has, to find the due-queue of a subject."""
        self.partner = notes.partner
        self.notes = notes
        self.said = said
        self.tools = tools
        self.due = due
        self.lanes = lanes
        self.jobs = Jobs(tools.view, self.partner.name)

    def take(self, answers: Mapping[str, Outcome]) -> frozenset[str]:
        """Write down what became of jobs, by reference, and have everybody concerned looked at. The references known.

        Each answer is a `final` one.
        Taking the same again changes nothing. Raises `NotCurrent`, and what the outbox raises; then it is to be taken again.
        """
        at = self.tools.now()
        concerned = self.jobs.concerned(list(answers))
        refs = sorted({ref for theirs in concerned for ref in theirs})
        found = dict(zip(refs, self.tools.view.all(refs), strict=True))
        written = self._tell(found, answers, at)
        letters = [letter(self.tools, each) for each in written.values()]
        later: dict[str, int] = {}
        parts = _parts(written, answers)
        for part in parts:
            said, when = self._said_of(part, found[part.ref], answers[part.attempt.reference])
            letters += said
            if when:
                later[part.attempt.obligation] = when
        # first, since whoever reads that it is open again would have it looked at now
        self._wake(found, lambda name, _: later.get(name, 0))
        self.said.send(letters)
        self._wake(found, lambda name, stands: at if stands and name not in later else 0)
        known = frozenset(part.attempt.reference for part in parts)
        self.jobs.let_go(sorted(known))
        return known

    def _tell(self, found: Mapping[str, Found], answers: Mapping[str, Outcome], at: int) -> dict[Cell, Told]:
        """Join the answers into the told-state of whoever they concern."""
        cells = self.tools.view.told
        wanted = [
            cells.cell(ref, each.key)
            for ref, known in found.items()
            for each in known.told.values()
            if each.partner == self.partner.name and any(one.reference in answers for one in each.attempts.values())
        ]

        def change(_: Cell, held: Told | None) -> Told | None:
            if held is None:
                return None
            told = held
            for name, attempt in held.attempts.items():
                if answer := answers.get(attempt.reference):
                    told = note(told, name, reported(attempt, answer.grade, at, failed=_in_vain(answer)))
            return told

        return cells.update(wanted, change)

    def _said_of(self, part: Part, known: Found, answer: Outcome) -> tuple[list[Letter], int]:
        """The letters about one attempt, and when to look at its subject (ms): at once for 0, and for -1 when a person says."""
        attempt, now = part.attempt, self.tools.now()
        owed = _owed(self.said.over(known.obligations.values()), self.partner.name, attempt)
        if owed is None or not attempt.reported_at or (attempt.failed and not _in_vain(answer)):
            return [], 0  # forgotten, no news, or a success after a failure: it is told anew
        number = max(attempt.generation, 1)
        grade, reason = attempt.grade, ""
        if attempt.failed:
            grade, reason = min(answer.grade, Evidence.sent), answer.reason or FAILED_LATE
        again = reason or ("overtaken" if self._clear(part) > attempt.started_at else "")
        if number < owed.round or owed.state in ENDED - {"done"}:
            again = ""  # a later generation has begun, or somebody answers for it
        tried = Try(
            Call(replace(owed, generation=number), attempt.effect, (), attempt.partial),
            part.name,
            attempt.started_at,
            attempt.ends_by,
        )
        end = Ending(attempt.reported_at, grade, attempt.reference, reason)
        letters = self.notes.reported(tried, end, again, self.tools.random)
        if not (attempt.failed and again):
            return letters, 0
        later = after(reason, PAUSE_S * 4 ** (number - 1), number, now, self.tools.random(1)[0] / 255)
        if number < ROUNDS and not isinstance(later, GiveUp):
            return letters, later.at
        why = f"gave-up-after-{ROUNDS}:{reason}"
        self.tools.metrics.count("todoke_letters_total", "delivery", why)
        # blocked before it is opened again, so that nobody takes it up in between
        return [*self.notes.given_up(owed, why, now), *letters], -1

    def _clear(self, part: Part) -> int:
        """From when on (ms) a call comes after every rival of the attempt."""
        return clear_from(part.told, part.attempt.effect, self.notes.permissive)

    def _wake(self, found: Mapping[str, Found], when: Callable[[str, bool], int]) -> None:
        """Have everybody looked at whom the jobs concern, sharers of an identifier too.

        `when` says for each obligation, by the beginning of its id and whether it stands, at what time (ms), if any.
        """
        for known in found.values():
            for each in known.obligations.values():
                if each.partner == self.partner.name:
                    at = when(each.obligation_id[:NAMED_BY], not each.ended_at)
                    self.due.rouse(entries([each], self.lanes, at * 1000) if at > 0 else [])


def _parts(written: Mapping[Cell, Told], answers: Mapping[str, Outcome]) -> list[Part]:
    """The attempts that the answers are about, each once, with every place where it was told."""
    places: dict[tuple[str, str], list[Told]] = {}
    for told in written.values():
        for name, attempt in told.attempts.items():
            if attempt.reference in answers:
                places.setdefault((told.subject_ref, name), []).append(told)
    return [Part(ref, name, held[0].attempts[name], tuple(held)) for (ref, name), held in places.items()]


def _owed(obligations: Iterable[Obligation], partner: str, attempt: Attempt) -> Obligation | None:
    """The obligation that an attempt was for; None when it has been forgotten, or was somebody else's."""
    mine = (each for each in obligations if each.partner == partner)
    return next((each for each in mine if each.obligation_id[:NAMED_BY] == attempt.obligation), None)


def _in_vain(answer: Outcome) -> bool:
    return answer.grade < Evidence.accepted or bool(answer.reason)


def final(answer: Outcome) -> bool:
    """Whether it says what became of a job: that it was accepted, we knew."""
    return answer.grade != Evidence.accepted or bool(answer.reason)
