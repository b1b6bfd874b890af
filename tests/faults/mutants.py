"""Ways to break the product, each with the run that must show it. Applied by the launcher, so this imports the product."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace


class Mutant(NamedTuple):
    """One way to break it: what is wrong then, how it is done, and the scenario that shows it."""

    says: str
    apply: Callable[[], None]
    scenario: str = "plain"


def put(owner: Any, name: str, value: Any) -> None:
    """Put something else in the place of what is there. AttributeError when nothing is."""
    getattr(owner, name)
    setattr(owner, name, value)


MUTANTS: dict[str, Mutant] = {}


def mutant(says: str, scenario: str = "plain") -> Callable[[Callable[[], None]], Callable[[], None]]:
    def enter(apply: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[apply.__name__.replace("_", "-")] = Mutant(says, apply, scenario)
        return apply

    return enter


@mutant("offsets are committed before the batch is done", "crash")
def commit_before_produce() -> None:
    from todoke.streams.runner import Runner

    inner = Runner._work

    def work(self: Runner, consumer: Any, messages: list[Any]) -> None:
        if messages:
            self._store(consumer, messages)
            consumer.commit(asynchronous=False)
        inner(self, consumer, messages)

    put(Runner, "_work", work)


@mutant("at equal times the grant wins")
def tie_goes_to_the_grant() -> None:
    from todoke.schemas.record import Register

    def rank(self: Register) -> tuple[Any, ...]:
        return (self.at, not self.restrictive, self.event_id, self.value, self.until, self.policy_version, self.ground)

    put(Register, "rank", property(rank))


@mutant("the last to arrive wins, whatever its time")
def merge_by_arrival() -> None:
    from todoke.schemas import record

    put(record, "_later", lambda _, theirs: theirs)


@mutant("one partner's directives are not sent")
def a_directive_skipped() -> None:
    from todoke.streams.letters import Letters

    inner = Letters.directives

    def directives(self: Letters, *arguments: Any) -> Any:
        return (each for each in inner(self, *arguments) if not each.topic.endswith("aozora-analytics"))

    put(Letters, "directives", directives)


@mutant("what was told once is believed for ever")
def stale_told_state() -> None:
    from todoke.processors import reconcile

    put(reconcile, "surely", lambda *_: True)
    put(reconcile, "_heard", lambda *_: True)


@mutant("the keeper overwrites the view with what it reads", "lag")
def the_keeper_overwrites() -> None:
    from todoke.streams import kept

    put(kept, "join_records", lambda _, read: read)
    put(kept, "join_obligations", lambda _, read: read)


@mutant("a grant takes the place of a delete")
def a_delete_superseded_by_a_grant() -> None:
    from todoke.processors import plan, reconcile

    inner = plan.supersessions

    def supersessions(current: Any, standing: Any, ref: str, accounts: Any = ()) -> dict[str, str]:
        found = inner(current, standing, ref, accounts)
        grants = [plan.identify(ref, each) for each in current if each.verb == "grant"]
        return found | {each.obligation_id: grants[0] for each in standing if grants and each.verb == "delete"}

    put(reconcile, "supersessions", supersessions)


@mutant("a copy of an event is answered anew", "copies")
def the_outcome_of_duplicates() -> None:
    from todoke.streams.index import Index

    put(Index, "first_outcomes", lambda _, outcomes: list(outcomes))


@mutant("a deletion voids nothing")
def the_watermark_ignored() -> None:
    from todoke.schemas.record import SubjectRecord

    put(SubjectRecord, "erased_through", property(lambda _: 0))


@mutant("nothing is noted before a call", "killed-after-send")
def the_attempt_not_noted() -> None:
    from todoke.streams.notes import Notes

    put(Notes, "begun", lambda *_: [])


@mutant("a desk acts on a view that is being healed", "wiped")
def a_view_that_is_not_current() -> None:
    from todoke.streams.epoch import Watch

    put(Watch, "require", lambda *_: 0)


@mutant("a grant counts from its own time, however fast its clock")
def a_fast_clock_is_believed() -> None:
    from todoke.processors.admit import admit
    from todoke.streams import intake

    def late(event: Any, policy: Any, appended_at: int, _: int | None = None) -> Any:
        return admit(event, policy, appended_at + 600_000)

    put(intake, "admit", late)


@mutant("a restriction closes although a grant may have been the last call", "ambiguous")
def closed_on_ambiguous_told() -> None:
    from todoke.processors import reconcile
    from todoke.schemas.told import possibilities

    def surely(told: Any, effect: str, _: int) -> bool:
        return all(effect in possibilities(each) for each in told)

    put(reconcile, "surely", surely)


@mutant("an obligation's id leaves out what decided it")
def an_id_without_stamps() -> None:
    from todoke.processors import balance, plan, reconcile
    from todoke.streams import letters, review, settling

    inner = plan.identify

    def identify(ref: str, demand: Any) -> str:
        return inner(ref, replace(demand, stamps=()))

    for module in (plan, reconcile, letters, review, settling, balance):
        put(module, "identify", identify)


@mutant("what is to be looked at later is forgotten", "failing")
def a_deferred_entry_dropped() -> None:
    from todoke.streams.due import Due

    put(Due, "defer", lambda self, entries: self.settle([each for each, _ in entries]))


@mutant("what is refused leaves no dead letter")
def a_dead_letter_dropped() -> None:
    from todoke.streams.letters import Letters

    put(Letters, "dead", lambda *_: ())


@mutant("a new address is not told", "linked")
def a_new_identifier_not_told() -> None:
    from todoke.processors import plan

    put(plan, "identifier_generation", lambda *_: 0)


@mutant("data given after a stop changes nothing", "given")
def a_provision_after_a_stop_ignored() -> None:
    from todoke.processors import plan, reconcile

    put(plan, "HELD", "nothing/")
    inner = plan._demand

    def demand(verdict: Any, partner: Any, account: str, record: Any, rules: Any) -> Any:
        return inner(verdict, partner, account, replace(record, holdings={}), rules)

    put(plan, "_demand", demand)
    put(reconcile, "_since", lambda *_: 0)


@mutant("identifiers are destroyed before all have heard of the deletion")
def shredded_too_early() -> None:
    from todoke.streams.intake import Intake

    put(Intake, "_held", lambda *_: False)


@mutant("a request of somebody unverified is acted on", "refused")
def an_unverified_request_admitted() -> None:
    from todoke.processors import admit

    put(admit, "_verified", lambda *_: None)


@mutant("a log line names the person")
def a_name_in_a_log() -> None:
    from todoke.streams.intake import Intake

    inner = Intake._resolve

    def resolve(self: Intake, taken: Any) -> Any:
        for each in taken[:1]:
            logging.getLogger("todoke").warning("taken in: %s", each.event.subject)
        return inner(self, taken)

    put(Intake, "_resolve", resolve)


@mutant("a call is made however long ago it was decided", "slept")
def an_old_decision_sent() -> None:
    from todoke.streams.desk import Desk

    put(Desk, "_guard", lambda self, _: self.tools.now())


@mutant("a stop for one channel stops nothing", "plain")
def an_unsubscription_ignored() -> None:
    from todoke.processors import decide

    def channel(found: Any, _: Any, __: str) -> None:
        found.granted.append("subscribed")

    put(decide, "_channel", channel)


def named(names: Sequence[str]) -> Mapping[str, Mutant]:
    """Those asked for, or all. Raises KeyError for one that there is not."""
    return {name: MUTANTS[name] for name in names or MUTANTS}
