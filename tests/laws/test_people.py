"""Correctness, 2: links, merges, unlinks and shared identifiers, on real parts; laws 2 and 3 hold of them, too."""

import uuid
from random import Random
from typing import Any

import pytest

from tests.laws.events import NOON, delete, email, grant, topic_of, withdraw
from tests.town import Town
from todoke.processors.keys import subject_ref
from todoke.schemas.events import Event, IdentityLink
from todoke.schemas.identity import Identifier
from todoke.schemas.record import SubjectRecord
from todoke.sinks.emulators.server import hashed
from todoke.streams.lookup import look_up

pytestmark = pytest.mark.stack
MAIL = "marketing-communications"


def link(subject: str, action: str = "link", at: int = 1000, **given: Any) -> IdentityLink:
    return IdentityLink(event_id=str(uuid.uuid4()), subject=subject, occurred_at=NOON + at, action=action, **given)  # type: ignore[arg-type]  # a test's word


def merge(one: str, other: str, at: int = 5000) -> IdentityLink:
    return link(one, "merge", at, other_subject=other)


async def say(town: Town, *events: Event) -> None:
    for event in events:
        await town.publish("identity-links" if isinstance(event, IdentityLink) else topic_of(event), event)


async def heard(town: Town, address: str, scope: str = MAIL) -> str:
    """What the mailer was last told of an address, empty when nothing."""
    last = (await town.ask("kura-crm", "state"))["last"].get(hashed(address), {})
    spoken = [last[place] for place in (f"sending|{scope}", "sending|*") if place in last]
    return str(max(spoken, key=lambda each: each["at"])["op"]) if spoken else ""


async def wipe(town: Town) -> None:
    """The view loses all it held while no worker runs; two workers start anew."""
    for runners in list(town.workers):
        await town.stop_worker(runners)
    client = town.made.tools.view.client
    client.delete(*client.scan_iter(town.made.tools.view.key("*"), count=1000))
    town.start_worker()
    town.start_worker()


async def test_a_link_reopens_what_could_reach_nobody(town: Town) -> None:
    await say(town, withdraw("taro", MAIL, identifiers=(Identifier("cookie_id", "ck-1"),)))
    before = await town.settled()

    await say(town, link("taro", identifiers=(email("taro"),)))
    found = await town.settled()

    assert (before.exact, found.exact) == (True, True)
    assert "unreachable" in {each.blocked for each in town.obligations() if each.state == "superseded"}
    assert await heard(town, "taro@example.jp") == "withdrawn"


async def test_at_a_merge_the_stop_of_either_reaches_the_addresses_of_both(town: Town) -> None:
    await say(town, withdraw("old", MAIL, at=0, identifiers=(email("old"),)), grant("new", MAIL, at=1000))
    await town.settled()
    before = await heard(town, "new@example.jp")

    await say(town, merge("new", "old"))
    found = await town.settled()

    assert before == "granted"
    assert found.exact
    assert [await heard(town, f"{name}@example.jp") for name in ("old", "new")] == ["withdrawn", "withdrawn"]
    assert {look_up(town.made.tools, name, MAIL).answer for name in ("old", "new")} == {"deny"}
    refs = {subject_ref(town.made.tools.keyring, name) for name in ("old", "new")}
    fallen = [each for each in town.obligations() if each.subject_ref == max(refs)]
    ids = {each.obligation_id for each in town.obligations() if each.subject_ref == min(refs)}
    assert {each.state for each in fallen if each.blocked == ""} <= {"superseded", "done"}
    assert {each.superseded_by for each in fallen if each.state == "superseded"} <= ids


async def test_after_a_merge_either_name_speaks_for_the_person_and_a_late_word_does_too(town: Town) -> None:
    await say(town, grant("one", MAIL, at=0), grant("two", MAIL, at=0), merge("one", "two", at=2000))
    await town.settled()

    await say(town, withdraw("two", MAIL, at=1000))
    await town.settled()
    late = await heard(town, "one@example.jp")
    await say(town, grant("two", MAIL, at=3000))
    found = await town.settled()

    assert late == "withdrawn"
    assert found.exact
    assert [await heard(town, f"{name}@example.jp") for name in ("one", "two")] == ["granted", "granted"]


async def test_an_unlinked_identifier_serves_removals_and_no_grant(town: Town) -> None:
    await say(town, grant("taro", MAIL, identifiers=(email("taro"), email("former"))))
    await town.settled()
    await say(town, link("taro", "unlink", at=1000, identifiers=(email("former"),)), withdraw("taro", MAIL, at=2000))
    await town.settled()
    stopped = [await heard(town, f"{name}@example.jp") for name in ("taro", "former")]

    await say(town, grant("taro", MAIL, at=3000))
    await town.settled()
    granted = [await heard(town, f"{name}@example.jp") for name in ("taro", "former")]
    await say(town, link("taro", at=4000, identifiers=(email("former"),)))
    found = await town.settled()

    assert stopped == ["withdrawn", "withdrawn"]
    assert granted == ["granted", "withdrawn"]
    assert await heard(town, "former@example.jp") == "granted"
    assert found.exact


