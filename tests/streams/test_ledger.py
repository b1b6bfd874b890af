"""The ledger on a real broker: rows of any source become records once, whatever is killed, and the log follows."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

import msgspec
import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient, NewTopic

from tests.rules import keyring
from tests.sinks.test_log import read_back
from todoke.processors.checkpoint import signer
from todoke.processors.keys import seal_for_log, subject_ref
from todoke.schemas.codec import Codec
from todoke.schemas.errors import Fenced
from todoke.schemas.events import LogRow
from todoke.sinks.ledger import Ledger
from todoke.streams import build, cli, keyfile, settings, shards
from todoke.streams.embedded.stack import Addresses
from todoke.streams.metrics import Metrics
from todoke.streams.outbox import Letter

pytestmark = pytest.mark.stack
KEYS = keyring()
PARTITIONS = 4
PATIENCE_S = 60
SHARDS = 2


class Place:
    """An installation of which only the ledger runs."""

    def __init__(self, stack: Addresses, folder: Path) -> None:
        self.folder = folder
        namespace = f"t{token_hex(4)}."
        (folder / "keys.toml").write_text(keyfile.dump(KEYS))
        (folder / "todoke.toml").write_text(
            f'namespace = "{namespace}"\nkeys = "file:{folder}/keys.toml"\nport = 0\n'
            f'[kafka]\nbootstrap = "{stack.bootstrap}"\n'
            f'[ledger]\nvault = "{folder}/vault"\nlog = "{folder}/log"\nguard = "{folder}/guard"\n'
            f'origin = "log.example"\nkey = "file:{folder}/log.key"\nshards = {SHARDS}\nbatch = 50\npublish_ms = 50\n'
        )
        self.environ = {**os.environ, "TODOKE_CONFIG": str(folder / "todoke.toml")}
        self.settings = settings.load(self.environ)
        self.topic = f"{namespace}{shards.ROWS}"
        assert self.command("ledger", "key", str(folder / "log.key")).exit_code == 0
        admin = AdminClient({"bootstrap.servers": stack.bootstrap})
        admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])[self.topic].result(30)
        self.outbox = build.outbox(self.settings)

    def command(self, *words: str) -> Result:
        return CliRunner(env=self.environ).invoke(cli.main, list(words))

    def send(self, rows: Sequence[LogRow]) -> None:
        codec = Codec()
        self.outbox.send([Letter(self.topic, row.subject_ref, codec.encode(row)) for row in rows])

    def opened(self, shard: int) -> Ledger:
        return shards.ledger(self.settings, KEYS, shard)

    def record(self, shard: int, done: Callable[[Ledger], bool]) -> Ledger:
        """Run one shard until it is done; closed when this returns, but to be looked at."""
        ledger = self.opened(shard)
        runner = shards.runner(self.settings, ledger, shard, KEYS, Metrics())
        runner.start()
        deadline = time.monotonic() + PATIENCE_S
        while not done(ledger) and time.monotonic() < deadline and runner.alive:
            time.sleep(0.05)
        runner.stop()
        assert runner.failure is None
        ledger.publish()
        return ledger

    def finish(self, shard: int) -> Ledger:
        """Record all that is there for a shard."""
        end = ends(self, shard)
        return self.record(shard, lambda ledger: sum(ledger.vault.offsets().values()) == end)

    def start(self, shard: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "todoke.streams", "ledger", "run", "--shard", str(shard)]
        return subprocess.Popen(command, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture
def place(stack: Addresses, tmp_path: Path) -> Place:
    return Place(stack, tmp_path)


def rows(count: int, people: int = 40) -> list[LogRow]:
    """Rows of consent events, numbered per person from 1."""
    made = []
    for number in range(count):
        name = str(uuid4())
        ref = subject_ref(KEYS, f"person-{number % people}")
        event = {
            "event_id": str(number),
            "purpose": "targeted-advertising",
            "decision": "withdrawn",
            "identifiers": [{"kind": "email", "value": f"person-{number % people}@example.jp"}],
        }
        payload = seal_for_log(KEYS, name, msgspec.json.encode({"event": event, "demands": []}), os.urandom)
        made.append(
            LogRow(
                name, "ConsentChange", ref, "intake", number // people + 1, 1_790_000_000_000, str(number), "", payload
            )
        )
    return made


def kept(ledger: Ledger, sent: Sequence[LogRow]) -> int:
    return len(sent) - sum(ledger.vault.unknown([each.row_id for each in sent]))


def test_rows_become_records_once_though_they_come_twice_and_two_shards_share_them(place: Place) -> None:
    sent = rows(300)
    place.send(sent[:200])
    place.send(sent)
    found: dict[str, int] = {}
    for shard in range(SHARDS):
        ledger = place.record(shard, lambda ledger: sum(ledger.vault.offsets().values()) > 0)
        ledger.close()
        ledger = place.finish(shard)
        for row in sent:
            record = ledger.vault.find(row.row_id)
            if record:
                found[row.row_id] = shard
                assert record.record.kind == "consent"
                assert record.record.disclosable["decision"] == "withdrawn"
                assert "identifiers" in record.record.principal
        entries = read_back(place.folder / "log" / str(shard), signer(lines(place)[shard]))
        assert entries == ledger.vault.entries(0, 10_000)
        ledger.close()
    assert found.keys() == {row.row_id for row in sent}
    assert len(set(found.values())) == SHARDS
    nothing = place.command("ledger", "gaps")
    assert (nothing.exit_code, nothing.output) == (0, "0 numbers missing, of 40 people\n")
    assert "log.example/1" in place.command("ledger", "status").output


def lines(place: Place) -> list[str]:
    return (place.folder / "log.key").read_text().splitlines()


def ends(place: Place, shard: int) -> int:
    """How many messages the partitions of a shard have."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": place.settings.kafka.bootstrap, "group.id": "ends"})
    places = [TopicPartition(place.topic, each) for each in range(PARTITIONS) if each % SHARDS == shard]
    found = sum(consumer.get_watermark_offsets(each, timeout=10)[1] for each in places)
    consumer.close()
    return found


