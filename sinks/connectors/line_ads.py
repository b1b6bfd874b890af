"""LINE Ads: custom audiences, of which nobody can be taken out, only another list put in: see docs/partners/line_ads.md.

Sources: LINE Ads Management API 3.12.0.1, "Authentication", "CustomAudiences" and "Common specifications" of the Data
Provider's documents, read 2026-11-23 in transcriptions.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Outcome, UploadRequest
from todoke.sinks.http import json_object, refuse, retry_after
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, account_problems, read, sound, unsaid, url_problems
from todoke.sinks.swaps import (
    EFFECTS,
    HOUR_MS,
    MINUTE_MS,
    MULTIPART,
    NAMED,
    Cargo,
    SwapConfig,
    Swapped,
    form,
    judged,
    swap_problems,
)

AT_ONCE = 3
"""REPLACE at a time for one ad account; the page counts requests, we count until the jobs are over."""
LONGEST_EMAIL = 120
KINDS: dict[str, frozenset[IdentifierKind]] = {
    "IFA": frozenset({"idfa", "gaid"}),
    "HASHED_PHONE_NUMBER": frozenset({"phone"}),
    "HASHED_EMAIL": frozenset({"email"}),
}
MUST_ACT = {400: "request", 401: "auth", 403: "role", 404: "audience"}
"""They hit everybody: no stop is given up for a key, a role or an audience that somebody has to mend."""

_ACCOUNT = re.compile(r"[A-Za-z0-9]{1,32}")
_AUDIENCE = re.compile(r"\d{1,20}")
_REFERENCE = re.compile(rf"(\d{{1,20}}):(\d{{1,20}}){NAMED}")


class Config(SwapConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a LINE Ads partner: one ad account, one kind of identifier."""

    ad_account: Annotated[str, Meta(description="The ad account's id, such as A1234567")]
    access_key: Annotated[str, Meta(description="The access key of the API's Group; its secret is a secret")]
    audiences: Annotated[dict[str, str], Meta(description="The id of the custom audience of each account")]
    id_type: Annotated[
        Literal["IFA", "HASHED_PHONE_NUMBER", "HASHED_EMAIL"], Meta(description="What the audiences were made of")
    ]
    phone_form: Annotated[
        Literal["national", "country"], Meta(description="090… or 8190…, before hashing: LINE doesn't say")
    ] = "national"
    base_url: Url = "https://ads.line.me"
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "secret_key": ("The secret key of the API's Group, with the role Data Provider", True)
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset[IdentifierKind]().union(*KINDS.values())


class Signer:
    """A JWS for every call, HS256 over body, content type, day and path ("Signing a request")."""

    def __init__(self, access_key: str, secret_key: Secret) -> None:
        self._access_key = access_key
        self._secret_key = secret_key

    def headers(self, path: str, at: int, body: bytes = b"", kind: str = "") -> dict[str, str]:
        """The headers of a call at `at` (ms). Of a form in parts, `body` is empty and `kind` has no boundary."""
        moment = datetime.fromtimestamp(at // 1000, UTC)
        header = msgspec.json.encode({"alg": "HS256", "kid": self._access_key, "typ": "text/plain"})
        payload = "\n".join((sha256(body).hexdigest(), kind, f"{moment:%Y%m%d}", path)).encode()
        signed = urlsafe_b64encode(header) + b"." + urlsafe_b64encode(payload)
        signature = urlsafe_b64encode(hmac.digest(self._secret_key.reveal().encode(), signed, "sha256"))
        return {
            "authorization": f"Bearer {signed.decode()}.{signature.decode()}",
            "date": format_datetime(moment, usegmt=True),
        }


class LineAds(Swapped):
    """The custom audiences of one ad account."""

    at_once = AT_ONCE

    def __init__(self, config: Config, secret_key: Secret) -> None:
        super().__init__(config, config.audiences)
        self._config = config
        self._signer = Signer(config.access_key, secret_key)
        self.polls: Jobs | None = Jobs(config, self._signer)

    def rows(self, identifiers: Sequence[Identifier]) -> list[bytes]:
        found = (_row(each, self._config) for each in identifiers if each.kind in KINDS[self._config.id_type])
        return [each.encode() for each in found if each]

    def before(self, account: str, at: int) -> HttpRequest:
        return _question(self._config, self._signer, self._audience(account), at)

    def reference(self, account: str, response: HttpResponse | None) -> str:
        """The audience, and the last job that it has had: ours will be a later one."""
        assert response is not None
        jobs = _jobs(response, self._audience(account))
        return f"{self._audience(account)}:{max((each['audienceGroupJobId'] for each in jobs), default=0)}"

    def upload(self, account: str, cargo: Cargo, at: int) -> UploadRequest:
        fields = {"id": self._audience(account), "action": "REPLACE", "idType": self._config.id_type}
        parts = form(fields, f"{at}|{cargo.size}|{fields}")
        path = f"{_path(self._config)}/upload"
        return UploadRequest(
            method="POST",
            url=_origin(self._config) + path,
            headers={
                **self._signer.headers(path, at, kind=MULTIPART),
                "content-type": parts.media,
                "accept": "application/json",
            },
            head=parts.head,
            pieces=cargo.pieces,
            tail=parts.tail,
            size=len(parts.head) + cargo.size + len(parts.tail),
        )

    def taken(self, account: str, reference: str, response: HttpResponse) -> Outcome:  # noqa: ARG002  # of any audience
        """202 says that the file is there, and nothing of the job; another 2xx is none that the page knows."""
        if response.status != 202:
            raise _raised(response) or Retry("unreadable-answer")
        return Outcome(grade=Evidence.accepted, reference=reference)

    def arrived(self, reference: str, response: HttpResponse) -> bool | None:
        return bool(_ours(reference, response))

    def _audience(self, account: str) -> str:
        audience = self._config.audiences.get(account)
        if audience is None:
            raise Rejected("no-audience")
        return audience


class Jobs:
    """What became of an upload: of the one REPLACE that came after all that were known before."""

    most = 1

    def __init__(self, config: Config, signer: Signer) -> None:
        self._config = config
        self._signer = signer
        self.first_ms = MINUTE_MS
        self.every_ms = config.poll_every_minutes * MINUTE_MS
        self.ends_ms = config.job_hours * HOUR_MS

    def ask(self, references: Sequence[str], at: int) -> HttpRequest:
        parts = _REFERENCE.fullmatch(references[0])
        if not parts:
            raise Rejected("no-reference")
        return _question(self._config, self._signer, parts[1], at)

    def read(self, references: Sequence[str], response: HttpResponse) -> Sequence[Outcome | None]:
        states = [each.get("jobStatus") for each in _ours(references[0], response)]
        return [judged(references[0], states, "FINISHED", {"FAILED": "job-failed"})]


def build(partner: Partner, secrets: Mapping[str, Secret]) -> LineAds:
    return LineAds(read(Config, partner), secrets["secret_key"])


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http) + swap_problems(config, partner)
    found += unsaid(partner, KINDS[config.id_type], f"id_type {config.id_type}")
    if not sound(_ACCOUNT, config.ad_account):
        found.append("settings.ad_account: not an ad account; copy its id from the Ad Manager")
    if not config.access_key or not config.access_key.isascii():
        found.append("settings.access_key: not an access key; copy it from the Group's settings")
    found += account_problems(partner, "audiences", config.audiences, give="its audience's id", drop="audience")
    for name, audience in sorted(config.audiences.items()):
        if not sound(_AUDIENCE, audience):
            found.append(f"settings.audiences.{name}: not the number of an audience; copy it from the Ad Manager")
    shared = len(config.audiences) - len(set(config.audiences.values()))
    if shared:
        found.append("settings.audiences: one audience for several accounts; each would wipe out the others' lists")
    return found


