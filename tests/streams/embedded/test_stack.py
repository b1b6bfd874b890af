"""The stack on real servers: started, found, stopped, killed, tampered with."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from todoke.streams.embedded import kafka, process, state
from todoke.streams.embedded.process import Identity
from todoke.streams.embedded.stack import Plan, Stack, StackError, log, release
from todoke.streams.embedded.state import Running, State

PATIENCE_S = 120.0  # a part that is told to end while it starts may need all of its grace, and be killed then

pytestmark = pytest.mark.stack

QUICK = Plan(quick=True)
# a shell that starts the tests in the background has its children ignore Ctrl-C, and they theirs
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
UP = [sys.executable, "-c", f"{HEED}; from todoke.streams.embedded.command import up; up()", "--directory"]
START_S = 60.0


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory of its own, in which nothing runs in the end, whoever started it."""
    where = tmp_path / "棚 1, a%20#"
    yield where
    with contextlib.suppress(FileNotFoundError):
        for each in running(where).values():
            process.end(each)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "120"]) as child:
        yield child
        child.kill()


@contextlib.contextmanager
def up(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`todoke up` in a process of its own."""
    command = [*UP, str(directory), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def running(directory: Path) -> dict[str, Identity]:
    known = state.read(directory)
    return {name: part.process for name, part in known.parts.items()} if known else {}


def await_parts(directory: Path, count: int) -> dict[str, Identity]:
    """The parts noted down, once there are that many."""
    deadline = time.monotonic() + START_S
    while len(found := running(directory)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def exports(child: subprocess.Popen[str]) -> dict[str, str]:
    """What `up` prints for a shell, once it is up."""
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(3)]
    return dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, decode_responses=True)


def topics(stack: Stack) -> set[str]:
    return set(AdminClient({"bootstrap.servers": stack.addresses.bootstrap}).list_topics(timeout=10).topics)


def fill(stack: Stack) -> None:
    """Store something in each part, and see that they are set as Todoke needs them."""
    admin = AdminClient({"bootstrap.servers": stack.addresses.bootstrap})
    admin.create_topics([NewTopic("kept", 1)])["kept"].result(10)
    broker = ConfigResource(ConfigResource.Type.BROKER, "1")
    settings = admin.describe_configs([broker])[broker].result(10)
    producer = Producer({"bootstrap.servers": stack.addresses.bootstrap, "enable.idempotence": True})
    producer.produce("kept", b"x" * 999_000)
    store = client(stack.addresses.redis_url)
    store.set("kept", "1")

    assert producer.flush(10) == 0
    assert settings["auto.create.topics.enable"].value == "false"
    assert store.config_get("maxmemory-policy", "appendonly", "bind") == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "bind": "127.0.0.1",
    }


def test_the_stack_starts_is_found_keeps_its_data_and_can_be_emptied(directory: Path) -> None:
    first = Stack.start(directory, QUICK)
    fill(first)

    assert first.owner

    second = Stack.start(directory, QUICK)
    with pytest.raises(StackError, match=rf"is in use: stop process {os.getpid()}"):
        Stack.start(directory, Plan(fresh=True))
    for other in (Plan(kafka_port=1), Plan(valkey_port=1)):
        with pytest.raises(StackError, match=rf"has it on port \d+: stop process {os.getpid()}"):
            Stack.start(directory, other)
    second.stop()

    assert not second.owner
    assert first.addresses == second.addresses
    assert first.broken() == ""

    parts = running(directory)
    first.stop()
    first.stop()

    assert set(parts) == {"kafka", "valkey"}
    assert not any(process.alive(each) for each in parts.values())
    assert running(directory) == {}

    (directory / "notes").write_text("mine")
    again = Stack.start(directory, QUICK)
    first.stop()

    assert again.broken() == ""
    assert "kept" in topics(again)
    assert client(again.addresses.redis_url).get("kept") == "1"
    again.stop()

    emptied = Stack.start(directory, Plan(fresh=True, quick=True))

    assert topics(emptied) == set()
    assert client(emptied.addresses.redis_url).dbsize() == 0
    assert (directory / "notes").exists()
    emptied.stop()


def test_a_killed_owner_leaves_nothing_that_the_next_start_does_not_end(
    directory: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    with up(directory) as child:
        exports(child)
        orphans = running(directory)
        child.send_signal(signal.SIGKILL)
        child.wait()
    recycled = Running(Identity(sleeper.pid, "another time"), 1, "")
    known = state.read(directory)
    assert known is not None
    state.write(directory, State(known.owner, {**known.parts, "recycled": recycled}))

    assert all(process.alive(each) for each in orphans.values())

    stack = Stack.start(directory, QUICK)

    assert stack.owner
    assert not any(process.alive(each) for each in orphans.values())
    assert set(orphans.values()).isdisjoint(running(directory).values())
    assert sleeper.poll() is None
    stack.stop()


@pytest.mark.parametrize("number", [1, 2])
def test_a_start_killed_half_way_leaves_nothing_either(directory: Path, number: int) -> None:
    with up(directory) as child:
        orphans = await_parts(directory, number)
        child.kill()
        child.wait()

    stack = Stack.start(directory, QUICK)

    assert not any(process.alive(each) for each in orphans.values())
    stack.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_a_start_under_way_ends_what_was_started(directory: Path, number: int) -> None:
    with up(directory) as child:
        parts = await_parts(directory, 2)
        child.send_signal(number)

        assert child.wait(PATIENCE_S) == 0

    assert not any(process.alive(each) for each in parts.values())
    assert running(directory) == {}


def test_two_starts_at_once_make_one_stack_and_a_signal_to_its_owner_stops_it(directory: Path) -> None:
    with up(directory) as one, up(directory) as other:
        printed = exports(one), exports(other)
        while one.poll() is None and other.poll() is None:
            time.sleep(0.02)
        owner, finder = (one, other) if one.poll() is None else (other, one)
        parts = running(directory)

        assert printed[0] == printed[1]
        assert finder.poll() == 0
        assert owner.poll() is None
        assert kafka.answer(int(printed[0]["TODOKE_KAFKA"].rpartition(":")[2]))

        while owner.poll() is None and any(process.alive(each) for each in parts.values()):
            owner.send_signal(signal.SIGTERM)  # impatience must not break off the stop
            time.sleep(0.02)

        assert owner.wait(PATIENCE_S) == 0

    assert not any(process.alive(each) for each in parts.values())
    assert running(directory) == {}


def test_up_ends_everything_when_a_part_ends_by_itself(directory: Path) -> None:
    with up(directory) as child:
        exports(child)
        parts = running(directory)
        os.kill(parts["kafka"].pid, signal.SIGKILL)
        _, said = child.communicate(timeout=PATIENCE_S)

    assert child.returncode == 1
    assert f"kafka: it has ended by itself; its log is {log(directory, 'kafka')}" in "".join(said.splitlines())
    assert not process.alive(parts["valkey"])


def test_a_part_that_cannot_start_is_named_with_the_reason_and_its_log(directory: Path) -> None:
    Stack.start(directory, QUICK).stop()
    meta = directory / "kafka" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))

    with pytest.raises(StackError) as raised:
        Stack.start(directory, QUICK)

    said = str(raised.value)
    assert said.startswith(f"kafka: it ended while starting; its log is {log(directory, 'kafka')}\n")
    assert "Stored node id 7 doesn't match previous" in said
    assert "\tat " not in said
    assert running(directory) == {}
    assert process.identify(int(log(directory, "valkey").read_text().partition(":")[0])) is None


def test_a_living_owner_whose_part_hangs_is_named_and_let_alone(directory: Path) -> None:
    with up(directory) as child:
        exports(child)
        parts = running(directory)
        os.kill(parts["valkey"].pid, signal.SIGSTOP)

        with pytest.raises(StackError, match=rf"^valkey: no answer from the stack .*: stop process {child.pid}, which"):
            Stack.start(directory, QUICK)

        os.kill(parts["valkey"].pid, signal.SIGCONT)
        found = Stack.start(directory, QUICK)
        release(directory)

        assert not found.owner
        assert parts == running(directory)
        child.send_signal(signal.SIGTERM)
        child.wait(PATIENCE_S)


@pytest.mark.parametrize("part", ["kafka", "valkey"])
def test_a_port_in_use_is_refused_before_anything_starts(directory: Path, part: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        plan = Plan(kafka_port=port) if part == "kafka" else Plan(valkey_port=port)

        with pytest.raises(StackError, match=f"^{part}: port {port}: another program listens there: name another"):
            Stack.start(directory, plan)

    assert running(directory) == {}


def test_a_part_that_cannot_be_noted_down_never_runs(directory: Path) -> None:
    (directory / f"{state.FILE}.new").mkdir(parents=True)

    with pytest.raises(StackError, match=r"^valkey: .*Is a directory"):
        Stack.start(directory, QUICK)

    time.sleep(0.3)  # enough for it to say something, if it ran
    assert log(directory, "valkey").read_text() == ""


def test_two_parts_do_not_get_one_port(directory: Path) -> None:
    with pytest.raises(StackError, match=r"^kafka and valkey can't both have port 21000: name another"):
        Stack.start(directory, Plan(kafka_port=21000, valkey_port=21000))


def test_what_cannot_be_emptied_is_not_called_fresh(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    directory.mkdir()
    (directory / state.LOCK).touch()
    (directory / "kafka").symlink_to(tmp_path / "disk")

    with pytest.raises(StackError, match="symbolic link"):
        Stack.start(directory, Plan(fresh=True, quick=True))


def test_a_stack_is_stopped_when_its_directory_was_taken_away(directory: Path) -> None:
    stack = Stack.start(directory, QUICK)
    parts = running(directory)
    shutil.rmtree(directory)

    stack.stop()

    assert not any(process.alive(each) for each in parts.values())


def test_a_folder_that_no_stack_has_made_is_not_touched(directory: Path) -> None:
    (directory / "kafka").mkdir(parents=True)

    with pytest.raises(StackError, match="no stack has made it: name another directory"):
        Stack.start(directory, Plan(fresh=True))

    assert [directory / "kafka"] == list(directory.iterdir())


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with up(tmp_path / "file" / "stack") as child:
        _, said = child.communicate(timeout=PATIENCE_S)

    assert child.returncode == 1
    assert said.endswith("file/stack: Not a directory: name another directory\n")


def test_the_state_of_a_directory_that_cannot_be_read_stops_the_start(directory: Path) -> None:
    directory.mkdir()
    (directory / state.FILE).write_text("{}")

    with pytest.raises(StackError, match="can't be read: end the servers it may speak of, then remove it"):
        Stack.start(directory, QUICK)

    shutil.rmtree(directory)
