"""What the contract suite must know of each connector: one module here for each row of `CONNECTORS`, each with a `ROW`.

The people are invented, the keys are published examples; the time of the golden requests stands still.
"""

import importlib
import pkgutil
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from todoke.schemas.errors import Retry, TodokeError
from todoke.schemas.identity import Identifier, IdentifierKind
from todoke.schemas.partners import Account, Limits, Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import Item
from todoke.sinks.secrets import Secret

AT = 1_764_000_000_000

EMAIL = Identifier("email", " Taro.Yamada@Example.com ")
PHONE = Identifier("phone", "０９０ー１２３４ー５６７８")
IDFA = Identifier("idfa", "6d92078a-8246-4ba4-ae5b-76104861e7dc")
GAID = Identifier("gaid", "CDDA802E-FB9C-47AD-9866-0794D394C912")
MEMBER = Identifier("member_id", "M-0001")
HANAKO = Identifier("email", "hanako@example.jp")
EMAIL_HASH = "b6ebd83922edfa96b0ff9166a958badcc230dd68d2315ddfea22f20eaf05994a"
KINDS: tuple[IdentifierKind, ...] = ("email", "phone", "idfa", "gaid", "member_id")

Expected = TodokeError | list[tuple[Evidence, str]]
"""The error (code, wait in seconds, perhaps applied) or the outcomes (grade, reason) that a fault must lead to."""
WAY: dict[str, Expected] = {
    "timeout": Retry("timeout", perhaps=True),
    "drop-after-apply": Retry("connection-lost", perhaps=True),
    "dead": Retry("connection-lost", perhaps=True),
}
"""Faults of the way; `slow` ends as a call without a fault does."""


class Case(NamedTuple):
    """One golden request; `kinds` are the entry's, where they aren't the row's."""

    name: str
    items: tuple[Item, ...]
    settings: dict[str, Any] = {}
    secrets: dict[str, Secret] = {}
    kinds: tuple[IdentifierKind, ...] = ()


class Row(Struct, frozen=True, kw_only=True):
    """One connector under the contract suite.

    `settings` and `secrets` are a sound entry's; `addresses` names the settings that hold one, with the path that each
    ends in. `secret` is the one that the emulator is started with, `options` its other options, `extra` settings that only
    the emulator's tests use. `faults` says what each fault must lead to. `asked` is who is asked for in those tests, `held`
    how the emulator's state names them, `applied` the `op`s of its journal that a withdrawal may leave there, `verb` the verb
    asked. `key` are parts of secrets that may be shown nowhere. `way` is what its requests are; one that is not `emulated` is
    tested against real servers instead, in tests/sinks; of one that swaps lists, `faults` are those of an upload. `several`: a call is more than one request, so they aren't counted.
    """

    settings: dict[str, Any]
    secrets: dict[str, Secret]
    addresses: dict[str, str]
    secret: str
    cases: tuple[Case, ...]
    faults: dict[str, Expected]
    key: tuple[str, ...]
    options: dict[str, str] = {}
    extra: dict[str, Any] = {}
    limits: Limits = Limits(items=1)
    kinds: tuple[IdentifierKind, ...] = KINDS
    verbs: tuple[Verb, ...] = ("withdraw", "suspend", "delete")
    grants: bool = True
    asked: Identifier = EMAIL
    held: str = EMAIL_HASH
    verb: Verb = "withdraw"
    applied: tuple[str, ...] = ("withdrawn", "remove")
    way: Literal["http", "file", "topic", "list", "swap"] = "http"
    emulated: bool = True
    several: bool = False


def item(verb: Verb = "withdraw", *identifiers: Identifier, number: int = 1, at: int = AT) -> Item:
    """One obligation; `number` sets it apart from others."""
    return Item(
        obligation_id=f"00000000-0000-5000-8000-{number:012d}",
        request_id=f"00000000-0000-5000-9000-{number:012d}",
        verb=verb,
        account="main",
        scope="ads",
        at=at,
        deadline_at=at + 86_400_000,
        reasons=("consent-withdrawn",),
        identifiers=identifiers or (EMAIL, PHONE),
    )


def rows() -> dict[str, Row]:
    """Every row, by the connector's name, which is its module's."""
    found = sorted(each.name for each in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").ROW for name in found}


def partner(connector: str, **settings: Any) -> Partner:
    """A partner that uses `connector`, with some settings changed."""
    row: Row = rows()[connector]
    verbs: tuple[Verb, ...] = (*row.verbs, "grant") if row.grants else row.verbs
    return Partner(
        name=f"a-{connector.replace('_', '-')}",
        label=f"A {connector} partner",
        role="ad-distributor",
        legal_basis="consent",
        identifiers=row.kinds,
        accounts=(Account(name="main", scopes=("ads",)),),
        connector=connector,
        settings={**row.settings, **settings},
        secrets={name: f"env:{name.upper()}" for name in row.secrets},
        limits=row.limits,
        deadline_hours=dict.fromkeys(verbs, 72),
        grants=row.grants,
    )
