"""Braze: users deleted, and subscription groups left or joined: see docs/partners/braze.md.

Sources: Braze, "Delete users" and "Update user's subscription group status (V2)" (braze-inc/braze-docs at 577d633 and 68b3f5d),
"API errors and responses". Read 2026-11-23.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected, Retry, Split
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Item, Outcome, Plain
from todoke.sinks.http import json_object, refuse
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import Url, read, sound, unsaid, url_problems

Data = Literal["member_id", "email", "phone"]
Priority = Literal["identified", "unidentified", "most_recently_updated"]

MOST_IDS = 50
DELETED: dict[Data, str] = {"member_id": "external_ids", "email": "email_addresses", "phone": "phone_numbers"}
SUBSCRIBED: dict[Data, str] = {"member_id": "external_ids", "email": "emails", "phone": "phones"}
NAMES: dict[Data, str] = {"email": "email", "phone": "phone"}

_GROUP = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Braze partner."""

    base_url: Url
    data: Annotated[Data, Meta(description="The one kind of identifier that this entry names people by")] = "member_id"
    subscription_groups: Annotated[
        dict[str, dict[str, str]], Meta(description="For each account the id of the group of each of its scopes")
    ] = {}
    prioritization: Annotated[
        tuple[Priority, ...], Meta(description="Which user to delete of several with one address or number")
    ] = ("identified", "most_recently_updated")
    not_found_is_done: Annotated[
        bool, Meta(description="Whether a 404 to a deletion means that nobody is there to delete")
    ] = False
    insecure_http: Annotated[bool, Meta(description="Allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "api_key": ("REST API key of the workspace, with users.delete and subscription.status.set", True)
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset({"member_id", "email", "phone"})
EFFECTS: Mapping[Verb, str] = {
    "grant": "subscribed",
    "withdraw": "unsubscribed",
    "suspend": "unsubscribed",
    "delete": "deleted",
}


class Braze(Plain):
    """One workspace, whose key it is."""

    effects = EFFECTS
    reaches = Evidence.accepted

    def __init__(self, config: Config, key: Secret) -> None:
        self._config = config
        self._key = key

    def group(self, item: Item) -> str:
        """Effect and, for subscriptions, the group. An item that can't be said stands alone, so that it spoils no other."""
        listed = "" if item.verb == "delete" else self._listed(item)
        sayable = self._named(item) and (item.verb == "delete" or listed)
        return f"{EFFECTS[item.verb]}|{listed}" + ("" if sayable else f"|{item.request_id}")

    def weight(self, item: Item) -> int:
        """No fewer than its ids: what turns out to be unsound takes a place too."""
        return max(sum(each.kind == self._config.data for each in item.identifiers), 1)

    def request(self, items: Sequence[Item], at: int) -> HttpRequest:  # noqa: ARG002  # nothing is signed by time
        ids = self._ids(items)
        if len(ids) > MOST_IDS:
            raise Split("too-large", perhaps=False)
        deleting = items[0].verb == "delete"
        path, body = ("/users/delete", self._deletion(ids)) if deleting else self._subscription(items[0], ids)
        return HttpRequest(
            method="POST",
            url=self._config.base_url.rstrip("/") + path,
            headers={"authorization": f"Bearer {self._key.reveal()}", "content-type": "application/json"},
            body=msgspec.json.encode(body),
        )

    def verdict(self, items: Sequence[Item], response: HttpResponse) -> Sequence[Outcome]:
        """A success says that Braze has queued the call, never more. Messages may quote a person, so they are not read."""
        deleting = items[0].verb == "delete"
        answer = json_object(response)
        if response.status in {401, 403}:
            raise Retry("auth", SOMEBODY_MUST_ACT_S, perhaps=False)
        if response.status == 404 and deleting and self._config.not_found_is_done and answer is not None:
            return [Outcome(grade=Evidence.accepted, reference="not-found") for _ in items]
        if response.status == 400 and len(items) > 1:
            raise Split("http-400", perhaps=False)
        if refusal := refuse(response):
            raise refusal
        if answer is None or answer.get("message") != "success":
            raise Retry("unreadable-answer")
        if answer.get("errors"):
            return _doubtful(items, "errors-inside")
        if deleting:
            return self._queued(items, answer.get("deleted"))
        return [Outcome(grade=Evidence.accepted) for _ in items]

    def _queued(self, items: Sequence[Item], deleted: object) -> Sequence[Outcome]:
        """Fewer than asked: an external id is nobody's. An address may be the one of several users, none of them chosen."""
        if not isinstance(deleted, int) or isinstance(deleted, bool):
            raise Retry("unreadable-answer")
        fewer = deleted < len(self._ids(items))
        if fewer and self._config.data != "member_id":
            return _doubtful(items, "fewer-queued", nothing=deleted == 0)
        return [Outcome(grade=Evidence.accepted) for _ in items]

    def _deletion(self, ids: Sequence[str]) -> dict[str, Any]:
        data = self._config.data
        if data == "member_id":
            return {DELETED[data]: ids}
        ordered = self._config.prioritization
        return {DELETED[data]: [{NAMES[data]: each, "prioritization": ordered} for each in ids]}

    def _subscription(self, item: Item, ids: Sequence[str]) -> tuple[str, dict[str, Any]]:
        listed = self._listed(item)
        if not listed:
            raise Rejected("no-subscription-group")
        state = EFFECTS[item.verb]
        change = {"subscription_group_id": listed, "subscription_state": state, SUBSCRIBED[self._config.data]: ids}
        return "/v2/subscription/status/set", {"subscription_groups": [change]}

    def _listed(self, item: Item) -> str:
        return self._config.subscription_groups.get(item.account, {}).get(item.scope, "")

    def _ids(self, items: Sequence[Item]) -> list[str]:
        """Every id, each once. Raises `Rejected` when an item has none: within others it would be taken for told."""
        found: dict[str, None] = {}
        for item in items:
            own = self._named(item)
            if not own:
                raise Rejected("no-usable-identifier")
            found |= dict.fromkeys(own)
        return list(found)

    def _named(self, item: Item) -> list[str]:
        forms = [_form(each) for each in item.identifiers if each.kind == self._config.data]
        return [form for form in forms if form]


def _form(identifier: Identifier) -> str:
    """E.164 for phones, the trimmed and lower-case address, ids as they are."""
    try:
        return identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        return ""


def _doubtful(items: Sequence[Item], reason: str, *, nothing: bool = False) -> Sequence[Outcome]:
    """The answer doesn't say who is meant: halves tell, and of a single one a person judges."""
    if len(items) > 1:
        raise Split(reason)
    return [Outcome(grade=Evidence.none if nothing else Evidence.sent, reason=reason)]


def build(partner: Partner, secrets: Mapping[str, Secret]) -> Braze:
    return Braze(read(Config, partner), secrets["api_key"])


def problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("base_url", config.base_url, insecure=config.insecure_http)
    found += unsaid(partner, {config.data}, f"data = {config.data}")
    for account in partner.accounts:
        given = config.subscription_groups.get(account.name, {})
        if _subscribes(partner):
            found += [
                f"settings.subscription_groups.{account.name}: scope {scope} has none; give the id of its group"
                for scope in account.scopes
                if scope not in given
            ]
        found += [
            f"settings.subscription_groups.{account.name}: {scope} is no scope of the account; add it or drop the group"
            for scope in sorted(set(given) - set(account.scopes))
        ]
        found += [
            f"settings.subscription_groups.{account.name}.{scope}: not the id of a group; copy it from Braze"
            for scope, listed in sorted(given.items())
            if not sound(_GROUP, listed)
        ]
    known = {account.name for account in partner.accounts}
    for name in sorted(set(config.subscription_groups) - known):
        found.append(f"settings.subscription_groups: {name} is no account of this partner; add it or drop its groups")
    if {"identified", "unidentified"} <= set(config.prioritization) or not config.prioritization:
        found.append("settings.prioritization: give one of identified and unidentified, most_recently_updated, or both")
    if partner.limits.items > MOST_IDS:
        found.append(f"limits.items: {partner.limits.items}; Braze takes {MOST_IDS} ids a call")
    return found


def _subscribes(partner: Partner) -> bool:
    return partner.grants or bool({"withdraw", "suspend"} & set(partner.deadline_hours))


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=Braze.reaches,
    addresses=lambda config: (config.base_url,),
    problems=problems,
    make=build,
    parts=True,
)
