"""Faults at random, the same for the same seed: what is done to a run, when, and to whom."""

import signal
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.faults.crew import resume
from tests.faults.runs import Run, clock

KINDS: dict[str, int] = {
    "kill": 30,
    "stop": 18,
    "term": 12,
    "valkey-kill": 7,
    "valkey-flush": 5,
    "valkey-empty": 4,
    "valkey-rollback": 5,
    "broker-kill": 6,
    "broker-term": 3,
    "worker-more": 5,
    "dispatch-more": 5,
}
"""What is done how often, of a hundred."""

KILLS = frozenset({"kill", "term", "valkey-kill", "valkey-empty", "valkey-rollback", "broker-kill", "broker-term"})
MOST = 3


class Fault(NamedTuple):
    """One deed: after which share of the events, what, to which role, and a number to choose by."""

    after: float
    kind: str
    role: str
    dice: float


def faults(seed: int, kills: int) -> list[Fault]:
    """Deeds until `kills` of them end a process, in the order in which they are done; at least one of each kind of kill."""
    random = Random(f"mischief {seed}")
    kinds = [kind for kind in KINDS if kills >= len(KINDS) * 2]
    while sum(kind in KILLS for kind in kinds) < kills:
        kinds += random.choices(list(KINDS), list(KINDS.values()))
    random.shuffle(kinds)
    share = 1 / (len(kinds) + 1)
    return [
        Fault((place + 0.5 + random.random()) * share, kind, random.choice(("worker", "dispatch")), random.random())
        for place, kind in enumerate(kinds)
    ]


class Mischief:
    """Does the deeds when their time has come, and keeps a diary."""

    def __init__(self, run: Run, deeds: list[Fault], say: Callable[[str], None]) -> None:
        self.run = run
        self.left = list(deeds)
        self.say = say
        self.done: list[Fault] = []
        self.number = 10
        self.kept = False

    def go(self, total: int) -> None:
        """Until all was sent and all deeds are done."""
        while self.run.sending or self.left:
            self.run.tend()
            if self.left and (self.run.sent >= self.left[0].after * total or not self.run.sending):
                self.do(self.left.pop(0))
            time.sleep(0.1)

    def do(self, fault: Fault) -> None:
        """One deed."""
        began = clock()
        told = _DEEDS[fault.kind](self, fault)
        self.done.append(fault)
        self.say(f"{self.run.sent:>7} sent  {fault.kind:<16} {told:<14} {clock() - began:>6} ms")

    def one(self, fault: Fault) -> str:
        """A member of the crew, chosen by the dice."""
        mine = sorted(name for name in self.run.crew.members if name.startswith(fault.role))
        return mine[int(fault.dice * len(mine))]

    def kill(self, fault: Fault, number: int = signal.SIGKILL) -> str:
        name = self.one(fault)
        options = self.run.crew.options[name]
        self.run.crew.kill(name, number)
        self.run.crew.start(name, *options)
        return name

    def term(self, fault: Fault) -> str:
        return self.kill(fault, signal.SIGTERM)

    def stop(self, fault: Fault) -> str:
        name, crew = self.one(fault), self.run.crew
        child, since = crew.members[name], clock()
        crew.kill(name, signal.SIGSTOP)
        time.sleep(0.5 + 6 * fault.dice)
        resume(child)
        if fault.role == "dispatch":
            self.run.pauses.append((since - 1000, clock() + 1000))
        return name

    def valkey_kill(self, fault: Fault) -> str:
        self.run.field.restart("valkey", away_s=2 * fault.dice)
        return ""

    def valkey_flush(self, _: Fault) -> str:
        self.run.wiped = True
        self.run.field.wipe()
        return ""

    def valkey_empty(self, _: Fault) -> str:
        self.run.wiped = True
        self.run.field.empty()
        return ""

    def valkey_rollback(self, fault: Fault) -> str:
        self.run.wiped = True
        self.run.field.snapshot()
        time.sleep(1 + 4 * fault.dice)
        self.run.field.roll_back()
        return ""

    def broker_kill(self, fault: Fault, number: int = signal.SIGKILL) -> str:
        self.run.field.restart("kafka", number, away_s=2 * fault.dice)
        return ""

    def broker_term(self, fault: Fault) -> str:
        return self.broker_kill(fault, signal.SIGTERM)

    def more(self, fault: Fault) -> str:
        """One more joins, or one too many leaves: partitions move under load."""
        role, crew = fault.kind.partition("-")[0], self.run.crew
        mine = sorted(name for name in crew.members if name.startswith(role))
        if len(mine) < MOST:
            self.number += 1
            crew.start(f"{role}-{self.number}", *crew.options[mine[0]])
            return f"+{role}-{self.number}"
        crew.kill(mine[-1], signal.SIGTERM)
        return f"-{mine[-1]}"


_DEEDS: dict[str, Callable[[Mischief, Fault], str]] = {
    "kill": Mischief.kill,
    "stop": Mischief.stop,
    "term": Mischief.term,
    "valkey-kill": Mischief.valkey_kill,
    "valkey-flush": Mischief.valkey_flush,
    "valkey-empty": Mischief.valkey_empty,
    "valkey-rollback": Mischief.valkey_rollback,
    "broker-kill": Mischief.broker_kill,
    "broker-term": Mischief.broker_term,
    "worker-more": Mischief.more,
    "dispatch-more": Mischief.more,
}
