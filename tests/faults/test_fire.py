"""A short run under fire: processes stopped between two effects, others killed at random, the view lost; then everything is checked."""

import signal
from pathlib import Path

import pytest

from tests.faults.crew import Field, wait
from tests.faults.runs import Run, plan

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.stack]


def test_nothing_is_lost_and_nothing_comes_back_under_fire(tmp_path: Path) -> None:
    with Field(tmp_path / "field") as field, Run(field, "short", plan(11, 400, 40, "short", 20)) as run:
        crew = run.crew
        crew.start("worker-1", "--stop=outcomes:3:kill")
        crew.start("worker-2")
        crew.start("dispatch-1", "--stop=sent:5:kill")
        run.publish()
        wait(lambda: run.sent > 100, "a hundred messages")
        crew.kill("worker-2", signal.SIGKILL)
        wait(lambda: run.sent > 200 or not run.sending, "two hundred messages")
        run.wiped = True
        field.restart("valkey")
        field.wipe()

        result = run.judge(150)

    assert result.verdict.findings == [], result.verdict.table()
    assert result.ended
    assert result.verdict.checked["permissions compared"] > 50
