"""Probes and scrapes of a dispatcher that runs on real servers."""

from pathlib import Path

import aiohttp
import pytest

from tests.laws.events import grant, withdraw
from tests.town import Town
from todoke.processors.balance import Balance
from todoke.streams.due import entries
from todoke.streams.metrics import write_conservation


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()


@pytest.mark.stack
async def test_a_process_is_ready_while_it_can_work_and_alive_all_the_same_while_it_can_not(town: Town) -> None:
    await town.publish("consent-changes", grant("taro"), withdraw("taro"))
    await town.settled()
    port = town.dispatchers[0].health.port
    ready, (live, _) = await get(port, "ready"), await get(port, "live")
    _, metrics = await get(port, "metrics")
    for runners in list(town.workers):
        await town.stop_worker(runners)
    tools = town.made.tools
    tools.view.client.delete(tools.view.key("shards"))
    town.made.due.wake(entries(town.obligations(), town.settings.kafka.lane_partitions, 0))

    assert ready == (200, "ok\n")
    assert live == 200
    assert 'todoke_calls_total{outcome="answered",partner="meta"} 1.0' in metrics
    assert 'todoke_propagation_seconds_count{grade="accepted",kind="restriction",partner="meta"} 1.0' in metrics
    assert await town.until(lambda: bool([each for each in town.dispatchers[0].stations if each.desk.waiting]))
    assert (await get(port, "ready"))[0] == 503
    assert (await get(port, "live"))[0] == 200


def test_what_a_balance_found_is_written_for_the_textfile_collector(tmp_path: Path) -> None:
    found = Balance(3, {}, ("an-event",), 1, 0, {}, ("an-obligation", "another"), (), ())

    write_conservation(found, tmp_path / "todoke.prom")

    text = (tmp_path / "todoke.prom").read_text()
    assert 'todoke_conservation_missing{what="missing"} 2.0' in text
    assert 'todoke_conservation_missing{what="undecided"} 1.0' in text
    assert 'todoke_conservation_missing{what="surplus"} 0.0' in text
