"""Runs with a purpose: each makes one kind of accident happen for sure, on a sound product and on a broken one alike."""

import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec

from tests.faults.crew import Field, resume, stopped, wait
from tests.faults.generator import BAD, Line
from tests.faults.launch import BOUNDARIES
from tests.faults.runs import Result, Run, clock, plan
from tests.faults.topics import Tail

Options = tuple[str, ...]
_numbers = count(1)
QUIET = "[]"


def _run(field: Field, events: int = 400, rate: float = 250, people: int = 20, seed: int = 7) -> Run:
    name = f"r{next(_numbers)}"
    return Run(field, name, plan(seed, events, rate, name, people))


def _start(run: Run, options: Options, *names: str) -> None:
    for name in names:
        run.crew.start(name, *options)


def plain(field: Field, options: Options, patience: float) -> Result:
    """Nothing happens but events: late ones, doubled ones, ties, fast clocks, bad ones."""
    with _run(field) as run:
        _start(run, options, "worker-1", "dispatch-1")
        run.publish()
        return run.judge(patience, commands=not options)


def crash(field: Field, options: Options, patience: float) -> Result:
    """A worker dies when it has just read a batch, and so does the next."""
    with _run(field, events=300, rate=150) as run:
        run.crew.start("worker-1", *options, "--stop=read:3:kill")
        _start(run, options, "dispatch-1")
        run.publish()
        return run.judge(patience, commands=not options)


def lag(field: Field, options: Options, patience: float) -> Result:
    """A worker wakes late, and puts records into their topic that others have gone past since."""
    with _run(field, events=400, rate=60, people=5) as run:
        run.crew.start("worker-1", *options, "--stop=outcomes:2:stop")
        _start(run, options, "dispatch-1")
        run.publish()
        child = run.crew.members["worker-1"]
        wait(lambda: stopped(child), "the stop of the worker", 60)
        _start(run, options, "worker-2")
        wait(lambda: not run.sending, "the last event", 60)
        _taken_in(run)
        resume(child)
        time.sleep(5)
        return run.judge(patience, commands=not options)


def two_workers(field: Field, options: Options, patience: float) -> Result:
    """Two workers have the same few people at once, by different topics."""
    with _run(field, events=900, rate=300, people=3) as run:
        _start(run, options, "worker-1", "worker-2", "dispatch-1")
        time.sleep(6)  # both have partitions then
        run.publish()
        return run.judge(patience, commands=not options)


def _said(run: Run, *moods: str, purpose: str = "marketing-communications") -> Iterator[Line]:
    """Everybody says the same in turn, in full, and of age."""
    maker = run.maker
    for mood in moods:
        for member in maker.members:
            yield maker.consent(
                member,
                member.instant(clock()),
                purpose,
                mood,
                identifiers=list(member.kit),
                age={"birth_date": "1984-05-17", "band": None},
            )


def copies(field: Field, options: Options, patience: float) -> Result:
    """Everything that was said is said again, word for word, after the people have changed their minds."""
    with _run(field, people=10) as run:
        _start(run, options, "worker-1", "dispatch-1")
        first = list(_said(run, "granted"))
        for lines in (first, _said(run, "withdrawn"), first):
            run.say(lines)
            _taken_in(run)
        return run.judge(patience, commands=not options)


def linked(field: Field, options: Options, patience: float) -> Result:
    """Everybody has been told; then a new address comes to light, and nothing else is said."""
    with _run(field, people=8) as run:
        _start(run, options, "worker-1", "dispatch-1")
        run.say(_said(run, "withdrawn"))
        run.rest(30)
        run.say(run.maker.link(each, each.instant(clock())) for each in run.maker.members)
        return run.judge(patience, commands=not options)


def given(field: Field, options: Options, patience: float) -> Result:
    """Everybody has withdrawn and all is told; then it comes to light that data was given to partners since."""
    with _run(field, people=8) as run:
        _start(run, options, "worker-1", "dispatch-1")
        run.say(_said(run, "withdrawn"))
        run.rest(30)
        members = run.maker.members
        run.say(run.maker.provide(each, each.instant(clock()), "kura-crm") for each in members)
        return run.judge(patience, commands=not options)