def test_a_ledger_killed_again_and_again_loses_and_doubles_nothing(place: Place) -> None:
    rng = random.Random(5)
    sent = rows(4000, people=300)
    for step in range(6):
        place.send(sent[step * 600 : (step + 1) * 600])
        child = place.start(0)
        time.sleep(0.5 + rng.random() * 2)
        child.send_signal(signal.SIGKILL)
        _, said = child.communicate()
        assert child.returncode == -signal.SIGKILL, said
    place.send(sent[3600:])
    ledger = place.finish(0)
    theirs = [each for each in sent if not ledger.vault.unknown([each.row_id])[0]]
    entries = read_back(place.folder / "log" / "0", signer(lines(place)[0]))
    assert sum(json.loads(each)["n"] for each in entries) == len(theirs) > 1000
    ledger.close()
    other = place.finish(1)
    assert kept(other, sent) + len(theirs) == len(sent)
    other.close()


def test_a_second_process_for_a_shard_stops_with_a_sentence(place: Place) -> None:
    ledger = place.opened(0)
    with pytest.raises(Fenced, match="another process"):
        place.opened(0)
    child = place.start(0)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 1
    assert b"another process has this vault open" in said
    ledger.close()


def test_a_row_that_does_not_decode_is_kept_as_it_is(place: Place) -> None:
    place.outbox.send([Letter(place.topic, "x", b"not a row")])
    sent = rows(1)
    place.send(sent)
    names = []
    for shard in range(SHARDS):
        ledger = place.finish(shard)
        names += [each.record.internal for each in ledger.vault.of("")]
        ledger.close()
    assert [each["unreadable"] for each in names] == ["bm90IGEgcm93"]


def test_a_hold_is_an_order_in_the_topic_and_holds_what_comes_later_too(place: Place) -> None:
    sent = rows(2, people=1)
    place.send(sent[:1])
    done = place.command("ledger", "hold", "person-0", "--by", "aiko", "--ground", "case 12")
    assert done.exit_code == 0, done.output
    place.send(sent[1:])
    held = None
    for shard in range(SHARDS):
        ledger = place.finish(shard)
        found = ledger.vault.find(sent[0].row_id)
        if found:
            held = shard
            later = ledger.vault.find(sent[1].row_id)
            assert later is not None
            assert later.key == found.key
            assert found.key.startswith("hold/")
        ledger.close()
    assert held is not None
    assert place.command("ledger", "release", "person-0", "--by", "aiko", "--ground", "case closed").exit_code == 0
    ledger = place.finish(held)
    found = ledger.vault.find(sent[0].row_id)
    assert found is not None
    assert found.key.startswith("P7/")
    ledger.close()
