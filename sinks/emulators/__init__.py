"""Emulators of the vendors, in one table: they ship with the product, for tests, demos and rehearsals."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from todoke.schemas.errors import Misconfigured

from . import (
    amplitude,
    braze,
    criteo,
    file_drop,
    ga4,
    google_data_manager,
    klaviyo,
    line_ads,
    liveramp_privacy,
    meta,
    opendsr,
    segment,
    the_trade_desk,
    treasure_data,
    webhook,
    yahoo_japan_ads,
)
from .server import Clock, Emulator, Journal, listening


class Maker(NamedTuple):
    """What makes an emulator. Its token is the secret that our side of the call holds."""

    options: type[Struct]
    make: Callable[[str, Any, Journal, Clock], Emulator]


EMULATORS: dict[str, Maker] = {
    "amplitude": Maker(amplitude.Options, amplitude.AmplitudeEmulator),
    "braze": Maker(braze.Options, braze.BrazeEmulator),
    "criteo": Maker(criteo.Options, criteo.CriteoEmulator),
    "file_drop": Maker(file_drop.Options, file_drop.FileDropEmulator),
    "ga4": Maker(ga4.Options, ga4.AnalyticsEmulator),
    "google_data_manager": Maker(google_data_manager.Options, google_data_manager.GoogleEmulator),
    "klaviyo": Maker(klaviyo.Options, klaviyo.KlaviyoEmulator),
    "line_ads": Maker(line_ads.Options, line_ads.LineEmulator),
    "liveramp_privacy": Maker(liveramp_privacy.Options, liveramp_privacy.LiveRampPrivacyEmulator),
    "meta": Maker(meta.Options, meta.MetaEmulator),
    "opendsr": Maker(opendsr.Options, opendsr.OpenDsrEmulator),
    "segment": Maker(segment.Options, segment.SegmentEmulator),
    "the_trade_desk": Maker(the_trade_desk.Options, the_trade_desk.TradeDeskEmulator),
    "treasure_data": Maker(treasure_data.Options, treasure_data.TreasureDataEmulator),
    "webhook": Maker(webhook.Options, webhook.WebhookEmulator),
    "yahoo_japan_ads": Maker(yahoo_japan_ads.Options, yahoo_japan_ads.YahooJapanEmulator),
}


class Place(Struct, frozen=True, kw_only=True):
    """Where an emulator listens (port 0 finds one) and where it keeps its journal; the journal survives it."""

    host: str = "127.0.0.1"
    port: int = 0
    journal: Path | None = None
    fsync: bool = False


@asynccontextmanager
async def emulating(
    name: str, token: str, clock: Clock, *, place: Place | None = None, options: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run the emulator `name` while the block runs; gives its address. `clock` is now, in ms.

    What an earlier run wrote to the journal is applied first. Raises `Misconfigured` for an unknown name or option.
    """
    maker = EMULATORS.get(name)
    if maker is None:
        raise Misconfigured(f"no emulator is called {name}; known: {', '.join(EMULATORS)}")
    try:
        settings = msgspec.convert(dict(options or {}), maker.options, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(maker.options))
        raise Misconfigured(f"emulator {name}: {error}; options: {known}") from None
    place = place or Place()
    with Journal(place.journal, fsync=place.fsync) as journal:
        emulator = maker.make(token, settings, journal, clock)
        for line in journal.lines():
            emulator.replay(line)
        async with listening(emulator, place.host, place.port) as address:
            yield address


async def serve(
    name: str,
    token: str,
    clock: Clock,
    *,
    place: Place | None = None,
    options: Mapping[str, str] | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the emulator until it is cancelled; `ready` is told the address once it listens."""
    async with emulating(name, token, clock, place=place, options=options) as address:
        ready(address)
        await asyncio.Event().wait()
