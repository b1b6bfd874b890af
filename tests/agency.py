"""A town with partners that carry out later what they take in: one that reports by itself, and one of audiences."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Self

import aiohttp
from msgspec.structs import replace

from tests.laws.events import delete, email, provide
from tests.town import Town
from todoke.schemas.identity import Identifier
from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Account, Limits, Partner
from todoke.schemas.receipts import Receipt
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Attempt, Told
from todoke.sinks import emulators
from todoke.streams.dispatch import Dispatcher
from todoke.streams.settings import Callbacks

MINUTE, DAY = 60_000, 86_400_000
PEM = (Path(__file__).parent / "golden/oauth/rfc7515-a2.pem").read_text(encoding="utf-8")
ACCOUNT = json.dumps({"client_email": "todoke@project.example", "private_key_id": "k1", "private_key": PEM})
OURS = "https://todoke.example/callbacks/eraser"


def entry(name: str, connector: str, **changes: Any) -> Partner:
    """A partner that waits for what its jobs come to."""
    fields: dict[str, Any] = {
        "name": name,
        "label": name,
        "role": "ad-distributor",
        "legal_basis": "consent",
        "identifiers": ("email",),
        "accounts": (Account(name="main", scopes=("targeted-advertising",)),),
        "connector": connector,
        "limits": Limits(lingers_ms=500),
        "done": "processed",
        "assumed_to_hold": True,
    }
    return Partner(**{**fields, **changes})


class Agency(Town):
    """A town of two partners more: `eraser` deletes by OpenDSR and reports, `ads` has audiences at Google."""

    served: tuple[str, ...] = ("eraser", "ads")
    pending_s = 3600
    done = "processed"
    hours = 2400  # longer than anybody waits: until then identifiers are kept

    async def _open(self) -> Self:
        self.settings = replace(self.settings, callbacks=Callbacks(host="127.0.0.1", port=0, largest=4096))
        options = {"pending_s": str(self.pending_s)}
        await self._emulate("eraser", "opendsr", "key", options)
        await self._emulate("ads", "google_data_manager", ACCOUNT, {})
        async with aiohttp.ClientSession() as session, session.get(f"{self.addresses['eraser']}/cert.pem") as got:
            pem = await got.text()
        os.environ |= {"ERASER_KEY": "key", "ERASER_PEM": pem, "ADS_ACCOUNT": ACCOUNT}
        await super()._open()
        return self

    async def _emulate(self, partner: str, name: str, token: str, options: dict[str, str]) -> None:
        place = emulators.Place(journal=self._journal(partner))
        running = emulators.emulating(name, token, self.now, place=place, options=options)
        self.addresses[partner] = await self._opened.enter_async_context(running)

    def reload(self) -> None:
        super().reload()
        rules = self.made.tools.rules
        eraser = entry(
            "eraser",
            "opendsr",
            settings={
                "base_url": self.addresses["eraser"] + "/v2",
                "callback_urls": [OURS],
                "processor_domains": ["processor.example"],
            },
            secrets={"api_key": "env:ERASER_KEY", "certificate": "env:ERASER_PEM"},
            deadline_hours={"delete": self.hours},
            assumed_to_hold=False,
            done=self.done,
        )
        ads = entry(
            "ads",
            "google_data_manager",
            settings={
                "base_url": self.addresses["ads"],
                "token_url": self.addresses["ads"] + "/token",
                "audiences": {"main": [{"account_id": "1234567890", "audience": "7001"}]},
                "terms_accepted": True,
            },
            secrets={"service_account": "env:ADS_ACCOUNT"},
            deadline_hours={"grant": 24, "withdraw": 24, "suspend": 24, "delete": 72},
            limits=Limits(items=100, age_ms=500, lingers_ms=500),
            grants=True,
        )
        ours = tuple(each for each in (eraser, ads) if each.name in self.served)
        registry = replace(rules.registry, partners=(*rules.registry.partners, *ours))
        self._made = replace(self.made, tools=replace(self.made.tools, rules=replace(rules, registry=registry)))

    def owed(self, partner: str) -> list[Obligation]:
        found = [each for each in self.obligations() if each.partner == partner]
        return sorted(found, key=lambda each: (each.appended_at, each.verb))

    def attempts(self, partner: str) -> list[Attempt]:
        """Every attempt at a partner, as the topic has it, in order."""
        told = [each for each in self.reader().latest("told", Told).values() if each.partner == partner]
        found = {name: attempt for each in told for name, attempt in each.attempts.items()}
        return sorted(found.values(), key=lambda each: each.started_at)

    def graded(self, partner: str) -> list[tuple[int, str, int]]:
        """The receipts of calls' ends: generation, reason and grade, each as often as it was said."""
        found = [message for message in self.receipts() if message.partner == partner and message.kind == "ended"]
        return [(each.generation, each.reason, each.grade) for each in found]

    def records(self) -> list[SubjectRecord]:
        """Every record, as the topic has it."""
        return list(self.reader().latest("consent-state", SubjectRecord).values())

    def receipts(self) -> list[Receipt]:
        codec = self.made.tools.codec
        return [codec.decode(each.value() or b"", Receipt) for each in self.reader().read("receipts")]

    async def requests(self, partner: str = "eraser") -> list[str]:
        """What the partner made of each job."""
        return list((await self.ask(partner, "state"))["requests"].values())

    async def later(self, milliseconds: int) -> None:
        """Move the clock of everything but the broker, and have the view catch up."""
        self.ahead_ms += milliseconds
        assert await self.until(lambda: self.made.tools.view.is_current(self.now(), 60_000))

    async def taken(self, partner: str, count: int = 1) -> None:
        """Wait until so many calls became jobs, and the topic knows."""

        def known() -> bool:
            return len([each for each in self.attempts(partner) if each.reference]) >= count

        assert await self.until(known)

    async def states(self, partner: str, *wanted: str) -> list[Obligation]:
        """Wait until a partner's obligations are in these states, and return them."""
        assert await self.until(lambda: sorted(each.state for each in self.owed(partner)) == sorted(wanted)), [
            (each.verb, each.state, each.blocked) for each in self.owed(partner)
        ]
        return self.owed(partner)

    @property
    def dispatcher(self) -> Dispatcher:
        return self.dispatchers[-1]

    async def restart(self) -> None:
        """Stop the dispatcher, and start another."""
        await self.stop_dispatcher(self.dispatcher)
        await self.start_dispatcher()

    async def report(self, reference: str) -> tuple[dict[str, str], bytes]:
        """The report that the partner would send of a job now: headers and body."""
        address = f"{self.addresses['eraser']}/reports/{reference}"
        async with (
            aiohttp.ClientSession(headers={"authorization": "Bearer key"}) as session,
            session.get(address) as got,
        ):
            signed = {name: value for name, value in got.headers.items() if name.lower().startswith("x-opendsr")}
            return signed, await got.read()

    async def post(self, headers: dict[str, str], body: bytes, partner: str = "eraser") -> int:
        """The status that a report is answered with."""
        address = f"http://127.0.0.1:{self.dispatcher.reports.port}/callbacks/{partner}"
        async with aiohttp.ClientSession() as session, session.post(address, data=body, headers=headers) as got:
            return got.status

    async def deliver(self, headers: dict[str, str], body: bytes) -> int:
        """The same, by a partner that reports again while it is told to."""
        for _ in range(100):
            if (status := await self.post(headers, body)) != 503:
                break
            await asyncio.sleep(0.2)
        return status

    async def cancel(self, reference: str) -> None:
        """Have the partner give a job up."""
        await self.fault("eraser", kind="late-failure", times=1)
        address = f"{self.addresses['eraser']}/v2/requests/{reference}"
        async with (
            aiohttp.ClientSession(headers={"authorization": "Bearer key"}) as session,
            session.get(address) as got,
        ):
            assert (await got.json())["request_status"] == "cancelled"


class Erasing(Agency):
    served = ("eraser",)


class Hurried(Erasing):
    """Whose time for deletions, after which identifiers are destroyed, is over before a job is asked about."""

    hours = 3


class Silent(Erasing):
    """Whose jobs take longer than anybody waits."""

    pending_s = 99 * 86_400


class Lenient(Erasing):
    """Where a request that was taken in counts as done."""

    done = "accepted"


class Advertising(Agency):
    served = ("ads",)


async def erase(town: Agency, *people: str) -> None:
    """Have people's data given to the partner, and deleted there."""
    for name in people:
        known = provide(name, "eraser", identifiers=(email(name), Identifier("member_id", f"M-{name}")))
        await town.publish("provisions", known)
        await town.publish("deletion-requests", delete(name))


async def posts(town: Agency, partner: str = "eraser") -> int:
    calls: dict[str, int] = await town.ask(partner, "calls")
    return calls.get("status:201", 0)
