"""A whole shop's hour, disorder and mistakes included, ends as an oracle says that knows nothing of our rules."""

import pytest

from tests.town import Town
from todoke.processors.decide import judge
from todoke.processors.keys import subject_ref
from todoke.schemas.record import SubjectRecord
from todoke.streams.demo import oracle, shop
from todoke.streams.outbox import Letter

pytestmark = pytest.mark.stack


async def test_every_member_ends_as_the_oracle_says(town: Town) -> None:
    tools = town.made.tools
    now = tools.now()
    messages = list(shop.messages(11, 60, now, tools.codec))
    town.start_worker()

    town.made.outbox.send([Letter(town.made.topic(each.topic), each.key, each.value) for each in messages])
    found = await town.settled()

    told = oracle.expected(messages, tools.rules.policy, now, tools.codec)
    records = town.reader().latest("consent-state", SubjectRecord)
    wanted, held = {}, {}
    for key, answer in told.items():
        subject, _, scope = key.partition("/may/")
        record = records.get(subject_ref(tools.keyring, subject)) if scope else None
        if record is not None:
            wanted[key] = answer
            held[key] = "allow" if judge(record, scope, tools.rules.policy, now).allowed else "deny"
    assert found.exact
    assert len(wanted) > 300
    assert wanted == held
    assert found.outcomes["refused"] == int(told["refused"])
