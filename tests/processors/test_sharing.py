"""Identifiers that several subjects have: no grant for one while another of them is restricted there."""

from msgspec.structs import replace

from tests.rules import LATE, NOW, admitted, apply, consent, deletion, grant, owed, partner, rules, with_identifiers
from todoke.processors.merges import moved
from todoke.processors.plan import identify, of_partner
from todoke.processors.reconcile import Known, Recipient, Work, reconcile
from todoke.processors.sharing import together
from todoke.schemas.events import Event
from todoke.schemas.receipts import Evidence
from todoke.schemas.record import Claim, Merge, SubjectRecord, join
from todoke.schemas.told import Attempt, Told, possibilities, surely

SHOP = partner("shop", "research", "site", grants=True)
RULES = rules(SHOP)
DESK = Recipient(SHOP, {"grant": "in", "withdraw": "out", "suspend": "out", "delete": "gone"})


def somebody(ref: str, *said: Event, aliases: tuple[str, ...] = ("family",)) -> SubjectRecord:
    record = SubjectRecord(ref)
    for each in said:
        record = apply(record, admitted(each))
    return with_identifiers(record, *aliases)


def look(record: SubjectRecord, *sharers: SubjectRecord, **known: object) -> Work:
    obligations = tuple(owed(record, RULES).values())
    return reconcile(Known(record, obligations, {}, sharers, **known), DESK, RULES, LATE)  # type: ignore[arg-type]  # a test's words


def grants(work: Work) -> list[tuple[set[str], bool]]:
    return [({one.alias for one in each.identifiers}, each.partial) for each in work.calls if each.effect == "in"]


CHILD = somebody("child", grant("yes", "research", at=NOW))


def test_a_grant_waits_while_a_sharer_is_restricted_there() -> None:
    mother = somebody("mother", consent("no", "research", at=NOW - 5))

    work = look(CHILD, mother)

    assert not work.calls
    assert [reason for _, reason in work.blocked] == ["shared-identifier"]


def test_a_restriction_at_another_scope_or_of_nobody_holds_nothing_back() -> None:
    other = somebody("mother", consent("no", "site", at=NOW - 5))

    assert grants(look(CHILD, other)) == grants(look(CHILD)) == [({"family"}, False)]


def test_a_stop_asks_nobody() -> None:
    child = somebody("child", consent("no", "research", at=NOW))

    work = look(child, somebody("mother", grant("yes", "research", at=NOW + 5)))

    assert [each.effect for each in work.calls] == ["out"]


def test_what_is_not_shared_is_told_and_the_rest_keeps_the_obligation_open() -> None:
    child = somebody("child", grant("yes", "research", at=NOW), aliases=("family", "own"))
    mother = somebody("mother", consent("no", "research", at=NOW - 5))
    (call,) = look(child, mother).calls
    told = Told(
        "child", "shop", "main", "research", "own", {"t": Attempt("in", LATE, LATE + 1, LATE + 1, Evidence.accepted)}
    )

    then = reconcile(Known(child, (call.obligation,), {told.key: told}, (mother,)), DESK, RULES, LATE)

    assert grants(look(child, mother)) == [({"own"}, True)]
    assert (then.calls, then.settled) == ((), ())
    assert then.blocked == ((call.obligation, "shared-identifier"),)


def test_of_an_unlinked_identifier_grants_are_told_no_more_and_stops_are() -> None:
    claims = {"email/former": Claim(linked=False, at=NOW + 1, event_id="moved")}
    granted = replace(somebody("child", grant("yes", "research", at=NOW), aliases=("former", "own")), claims=claims)
    stopped = replace(somebody("child", consent("no", "research", at=NOW), aliases=("former", "own")), claims=claims)

    assert grants(look(granted)) == [({"own"}, False)]
    assert [{one.alias for one in each.identifiers} for each in look(stopped).calls] == [{"former", "own"}]


def test_an_unlink_gives_nobodys_earlier_grant_back_and_a_later_one_counts() -> None:
    claims = {"email/family": Claim(linked=False, at=NOW + 1, event_id="moved")}
    mother = replace(somebody("mother", consent("no", "research", at=NOW - 5)), claims=claims)
    later = somebody("child", grant("again", "research", at=NOW + 2))

    assert not look(CHILD, mother).calls
    assert grants(look(later, mother)) == [({"family"}, False)]


def test_after_a_sharers_deletion_only_a_later_grant_counts_once_it_was_carried_out() -> None:
    mother = somebody("mother", deletion("gone", at=NOW + 1))
    earlier = replace(CHILD, withheld={"family": NOW + 1})
    later = replace(somebody("child", grant("again", "research", at=NOW + 2)), withheld={"family": NOW + 1})
    (demand,) = [each for each in of_partner(mother, SHOP, RULES, LATE) if each.verb == "delete"]
    done = frozenset({identify("mother", demand)})

    assert [reason for _, reason in look(earlier, mother, carried_out=done).blocked] == ["erased-elsewhere"]
    assert [reason for _, reason in look(later, mother).blocked] == ["shared-identifier"]
    assert grants(look(later, mother, carried_out=done)) == [({"family"}, False)]


