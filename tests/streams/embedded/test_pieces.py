"""What needs no server: ports, state, the list of jars, properties."""

import contextlib
import hashlib
import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoke.streams.embedded import jars, kafka, ports, state
from todoke.streams.embedded.jars import Jar
from todoke.streams.embedded.parts import Missing
from todoke.streams.embedded.process import Identity
from todoke.streams.embedded.state import Running, State

WORD = st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True)
JARS = st.lists(st.builds(Jar, WORD, WORD, WORD, st.integers(0), WORD))

PROCESSES = st.builds(Identity, st.integers(1), st.text())
STATES = st.builds(State, PROCESSES, st.dictionaries(WORD, st.builds(Running, PROCESSES, st.integers(0), st.text())))


@given(known=STATES)
def test_state_is_read_as_it_was_written(known: State, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.getbasetemp()

    state.write(directory, known)

    assert known == state.read(directory)
    state.forget(directory)
    assert state.read(directory) is None


def test_state_that_is_not_ours_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_text("{}")

    with pytest.raises(msgspec.DecodeError):
        state.read(tmp_path)


@given(found=JARS)
def test_the_list_of_jars_is_read_as_it_was_written(found: list[Jar]) -> None:
    assert found == jars.decode(jars.encode(found))


def test_the_list_names_the_version_of_kafka_and_a_binding_for_its_log() -> None:
    named = {each.artifact: each.version for each in jars.listed()}

    assert {named[name] for name in named if name.startswith("kafka")} == {kafka.VERSION}
    assert named["log4j-slf4j-impl"] == named["log4j-core"]


@pytest.mark.parametrize(("body", "kept"), [(b"", False), (b"ab", False), (b"abd", False), (b"abc", True)])
def test_only_a_jar_that_is_whole_comes_to_its_place(
    body: bytes, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TODOKE_CACHE", str(tmp_path))
    jar = Jar("org.example", "thing", "1", 3, hashlib.sha256(b"abc").hexdigest())
    fetched = tmp_path / "unfinished" / "org/example/thing/1/thing-1.jar"  # what jgo finds, it doesn't fetch
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(body)

    with contextlib.nullcontext() if kept else pytest.raises(Missing, match="it was changed, or cut short on its way"):
        jars._bring(jar, tmp_path / "unfinished", lambda _more: None)

    assert kept == jar.here == (tmp_path / "maven/org/example/thing/1/thing-1.jar").exists()


def test_what_a_killed_start_left_unfinished_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TODOKE_CACHE", str(tmp_path))
    left = tmp_path / f"{jars.UNFINISHED}x"
    left.mkdir()

    with jars.unfinished() as folder:
        assert [folder] == list(tmp_path.iterdir())

    assert list(tmp_path.iterdir()) == []


def test_free_ports_differ_and_can_be_listened_on() -> None:
    found = ports.free(20)

    assert len(set(found)) == 20
    assert [ports.obstacle(port) for port in found] == [""] * 20


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        port = server.getsockname()[1]

        assert ports.taken(port)
        assert ports.obstacle(port) == "another program listens there"


def test_ids_are_as_kafka_draws_them() -> None:
    drawn = {kafka.unique() for _ in range(200)}

    assert len(drawn) == 200
    assert {22} == {len(each) for each in drawn}
    assert not [each for each in drawn if each.startswith("-")]
