"""Partners that only take whole lists, on a real broker and view: what a finished swap closes, and what it doesn't."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from msgspec.structs import replace

from tests.laws.events import delete, email, grant, withdraw
from tests.town import Town
from todoke.processors.identifiers import digest
from todoke.processors.keys import subject_ref
from todoke.processors.swaps import AUDIENCES
from todoke.schemas.errors import Misconfigured, NotCurrent
from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Account, Limits, Partner
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told
from todoke.sinks import emulators
from todoke.streams.audiences import Audiences, Refusal
from todoke.streams.embedded.stack import Addresses
from todoke.streams.notes import Ending
from todoke.streams.swapcommands import allow, swaps_page
from todoke.streams.swaps import SwapDesk, Swaps

pytestmark = pytest.mark.stack
Value = TypeVar("Value")

MINUTE = 60_000
HOUR = 60 * MINUTE
KEY = "LINEADSECRETKEYSAMPLE"
AUDIENCE = "7001"


class Line(Town):
    """A town of one partner more, whose list is swapped; it is called `line`."""

    work_s = 600.0
    shrink_percent = 90

    async def _open(self) -> Self:
        options = {"work_s": str(self.work_s)}
        place = emulators.Place(journal=self._journal("line"))
        running = emulators.emulating("line_ads", KEY, self.now, place=place, options=options)
        self.addresses["line"] = await self._opened.enter_async_context(running)
        os.environ["LINE_KEY"] = KEY
        return await super()._open()

    def reload(self) -> None:
        super().reload()
        line = Partner(
            name="line",
            label="line",
            role="ad-distributor",
            legal_basis="consent",
            identifiers=("email",),
            accounts=(Account(name="main", scopes=("targeted-advertising",)),),
            connector="line_ads",
            settings={
                "ad_account": "A1",
                "access_key": "LINEADSAMPLE",
                "audiences": {"main": AUDIENCE},
                "id_type": "HASHED_EMAIL",
                "base_url": self.addresses["line"],
                "swap_every_hours": 1,
                "swap_gather_minutes": 0,
                "swap_least_minutes": 1,
                "job_hours": 2,
                "shrink_percent": self.shrink_percent,
            },
            secrets={"secret_key": "env:LINE_KEY"},
            deadline_hours={"grant": 48, "withdraw": 48, "suspend": 48, "delete": 72},
            limits=Limits(items=100, age_ms=50, lingers_ms=500, timeout_ms=3000),
            done="processed",
            assumed_to_hold=True,
            grants=True,
        )
        rules = self.made.tools.rules
        registry = replace(rules.registry, partners=(*rules.registry.partners, line))
        self._made = replace(self.made, tools=replace(self.made.tools, rules=replace(rules, registry=registry)))

    @property
    def audiences(self) -> Audiences:
        return Audiences(self.made.tools.view, "line")

    def swaps(self, number: int = 0) -> Swaps:
        [found] = [each.desk for each in self.dispatchers[number].stations if isinstance(each.desk, SwapDesk)]
        return found.swaps

    def owed(self, verb: str = "") -> dict[str, str]:
        """The state of every obligation at the partner, by who it is about."""
        found: list[Obligation] = [each for each in self.obligations() if each.partner == "line"]
        people = {self.ref(name): name for name in ("aki", "ben", "chie")}
        return {people[each.subject_ref]: each.state for each in found if not verb or each.verb == verb}

    def ref(self, name: str) -> str:
        return subject_ref(self.made.tools.keyring, name)

    def noted(self) -> list[Attempt]:
        """Every swap, as the topic has it, in order."""
        told = self.reader().latest("told", Told)
        found = [one for each in told.values() if each.subject_ref == AUDIENCES for one in each.attempts.values()]
        return sorted(found, key=lambda each: each.started_at)

    async def later(self, milliseconds: int) -> None:
        """Move the clock of everything but the broker, and have the view catch up."""
        self.ahead_ms += milliseconds
        assert await self.until(lambda: self.made.tools.view.is_current(self.now(), 60_000))

    async def listed(self) -> list[str]:
        """Who is in the partner's audience, by the hash of their address."""
        return list((await self.ask("line", "state"))["audiences"].get(AUDIENCE, []))

    async def jobs(self) -> list[dict[str, Any]]:
        return list((await self.ask("line", "state"))["jobs"])

    async def sent(self, after: int = 0) -> Attempt:
        """Wait until a swap that began after then (ms) has been answered, or not, and the topic knows."""

        def known() -> bool:
            return any(each.started_at > after and each.ended_at for each in self.noted())

        assert await self.until(known)
        return self.noted()[-1]

    async def begin(self, *people: str) -> int:
        """Everybody grants, and the first list is swapped and finished. When the last swap began."""
        await asyncio.to_thread(self.audiences.allow, "main", 0)
        await self.publish("consent-changes", *(grant(each) for each in people))
        first = await self.sent()
        if len(people) > len(await self.finish()):  # the cut came between two of them
            await self.later(HOUR)
            await self.sent(first.started_at)
            await self.finish()
        assert await self.until(lambda: self.owed() == dict.fromkeys(people, "done"))
        assert await self.listed() == hashes(*people)
        await self.later(2 * MINUTE)
        return self.noted()[-1].started_at

    def noted_names(self) -> list[str]:
        told = self.reader().latest("told", Told)
        return [name for each in told.values() if each.subject_ref == AUDIENCES for name in each.attempts]

    async def tried(self, what: Callable[[], Value]) -> Value:
        """What it gives in the end: whatever the keeper takes in is as old as the broker's clock, until its next pulse."""
        while True:
            try:
                return await asyncio.to_thread(what)
            except NotCurrent:
                await asyncio.sleep(0.1)

    async def uploaded(self, count: int) -> None:
        """Wait until the partner has so many jobs."""
        async with asyncio.timeout(120):
            while len(await self.jobs()) < count:  # noqa: ASYNC110  # the partner tells nobody
                await asyncio.sleep(0.1)

    async def fault_at_upload(self, kind: str) -> None:
        """Have the next upload fail, not the question before it."""
        await self.fault("line", kind=kind, times=1, path="/upload")

    async def finish(self) -> list[str]:
        """The job under way is carried out, and asked about."""
        last = self.noted()[-1].started_at
        await self.later(11 * MINUTE)
        # another may have begun by then
        assert await self.until(lambda: all(each.reported_at for each in self.noted() if each.started_at <= last))
        return await self.listed()


