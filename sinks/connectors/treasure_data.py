"""Treasure Data: rows appended to a tombstone table, from which the customer's workflow deletes: docs/partners/treasure_data.md.

Sources: treasure-data/td-client-python `tdclient/import_api.py`, `api.py` at d634bb8 and fluent-plugin-td `out_tdlog.rb` at 8b004a5 (the
import with an id); "Postback API v2" in api-evangelist/treasure-data at 1170dd6, for why it is not used: a bad key gets a 200.
"""

import gzip
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected, Retry, Split
from todoke.schemas.identity import KINDS, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.events import Form, named
from todoke.sinks.http import json_object, refuse
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, sound, url_problems

ACT = {401: "auth", 403: "denied", 404: "no-such-table"}
"""Statuses that lie in the entry or the account: every call fails until somebody acts, so nobody's stop is given up."""

_NAME = re.compile(r"[a-z0-9_]{3,128}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a partner at Treasure Data."""

    database: Annotated[str, Meta(description="The database of the tombstone table")]
    table: Annotated[str, Meta(description="The tombstone table, which must be there")]
    identifier_form: Annotated[
        Form, Meta(description="sha256: hex SHA-256 of the canonical form; plain: the canonical form")
    ] = "sha256"
    base_url: Url = "https://api-import.treasuredata.com"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {"api_key": ("A write-only key", True)}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(KINDS)
EFFECTS: Mapping[Verb, str] = {
    "withdraw": "tombstone-withdrawn",
    "suspend": "tombstone-suspended",
    "delete": "tombstone-deleted",
}
"""What is done is that a row stands there. What follows is the workflow's, of which nothing is known."""


class TreasureData(Plain):
    """One tombstone table."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, api_key: Secret, most_bytes: int) -> None:
        self._config = config
        self._api_key = api_key
        self._most_bytes = most_bytes

    def group(self, item: Item) -> str:
        """By effect. Who has no row stands alone, so that the refusal touches nobody else."""
        alone = "" if named(item.identifiers, "sha256") else f"|{item.request_id}"
        return f"{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        return max(len(item.identifiers), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # a repeat is the same to the byte
        """Rows are values of MessagePack, never text of a query, so no identifier can mean more than itself."""
        packed = b"".join(msgspec.msgpack.encode(row) for item in items for row in self._rows(item))
        if len(packed) > self._most_bytes and len(items) > 1:
            raise Split("too-large", perhaps=False)
        config = self._config
        path = f"/v3/table/import_with_id/{config.database}/{config.table}/{_unique(items)}/msgpack.gz"
        return HttpRequest(
            method="PUT",
            url=config.base_url.rstrip("/") + path,
            headers={"authorization": f"TD1 {self._api_key.reveal()}", "content-type": "application/octet-stream"},
            body=gzip.compress(packed, mtime=0),
        )

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """`elapsed_time` is what the vendor's own clients want of an answer; its messages are not read."""
        if response.status in ACT:
            raise Retry(ACT[response.status], SOMEBODY_MUST_ACT_S, perhaps=False)
        if response.status in {400, 413, 422} and len(items) > 1:
            raise Split(f"http-{response.status}", perhaps=False)
        if refusal := refuse(response):
            raise refusal
        if "elapsed_time" not in (json_object(response) or {}):
            raise Retry("unreadable-answer")
        return [Outcome(grade=Evidence.accepted, reference=_unique(items)) for _ in items]

    def _rows(self, item: Item) -> list[dict[str, str | int]]:
        told = named(item.identifiers, self._config.identifier_form)
        if not told:
            raise Rejected("no-usable-identifier")
        return [
            {
                "time": item.at // 1000,
                "request_id": item.request_id,
                "effect": EFFECTS[item.verb].removeprefix("tombstone-"),
                "account": item.account,
                "scope": item.scope,
                "kind": each.kind,
                "identifier": each.value,
                "deadline": item.deadline_at // 1000,
            }
            for each in told
        ]


def _unique(items: Sequence[Item]) -> str:
    """The import's id, by which a repeat is known: the same for the same obligations."""
    return sha256("|".join(each.request_id for each in items).encode()).hexdigest()[:32]


def build(partner: Partner, secrets: Mapping[str, Secret]) -> TreasureData:
    return TreasureData(read(Config, partner), secrets["api_key"], partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:  # noqa: ARG001  # the contract asks with the partner
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    for key, value in (("database", config.database), ("table", config.table)):
        if not sound(_NAME, value):
            found.append(f"settings.{key}: not a name of Treasure Data; 3 to 128 of a-z, 0-9 and _")
    return found


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=TreasureData.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
)
