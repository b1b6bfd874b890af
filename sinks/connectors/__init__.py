"""Every connector, in one table: a partner names its row, and a new interface is one module, one row, one golden folder."""

from collections.abc import Iterable, Mapping

import msgspec

from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Partner
from todoke.sinks.base import Connector
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import authority, suggest

from . import (
    amplitude,
    braze,
    criteo,
    file_drop,
    ga4,
    google_data_manager,
    kafka_topic,
    klaviyo,
    line_ads,
    liveramp_privacy,
    manual,
    meta,
    opendsr,
    segment,
    the_trade_desk,
    treasure_data,
    webhook,
    yahoo_japan_ads,
)

CONNECTORS: dict[str, Maker] = {
    "amplitude": amplitude.MAKER,
    "braze": braze.MAKER,
    "criteo": criteo.MAKER,
    "file_drop": file_drop.MAKER,
    "ga4": ga4.MAKER,
    "google_data_manager": google_data_manager.MAKER,
    "kafka_topic": kafka_topic.MAKER,
    "klaviyo": klaviyo.MAKER,
    "line_ads": line_ads.MAKER,
    "liveramp_privacy": liveramp_privacy.MAKER,
    "manual": manual.MAKER,
    "meta": meta.MAKER,
    "opendsr": opendsr.MAKER,
    "segment": segment.MAKER,
    "the_trade_desk": the_trade_desk.MAKER,
    "treasure_data": treasure_data.MAKER,
    "webhook": webhook.MAKER,
    "yahoo_japan_ads": yahoo_japan_ads.MAKER,
}


def check(partner: Partner) -> list[str]:
    """Every problem of the entry of `partner`, its connector's name included."""
    maker = CONNECTORS.get(partner.connector)
    if maker is None:
        return [f"connector: no connector is called {partner.connector}{suggest(partner.connector, CONNECTORS)}"]
    return maker.check(partner)


def build(partner: Partner, secrets: Mapping[str, Secret]) -> Connector:
    """The connector of `partner`, whose settings and secrets `secrets.resolve` has read. Raises `Misconfigured`."""
    maker = CONNECTORS.get(partner.connector)
    if maker is None:
        raise Misconfigured(f"partner {partner.name}: {'; '.join(check(partner))}")
    return maker.build(partner, secrets)


def hosts(partners: Iterable[Partner]) -> frozenset[str]:
    """`host:port` of every address that the partners' settings name: where the sender may send, and nowhere else."""
    return frozenset(
        authority(address)
        for partner in partners
        if (maker := CONNECTORS.get(partner.connector))
        for address in maker.addresses(msgspec.convert(partner.settings, maker.config))
    )