class Unplugged(Exception):
    """The end of a process, as far as one task of it goes."""


def hashes(*people: str) -> list[str]:
    return sorted(digest(email(each).value) for each in people)


@pytest.fixture
async def line(stack: Addresses, tmp_path: Path) -> AsyncIterator[Line]:
    async with Line(stack, tmp_path) as opened:
        yield opened


async def test_a_withdrawal_ends_when_the_job_has_finished_that_its_list_became(line: Line) -> None:
    began = await line.begin("aki", "ben")

    await line.publish("consent-changes", withdraw("aki"))
    await line.sent(began)

    assert line.owed("withdraw") == {"aki": "open"}  # taken in is not taken out
    assert await line.listed() == hashes("aki", "ben")
    assert await line.finish() == hashes("ben")
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done"})
    assert (await line.settled()).exact


async def test_a_withdrawal_that_comes_after_the_cut_waits_for_the_next_swap(line: Line) -> None:
    began = await line.begin("aki", "ben", "chie")
    await line.publish("consent-changes", withdraw("aki"))
    first = await line.sent(began)

    await line.publish("consent-changes", withdraw("ben"))
    assert await line.until(lambda: len(line.audiences.wanted("main", 9, grants=False)) == 2)
    listed = await line.finish()

    assert await line.until(lambda: line.owed("withdraw")["aki"] == "done")
    assert (listed, line.owed("withdraw")["ben"]) == (hashes("ben", "chie"), "open")
    await line.sent(first.started_at)
    assert await line.finish() == hashes("chie")
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done", "ben": "done"})
    assert (await line.settled()).exact


async def test_a_dispatcher_that_dies_after_the_upload_leaves_the_job_to_the_next(line: Line) -> None:
    began = await line.begin("aki", "ben")
    dying, count = line.swaps(), len(await line.jobs())

    def dies(*_: object) -> None:
        raise Unplugged

    dying.notes.ended = dies  # type: ignore[method-assign, assignment]  # between the partner's answer and our note of it
    await line.publish("deletion-requests", delete("aki"))
    assert await line.until(lambda: line.noted()[-1].started_at > began)
    await line.uploaded(count + 1)
    assert not line.noted()[-1].ended_at
    await line.stop_dispatcher(line.dispatchers[0])
    await line.start_dispatcher()

    assert await line.finish() == hashes("ben")
    assert await line.until(lambda: line.owed("delete") == {"aki": "done"})
    assert not line.noted()[-1].ended_at
    assert len(await line.jobs()) == count + 1  # nothing was sent twice


async def test_a_job_that_failed_closes_nothing_and_the_list_is_swapped_again(line: Line) -> None:
    began = await line.begin("aki", "ben")
    await line.fault_at_upload("job-failed")
    await line.publish("consent-changes", withdraw("aki"))
    failed = await line.sent(began)
    await line.finish()

    await line.sent(failed.started_at)
    assert line.owed("withdraw") == {"aki": "open"}
    assert await line.finish() == hashes("ben")
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done"})
    assert (await line.settled()).exact


@pytest.mark.parametrize("fault", ["drop-after-apply", "dead"])
async def test_an_upload_of_unknown_end_blocks_until_it_is_asked_about(line: Line, fault: str) -> None:
    began = await line.begin("aki", "ben")
    await line.fault_at_upload(fault)
    await line.publish("consent-changes", withdraw("aki"))
    lost = await line.sent(began)
    assert lost.grade == 1
    await line.publish("consent-changes", grant("chie"))
    assert await line.until(lambda: line.audiences.waiting("main").granted_at > 0)
    await asyncio.sleep(2)

    assert line.noted()[-1].started_at == lost.started_at  # neither a grant nor another stop goes out meanwhile
    listed = await line.finish()
    if fault == "dead":  # it never arrived, so the list is swapped again, with everybody who waits by now
        assert listed == hashes("aki", "ben")
        await line.sent(lost.started_at)
        listed = await line.finish()
        assert listed == hashes("ben", "chie")
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done"})
    assert hashes("aki")[0] not in listed


