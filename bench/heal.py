"""How long a wiped view takes to heal: `python bench/heal.py --subjects 1000000`.

Fills the compacted topics of an installation of its own with prepared messages, then measures from an empty Valkey to
a view that is current, with the keeper of one worker and of two, each a process. Meanwhile it looks people up, as
`todoke check` does, and every answer must be unknown until the view is current.

For each subject: one record with 6 registers, 3 rows, 2 identifiers, a key and 2 holdings; `--obligations` obligations,
of which one in 20 stands; `--told` told-states. Of all messages `--again` are second copies of their key, such as
compaction has not removed yet, with more to say than the first.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from todoke.processors.keys import subject_ref
from todoke.schemas.codec import Codec
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import Holding, Key, Register, SealedIdentifier, Stamp, SubjectRecord
from todoke.schemas.told import Attempt, Told
from todoke.streams import build, cluster, keyfile, providers, topics
from todoke.streams.embedded.stack import Plan, Stack
from todoke.streams.kept import KEPT, message
from todoke.streams.lookup import look_up
from todoke.streams.outbox import producer_config
from todoke.streams.settings import Kafka, Redis, Settings

AT = 1_763_000_000_000
REF, ALIAS, OTHER = (digit * 32 for digit in "012")
NAMES = ["3" * 36, "4" * 36]
PARTNERS = ("kura-crm", "meta", "hoshi-dmp", "aozora-analytics")
PATIENCE_S = 3600.0
WRAPPED, SEALED = os.urandom(60), os.urandom(48)


class Ratio(Struct, frozen=True):
    """How many of each kind there are for one subject, and which part comes twice."""

    obligations: float
    told: float
    again: float


class Result(Struct, frozen=True):
    """One healing: seconds until current, look-ups meanwhile, CPU seconds of the keepers and of Valkey."""

    seconds: float
    asked: int
    keepers: float
    valkey: float


def record(version: int) -> SubjectRecord:
    """A record as a member of a few years has it."""
    event = NAMES[0]
    names: tuple[str, ...] = (
        "purpose/appi/targeted-advertising",
        "purpose/appi/marketing-communications",
        "purpose/appi/analytics",
    )
    names += ("channel/email-magazine/*", "channel/push/*", "age")
    return SubjectRecord(
        REF,
        version=version,
        registers={
            name: Register(
                "1990-04-01" if name == "age" else "granted",
                AT + version,
                restrictive=False,
                event_id=event,
                policy_version="2025-04",
            )
            for name in names
        },
        keys={"5" * 16: Key(WRAPPED, "w1", AT)},
        identifiers={
            f"{alias}.{'5' * 16}": SealedIdentifier(kind, alias, "5" * 16, SEALED)
            for kind, alias in (("email", ALIAS), ("phone", OTHER))
        },
        holdings={name: Holding(AT, AT, ("email", "purchases")) for name in PARTNERS[:2]},
        rows={f"{event[:-1]}{number}": number for number in range(3)},
        row_count=3,
    )


def owed(version: int, partner: str, *, stands: bool) -> Obligation:
    """An obligation as it is after its call, or before."""
    return Obligation(
        obligation_id=NAMES[1],
        subject_ref=REF,
        partner=partner,
        account="customers",
        scope="targeted-advertising",
        verb="withdraw",
        stamps=(Stamp("purpose/appi/targeted-advertising", AT, restrictive=True, event_id=NAMES[0]),),
        registry_revision=1,
        boundary=0,
        identifier_generation=1,
        reasons=("withdrawn:appi",),
        cause="event",
        event_id=NAMES[0],
        appended_at=AT,
        opened_at=AT,
        deadline_at=AT + 86_400_000,
        done_at_grade=int(Evidence.accepted),
        grades={} if stands else {"sent": AT + 500, "accepted": AT + 600},
        generation=1,
        updated_at=AT + 600 + version,
    )


def told(version: int, partner: str) -> Told:
    """What one partner was told once."""
    grade = int(Evidence.accepted if version else Evidence.none)
    attempt = Attempt("remove", AT, AT + 10_000, AT + 600 if version else 0, grade)
    return Told(REF, partner, "customers", "targeted-advertising", ALIAS, {"6" * 16: attempt})


def messages(subjects: int, ratio: Ratio, codec: Codec, keys: Any) -> Iterator[tuple[str, bytes, bytes, list[Any]]]:
    """Topic, key, value and headers: prepared bytes with the subject's own names put in."""
    templates = {
        "consent-state": [message(str, codec, record(version)) for version in range(2)],
        "obligations": [
            message(str, codec, owed(version, partner, stands=stands))
            for stands in (False, True)
            for partner in PARTNERS
            for version in range(2)
        ],
        "told": [message(str, codec, told(version, partner)) for partner in PARTNERS for version in range(2)],
    }
    shares = {"consent-state": 1.0, "obligations": ratio.obligations, "told": ratio.told}
    for topic, share in shares.items():
        made = [(str(each.key).encode(), each.value or b"", list(each.headers)) for each in templates[topic]]
        for number in range(int(subjects * share)):
            own = names(keys, number % subjects, number)
            pair = 0 if topic == "consent-state" else 2 * (number // subjects % len(PARTNERS))
            if topic == "obligations" and number % 20 == 0:
                pair += 2 * len(PARTNERS)
            copies = 2 if ratio.again and number % round(1 / ratio.again) == 0 else 1
            for key, value, headers in made[pair : pair + copies]:
                yield topic, put(key, own), put(value, own), [(name, put(text, own)) for name, text in headers]


def names(keys: Any, subject: int, number: int) -> list[tuple[bytes, bytes]]:
    """What stands in one message for what in the prepared ones."""
    ref = subject_ref(keys, f"member-{subject}").encode()
    one, other = f"{subject:032x}".encode(), f"{subject + (1 << 64):032x}".encode()
    event, obligation = f"{subject:035d}".encode(), f"{number:036d}".encode()
    old = (REF, ALIAS, OTHER, NAMES[0][:-1], NAMES[1])
    return list(zip((each.encode() for each in old), (ref, one, other, event, obligation), strict=True))


def put(raw: bytes, pairs: list[tuple[bytes, bytes]]) -> bytes:
    for old, new in pairs:
        raw = raw.replace(old, new)
    return raw


def fill(settings: Settings, subjects: int, ratio: Ratio) -> int:
    """How many messages were produced."""
    codec, keys = Codec(), providers.load(settings.keys, settings.namespace)
    producer = Producer(producer_config(settings.kafka.bootstrap, {"linger.ms": 50, "batch.size": 500_000}))
    count = 0
    for topic, key, value, headers in messages(subjects, ratio, codec, keys):
        while True:
            try:
                producer.produce(settings.namespace + topic, value, key, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        count += 1
        if count % 1000 == 0:
            producer.poll(0)
    producer.flush()
    return count


def keep(settings: Settings) -> None:
    """One worker's keeper, until it is ended."""
    runner = build.keeper_runner(build.parts(settings))
    runner.start()
    while runner.alive:
        time.sleep(0.5)
    raise SystemExit(70)


def start(settings: Settings) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=keep, args=[settings], daemon=True)
    process.start()
    return process


def used(pid: int) -> float:
    """CPU seconds of a process so far (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def heal(made: build.Parts, keepers: list[Any], began: float) -> Result:
    """Wait until the view is current, and look people up meanwhile."""
    tools, asked = made.tools, 0
    pids = [each.pid for each in keepers]
    server = int(tools.view.client.info("server")["process_id"])
    before = sum(map(used, pids)), used(server)
    while True:
        found = look_up(tools, f"member-{asked % 1000}", "targeted-advertising")
        if found.answer != "unknown":
            break
        asked += 1
        assert time.monotonic() < began + PATIENCE_S, "not healed"
        assert all(each.is_alive() for each in keepers), "a keeper ended"
        time.sleep(0.05)
    seconds = time.monotonic() - began
    assert found.answer == "allow", found
    return Result(seconds, asked, sum(map(used, pids)) - before[0], used(server) - before[1])


def count(client: redis.Redis, prefix: str) -> int:
    return sum(1 for _ in client.scan_iter(f"{prefix}*", count=10_000))


def measure(settings: Settings, keepers: list[Any], subjects: int, sent: int) -> None:
    """Print a row for each case, and what the view holds at the end."""
    made = build.parts(settings)
    client = made.tools.view.client
    client.connection_pool.connection_kwargs["socket_timeout"] = 120
    print(f"{'case':24}{'s':>8}{'messages/s':>12}{'unknown':>9}{'keeper CPU s':>14}{'Valkey CPU s':>14}")
    for case, more in (("empty, one starts", 1), ("wiped under one", 0), ("wiped under two", 1)):
        began = time.monotonic()
        keepers += [start(settings) for _ in range(more)]
        if case != "empty, one starts":
            time.sleep(15 * more)  # the group settles
            client.flushall()
            began = time.monotonic()
        found = heal(made, keepers, began)
        rate = sent / found.seconds
        row = f"{case:24}{found.seconds:8.1f}{rate:12,.0f}{found.asked:9}{found.keepers:14.1f}{found.valkey:14.1f}"
        print(row, flush=True)
    held = count(client, "heal.todoke:r:")
    memory = client.info("memory")["used_memory"]
    print(f"{held} records held; Valkey {memory / 1e6:,.0f} MB, {memory / subjects:,.0f} bytes a subject")
    assert held == subjects
    made.outbox.close()
    client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=100_000)
    parser.add_argument("--obligations", type=float, default=1.0)
    parser.add_argument("--told", type=float, default=0.5)
    parser.add_argument("--again", type=float, default=0.05)
    chosen = parser.parse_args()
    ratio = Ratio(chosen.obligations, chosen.told, chosen.again)
    directory = Path(tempfile.mkdtemp(prefix="todoke-heal-"))
    keepers: list[Any] = []
    stack = Stack.start(directory / "stack", Plan(fresh=True))
    try:
        keyfile.create(directory / "keys.toml")
        settings = Settings(
            namespace="heal.",
            keys=f"file:{directory / 'keys.toml'}",
            kafka=Kafka(bootstrap=stack.addresses.bootstrap, replication=1, in_sync=1),
            redis=Redis(url=stack.addresses.redis_url),
        )
        partners = [each.name for each in build.rules(settings).registry.partners]
        wanted = [each for each in topics.wanted(settings, partners) if each.name.removeprefix("heal.") in KEPT]
        cluster.apply(AdminClient({"bootstrap.servers": settings.kafka.bootstrap}), wanted)
        began = time.monotonic()
        sent = fill(settings, chosen.subjects, ratio)
        print(f"{sent} messages of {chosen.subjects} subjects, filled in {time.monotonic() - began:.0f} s", flush=True)
        measure(settings, keepers, chosen.subjects, sent)
    finally:
        for each in keepers:
            each.terminate()
        stack.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
