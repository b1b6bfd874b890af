"""Yahoo! JAPAN Ads (LY), display: customer lists, which are uploaded whole: see docs/partners/yahoo_japan_ads.md.

Sources: yahoojp-marketing/ads-display-api-documents at b7853768 (v19: Route.yaml, AudienceListService…, Error.yaml,
bestpractice/en/errorcodes.md), read 2026-11-23.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from todoke.processors import identifiers
from todoke.schemas.errors import Expired, Refused, Rejected, Retry
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, Access, HttpRequest, HttpResponse, Outcome, UploadRequest
from todoke.sinks.http import json_object, refuse, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.oauth import RefreshToken
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, sound, unsaid, url_problems
from todoke.sinks.swaps import (
    EFFECTS,
    HOUR_MS,
    MINUTE_MS,
    NAMED,
    Cargo,
    SwapConfig,
    Swapped,
    form,
    judged,
    swap_problems,
)

MOST_BYTES = 1_073_741_824
MOST_JOBS = 100
"""Of the jobs of a list, so many are shown at most."""
KINDS: dict[str, frozenset[IdentifierKind]] = {
    "IDFA": frozenset({"idfa"}),
    "AAID": frozenset({"gaid"}),
    "MAIL_ADDRESS_AND_PHONE_NUMBER": frozenset({"email", "phone"}),
}
PASSING = {"0002": "internal", "0003": "throttled", "0099": "maintenance"}
NOT_APPLIED = frozenset({"0003", "0099"})
FAILED = {"INVALID_FILE": "invalid-file", "FAILED": "job-failed"}

_NUMBER = re.compile(r"\d{1,19}")
_MOMENT = re.compile(r"\d{14}")
_CODE = re.compile(r"[A-Z]{0,2}\d{3,6}")
_REFERENCE = re.compile(rf"(\d{{1,19}}):(\d{{1,14}}){NAMED}")


class Config(SwapConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Yahoo! JAPAN Ads partner: one account, one kind of list."""

    account_id: Annotated[str, Meta(description="The id of the ad account that owns the lists")]
    base_account_id: Annotated[
        str, Meta(description="What x-z-base-account-id says: the account that the API acts for")
    ]
    client_id: Annotated[str, Meta(description="The application's client id")]
    lists: Annotated[dict[str, str], Meta(description="The audience list's id of each account")]
    upload_type: Annotated[
        Literal["IDFA", "AAID", "MAIL_ADDRESS_AND_PHONE_NUMBER"], Meta(description="What the lists were made of")
    ]
    overwrite_confirmed: Annotated[
        bool, Meta(description="LY has confirmed in writing that an upload takes the place of the list before")
    ] = False
    reflect_hours: Annotated[int, Meta(description="How long after an upload a received list counts as reflected")] = 6
    phone_form: Annotated[
        Literal["national", "country"], Meta(description="090… or 8190…, before hashing: LY doesn't say")
    ] = "national"
    first_line: Annotated[str, Meta(description="A first line that is no identifier, where LY asks for one")] = ""
    api_version: Annotated[str, Meta(description="Version of the API")] = "v19"
    base_url: Url = "https://ads-display.yahooapis.jp"
    token_url: Url = "https://biz-oauth.yahoo.co.jp/oauth/v1/token"  # noqa: S105  # an address
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "client_secret": ("The application's client secret", True),
    "refresh_token": ("A refresh token with the scope yahooads, of a user who may upload lists", True),
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset[IdentifierKind]().union(*KINDS.values())