def refused(field: Field, options: Options, patience: float) -> Result:
    """Every kind of event that must be refused."""
    with _run(field, people=8) as run:
        _start(run, options, "worker-1", "dispatch-1")
        member = run.maker.members[0]
        run.say(_said(run, "granted"))
        run.say(make(run.maker, member, member.instant(clock())) for make in BAD)
        return run.judge(patience, commands=not options)


def killed_after_send(field: Field, options: Options, patience: float) -> Result:
    """A dispatcher dies when a permissive call has been answered and nothing of it was noted; then the person withdraws."""
    with _run(field, people=8) as run:
        _start(run, options, "worker-1", "dispatch-1")
        run.say(_said(run, "withdrawn"))
        run.rest(30)
        run.crew.kill("dispatch-1", signal.SIGTERM)
        run.crew.start("dispatch-1", *options, "--stop=sent:6:kill")
        run.say(_said(run, "granted"))
        wait(lambda: not run.crew.alive("dispatch-1"), "the end of the dispatcher", 30)
        run.say(_said(run, "withdrawn"))
        _taken_in(run)
        return run.judge(patience, commands=not options)


def ambiguous(field: Field, options: Options, patience: float) -> Result:
    """The partner applies grants and never answers; then the people withdraw."""
    with _run(field, people=8) as run:
        _start(run, options, "worker-1", "dispatch-1")
        run.say(_said(run, "withdrawn"))
        run.rest(30)
        field.fault("kura-crm", '{"kind": "drop-after-apply"}')
        try:
            run.say(_said(run, "granted"))
            time.sleep(3)
            run.say(_said(run, "withdrawn"))
            _taken_in(run)
        finally:
            field.fault("kura-crm", QUIET)
        return run.judge(patience, commands=not options)


def failing(field: Field, options: Options, patience: float) -> Result:
    """A partner is out of order for a while, in several ways."""
    with _run(field, events=250, people=12) as run:
        _start(run, options, "worker-1", "dispatch-1")
        faults = '[{"kind": "500", "rate": 0.3, "seed": 1, "times": 30}, {"kind": "dead", "rate": 0.2, "seed": 2, "times": 20}]'
        for partner in field.partners:
            field.fault(partner, faults)
        run.publish()
        try:
            return run.judge(patience, commands=not options)
        finally:
            for partner in field.partners:
                field.fault(partner, QUIET)


def wiped(field: Field, options: Options, patience: float) -> Result:
    """Everybody has unsubscribed from a channel; the view is lost, and at once they permit all else."""
    with _run(field, people=60) as run:
        _start(run, options, "worker-1", "dispatch-1")
        run.say(_said(run, "granted", "withdrawn"))
        members = run.maker.members
        run.say(run.maker.unsubscribe(each, each.instant(clock()), channel="email-magazine") for each in members)
        run.rest(40)
        time.sleep(12)  # what was heard before the loss is past the bound
        run.wiped = True
        field.wipe()
        run.say(_said(run, "granted"))
        return run.judge(patience, commands=not options)


def slept(field: Field, options: Options, patience: float) -> Result:
    """A dispatcher is stopped between deciding and sending, for longer than a second, and the people withdraw meanwhile."""
    with _run(field, people=8) as run:
        run.strict = True
        _start(run, options, "worker-1", "dispatch-1")
        run.say(_said(run, "withdrawn"))
        run.rest(30)
        run.crew.kill("dispatch-1", signal.SIGTERM)
        run.crew.start("dispatch-1", *options, "--stop=attempting:1:stop")
        run.say(_said(run, "granted"))
        child = run.crew.members["dispatch-1"]
        wait(lambda: stopped(child), "the stop of the dispatcher", 30)
        run.say(_said(run, "withdrawn"))
        _taken_in(run)
        time.sleep(12)
        resume(child)
        return run.judge(patience, commands=not options)


