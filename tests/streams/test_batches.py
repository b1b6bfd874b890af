"""How long a desk lets be what can't be done now: the longer it has lasted, the later it looks again, within bounds."""

import pytest

from tests.rules import NOW
from todoke.processors.reconcile import Work
from todoke.schemas.partners import Limits
from todoke.schemas.record import ERASED, Register, SubjectRecord
from todoke.sinks.base import Item, Plain
from todoke.streams.batches import Look, Opened, cut
from todoke.streams.due import Entry, Lane


def look(wait: str, seen_at: int = NOW, asked: int = 0) -> Look:
    erased = {ERASED: Register("erased", asked, restrictive=True, event_id="e")} if asked else {}
    record = SubjectRecord("s", registers=erased)
    return Look(Entry(Lane("shop", 0), False, "s", 0), record, Work(wait=wait), NOW, seen_at)


@pytest.mark.parametrize(
    ("behind_ms", "wait_ms"), [(0, 1000), (3_000, 1000), (20_000, 5000), (600_000, 30_000), (NOW, 1000)]
)
def test_the_further_the_intake_is_behind_the_later_a_permission_looks_again(behind_ms: int, wait_ms: int) -> None:
    assert look("intake", seen_at=NOW - behind_ms).wait_ms == wait_ms  # at 0, nothing is known of the intake


@pytest.mark.parametrize(("ago_ms", "wait_ms"), [(1, 2000), (60_000, 6000), (86_400_000, 600_000), (NOW, 2000)])
def test_the_longer_a_deletion_stands_the_later_a_grant_behind_it_looks_again(ago_ms: int, wait_ms: int) -> None:
    assert look("deletion", asked=NOW - ago_ms).wait_ms == wait_ms


def item(account: str) -> Item:
    return Item(
        obligation_id="o", request_id="r", verb="withdraw", account=account, scope="ads", at=NOW, deadline_at=NOW
    )


class Together(Plain):
    """A connector that would put anybody into one call."""

    def group(self, item: Item) -> str:  # the contract asks per item
        return ""

    def weight(self, item: Item) -> int:  # likewise
        return 1


@pytest.mark.parametrize(
    ("limits", "calls"),
    [
        (Limits(items=9), [["jp", "eu", "jp"]]),
        (Limits(items=9, quota_per="account"), [["jp", "jp"], ["eu"]]),
        (Limits(items=9, account_concurrency=1), [["jp", "jp"], ["eu"]]),
    ],
)
def test_where_accounts_are_limited_apart_a_call_is_of_one_account(limits: Limits, calls: list[list[str]]) -> None:
    entry = Entry(Lane("shop", 0), True, "s", 0)
    wanted = [Opened(entry, None, item(account), 0, 0) for account in ("jp", "eu", "jp")]  # type: ignore[arg-type]  # nor what the call is

    found = [[each.item.account for each in batch] for batch in cut(wanted, Together(), limits)]  # type: ignore[arg-type]  # it is never asked to make a call

    assert found == calls
