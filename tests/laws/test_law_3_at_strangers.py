"""Recipients that the registry lacks: no desk looks at them, so workers say what takes the place of what."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.laws.events import delete, email, provide
from tests.town import Town
from todoke.processors.keys import subject_ref
from todoke.processors.plan import of_unknown
from todoke.schemas.obligations import Obligation
from todoke.schemas.record import ERASED, SubjectRecord
from todoke.streams.intake import Intake
from todoke.streams.letters import Merged

pytestmark = pytest.mark.stack
NAME = "fukuro-research"


async def test_a_worker_that_has_seen_less_takes_nothing_back(town: Town) -> None:
    ref = subject_ref(town.made.tools.keyring, "taro")
    await town.publish("provisions", provide("taro", NAME, identifiers=(email("taro"),)))
    await town.publish("deletion-requests", delete("taro", identifiers=(email("taro"),)))

    def standing() -> list[Obligation]:
        mine = [each for each in town.obligations() if (each.subject_ref, each.partner) == (ref, NAME)]
        return [each for each in mine if each.state == "blocked"]

    assert await town.until(lambda: [each.verb for each in standing()] == ["delete"])
    record = town.reader().latest("consent-state", SubjectRecord)[ref]
    less = replace(record, registers={name: each for name, each in record.registers.items() if name != ERASED})
    demands = of_unknown(less, town.made.tools.rules)
    (intake,) = [each.work for each in town.workers[0] if isinstance(each.work, Intake)]
    merged = Merged(less, (), frozenset(), None, {NAME: demands})  # type: ignore[arg-type]  # it asks for no event

    fallen = await asyncio.to_thread(intake._fallen, [merged])

    assert [each.verb for each in demands] == ["withdraw"]
    assert fallen == []