def compacted(field: Field, options: Options, patience: float) -> Result:
    """A worker stands still between compare-and-set and producing, while its topic is compacted and the view lost."""
    with _run(field, events=300, people=6) as run:
        run.crew.start("worker-1", *options, "--stop=outcomes:2:stop")
        _start(run, options, "dispatch-1")
        topic = f"{run.crew.namespace}consent-state"
        _hurry(field, topic)
        run.publish()
        child = run.crew.members["worker-1"]
        wait(lambda: stopped(child), "the stop of the worker", 60)
        _start(run, options, "worker-2")
        wait(lambda: not run.sending, "the last event", 60)
        wait(lambda: _gaps(field, topic), "compaction", 60)
        run.wiped = True
        field.wipe()
        resume(child)
        return run.judge(patience, commands=not options)


def lane_emptied(field: Field, options: Options, patience: float) -> Result:
    """A partner is dead for longer than its lane keeps anything: the lane's messages are gone when it is back."""
    with _run(field, events=200, people=10) as run:
        _start(run, options, "worker-1", "dispatch-1")
        for partner in field.partners:
            field.fault(partner, '{"kind": "dead"}')
        try:
            run.publish()
            wait(lambda: not run.sending, "the last event", 60)
            _taken_in(run)
            time.sleep(3)
            for partner in field.partners:
                _empty(field, f"{run.crew.namespace}directives.{partner}")
            time.sleep(5)
        finally:
            for partner in field.partners:
                field.fault(partner, QUIET)
        return run.judge(patience, commands=not options)


def bounded(field: Field, options: Options, patience: float) -> Result:
    """One process is stopped where the options say, beside another of its role that takes over."""
    role = BOUNDARIES[options[0].partition("=")[2].partition(":")[0]].role
    with _run(field, events=200, people=10) as run:
        run.crew.start(f"{role}-1", *options)
        _start(run, (), f"{role}-2", "dispatch-1" if role == "worker" else "worker-1")
        run.publish()
        return run.judge(patience, commands=not options)


def _hurry(field: Field, topic: str) -> None:
    """Have a topic compacted as soon as the broker can."""
    wanted = {"min.compaction.lag.ms": "0", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.01"}
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()]
    changed = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    for future in AdminClient({"bootstrap.servers": field.bootstrap}).incremental_alter_configs([changed]).values():
        future.result()


def _gaps(field: Field, topic: str) -> bool:
    """Whether messages have been compacted away: fewer are left than offsets were given."""
    tail = Tail(field.bootstrap, "", [topic])
    try:
        seen = list(tail.read())
    finally:
        tail.close()
    ends: dict[int, int] = {}
    for each in seen:
        ends[each.partition] = max(ends.get(each.partition, 0), each.offset + 1)
    return sum(ends.values()) > len(seen)


def _empty(field: Field, topic: str) -> None:
    """Delete all messages of a topic, as retention does."""
    admin = AdminClient({"bootstrap.servers": field.bootstrap})
    places = [TopicPartition(topic, number) for number in admin.list_topics(topic).topics[topic].partitions]
    last: Any = OffsetSpec
    ends = admin.list_offsets({place: last.latest() for place in places})
    for future in admin.delete_records(
        [TopicPartition(each.topic, each.partition, end.result().offset) for each, end in ends.items()]
    ).values():
        future.result()


def _taken_in(run: Run) -> None:
    """Wait until all that was said has its outcome."""
    wait(lambda: "without outcome" not in run.look(), "outcome of all", 60)


SCENARIOS: dict[str, Callable[[Field, Options, float], Result]] = {
    "plain": plain,
    "crash": crash,
    "copies": copies,
    "linked": linked,
    "given": given,
    "refused": refused,
    "lag": lag,
    "two-workers": two_workers,
    "killed-after-send": killed_after_send,
    "ambiguous": ambiguous,
    "failing": failing,
    "wiped": wiped,
    "slept": slept,
    "compacted": compacted,
    "lane-emptied": lane_emptied,
}
