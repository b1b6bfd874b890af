"""Entries of partners as operators write them: what pages show is sound, and deadlines are those of what can be asked."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner, rows
from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Account, Partner
from todoke.schemas.receipts import RESTRICTIVE
from todoke.sinks import connectors
from todoke.sinks.connectors import CONNECTORS, check
from todoke.streams import build
from todoke.streams.settings import Settings

ROOT = Path(__file__).parents[2]
ROWS = rows()
OF_PARTS = {"braze", "klaviyo", "the_trade_desk"}
SHOWN = re.compile(r"^```toml\n(\[\[partner\]\].*?)^```", re.DOTALL | re.MULTILINE)


def shown(connector: str) -> list[tuple[str, dict[str, Any]]]:
    """The entries that a page shows: the text, and what TOML makes of it."""
    page = (ROOT / f"docs/partners/{connector}.md").read_text(encoding="utf-8")
    return [(text, tomllib.loads(text)["partner"][0]) for text in SHOWN.findall(page)]


def loaded(text: str, directory: Path) -> Partner:
    """The one partner of a registry, as processes load it."""
    path = directory / "partners.toml"
    path.write_text("revision = 1\n" + text, encoding="utf-8")
    (found,) = build.rules(Settings(partners=str(path))).registry.partners
    return found


def completed(connector: str, account: str) -> str:
    """The entry that a page shows, with what stands there for every partner of the shipped policy."""
    ((text, _),) = shown(connector)
    text = text.replace("# address, representative, country, transfer, items: as for any partner abroad\n", "")
    for key in ("role", "legal_basis"):
        text = re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"scopes = \[.*?\]", 'scopes = ["profiling"]', text)
    added = 'role = "subcontractor"\nlegal_basis = "entrustment"\nitems = ["email-address"]\n'
    added += 'address = "東京都千代田区一丁目1番1号"\nrepresentative = "代表取締役 某"\n'
    assert f'name = "{account}"' in text
    return text.replace("label = ", f"{added}label = ")


@pytest.mark.parametrize("name", sorted(CONNECTORS))
def test_every_entry_that_a_page_shows_is_taken_by_its_connector(name: str) -> None:
    for _, read in shown(name):
        fields = {("accounts" if key == "account" else key): value for key, value in read.items()}

        assert fields["connector"] == name
        assert check(msgspec.convert(fields, Partner)) == []


@pytest.mark.parametrize("name", sorted(CONNECTORS))
def test_each_verb_that_can_be_asked_needs_a_deadline_and_no_other_may_have_one(name: str) -> None:
    entry, effects = partner(name), CONNECTORS[name].effects
    needed = sorted({*(RESTRICTIVE & set(effects)), *(["grant"] if entry.grants else [])})
    impossible = sorted({*RESTRICTIVE, "grant"} - set(effects))

    without = [each for each in check(replace(entry, deadline_hours={})) if each.startswith("deadline_hours")]
    more = check(replace(entry, deadline_hours={**entry.deadline_hours, **dict.fromkeys(impossible, 24)}))

    assert without == [f"deadline_hours.{v}: missing; write {v} = 24, or what the contract says" for v in needed]
    assert [each.partition(":")[0] for each in more] == [f"deadline_hours.{verb}" for verb in impossible]


@pytest.mark.parametrize("name", sorted(CONNECTORS))
def test_a_restriction_may_be_left_out_where_an_entry_may_be_of_a_part_and_then_is_not_asked(name: str) -> None:
    entry = partner(name)
    left_out = min(RESTRICTIVE & set(CONNECTORS[name].effects))
    part = replace(entry, deadline_hours={v: h for v, h in entry.deadline_hours.items() if v != left_out})

    found = [each for each in check(part) if each.startswith(f"deadline_hours.{left_out}: missing")]
    asked = build.recipient(part, connectors.build(entry, ROWS[name].secrets)).effects

    assert bool(found) is not (name in OF_PARTS)
    assert set(CONNECTORS[name].effects) - set(asked) == {left_out}


@pytest.mark.parametrize(("name", "account"), [("amplitude", "shop"), ("ga4", "shop"), ("opendsr", "main")])
def test_a_partner_that_can_only_delete_is_loaded_from_a_registry(name: str, account: str, tmp_path: Path) -> None:
    found = loaded(completed(name, account), tmp_path)

    assert (found.connector, list(found.deadline_hours)) == (name, ["delete"])
    assert found.accounts == (Account(name=account, scopes=("profiling",)),)


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ("{ }", "deadline_hours.delete: missing. write delete = 24, or what the contract says"),
        ("{ delete = 0 }", "deadline_hours.delete: expected 1 or more, got 0. Write delete = 24."),
        ("{ delete = 720, suspend = 24 }", "deadline_hours.suspend: can't be asked here. known: delete"),
    ],
)
def test_what_is_wrong_with_deadlines_in_a_registry_is_told_with_its_line(
    hours: str, said: str, tmp_path: Path
) -> None:
    text = completed("opendsr", "main").replace("{ delete = 720 }", hours)
    line = next(number for number, each in enumerate(text.splitlines(), 2) if each.startswith("deadline_hours"))

    with pytest.raises(Misconfigured) as raised:
        loaded(text, tmp_path)

    assert str(raised.value) == f'{tmp_path}/partners.toml:{line}: partner[0] "mparticle".{said}'