class YahooJapanAds(Swapped):
    """The customer lists of one ad account."""

    def __init__(self, config: Config, access: Access) -> None:
        super().__init__(config, config.lists)
        self._config = config
        self.access: Access | None = access
        self.header = f"{config.first_line}\n".encode() if config.first_line else b""
        self.polls: Jobs | None = Jobs(config)

    def rows(self, identifiers: Sequence[Identifier]) -> list[bytes]:
        found = (_row(each, self._config) for each in identifiers if each.kind in KINDS[self._config.upload_type])
        return [each.encode() for each in found if each]

    def before(self, account: str, at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        return _question(self._config, self._list(account))

    def reference(self, account: str, response: HttpResponse | None) -> str:
        """The list, and when it was uploaded last by LY's clock: ours will be later. Ids of jobs have no order."""
        assert response is not None
        last = max((each["uploadSubmitDate"] for each in _jobs(response)), default="0")
        return f"{self._list(account)}:{last}"

    def upload(self, account: str, cargo: Cargo, at: int) -> UploadRequest:
        if cargo.size > MOST_BYTES:
            raise Rejected("too-large")
        parts = form({}, f"{at}|{cargo.size}|{account}")
        query = {
            "accountId": self._config.account_id,
            "audienceListId": self._list(account),
            "uploadType": self._config.upload_type,
            "compressType": "NONE",
        }
        return UploadRequest(
            method="POST",
            url=f"{_url(self._config, 'uploadUserList')}?{urlencode(query)}",
            headers={**_headers(self._config), "content-type": parts.media},
            head=parts.head,
            pieces=cargo.pieces,
            tail=parts.tail,
            size=len(parts.head) + cargo.size + len(parts.tail),
        )

    def taken(self, account: str, reference: str, response: HttpResponse) -> Outcome:
        """A job of this list. Whatever it says of its state, the list is not reflected yet."""
        found = [each for each in _values(response) if str(each.get("audienceListId")) == self._list(account)]
        if len(found) != 1 or not isinstance(found[0].get("uploadJobId"), str):
            raise Retry("unreadable-answer")
        return Outcome(grade=Evidence.accepted, reference=reference)

    def arrived(self, reference: str, response: HttpResponse) -> bool | None:
        return bool(_ours(reference, response))

    def _list(self, account: str) -> str:
        found = self._config.lists.get(account)
        if found is None:
            raise Rejected("no-audience")
        return found


class Jobs:
    """What became of an upload. RECEIVED is not reflected, so the question waits until it should be."""

    most = 1

    def __init__(self, config: Config) -> None:
        self._config = config
        self.first_ms = config.reflect_hours * HOUR_MS
        self.every_ms = config.poll_every_minutes * MINUTE_MS
        self.ends_ms = config.job_hours * HOUR_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        parts = _REFERENCE.fullmatch(references[0])
        if not parts:
            raise Rejected("no-reference")
        return _question(self._config, parts[1])

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        states = [each.get("jobStatus") for each in _ours(references[0], response)]
        return [judged(references[0], states, "RECEIVED", FAILED)]


def build(partner: Partner, secrets: Mapping[str, Secret]) -> YahooJapanAds:
    config = read(Config, partner)
    access = RefreshToken(config.token_url, config.client_id, secrets["client_secret"], secrets["refresh_token"])
    return YahooJapanAds(config, access)


def problems(config: Config, partner: Partner) -> list[str]:
    found = swap_problems(config, partner) + unsaid(
        partner, KINDS[config.upload_type], f"upload_type {config.upload_type}"
    )
    for name in ("base_url", "token_url"):
        found += url_problems(name, getattr(config, name), insecure=config.insecure_http)
    if not config.overwrite_confirmed:
        found.append(
            "settings.overwrite_confirmed: LY doesn't write whether an upload adds or replaces, and where it adds nobody would"
            " ever leave; ask LY, then set it to true, or have people do it with the connector manual"
        )
    if config.job_hours <= config.reflect_hours:
        found.append(f"settings.job_hours: {config.job_hours}; write more than reflect_hours, {config.reflect_hours}")
    if config.reflect_hours < 1:
        found.append(f"settings.reflect_hours: {config.reflect_hours}; write 1 or more")
    for name in ("account_id", "base_account_id"):
        if not sound(_NUMBER, getattr(config, name)):
            found.append(f"settings.{name}: not the number of an account; copy it from the ad account")
    if not sound(r"v\d+", config.api_version):
        found.append("settings.api_version: not a version; write one as in v19")
    if not config.first_line.isprintable():
        found.append("settings.first_line: more than one line; write what LY's help page shows")
    return found + _list_problems(config, partner)


def _list_problems(config: Config, partner: Partner) -> list[str]:
    accounts = {account.name for account in partner.accounts}
    found = [
        f"settings.lists: {name} is no account with a list; give each account its list, and no other"
        for name in sorted(accounts ^ set(config.lists))
    ]
    found += [
        f"settings.lists.{name}: not the number of a list; copy it from the audience lists"
        for name, number in sorted(config.lists.items())
        if not sound(_NUMBER, number)
    ]
    if len(config.lists) > len(set(config.lists.values())):
        found.append("settings.lists: one list for several accounts; each would wipe out the others'")
    return found


def _row(identifier: Identifier, config: Config) -> str:
    """One identifier: addresses and numbers in SHA-256 without salt, of numbers "half-width digits, no hyphens"."""
    try:
        match identifier.kind:
            case "email":
                return identifiers.digest(identifiers.email(identifier.value))
            case "phone":
                form_of = identifiers.phone_national if config.phone_form == "national" else identifiers.phone_digits
                return identifiers.digest(form_of(identifier.value))
            case _:
                return identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""


def _question(config: Config, number: str) -> HttpRequest:
    """Every job of a list, whatever its state."""
    selector = {"accountId": _whole(config.account_id), "audienceListId": _whole(number), "numberResults": MOST_JOBS}
    headers = {**_headers(config), "content-type": "application/json"}
    url = _url(config, "getUploadUserListStatus")
    return HttpRequest(method="POST", url=url, headers=headers, body=msgspec.json.encode(selector))


def _headers(config: Config) -> dict[str, str]:
    return {"x-z-base-account-id": config.base_account_id, "accept": "application/json"}


def _url(config: Config, action: str) -> str:
    return f"{config.base_url.rstrip('/')}/api/{config.api_version}/AudienceListService/{action}"


def _jobs(response: HttpResponse) -> list[dict[str, Any]]:
    """The jobs of a list, each with when it was submitted; one that lacks that can't be told from ours."""
    found = _values(response)
    if not all(
        isinstance(each.get("uploadSubmitDate"), str) and _MOMENT.fullmatch(each["uploadSubmitDate"]) for each in found
    ):
        raise Retry("unreadable-answer", perhaps=False)
    return found


def _ours(reference: str, response: HttpResponse) -> list[dict[str, Any]]:
    """The uploads that were submitted after the last that was known before."""
    parts = _REFERENCE.fullmatch(reference)
    if not parts:
        raise Rejected("no-reference")
    return [
        each
        for each in _jobs(response)
        if str(each.get("audienceListId")) == parts[1] and int(each["uploadSubmitDate"]) > int(parts[2])
    ]


def _values(response: HttpResponse) -> list[dict[str, Any]]:
    """The jobs in an answer, through three layers of failure: the status, the answer's errors, the values'."""
    if response.status != 200:
        raise _raised(response)
    answer = json_object(response)
    if answer is None:
        raise Retry("unreadable-answer")
    if answer.get("errors"):
        raise _failed(answer["errors"], response)
    rval = answer.get("rval")
    values = rval.get("values") if isinstance(rval, dict) else None
    if values is None and isinstance(rval, dict) and rval.get("totalNumEntries") == 0:
        return []
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        raise Retry("unreadable-answer")
    for each in values:
        if each.get("operationSucceeded") is not True:
            raise _failed(each.get("errors"), response)
    jobs = [each.get("uploadJob") for each in values]
    if not all(isinstance(each, dict) for each in jobs):
        raise Retry("unreadable-answer")
    return [each for each in jobs if isinstance(each, dict)]


def _failed(errors: Any, response: HttpResponse) -> Retry:
    """What an error's code means; the first that passes by itself counts. Messages may quote, so they aren't read."""
    found = [each.get("code") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    codes = [each for each in found if isinstance(each, str) and _CODE.fullmatch(each)]
    for code in codes:
        if code in PASSING:
            return Retry(PASSING[code], retry_after(response.headers), perhaps=code not in NOT_APPLIED)
    if "0111" in codes:
        return Expired()
    if codes:  # a wrong list, right or setting: everybody's, so nobody's stop is given up for it
        return Retry(f"yahoo-{codes[0]}", SOMEBODY_MUST_ACT_S, perhaps=False)
    return Retry("unreadable-answer")


def _raised(response: HttpResponse) -> Retry:
    errors = (json_object(response) or {}).get("errors")
    if response.status == 401:
        return Expired()
    refusal = refuse(response)
    if isinstance(refusal, Rejected):
        named = _failed(errors, response) if errors else refusal
        return Retry(named.reason, SOMEBODY_MUST_ACT_S, perhaps=False)
    return refusal or Retry("unreadable-answer")


def _whole(number: str) -> int:
    """An id as the number that the interface takes; 0, which is none, for what is still `env:NAME`."""
    return int(number) if number.isdecimal() else 0


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=YahooJapanAds.reaches,
    addresses=lambda config: (config.base_url, config.token_url),
    problems=problems,
    make=build,
)
