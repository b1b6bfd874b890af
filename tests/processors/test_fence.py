"""Which call came last: one partner, permissions and restrictions in any interleaving, processes stopped on the way."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.processors.test_reconcile import EFFECTS, RULES, SHOP, STOP, known, look, verbs
from tests.rules import LATE, NOW, admitted, apply, consent, deletion, grant, receipt, with_identifiers, written
from todoke.processors.fence import clear_from, generation, told_since, undone
from todoke.processors.reconcile import Known, Recipient, Work, reconcile, without_permissions
from todoke.schemas.obligations import ENDED, Obligation, settle
from todoke.schemas.receipts import Evidence
from todoke.schemas.told import Attempt, Told, note

(OWED,) = known(STOP).obligations
NAME = OWED.obligation_id[:8]
PATIENCE = 10


def call(effect: str, started_at: int, ended_at: int = 0, **changes: Any) -> Attempt:
    """A call that was accepted when it ended, if it ended, and that may take `PATIENCE` ms."""
    grade = Evidence.processed if ended_at else Evidence.none
    mine = {"obligation": NAME, "generation": 1} if effect == "out" else {}
    return Attempt(
        effect,
        started_at,
        ends_by=started_at + PATIENCE,
        ended_at=ended_at,
        **{"grade": grade, **mine, **changes},
    )


def told(*calls: Attempt, scope: str = "research", alias: str = "x") -> Told:
    found = Told(STOP.subject_ref, "shop", "main", scope, alias)
    for number, each in enumerate(calls):
        found = note(found, f"t{number}", each)
    return found


def test_a_call_comes_after_every_rival_once_they_were_answered_or_have_had_their_time() -> None:
    answered, running = call("in", NOW, NOW + 3), call("in", NOW + 1)
    broken = call("in", NOW, NOW + 3, grade=Evidence.sent)

    assert clear_from([told(answered)], "out", "in") == NOW + 4
    assert clear_from([told(answered, running)], "out", "in") == NOW + 12
    assert clear_from([told(broken)], "out", "in") == NOW + 11
    assert clear_from([told(answered), told(running)], "out", "in") == NOW + 12


def test_what_was_refused_is_no_rival_nor_is_another_restriction_nor_what_is_never_permitted() -> None:
    held = [told(call("in", NOW, NOW + 3, refused=True), call("gone", NOW)), None]

    assert clear_from(held, "out", "in") == clear_from([told(call("in", NOW))], "out", None) == 0
    assert clear_from(held, "in", "in") == NOW + 11


def test_a_repetition_keeps_its_generation_while_no_rival_may_have_come_in_between() -> None:
    lost = call("out", NOW + 20)

    assert generation(OWED, [told()], "out", "in") == 1
    assert generation(OWED, [told(lost)], "out", "in") == 1
    assert generation(OWED, [told(call("in", NOW, NOW + 19), lost)], "out", "in") == 1
    assert generation(OWED, [told(call("in", NOW, NOW + 20), lost)], "out", "in") == 2


def test_a_new_generation_is_above_all_that_were_used_though_the_obligation_lags() -> None:
    first, second = call("out", NOW + 5, NOW + 6), call("out", NOW + 20, NOW + 21, generation=2)

    assert generation(OWED, [told(call("in", NOW, NOW + 7), first, second)], "out", "in") == 2
    assert generation(OWED, [told(call("in", NOW, NOW + 22), first, second)], "out", "in") == 3
    assert generation(replace(OWED, generation=4), [told(call("in", NOW, NOW + 22), second)], "out", "in") == 4


def test_calls_of_other_obligations_begin_no_generation() -> None:
    other = call("out", NOW + 5, NOW + 6, obligation="another1")

    assert generation(OWED, [told(other, call("in", NOW, NOW + 7))], "out", "in") == 1


def test_a_restriction_has_been_said_only_if_everywhere_and_after_the_rivals_began() -> None:
    running, said = call("in", NOW), call("out", NOW + 1, NOW + 2)

    assert told_since([told(running, said)], "out", "in", Evidence.processed)
    assert not told_since([told(running, said), told(running)], "out", "in", Evidence.processed)
    assert not told_since([told(running, call("out", NOW, NOW + 2))], "out", "in", Evidence.processed)
    assert not told_since([told(running, call("out", NOW + 1))], "out", "in", Evidence.processed)


def ended(owed: Obligation, at: int, **changes: Any) -> Obligation:
    return settle(owed, receipt(owed, "ended", at, **{"grade": Evidence.processed, "generation": 1, **changes}))


def test_what_ended_is_undone_by_a_rival_that_ended_later_than_its_call_began() -> None:
    done, said = ended(OWED, NOW + 22), call("out", NOW + 20, NOW + 22)

    assert not undone(done, [told(call("in", NOW), said)], "out", "in")
    assert not undone(done, [told(call("in", NOW, NOW + 19), said)], "out", "in")
    assert undone(done, [told(call("in", NOW, NOW + 20), said)], "out", "in")
    assert undone(done, [told(said), told(call("in", NOW, NOW + 40))], "out", "in")


def test_what_somebody_closed_is_undone_by_a_rival_that_ended_later() -> None:
    closed = settle(OWED, receipt(OWED, "person", NOW + 20, reason="closed", by="amy"))

    assert not undone(closed, [told(call("in", NOW, NOW + 19))], "out", "in")
    assert undone(closed, [told(call("in", NOW, NOW + 21))], "out", "in")


def on(*held: Told, owed: Obligation = OWED, at: int = LATE) -> Work:
    return look(Known(STOP, (owed,), {each.key: each for each in held}), at=at)


def test_a_restriction_is_said_at_once_while_a_permission_may_still_be_under_way() -> None:
    work = on(told(call("in", NOW)), at=NOW + 2)

    assert verbs(work)["called"] == ["withdraw research"]
    assert work.look_at == 0


def test_said_once_it_waits_until_the_permission_is_over_and_is_then_said_in_a_new_generation() -> None:
    held = told(call("in", NOW), call("out", NOW + 2, NOW + 3))
    owed = settle(OWED, receipt(OWED, "reopened", NOW + 3, generation=2, reason="overtaken"))

    early, due = on(held, owed=owed, at=NOW + 4), on(held, owed=owed, at=NOW + 11)

    assert (early.calls, early.look_at) == ((), NOW + 11)
    assert [each.obligation.generation for each in due.calls] == [2]


def test_a_permission_waits_until_no_restriction_may_be_under_way() -> None:
    record = with_identifiers(written(grant("a", "research")), "x")
    held = told(call("out", NOW))

    early, due = (look(known(record, held), at=at) for at in (NOW + 10, NOW + 11))

    assert (early.calls, early.look_at) == ((), NOW + 11)
    assert verbs(due)["called"] == ["grant research"]


def test_a_late_permission_opens_what_was_done_and_it_is_called_in_a_new_generation() -> None:
    done = ended(OWED, NOW + 22)
    held = told(call("in", NOW, NOW + 40), call("out", NOW + 20, NOW + 22))

    work = on(held, owed=done)

    assert [(each.generation, reason) for each, reason in work.reopened] == [(2, "overtaken")]
    assert [each.obligation.generation for each in work.calls] == [2]
    assert on(told(call("in", NOW), call("out", NOW + 20, NOW + 22)), owed=done) == Work()


def test_a_late_restriction_opens_a_permission_that_still_holds() -> None:
    record = with_identifiers(written(grant("a", "research")), "x")
    before = known(record, told(call("out", NOW, NOW + 40), call("in", NOW + 20, NOW + 21)))
    done = tuple(ended(each, NOW + 21) for each in before.obligations)

    work = look(replace(before, obligations=done))

    assert verbs(work)["called"] == ["grant research"]


def test_a_deletion_that_is_done_is_not_opened_by_a_permission_given_since() -> None:
    record = with_identifiers(written(deletion("a"), grant("b", "research", NOW + 5)), "x")
    scopes = [told(call("gone", NOW + 2, NOW + 3), call("in", NOW + 9, NOW + 30), scope="research")]
    scopes += [told(call("gone", NOW + 2, NOW + 3), scope=scope) for scope in ("*", "site")]
    before = known(record, *scopes)

    given_since = look(replace(before, obligations=tuple(ended(each, NOW + 31) for each in before.obligations)))

    assert verbs(given_since)["called"] == []


def test_a_deletion_that_is_done_is_opened_by_a_permission_that_nobody_decided() -> None:
    record = with_identifiers(written(deletion("a")), "x")
    scopes = [told(call("gone", NOW + 2, NOW + 3), scope=scope) for scope in ("*", "site")]
    before = known(record, told(call("in", NOW, NOW + 30), call("gone", NOW + 2, NOW + 3)), *scopes)

    work = look(replace(before, obligations=tuple(ended(each, NOW + 3) for each in before.obligations)))

    assert verbs(work)["called"] == ["delete *"]


def test_what_was_waived_stays_so() -> None:
    waived = settle(OWED, receipt(OWED, "person", NOW + 20, reason="waived", by="amy"))

    assert on(told(call("in", NOW, NOW + 40), call("out", NOW + 20, NOW + 22)), owed=waived) == Work()


def test_permissions_are_left_out_and_restrictions_go_on() -> None:
    record = apply(with_identifiers(written(grant("a", "research")), "x"), admitted(deletion("z", NOW - 9)))
    both = look(known(record))
    record = with_identifiers(written(grant("a", "research")), "x")
    one = look(known(record))

    assert without_permissions(both, "intake") == both
    assert without_permissions(one, "intake") == replace(one, calls=(), wait="intake")


class Desk:
    """One desk and one partner that swallows a request id that it has seen, and holds the last word that it took in."""

    def __init__(self) -> None:
        self.now = NOW
        self.record = with_identifiers(written(grant("g", "research")), "x")
        self.obligations = {each.obligation_id: each for each in known(self.record).obligations}
        self.told = Told(self.record.subject_ref, "shop", "main", "research", "x")
        self.held: list[str] = []
        self.seen: set[tuple[str, int]] = set()
        self.flying: list[tuple[str, Attempt, Obligation]] = []
        self.calls = 0

    def withdraw(self) -> None:
        self.record = apply(self.record, admitted(consent(f"w{self.now}", "research", at=self.now)))
        for each in known(self.record).obligations:
            self.obligations.setdefault(each.obligation_id, each)

    def work(self) -> Work:
        what = Known(self.record, tuple(self.obligations.values()), {self.told.key: self.told})
        return reconcile(what, Recipient(SHOP, EFFECTS), RULES, self.now)

    def wake(self, *, starts: bool = True) -> None:
        """Decide and note; the calls begin now, or when their process goes on."""
        work = self.work()
        for owed, reason in work.reopened:
            self.write(owed, "reopened", reason=reason)
        for owed, _ in work.settled:
            self.write(owed, "settled", grade=Evidence.processed)
        for owed, by in work.superseded:
            self.write(owed, "superseded", reference=by)
        for each in work.calls:
            self.calls += 1
            owed = each.obligation
            begun = Attempt(
                each.effect,
                self.now,
                self.now + PATIENCE,
                obligation=owed.obligation_id[:8],
                generation=owed.round,
            )
            self.told = note(self.told, f"t{self.calls}", begun)
            self.write(owed, "attempting")
            self.flying.append((f"t{self.calls}", begun, owed))
            if starts:
                self.land(len(self.flying) - 1)

    def land(self, place: int, luck: str = "answered") -> None:
        """A call reaches the partner and ends, however long ago it was decided."""
        name, begun, owed = self.flying.pop(place)
        self.now += 1
        if luck != "lost" and (owed.obligation_id, owed.round) not in self.seen:
            self.seen.add((owed.obligation_id, owed.round))
            self.held.append(begun.effect)
        grade = Evidence.processed if luck == "answered" else Evidence.sent
        self.told = note(self.told, name, replace(begun, ended_at=self.now, grade=grade))
        if grade >= Evidence.accepted and clear_from([self.told], begun.effect, "in") > begun.started_at:
            self.write(replace(owed, generation=owed.round + 1), "reopened", reason="overtaken")
        self.write(owed, "ended", grade=grade)

    def write(self, owed: Obligation, kind: str, **changes: Any) -> None:
        made = receipt(owed, kind, self.now, **{"generation": owed.round, **changes})
        self.obligations[owed.obligation_id] = settle(self.obligations[owed.obligation_id], made)


STEPS = st.one_of(
    st.sampled_from(["withdraw", "wake", "stopped"]),
    st.tuples(st.just("land"), st.integers(0, 3), st.sampled_from(["answered", "swallowed", "lost"])),
    st.tuples(st.just("wait"), st.integers(1, 2 * PATIENCE)),
)


@given(st.lists(STEPS, max_size=16))
@settings(max_examples=400)
def test_whatever_overlaps_or_sleeps_the_last_word_at_the_partner_is_the_records(steps: list[Any]) -> None:
    desk = Desk()
    for step in steps:
        match step:
            case "withdraw":
                desk.withdraw()
            case "wake":
                desk.wake()
            case "stopped":
                desk.wake(starts=False)
            case ("land", place, luck) if place < len(desk.flying):
                desk.land(place, luck)
            case ("wait", time):
                desk.now += time
            case _:
                pass
        desk.now += 1
    while desk.flying:
        desk.land(0)
    for _ in range(6):
        desk.now += PATIENCE + 1
        desk.wake()

    wanted = {each.verb for each in known(desk.record).obligations}
    assert desk.held[-1] == EFFECTS[wanted.pop()]
    assert all(each.state in ENDED for each in desk.obligations.values())
    assert desk.work() == Work()


@pytest.mark.parametrize("late", [0, 1])
def test_a_permission_that_lands_after_the_restriction_was_done_does_not_stay(late: int) -> None:
    desk = Desk()
    desk.wake(starts=False)
    desk.now += PATIENCE + 2
    desk.withdraw()
    desk.wake()
    assert desk.held == ["out"]

    desk.now += late
    desk.land(0)
    desk.now += 1
    desk.wake()

    assert desk.held == ["out", "in", "out"]