def _row(identifier: Identifier, config: Config) -> str:
    """One identifier as the page wants it, in SHA-256: phone numbers "no `+`, space", e-mail "max 120 characters".

    Of device ids nothing is said but their kind: as the system shows them.
    """
    try:
        match identifier.kind:
            case "email":
                address = identifiers.email(identifier.value)
                return identifiers.digest(address) if len(address) <= LONGEST_EMAIL else ""
            case "phone":
                form = identifiers.phone_national if config.phone_form == "national" else identifiers.phone_digits
                return identifiers.digest(form(identifier.value))
            case _:
                return identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""


def _question(config: Config, signer: Signer, audience: str, at: int) -> HttpRequest:
    path = f"{_path(config)}/{quote(audience, safe='')}/upload-job"
    headers = {**signer.headers(path, at), "accept": "application/json"}
    return HttpRequest(method="GET", url=_origin(config) + path, headers=headers, body=b"")


def _jobs(response: HttpResponse, audience: str) -> list[dict[str, Any]]:
    """The audience's jobs. Raises `Retry` when they can't be read: a job overlooked would be one that isn't ours."""
    if response.status != 200:
        raise _raised(response) or Retry("unreadable-answer", perhaps=False)
    found = (json_object(response) or {}).get("jobs")
    if not isinstance(found, list) or not all(isinstance(each, dict) and _whole(each) for each in found):
        raise Retry("unreadable-answer", perhaps=False)
    return [each for each in found if str(each.get("audienceGroupId", audience)) == audience]


def _whole(job: Mapping[str, Any]) -> bool:
    name = job.get("audienceGroupJobId")
    return isinstance(name, int) and not isinstance(name, bool) and name >= 0


def _ours(reference: str, response: HttpResponse) -> list[dict[str, Any]]:
    """The REPLACEs that came after the job that the reference names."""
    parts = _REFERENCE.fullmatch(reference)
    if not parts:
        raise Rejected("no-reference")
    later = [each for each in _jobs(response, parts[1]) if each["audienceGroupJobId"] > int(parts[2])]
    return [each for each in later if each.get("type") == "DIFF_REPLACE"]


def _raised(response: HttpResponse) -> Retry | None:
    """What an answer other than the one expected means. Reasons of the body may quote, so they aren't read."""
    status = response.status
    if status in MUST_ACT:
        return Retry(MUST_ACT[status], SOMEBODY_MUST_ACT_S, perhaps=False)
    if status == 429:
        return Retry("throttled", retry_after(response.headers), perhaps=False)
    refusal = refuse(response)
    return Retry(refusal.reason, SOMEBODY_MUST_ACT_S, perhaps=False) if isinstance(refusal, Rejected) else refusal


def _origin(config: Config) -> str:
    parts = urlsplit(config.base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _path(config: Config) -> str:
    """The path that is called and signed, the base path included."""
    base = urlsplit(config.base_url).path.rstrip("/")
    return f"{base}/api/v3/adaccounts/{quote(config.ad_account, safe='')}/custom-audiences"


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=LineAds.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
)