async def test_an_empty_list_waits_for_a_person(line: Line) -> None:
    began = await line.begin("aki")
    await line.publish("consent-changes", withdraw("aki"))

    assert await line.until(lambda: line.audiences.refused("main") == Refusal("empty-list", 0))
    assert await line.listed() == hashes("aki")
    assert line.owed("withdraw") == {"aki": "open"}
    shown = await line.tried(lambda: swaps_page(line.made.tools))
    [row] = zip(*(column.cells for column in shown.columns), strict=True)
    assert (*row[:2], *row[3:5], row[6]) == ("line", "main", "1", "finished", "empty-list: 0 rows")
    with pytest.raises(Misconfigured, match="no partner of this name takes whole lists"):
        allow(line.made.tools, ("meta", "main"), 0, by="sre", ground="none")
    with pytest.raises(Misconfigured, match="no account of line: use one of main"):
        allow(line.made.tools, ("line", "other"), 0, by="sre", ground="none")
    await asyncio.to_thread(allow, line.made.tools, ("line", "main"), 0, by="sre", ground="the only member left")
    await line.sent(began)
    assert await line.finish() == []
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done"})
    assert line.audiences.refused("main") is None
    assert line.audiences.allowed("main") is None


async def test_of_two_lists_cut_at_the_same_time_only_one_is_ever_sent(line: Line) -> None:
    began = await line.begin("aki", "ben", "chie")
    quick = line.swaps()
    await line.start_dispatcher()
    slow = line.swaps(1)  # without a lane; one that has lost its own, and wakes up with a list in hand, doesn't know
    assert await asyncio.to_thread(line.audiences.take_turn, "slow")
    await line.publish("consent-changes", withdraw("aki"))
    assert await line.until(lambda: line.audiences.waiting("main").restricted_at > 0)
    known = frozenset(line.noted_names())
    old = await line.tried(lambda: slow.cutter.cut("main", grants=True, keep=lambda: None))
    assert old is not None
    await asyncio.to_thread(line.audiences.end_turn, "slow")
    first = await line.sent(began)
    await line.publish("consent-changes", withdraw("ben"))
    await line.finish()
    await line.sent(first.started_at)
    await line.finish()

    for each in (slow, quick):
        assert await line.tried(partial(each.notes.begun, old, known, "7001:1")) is None
    old.spool.close()
    assert await line.listed() == hashes("chie")


async def test_a_swap_that_is_sent_after_all_its_time_opens_again_what_later_ones_closed(line: Line) -> None:
    await line.begin("aki", "ben")
    swaps = line.swaps()
    assert await asyncio.to_thread(line.audiences.take_turn, "slow")
    await line.publish("consent-changes", withdraw("aki"))
    assert await line.until(lambda: line.audiences.waiting("main").restricted_at > 0)
    cut = await line.tried(lambda: swaps.cutter.cut("main", grants=True, keep=lambda: None))
    assert cut is not None
    reference = f"{AUDIENCE}:{max(each['audienceGroupJobId'] for each in await line.jobs())}"
    slept = await line.tried(lambda: swaps.notes.begun(cut, frozenset(line.noted_names()), reference))
    assert slept is not None
    await asyncio.to_thread(line.audiences.end_turn, "slow")
    await line.later(3 * HOUR)  # whoever began it is stopped for that long, and another swap closes what it contained
    await line.sent(slept.attempt.started_at)
    await line.finish()
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done"})

    later = line.noted()[-1].started_at
    await line.tried(lambda: swaps.notes.ended(slept, Ending(line.now(), Evidence.accepted, slept.reference)))
    cut.spool.close()

    overrun = await line.sent(later)  # it counts as begun when it ended, and is asked about before another begins
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "open"})
    await line.finish()
    again = await line.sent(overrun.started_at)
    assert again.started_at > overrun.started_at
    await line.finish()
    assert await line.until(lambda: line.owed("withdraw") == {"aki": "done"})
    [owed] = [each for each in line.obligations() if each.partner == "line" and each.verb == "withdraw"]
    assert (owed.round > 1, owed.reopened) == (True, "overtaken")


async def test_no_identifier_stands_in_the_log_nor_is_a_file_left(line: Line, tmp_path: Path) -> None:
    await line.begin("aki", "ben")

    known = [email(each).value.encode() for each in ("aki", "ben")] + [each.encode() for each in hashes("aki", "ben")]
    found = [each for each in line.raw(("provision-log", "receipts", "told")) if any(one in each for one in known)]
    assert found == []
    assert not await asyncio.to_thread(lambda: [each for each in tmp_path.rglob("*") if "list" in each.name])