async def test_for_a_familys_address_the_strictest_of_them_holds(town: Town) -> None:
    family = email("family")
    await say(town, withdraw("mother", MAIL, at=0, identifiers=(family,)))
    await town.settled()

    await say(town, grant("child", MAIL, at=1000, identifiers=(family, email("child"))))
    held = await town.settled()
    waiting = {
        (each.blocked, each.verb) for each in town.obligations() if each.state == "blocked" and each.scope == MAIL
    }
    then = [await heard(town, f"{name}@example.jp") for name in ("family", "child")]
    await say(town, grant("mother", MAIL, at=2000))
    found = await town.settled()

    assert (held.exact, held.pending) == (True, 0)
    assert waiting == {("shared-identifier", "grant")}
    assert then == ["withdrawn", "granted"]
    assert [await heard(town, f"{name}@example.jp") for name in ("family", "child")] == ["granted", "granted"]
    assert found.exact
    assert "blocked" not in {each.state for each in town.obligations() if each.scope == MAIL}


async def test_a_stop_is_not_taken_for_told_when_a_sharers_grant_was_told_since(town: Town) -> None:
    family = (email("family"),)
    await say(town, withdraw("mother", MAIL, at=0, identifiers=family))
    await town.settled()
    await say(town, grant("mother", MAIL, at=1000), grant("child", MAIL, at=2000, identifiers=family))
    await town.settled()
    granted = await heard(town, "family@example.jp")

    await say(town, withdraw("mother", MAIL, at=3000))
    found = await town.settled()

    assert granted == "granted"
    assert await heard(town, "family@example.jp") == "withdrawn"
    assert found.exact


async def test_one_sharers_deletion_takes_the_address_and_only_a_later_grant_gives_it_back(town: Town) -> None:
    family = (email("family"),)
    await say(town, grant("child", MAIL, at=0, identifiers=family), grant("mother", MAIL, at=0, identifiers=family))
    await town.settled()
    now = town.made.tools.now() - NOON
    await say(town, delete("mother", at=now))
    await town.settled()
    deleted = await heard(town, "family@example.jp")

    await say(town, link("child", at=now + 1, identifiers=(email("child"),)))
    await town.settled()
    then = [await heard(town, f"{name}@example.jp") for name in ("family", "child")]
    await say(town, grant("child", MAIL, at=now + 2))
    found = await town.settled()

    assert deleted == then[0] != "granted"
    assert then[1] == "granted"
    assert await heard(town, "family@example.jp") == "granted"
    assert found.exact


async def test_a_deletion_reaches_and_shreds_everything_of_a_merged_person(town: Town) -> None:
    known = {name: (email(name), Identifier("member_id", f"M-{name}")) for name in ("one", "two")}
    await say(town, *(grant(name, MAIL, at=0, identifiers=each) for name, each in known.items()))
    await say(town, merge("one", "two", at=1000))
    await town.settled()

    await say(town, delete("two", at=town.made.tools.now() - NOON))
    found = await town.settled()

    def shredded() -> bool:
        records = town.reader().latest("consent-state", SubjectRecord).values()
        return not any(record.identifiers for record in records)

    assert await town.until(shredded)
    assert found.exact
    assert [await heard(town, f"{name}@example.jp") for name in ("one", "two")] == ["deleted", "deleted"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_people_merged_in_chains_and_rings_end_as_the_oracle_says(town: Town, seed: int) -> None:
    random = Random(seed)
    town.start_worker()
    said: list[Event] = []
    people = [[f"p{number}-{part}" for part in range(random.randrange(2, 5))] for number in range(8)]
    wanted: dict[str, bool] = {}
    for parts in people:
        stops = {part for part in parts if random.random() < 0.3}
        said += [grant(part, MAIL, at=random.randrange(100)) for part in parts]
        said += [
            withdraw(part, MAIL, at=random.randrange(100, 200), identifiers=(email(part),)) for part in sorted(stops)
        ]
        ring = [merge(one, other, at=1000) for one, other in zip(parts, [*parts[1:], parts[0]], strict=True)]
        said += random.sample(ring, len(ring) - random.randrange(2)) if len(parts) > 2 else ring[:1]
        again = random.random() < 0.5
        if again:
            said.append(grant(random.choice(parts), MAIL, at=2000))
        wanted |= dict.fromkeys(parts, again or not stops)
    arriving = [*said, *random.sample(said, len(said) // 3)]
    random.shuffle(arriving)
    half = len(arriving) // 2
    await say(town, *arriving[:half])
    await town.settled()
    await wipe(town)
    await say(town, *arriving[half:])

    found = await town.settled()

    assert found.exact
    assert found.pending == 0
    answers = {part: look_up(town.made.tools, part, MAIL).answer == "allow" for part in wanted}
    assert answers == wanted
    told = {part: await heard(town, f"{part}@example.jp") == "granted" for part in wanted}
    assert told == wanted


@pytest.mark.parametrize("seed", [1, 2])
async def test_families_end_as_the_oracle_says(town: Town, seed: int) -> None:
    random = Random(seed)
    town.start_worker()
    said: list[Event] = []
    wanted: dict[str, bool] = {}
    for number in range(8):
        shared = email(f"family-{number}")
        verdicts = []
        for name in [f"m{number}-{place}" for place in range(random.randrange(2, 4))]:
            own = (shared, email(name))
            words = [
                random.choice((grant, withdraw))(name, MAIL, at=at, identifiers=own)
                for at in range(random.randrange(1, 5))
            ]
            said += words
            verdicts.append(words[-1].decision == "granted")
            wanted[name] = verdicts[-1]
        wanted[f"family-{number}"] = all(verdicts)
    arriving = [*said, *random.sample(said, len(said) // 3)]
    random.shuffle(arriving)
    half = len(arriving) // 2
    await say(town, *arriving[:half])
    await town.settled()
    await wipe(town)
    await say(town, *arriving[half:])

    found = await town.settled()

    assert found.exact
    assert found.pending == 0
    told = {name: await heard(town, f"{name}@example.jp") == "granted" for name in wanted}
    assert told == wanted
