"""A signed webhook to a partner's own endpoint, one obligation a call: see docs/partners/webhook.md.

Source: Standard Webhooks 1.0.0, spec/standard-webhooks.md of standard-webhooks/standard-webhooks at b2fa7b8 (2026-08-17).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected
from todoke.schemas.identity import KINDS, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks import signatures
from todoke.sinks.base import HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.events import Form, event
from todoke.sinks.http import json_object, refuse
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, url_problems


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a webhook partner."""

    url: Url
    identifier_form: Annotated[
        Form, Meta(description="sha256: hex SHA-256 of the canonical form; plain: the canonical form")
    ] = "sha256"
    receipts: Annotated[
        bool, Meta(description="Whether the endpoint answers with signed receipts, which raise evidence to processed")
    ] = False
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "signing_secret": ("whsec_ and Base64 of 24 to 64 random bytes, shared with this endpoint alone", True),
    "previous_secret": ("The secret before, while it is being replaced: every call is signed with both", False),
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(KINDS)
EFFECTS: Mapping[Verb, str] = {
    "grant": "granted",
    "withdraw": "withdrawn",
    "suspend": "suspended",
    "delete": "deleted",
}
_REFERENCE = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # no @ and no spaces: a reference reaches logs, a person must not


class Webhook(Plain):
    """One endpoint."""

    effects = EFFECTS

    def __init__(self, config: Config, keys: Sequence[bytes]) -> None:
        self._config = config
        self._keys = keys
        self.reaches = reaches(config)

    def group(self, item: Item) -> str:
        """A group of its own: the spec's `webhook-id` names one event."""
        return item.request_id

    def weight(self, item: Item) -> int:  # noqa: ARG002  # the contract asks per item
        return 1

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:
        [item] = items
        body = msgspec.json.encode(event(item, EFFECTS[item.verb], self._config.identifier_form))
        signed = signatures.headers(self._keys, item.request_id, at, body)
        headers = {"content-type": "application/json", **signed}
        return HttpRequest(method="POST", url=self._config.url, headers=headers, body=body)

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        if response.status == 410:
            raise Rejected("endpoint-gone")
        if refusal := refuse(response):
            raise refusal
        return [self._accepted(item, response) for item in items]

    def _accepted(self, item: Item, response: HttpResponse) -> Outcome:
        """A 2xx is `accepted`; a receipt that verifies makes it `processed`, one that doesn't says so as the reference.

        Not as the reason, which is for a no. A receipt is bound to this request by its id and to the obligation by its
        content, so an older one can't serve.
        """
        receipt = (json_object(response) or {}).get("receipt")
        if not self._config.receipts or not isinstance(receipt, dict):
            return Outcome(grade=Evidence.accepted)
        if not signatures.verified(self._keys, item.request_id, response.headers, response.body):
            return Outcome(grade=Evidence.accepted, reference="receipt-unverified")
        wanted = {"obligation_id": item.obligation_id, "effect": EFFECTS[item.verb], "status": "processed"}
        if wanted != {key: receipt.get(key) for key in wanted}:
            return Outcome(grade=Evidence.accepted, reference="receipt-of-something-else")
        reference = str(receipt.get("reference", ""))
        return Outcome(grade=Evidence.processed, reference=reference if _REFERENCE.fullmatch(reference) else "")


def reaches(config: Config) -> Evidence:
    return Evidence.processed if config.receipts else Evidence.accepted


def build(partner: Partner, secrets: Mapping[str, Secret]) -> Webhook:
    config = read(Config, partner)
    given = [name for name in SECRETS if name in secrets]
    return Webhook(
        config, [signatures.key_of(secrets[name], f"partner {partner.name}: secrets.{name}") for name in given]
    )


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("url", config.url, insecure=config.insecure_http)
    if not partner.identifiers:
        found.append("identifiers: none; a webhook names people by at least one kind")
    return found


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=reaches,
    addresses=lambda config: (config.url,),
    problems=problems,
    make=build,
)