def renamed(record: SubjectRecord, first: str, **aliases: str) -> SubjectRecord:
    """The record, whose only identifier is called `first`, and found by `aliases`, too."""
    (place,) = record.identifiers
    mine = replace(record.identifiers[place], alias=first, aliases=aliases)
    return replace(record, identifiers={place: mine})


def test_a_sharer_who_has_the_identifier_under_another_first_alias_holds_a_grant_back() -> None:
    child = renamed(CHILD, "old", a1="old", a2="new")
    mother = renamed(somebody("mother", consent("no", "research", at=NOW - 5)), "newest", a2="new", a3="newest")
    stranger = renamed(mother, "else", a3="newest")

    assert [reason for _, reason in look(child, mother).blocked] == ["shared-identifier"]
    assert grants(look(child, stranger)) == [({"old"}, False)]


def test_what_was_said_and_told_of_an_identifier_counts_under_all_its_names() -> None:
    child = renamed(CHILD, "old", a1="old", a2="new")
    mother = renamed(somebody("mother", consent("no", "research", at=NOW - 5)), "newest", a2="new", a3="newest")
    left = replace(mother, claims={"email/newest": Claim(linked=False, at=NOW - 1, event_id="moved")})
    told = Told("mother", "shop", "main", "research", "newest", {"t": Attempt("out", NOW, NOW + 1)})

    assert look(replace(child, withheld={"new": NOW + 1})).blocked[0][1] == "erased-elsewhere"
    assert look(child, crowded=frozenset({"new"})).blocked[0][1] == "shared-by-many"
    assert grants(look(child, left)) == [({"old"}, False)]
    assert look(replace(child, claims={"email/new": Claim(False, NOW, "moved")})).blocked[0][1] == "unlinked"
    assert together({}, child, [(mother, [told])]) == {
        "shop|main|research|new": replace(told, subject_ref="child", alias="new")
    }


def test_an_identifier_that_too_many_have_is_told_no_grant() -> None:
    work = look(CHILD, crowded=frozenset({"family"}))

    assert [reason for _, reason in work.blocked] == ["shared-by-many"]


def test_a_stop_is_not_closed_by_its_own_call_when_a_sharer_was_granted_since() -> None:
    def told(ref: str, effect: str, at: int) -> Told:
        attempt = Attempt(effect, at, at + 1, at + 1, Evidence.accepted)
        return Told(ref, "shop", "main", "research", "family", {f"{ref}{at}": attempt})

    mine, theirs = told("mother", "out", NOW), told("child", "in", NOW + 10)

    mother = somebody("mother")
    joint = together({mine.key: mine}, mother, [(CHILD, [theirs])])
    elsewhere = together({mine.key: mine}, somebody("mother", aliases=("own",)), [(CHILD, [theirs])])

    assert surely([mine], "out", Evidence.accepted)
    assert possibilities(joint[mine.key]) == {"in"}
    assert elsewhere == {mine.key: mine}


def test_what_stood_for_a_merged_subject_falls_away_by_the_survivors_name_once_that_took_it_up() -> None:
    alone = somebody("mother", consent("no", "research", at=NOW))
    standing = tuple(owed(alone, RULES).values())
    merges = {"child/mother": Merge(NOW + 1, "one")}
    mother = replace(alone, merged_into="child", merges=merges)
    lacking = replace(CHILD, merges=merges)
    heir = join(lacking, moved(mother, "child"))
    (wanted,) = of_partner(heir, SHOP, RULES, LATE)

    early = reconcile(Known(mother, standing, {}, survivor=lacking), DESK, RULES, LATE)
    work = reconcile(Known(mother, standing, {}, survivor=heir), DESK, RULES, LATE)

    assert early == Work(wait="record")
    assert work == Work(superseded=((standing[0], identify("child", wanted)),))
    assert wanted.verb == "withdraw"


def test_a_merged_subjects_delete_goes_on_to_its_end() -> None:
    alone = somebody("mother", deletion("gone", at=NOW))
    standing = tuple(owed(alone, RULES).values())
    merges = {"child/mother": Merge(NOW + 1, "one")}
    mother = replace(alone, merged_into="child", merges=merges)
    heir = join(replace(CHILD, merges=merges), moved(mother, "child"))
    demanded = owed(mother, RULES)
    now = (*standing, *demanded.values())

    work = reconcile(Known(mother, now, {}, survivor=heir), DESK, RULES, LATE)

    assert {each.effect for each in work.calls} == {"gone"}
    assert {each.obligation.obligation_id for each in work.calls} == set(demanded)
