"""Partners that are told by people, by letter or in a portal: what is owed makes a work list. See docs/partners/manual.md."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from todoke.processors import identifiers
from todoke.schemas.errors import Refused, Rejected
from todoke.schemas.identity import KINDS, Identifier, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import File, Item, ListRequest, Outcome, Plain
from todoke.sinks.events import iso
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import Secret
from todoke.sinks.settings import read, sound

COLUMNS = ("obligation_id", "verb", "effect", "account", "scope", "said", "deadline", "kind", "identifier", "reasons")

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a partner that people tell."""

    recipients: Annotated[
        tuple[str, ...], Meta(description="The age keys (age1…) of those who may read the list; only they can")
    ]
    how: Annotated[str, Meta(description="What to do with the list: an address, a portal, a form; shown with it")]


SECRETS: dict[str, tuple[str, bool]] = {}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(KINDS)
EFFECTS: Mapping[Verb, str] = {"withdraw": "withdrawn", "suspend": "suspended", "delete": "deleted"}


class Manual(Plain):
    """One partner."""

    effects = EFFECTS
    reaches = Evidence.none

    def __init__(self, config: Config) -> None:
        self._config = config

    def group(self, item: Item) -> str:  # noqa: ARG002  # a list has everything
        return "list"

    def weight(self, item: Item) -> int:  # noqa: ARG002  # a list has no limit
        return 1

    def request(self, items: Sequence[Item], at: int) -> ListRequest:
        """The list, by deadline: a row for each identifier, in the form in which it is written and said.

        One without a sound form stands as upstream gave it: a person can read what no machine could send.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for item in sorted(items, key=lambda each: (each.deadline_at, each.obligation_id)):
            about = (item.obligation_id, item.verb, EFFECTS[item.verb], item.account, item.scope)
            for each in item.identifiers:
                told = (iso(item.at), iso(item.deadline_at), each.kind, _written(each), " ".join(item.reasons))
                writer.writerow((*about, *told))
        name = f"worklist-{iso(at)[:19].replace(':', '').replace('-', '')}Z.csv"
        file = File(
            path=name, body=b"\xef\xbb\xbf" + text.getvalue().encode()
        )  # the mark has spreadsheets read Japanese
        return ListRequest(recipients=self._config.recipients, file=file)

    def verdict(self, items: Sequence[Item], response: Any) -> Sequence[Outcome]:  # noqa: ARG002  # nobody answers
        raise Rejected("by-hand")


def build(partner: Partner, secrets: Mapping[str, Secret]) -> Manual:  # noqa: ARG001  # it has none
    return Manual(read(Config, partner))


def problems(config: Config, partner: Partner) -> list[str]:  # noqa: ARG001  # the contract asks with the partner
    found = [] if config.how.strip() else ["settings.how: empty; say what is to be done with the list"]
    if not config.recipients:
        found.append("settings.recipients: none, so nobody could read the list; give keys that age-keygen prints")
    for index, each in enumerate(config.recipients):
        if not sound(_RECIPIENT, each):
            found.append(f"settings.recipients[{index}]: not a public key of age; it begins with age1")
    return found


def _written(identifier: Identifier) -> str:
    """Never as a formula: a cell that begins like one gets an apostrophe, by which spreadsheets take it for text."""
    try:
        text = identifiers.canonical(identifier.kind, identifier.value)
    except Refused:
        text = identifier.value
    formula = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if formula else text


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=Manual.reaches,
    addresses=lambda config: (),  # noqa: ARG005  # nobody is called
    problems=problems,
    make=build,
)
