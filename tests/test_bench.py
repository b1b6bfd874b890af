"""The bench's rivals do Todoke's own work: the same messages for an event as the rules say. Nothing is timed here."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # last, so that nothing there hides anything

from bench.load import Load
from bench.rules import KEYS, Kernel, Seen
from todoke.schemas.record import SubjectRecord
from todoke.streams import keyfile

NOW = 1_788_225_300_000


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    keyfile.create(tmp_path / "keys.toml")
    monkeypatch.setenv(KEYS, str(tmp_path / "keys.toml"))
    monkeypatch.setattr("todoke.streams.tuning.steady", lambda: None)
    return Kernel("rival.")


def test_every_event_has_an_outcome_a_row_and_a_directive_at_least(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.load.time.time_ns", lambda: NOW * 1_000_000)
    load = Load(seed=1, people=5)
    records: dict[str, SubjectRecord] = {}
    for offset, event in enumerate([*load.records(), *load.events(60)]):
        ref = kernel.ref(event)

        records[ref], letters = kernel(event, Seen((0, offset), NOW), records.get(ref), NOW)

        topics = [each.topic for each in letters]
        assert topics.count("rival.outcomes") == 1
        assert topics.count("rival.provision-log") == 1
        assert any(topic.startswith("rival.directives.") for topic in topics)
        said: Any = [kernel.codec.decode(each.value or b"") for each in letters if ".directives." in each.topic]
        assert all(event.event_id in {stamp.event_id for stamp in each.stamps} for each in said)
        assert set(topics) <= set(kernel.names)


def test_the_costs_of_the_codec_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.codecs.TIMES", 2)
    monkeypatch.setattr("todoke.streams.tuning.steady", lambda: None)
    monkeypatch.setenv(KEYS, "")

    from bench.codecs import main

    main()
