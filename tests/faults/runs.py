"""A run: an installation, events sent to it, something done to it meanwhile, and the checker's verdict when all is at rest."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.faults.checker import Checker, Finding, Verdict
from tests.faults.crew import ACCOUNTS, Crew, Field, resume, stopped
from tests.faults.evidence import Evidence, Sources
from tests.faults.generator import Generator, Line, Plan
from tests.faults.oracle import Rules
from tests.faults.sending import send

BEAT_S = 0.25
LONGEST_STOP_S = 6.0
STALLED_S = 120.0
CHECKED = 6


class Result(NamedTuple):
    """How a run ended: the verdict, what ended by itself meanwhile, and how long it took (s) until all was at rest."""

    verdict: Verdict
    ended: list[str]
    seconds: float

    @property
    def green(self) -> bool:
        return not self.verdict.findings


class Run:
    """One installation on a field. Use it as a context: everything it starts is ended on leaving."""

    def __init__(
        self, field: Field, name: str, plan: Plan, lines: Callable[[Generator], Iterable[Line]] | None = None
    ) -> None:
        """`lines` chooses what is sent, where that is not the generator's own stream."""
        self.field = field
        self.plan = plan
        self.maker = Generator(plan)
        self.crew = Crew(field, name)
        self.truth = self.crew.directory / "truth.jsonl"
        self.sent = 0
        self.wiped = False
        self.strict = False
        self.pauses: list[tuple[int, int]] = []
        self._still: dict[str, tuple[float, int]] = {}
        self._lines = lines or Generator.lines
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self.crew.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.crew.__exit__(kind, error, trace)

    def publish(self) -> None:
        """Begin to send, in a thread."""
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def say(self, lines: Iterable[Line], rate: float = 400) -> None:
        """Send these lines, to the last."""
        send(self._counted(lines), self.truth, self.field.bootstrap, lambda name: self.crew.namespace + name, rate)

    def _send(self) -> None:
        try:
            lines = self._counted(self._lines(self.maker))
            send(lines, self.truth, self.field.bootstrap, lambda name: self.crew.namespace + name, self.plan.rate)
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            self._failure = error

    def _counted(self, lines: Iterable[Line]) -> Iterator[Line]:
        for line in lines:
            yield line
            self.sent += 1

    @property
    def sending(self) -> bool:
        if self._failure:
            raise self._failure
        return self._thread is not None and self._thread.is_alive()

    def tend(self) -> None:
        """What an orchestrator does: start again what has ended, and let nobody stand still for ever."""
        self.crew.supervise()
        now = time.monotonic()
        for name, child in self.crew.members.items():
            if not stopped(child):
                if name in self._still:
                    self._note_pause(name)
            elif name not in self._still:
                self._still[name] = (now, clock())
            elif now - self._still[name][0] > LONGEST_STOP_S:
                resume(child)
                self._note_pause(name)

    def _note_pause(self, name: str) -> None:
        _, since = self._still.pop(name)
        if name.startswith("dispatch"):
            self.pauses.append((since - 1000, clock() + 1000))

    def rest(self, patience_s: float) -> Evidence:
        """Wait until all was sent and nothing is under way; the evidence as it is then.

        No longer than patience lasts, nor than `STALLED_S` after anything has been written to a topic that is read here.
        """
        deadline = time.monotonic() + patience_s
        while self.sending:
            self.tend()
            time.sleep(BEAT_S)
        evidence = Evidence(self._sources())
        moved = time.monotonic()
        try:
            while True:
                self.tend()
                if evidence.read():
                    moved = time.monotonic()
                late = time.monotonic() > min(deadline, moved + STALLED_S)
                if not evidence.resting() or late:
                    return evidence
                time.sleep(1)
        finally:
            evidence.close()

    def look(self) -> str:
        """What is under way now, in words."""
        evidence = Evidence(self._sources())
        try:
            evidence.read()
            return evidence.resting()
        finally:
            evidence.close()

    def _sources(self) -> Sources:
        field, crew = self.field, self.crew
        return Sources(field.bootstrap, crew.namespace, self.truth, field.journals, ACCOUNTS, crew.logs)

    def judge(self, patience_s: float = 120, *, commands: bool = True) -> Result:
        """Wait for rest, and have everything checked; `commands` asks todoke's own command line, too."""
        evidence = self.rest(patience_s)
        checker = Checker(evidence, Rules(), () if self.strict else self.pauses, wiped=self.wiped)
        verdict = checker.verdict()
        if left := evidence.resting():
            verdict.findings.insert(0, Finding(1, "not at rest", left))
        if commands:
            verdict.findings.extend(self._commands(checker))
        return Result(verdict, self.crew.ended, time.monotonic() - self._began)

    def _commands(self, checker: Checker) -> Iterator[Finding]:
        """The command line says the same: the balance is exact, and a look-up answers as the last word was."""
        done = self.crew.run("balance")
        if done.returncode:
            yield Finding(3, "todoke balance is not exact", done.stdout.replace("\n", " ")[-400:])
        for subject in sorted(checker.refs)[:CHECKED]:
            verdict, heard = checker.oracle.verdict(checker.people[subject], "K2")
            wanted = 0 if verdict == "may" else 3
            done = self.crew.run("check", subject, "email-magazine", "--by", "chaos", "--ground", "last look")
            if heard and done.returncode != wanted:
                yield Finding(
                    6,
                    "todoke check answers otherwise",
                    f"{checker.refs[subject]}: {done.stdout.strip()}, not {verdict}",
                )


def clock() -> int:
    return time.time_ns() // 1_000_000


def plan(seed: int, events: int, rate: float, tag: str, people: int = 0) -> Plan:
    """A plan from now on; a person says fifty things, where their number is not given."""
    return Plan(seed, events, people or max(20, events // 50), clock(), rate, tag)


def tidy(directory: Path) -> None:
    """Remove what a green run left."""
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
