"""Law 2: order of arrival, duplicates, replays and two workers at once leave no permission that was withdrawn later."""

from random import Random

import pytest

from tests.laws.events import NOON, email, grant, topic_of, unsubscribe, withdraw
from tests.town import Town
from todoke.schemas.events import ConsentChange
from todoke.schemas.identity import Identifier
from todoke.sinks.emulators.server import hashed
from todoke.streams.lookup import look_up

pytestmark = pytest.mark.stack
CUSTOMERS = "120210000000000001"


def oracle(events: list[ConsentChange]) -> dict[str, bool]:
    """Who may be in the audience at the end: the last word by time, the restrictive one of two at once."""
    allowed: dict[str, tuple[int, bool]] = {}
    for event in events:
        word = (event.occurred_at, event.decision == "withdrawn")
        allowed[event.subject or ""] = max(allowed.get(event.subject or "", word), word)
    return {subject: not withdrawn for subject, (_, withdrawn) in allowed.items()}


async def audience(town: Town) -> set[str]:
    state = await town.ask("meta", "state")
    return set(state["audiences"].get(CUSTOMERS, []))


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_order_with_duplicates_at_two_workers_ends_as_the_oracle_says(town: Town, seed: int) -> None:
    random = Random(seed)
    town.start_worker()
    events: list[ConsentChange] = []
    for number in range(40):
        name = f"p{number}"
        for _ in range(random.randrange(1, 5)):
            event = random.choice((grant, withdraw))(name, at=random.randrange(4), identifiers=(email(name),))
            events.append(event)
    arriving = [*events, *random.sample(events, len(events) // 3)]
    random.shuffle(arriving)
    for event in arriving:
        await town.publish("consent-changes", event)

    found = await town.settled()

    assert found.exact
    wanted = {hashed(f"{name}@example.jp") for name, allowed in oracle(events).items() if allowed}
    # grants are not told to this partner, whose audience is filled by others: nobody who withdrew may be in it
    assert await audience(town) & {hashed(f"p{number}@example.jp") for number in range(40)} <= wanted


async def test_a_late_grant_from_before_a_withdrawal_changes_nothing_anywhere(town: Town) -> None:
    name = "marketing-communications"
    await town.publish("consent-changes", grant("taro", name, at=0))
    await town.settled()
    await town.publish("consent-changes", withdraw("taro", name, at=2000))
    await town.settled()
    await town.publish("consent-changes", grant("taro", name, at=1000))

    found = await town.settled()

    assert found.exact
    last = (await town.ask("kura-crm", "state"))["last"][hashed("taro@example.jp")]
    assert {held["op"] for held in last.values()} == {"withdrawn"}


async def test_who_unsubscribes_before_being_known_is_not_mailed_once_known(town: Town) -> None:
    anonymous = unsubscribe(None, at=5000, identifiers=(email("taro"),))
    await town.publish(topic_of(anonymous), anonymous)
    await town.settled()
    await town.publish("consent-changes", grant("taro", "marketing-communications", at=0))

    found = await town.settled()

    assert found.exact
    verbs = {(each.scope, each.verb) for each in town.obligations() if each.state == "done"}
    assert ("email-magazine", "withdraw") in verbs
    assert ("email-magazine", "grant") not in verbs


async def test_what_was_said_under_two_identifiers_reaches_the_member_who_brings_either(town: Town) -> None:
    both = (Identifier("phone", "090-1234-5678"), email("taro"))
    await town.publish("unsubscribes", unsubscribe(None, at=5000, identifiers=both))
    await town.settled()
    await town.publish("consent-changes", grant("taro", "marketing-communications", at=0))

    found = await town.settled()

    assert found.exact
    assert look_up(town.made.tools, "taro", "email-magazine").answer == "deny"


async def test_a_copy_of_a_grant_from_a_fast_clock_counts_from_the_first_copy(town: Town) -> None:
    began = town.made.tools.now()
    fast = grant("taro", at=began + 3000 - NOON)
    await town.publish("consent-changes", fast)
    await town.publish("consent-changes", withdraw("taro", at=began + 1500 - NOON))
    await town.settled()
    assert await town.until(lambda: town.made.tools.now() > fast.occurred_at)

    await town.publish("consent-changes", fast)
    found = await town.settled()

    assert found.exact
    assert look_up(town.made.tools, "taro", "targeted-advertising").answer == "deny"
