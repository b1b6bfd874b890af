"""Which servers tests get: tests/stack.py."""

from pathlib import Path

import pytest

from tests.stack import NAMED, provide


def test_servers_that_variables_name_are_used_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TODOKE_TEST_KAFKA", "kafka.example:9092")
    monkeypatch.setenv("TODOKE_TEST_REDIS", "redis://redis.example:6379/0")

    with provide(tmp_path) as addresses:
        told = addresses.environ()

    assert told == {
        "TODOKE_KAFKA": "kafka.example:9092",
        "TODOKE_REDIS": "redis://redis.example:6379/0",
        "TODOKE_REPLICATION": "1",
    }
    assert list(tmp_path.iterdir()) == []  # nothing was started


@pytest.mark.parametrize("name", NAMED)
def test_one_variable_without_the_other_is_no_choice(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in NAMED:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "somewhere:1")

    with (
        pytest.raises(pytest.UsageError, match="TODOKE_TEST_KAFKA and TODOKE_TEST_REDIS go together"),
        provide(tmp_path),
    ):
        pass
