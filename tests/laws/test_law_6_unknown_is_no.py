"""Law 6: a look-up answers allow, deny or unknown; stale or missing is never allow, and a lost view heals itself."""

import pytest
from msgspec.structs import replace

from tests.laws.events import grant, lives, topic_of, withdraw
from tests.town import Town
from todoke.schemas.errors import NotCurrent
from todoke.schemas.record import SubjectRecord, same
from todoke.streams.lookup import look_up
from todoke.streams.view import View

pytestmark = pytest.mark.stack


async def test_answers_are_allow_and_deny_with_their_age_from_a_current_view(town: Town) -> None:
    await town.publish("consent-changes", grant("taro"), grant("hanako"), withdraw("hanako"))
    await town.settled()

    tools = town.made.tools
    allowed = look_up(tools, "taro", "targeted-advertising")
    denied = look_up(tools, "hanako", "targeted-advertising")
    absent = look_up(tools, "nobody", "targeted-advertising")

    assert (allowed.answer, denied.answer, absent.answer) == ("allow", "deny", "deny")
    assert allowed.age_ms is not None
    assert allowed.age_ms < tools.stale_after_ms
    assert look_up(tools, "nobody", "service").answer == "allow"
    assert look_up(tools, "nobody", "no-such-thing").answer == "deny"


async def test_a_wiped_view_answers_unknown_until_the_keeper_has_healed_it(town: Town) -> None:
    for event in [*lives(seed=3, people=30), grant("taro")]:
        await town.publish(topic_of(event), event)
    before = await town.settled()
    tools = town.made.tools
    records = town.reader().latest("consent-state", SubjectRecord)
    for runners in list(town.workers):
        await town.stop_worker(runners)
    for key in tools.view.client.scan_iter(tools.view.key("*"), count=1000):
        tools.view.client.delete(key)

    assert look_up(tools, "taro", "targeted-advertising").answer == "unknown"
    with pytest.raises(NotCurrent):
        tools.view.require_current(tools.now(), tools.stale_after_ms)

    town.start_worker()
    assert await town.until(lambda: look_up(tools, "taro", "targeted-advertising").answer != "unknown")
    assert look_up(tools, "taro", "targeted-advertising").answer == "allow"
    held = tools.view.records.load([tools.view.records.cell(ref) for ref in records])
    assert all(each is not None and same(each, record) for each, record in zip(held, records.values(), strict=True))
    after = await town.settled()
    assert (after.exact, after.states) == (True, before.states)


async def test_a_view_wiped_under_running_workers_is_noticed_and_healed(town: Town) -> None:
    await town.publish("consent-changes", grant("taro"))
    await town.settled()
    tools = town.made.tools
    for key in tools.view.client.scan_iter(tools.view.key("*"), count=1000):
        tools.view.client.delete(key)
    answers = {look_up(tools, "taro", "targeted-advertising").answer}

    await town.publish("consent-changes", withdraw("taro"))
    found = await town.settled()

    assert answers == {"unknown"}
    assert found.exact
    assert look_up(tools, "taro", "targeted-advertising").answer == "deny"


async def test_a_silent_keeper_makes_every_answer_unknown(town: Town) -> None:
    await town.publish("consent-changes", grant("taro"))
    await town.settled()
    tools = town.made.tools

    view = tools.view
    later = View(view.client, view.codec, view.namespace, view.watch, lambda: tools.now() + tools.stale_after_ms + 1000)

    assert look_up(replace(tools, view=later), "taro", "targeted-advertising").answer == "unknown"


async def test_an_old_record_put_last_in_the_topic_is_put_right_again(town: Town) -> None:
    await town.publish("consent-changes", grant("taro"))
    await town.settled()
    old = next(iter(town.reader().latest("consent-state", SubjectRecord).values()))
    await town.publish("consent-changes", withdraw("taro"))
    await town.settled()
    topic, codec = "consent-state", town.made.tools.codec

    await town.publish(topic, codec.encode(old), key=old.subject_ref)  # as a worker would that woke late

    def mended() -> bool:
        last = town.reader().latest("consent-state", SubjectRecord)[old.subject_ref]
        return last.registers["purpose/appi/targeted-advertising"].value == "withdrawn"

    assert await town.until(mended)
