"""What a look decodes of a person's hash: what its partner is concerned by, on a real Valkey."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.valkey import Server
from todoke.schemas.codec import Codec
from todoke.schemas.obligations import Obligation
from todoke.schemas.record import SubjectRecord
from todoke.streams.knowing import known_of
from todoke.streams.view import View, connect

pytestmark = pytest.mark.stack
REF = "s"
OWED = Obligation(
    obligation_id="1",
    subject_ref=REF,
    partner="kura-crm",
    account="main",
    scope="ads",
    verb="withdraw",
    stamps=(),
    registry_revision=1,
    boundary=0,
    identifier_generation=0,
    reasons=(),
    cause="event",
    event_id="e",
    appended_at=1,
    opened_at=1,
    deadline_at=2,
    done_at_grade=3,
)
OTHER = replace(OWED, obligation_id="2", partner="kura", verb="delete")


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    with Server(tmp_path) as opened:
        client = connect(opened.url)
        yield View(client, Codec(), "t.")
        client.close()


def keep(view: View, *owed: Obligation) -> None:
    """Write a record and obligations as a worker does."""
    view.records.update([view.records.cell(REF)], lambda *_: SubjectRecord(REF))
    cells = {view.obligations.cell(REF, each.obligation_id): each for each in owed}
    view.obligations.update(cells, lambda cell, _: cells[cell])


def test_a_look_for_one_partner_decodes_only_its_obligations(view: View) -> None:
    keep(view, OWED, OTHER)
    fresh = view.unwatched()  # nothing is at hand yet
    assert known_of(fresh, [REF], "kura-crm")[0].obligations == (OWED,)
    assert len(fresh.obligations._read) == 1
    assert known_of(fresh, [REF])[0].obligations == (OWED, OTHER)


def test_what_was_written_without_a_tag_is_read_by_everybody_and_tagged_when_it_changes(view: View) -> None:
    keep(view, OTHER)
    key = view.key("o", REF)
    view.client.hset(key, OWED.obligation_id, view.codec.encode(OWED))
    assert known_of(view, [REF], "kura")[0].obligations == (OTHER, OWED)
    cell = view.obligations.cell(REF, OWED.obligation_id)
    view.obligations.update([cell], lambda _, held: replace(held, blocked="unreachable") if held else None)
    assert known_of(view, [REF], "kura")[0].obligations == (OTHER,)
    assert view.obligations.load([cell]) == [replace(OWED, blocked="unreachable")]
    assert view.all([REF])[0].tags == {"1": ("kura-crm", "withdraw", "blocked"), "2": ("kura", "delete", "open")}
