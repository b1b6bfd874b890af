"""Writes the golden requests of every connector: `python tests/golden/connectors/make.py`, then read the difference.

The people are invented, the keys are published examples; the time stands still.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from todoke.schemas.identity import Identifier
from todoke.schemas.partners import Account, Limits, Partner
from todoke.schemas.receipts import Verb
from todoke.sinks.base import HttpRequest, Item
from todoke.sinks.connectors import CONNECTORS
from todoke.sinks.secrets import Secret

HERE = Path(__file__).parent
AT = 1_764_000_000_000

EMAIL = Identifier("email", " Taro.Yamada@Example.com ")
PHONE = Identifier("phone", "０９０ー１２３４ー５６７８")
IDFA = Identifier("idfa", "6d92078a-8246-4ba4-ae5b-76104861e7dc")
GAID = Identifier("gaid", "CDDA802E-FB9C-47AD-9866-0794D394C912")
MEMBER = Identifier("member_id", "M-0001")
HANAKO = Identifier("email", "hanako@example.jp")
EMAIL_HASH = "b6ebd83922edfa96b0ff9166a958badcc230dd68d2315ddfea22f20eaf05994a"

SECRETS: dict[str, dict[str, Secret]] = {
    "webhook": {"signing_secret": Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")},
    "meta": {"access_token": Secret("EAAB-token-of-nobody"), "app_secret": Secret("app-secret-of-nobody")},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "webhook": {"url": "https://partner.example/suppressions"},
    "meta": {"audiences": {"main": "120208749119170125"}},
}
ADDRESS = {"webhook": "url", "meta": "base_url"}


class Case(NamedTuple):
    """One golden request."""

    name: str
    items: tuple[Item, ...]
    settings: dict[str, Any] = {}
    secrets: dict[str, Secret] = {}


def partner(connector: str, **settings: Any) -> Partner:
    """A partner that uses `connector`, with some settings changed."""
    return Partner(
        name=f"a-{connector}",
        label=f"A {connector} partner",
        role="ad-distributor",
        legal_basis="consent",
        identifiers=("email", "phone", "idfa", "gaid", "member_id"),
        accounts=(Account(name="main", scopes=("ads",)),),
        connector=connector,
        settings={**SETTINGS[connector], **settings},
        secrets={name: f"env:{name.upper()}" for name in SECRETS[connector]},
        limits=Limits(items=1 if connector == "webhook" else 10_000),
        deadline_hours={"withdraw": 24, "suspend": 24, "delete": 72},
        grants=True,
    )


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


CASES: dict[str, list[Case]] = {
    "webhook": [
        *[Case(verb, (item(verb),)) for verb in ("grant", "withdraw", "suspend", "delete")],
        Case("plain", (item("withdraw", EMAIL, PHONE, IDFA, GAID, MEMBER),), {"identifier_form": "plain"}),
        Case(
            "two-secrets",
            (item(),),
            {},
            {"previous_secret": Secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfGGHm1Vz0=")},
        ),
    ],
    "meta": [
        Case("grant", (item("grant"),)),
        *[Case(verb, (item(verb),)) for verb in ("withdraw", "suspend", "delete")],
        Case("devices", (item("withdraw", IDFA, GAID, MEMBER),)),
        Case("batch", (item(), item("delete", HANAKO, number=2), item("suspend", EMAIL, number=3))),
        Case("version", (item(),), {"api_version": "v26.0"}),
    ],
}


def text(request: HttpRequest) -> str:
    """A request as readable JSON."""
    shown = {
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "body": request.body.decode(),
    }
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def golden(connector: str) -> dict[Path, str]:
    """Every golden file of one connector and what it must hold."""
    made = {}
    for case in CASES[connector]:
        built = CONNECTORS[connector].build(partner(connector, **case.settings), {**SECRETS[connector], **case.secrets})
        made[HERE / connector / f"{case.name}.json"] = text(built.request(case.items, AT))
    return made


def main() -> None:
    """Write them all."""
    for connector in CONNECTORS:
        (HERE / connector).mkdir(exist_ok=True)
        for path, content in golden(connector).items():
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
