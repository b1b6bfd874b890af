"""The Trade Desk: deletion and opt-out of device ids, for an advertiser, a data provider or a merchant.

See docs/partners/the_trade_desk.md. Sources: The Trade Desk, Data API v0.1: `.speakeasy/out.openapi.yaml`, README and
`client.py` (lines count from 1) of thetradedesk/ttd-data-python at 43cecba (2026-07-15).
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry, Split
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import json_object, refuse, refused
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, account_problems, read, sound, unsaid, url_problems

Holder = Literal["advertiser", "thirdparty", "merchant"]
KEYS: dict[Holder, str] = {"advertiser": "AdvertiserId", "thirdparty": "DataProviderId", "merchant": "MerchantId"}
REQUESTS: dict[Verb, str] = {"withdraw": "OptOut", "suspend": "OptOut", "delete": "Deletion"}
UNSOUND = frozenset({"InvalidUserId", "ItemDeserializationError"})
"""Codes of a line that says that it will never be taken; any other may be a passing fault."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBER = re.compile(r"\d{1,18}")


class Held(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Under which id the data lies; `brand_id` for a data provider's, `data_provider_id` for an advertiser's, if any."""

    id: str
    brand_id: str = ""
    data_provider_id: str = ""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a partner at The Trade Desk."""

    holder: Annotated[Holder, Meta(description="Whose data: an advertiser's, a data provider's or a merchant's")]
    ids: Annotated[dict[str, Held], Meta(description="The id of the holder for each account")]
    daid_form: Annotated[
        Literal["as-shown", "lower"], Meta(description="Device ids as the device shows them, or in lower case")
    ] = "as-shown"
    base_url: Url = "https://usw-data.adsrvr.org"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


MUST_ACT = {401: "auth", 403: "forbidden"}
SECRETS: dict[str, tuple[str, bool]] = {"ttd_auth": ("Token of the Data API", True)}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset({"idfa", "gaid"})
EFFECTS: Mapping[Verb, str] = {"withdraw": "opted-out", "suspend": "opted-out", "delete": "deleted"}


class TradeDesk(Plain):
    """The ids of one partner."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, token: Secret, most_bytes: int) -> None:
        self._config = config
        self._token = token
        self._most_bytes = most_bytes

    def group(self, item: Item) -> str:
        """Account and type of request. An item that has no line stands alone, so that its refusal touches nobody else."""
        alone = "" if self._named(item) else f"|{item.request_id}"
        return f"{item.account}|{EFFECTS[item.verb]}{alone}"

    def weight(self, item: Item) -> int:
        """No fewer than its lines: what turns out to be unsound takes a place too."""
        return max(sum(each.kind in ACCEPTED_KINDS for each in item.identifiers), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        held = self._config.ids.get(items[0].account)
        if held is None:
            raise Rejected("no-id")
        lines = self._lines(items)
        body = {
            **_holder(self._config.holder, held),
            "Items": [{"DAID": line} for line in lines],
            "DataLoadTraceId": _trace(items),
            "RequestType": REQUESTS[items[0].verb],
        }
        raw = msgspec.json.encode(body)
        if len(raw) > self._most_bytes:
            raise Split("too-large", perhaps=False)
        return HttpRequest(
            method="POST",
            url=f"{self._config.base_url.rstrip('/')}/data/deletion-optout/{self._config.holder}",
            headers={"ttd-auth": self._token.reveal(), "content-type": "application/json"},
            body=raw,
        )

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        several = len(items) > 1
        if response.status != 200:
            raise _raised(response, several=several)
        answer = json_object(response)
        if answer is None or set(answer) - {"FailedLines"}:
            raise Retry("unreadable-answer")
        failed = answer.get("FailedLines") or []
        if not isinstance(failed, list):
            raise Retry("unreadable-answer")
        codes = _codes(failed)
        lines = list(self._lines(items))
        if not set(codes) <= set(range(1, len(lines) + 1)):
            if several:
                raise Split("failed-line")
            return [Outcome(grade=Evidence.sent, reason="failed-line-partial")]
        if passing := sorted(set(codes.values()) - UNSOUND):
            name = "line-uid2-error" if passing == ["Uid2Error"] else "line-unknown"
            raise Split(name) if several else Retry(name)
        refused = {lines[number - 1] for number in codes}
        return [self._outcome(item, refused, _trace(items)) for item in items]

    def _outcome(self, item: Item, refused: set[str], trace: str) -> Outcome:
        own = set(self._named(item))
        if not own & refused:
            return Outcome(grade=Evidence.accepted, reference=trace)
        if own <= refused:
            return Outcome(grade=Evidence.none, reason="invalid-user-id")
        return Outcome(grade=Evidence.sent, reference=trace, reason="invalid-user-id-partial")

    def _lines(self, items: Sequence[Item]) -> dict[str, None]:
        """Every device id, each once, in order. Raises `Rejected` when an item has none: it would be taken for told."""
        found: dict[str, None] = {}
        for item in items:
            own = self._named(item)
            if not own:
                raise Rejected("no-usable-identifier")
            found |= dict.fromkeys(own)
        return found

    def _named(self, item: Item) -> list[str]:
        forms = [_daid(each, lower=self._config.daid_form == "lower") for each in item.identifiers]
        return [form for form in forms if form]


def build(partner: Partner, secrets: Mapping[str, Secret]) -> TradeDesk:
    return TradeDesk(read(Config, partner), secrets["ttd_auth"], partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += account_problems(partner, "ids", config.ids, give="the holder's id", drop="id")
    for name, held in sorted(config.ids.items()):
        found += _id_problems(f"settings.ids.{name}", held, config.holder)
    return found + unsaid(partner, ACCEPTED_KINDS, "device ids alone")


def _id_problems(where: str, held: Held, holder: Holder) -> list[str]:
    found = []
    form = _NUMBER if holder == "merchant" else _ID
    given = {"id": held.id, "brand_id": held.brand_id or "-", "data_provider_id": held.data_provider_id or "-"}
    for key, value in given.items():
        if not sound(form if key == "id" else _ID, value):
            found.append(f"{where}.{key}: not an id; copy it from The Trade Desk")
    if held.brand_id and holder != "thirdparty":
        found.append(f"{where}.brand_id: only a data provider has brands; drop it, or take holder = thirdparty")
    if held.data_provider_id and holder != "advertiser":
        found.append(f"{where}.data_provider_id: only beside an advertiser's id; drop it")
    return found


def _holder(holder: Holder, held: Held) -> dict[str, Any]:
    """A merchant's id is a number in JSON, the others are text."""
    named: dict[str, Any] = {KEYS[holder]: int(held.id) if holder == "merchant" else held.id}
    more = {"DataProviderId": held.data_provider_id, "BrandId": held.brand_id}
    return named | {key: value for key, value in more.items() if value}


def _daid(identifier: Identifier, *, lower: bool) -> str:
    """Empty for other kinds, and for what has no sound form."""
    if identifier.kind not in ACCEPTED_KINDS:
        return ""
    try:
        shown = identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""
    return shown.lower() if lower else shown


def _trace(items: Sequence[Item]) -> str:
    """The same for the same items, so that a call that is sent again is the same call."""
    return sha256("|".join(item.request_id for item in items).encode()).hexdigest()[:32]


def _codes(failed: Sequence[Any]) -> dict[int, str]:
    """The code of each line that failed, by its number, which counts from 1; 0 for a number that can't be read.

    Of two codes for one line the one that may pass counts. Messages may quote an id, so they are not read.
    """
    codes: dict[int, str] = {}
    for line in failed:
        number = line.get("ItemNumber") if isinstance(line, dict) else None
        sound = isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 10
        place = int(str(number)) if sound else 0
        code = line.get("ErrorCode") if isinstance(line, dict) else None
        if codes.get(place, "InvalidUserId") in UNSOUND:
            codes[place] = code if isinstance(code, str) else "Unknown"
    return codes


def _raised(response: HttpResponse, *, several: bool) -> Exception:
    """By status: the bodies of 401, 403 and 413 are bare text.

    A 400 may be one bad line, or an advertiser that is not set up: a batch is halved, and what stays is for a person.
    """
    if response.status == 400 and several:
        return Split("http-400", perhaps=False)
    return refused(response, MUST_ACT, several=several) or refuse(response) or Retry("unreadable-answer")


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=TradeDesk.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
    parts=True,
)
