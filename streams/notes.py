"""What a dispatcher writes down, before and after every call: receipts, told-state and log rows.

The order is the guarantee: the attempt is durable before the call starts, the outcome before the wake-up is let go.
"""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct

from todoke.processors.keys import Keyring, Random, seal_for_log
from todoke.processors.reconcile import Call
from todoke.schemas.codec import Codec
from todoke.schemas.events import DeadLetter, LogRow
from todoke.schemas.obligations import Obligation
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Receipt, ReceiptKind
from todoke.schemas.told import Attempt, Told, note

from .outbox import Letter
from .view import Cell, View

NOTES = UUID("9a4fd0c5-3a67-5a2b-a6ce-5f4d6f2b8e11")


class Try(Struct, frozen=True):
    """One call for one obligation: its attempt's name, when it was decided and started, and by when it has ended."""

    call: Call
    attempt: str
    started_at: int
    ends_by: int
    decided_at: int


def request_id(owed: Obligation) -> str:
    """The id that the partner sees: the same for every try of the same generation (correctness, 10)."""
    return str(uuid5(NOTES, f"{owed.obligation_id}\x1f{max(owed.generation, 1)}"))


class Ending(Struct, frozen=True):
    """How a try ended: the grade, or why not. `refused` when the partner surely did not act."""

    ended_at: int
    grade: int
    reference: str = ""
    reason: str = ""
    refused: bool = False


class Notes:
    """Writes for one partner."""

    def __init__(
        self, partner: Partner, view: View, codec: Codec, keyring: Keyring, topic: Callable[[str], str]
    ) -> None:
        """Everything is sealed or keyed: no note holds an identifier."""
        self.partner = partner
        self.view = view
        self.codec = codec
        self.keyring = keyring
        self.topic = topic

    def receipt(self, obligation: Obligation, kind: ReceiptKind, at: int, reason: str = "", by: str = "") -> Letter:
        """A receipt without a call; `by` names the newer obligation that takes its place."""
        return self._receipt(obligation, kind, Ending(at, Evidence.none, by, reason))

    def settled(self, obligation: Obligation, grade: int, at: int) -> Letter:
        """The receipt that closes an obligation which earlier calls have already met."""
        return self._receipt(obligation, "settled", Ending(at, grade, reason="told-already"))

    def begun(self, tries: Sequence[Try], random: Random) -> list[Letter]:
        """Note in the view that the partner may from now on hold each effect, and make the letters that say so."""
        attempts = {each.attempt: Attempt(each.call.effect, each.started_at, each.ends_by) for each in tries}
        letters = self._tell(tries, attempts)
        for each in tries:
            owed = each.call.obligation
            letters.append(self._receipt(owed, "attempting", Ending(each.started_at, Evidence.none), each.attempt))
            letters.append(self._row("delivery-intent", each, each.started_at, {}, random))
        return letters

    def ended(self, endings: Sequence[tuple[Try, Ending]], random: Random) -> list[Letter]:
        """Note in the view how each call ended, and make the letters that say so."""
        attempts = {
            each.attempt: Attempt(each.call.effect, each.started_at, each.ends_by, end.ended_at, end.grade, end.refused)
            for each, end in endings
        }
        letters = self._tell([each for each, _ in endings], attempts)
        for each, end in endings:
            letters.append(self._receipt(each.call.obligation, "ended", end, each.attempt))
            facts = {"grade": end.grade, "reason": end.reason, "reference": end.reference}
            letters.append(self._row("delivery-outcome", each, end.ended_at, facts, random))
        return letters

    def given_up(self, obligation: Obligation, reason: str, at: int) -> list[Letter]:
        """The obligation stays open and blocked, with a dead letter by which a person can have it tried again."""
        name = f"{obligation.obligation_id}/{max(obligation.generation, 1)}"
        letter = DeadLetter(
            letter_id=name,
            kind="delivery",
            reason=reason,
            field="",
            fix="Mend the cause at the partner or in its settings, then `todoke replay --partner NAME`.",
            topic=f"directives.{self.partner.name}",
            partition=0,
            offset=0,
            appended_at=obligation.appended_at,
            refused_at=at,
            event_id=obligation.event_id,
            partner=self.partner.name,
        )
        return [
            self._receipt(obligation, "given-up", Ending(at, Evidence.none, reason=reason)),
            Letter(self.topic("dead-letters"), name, self.codec.encode(letter)),
        ]

    def places(self, call: Call) -> list[tuple[str, str]]:
        """The (scope, alias) that a call speaks of: a delete speaks of every scope of its account."""
        owed = call.obligation
        scopes = [owed.scope]
        if owed.verb == "delete":
            scopes += [one for each in self.partner.accounts if each.name == owed.account for one in each.scopes]
        return [(scope, each.alias) for scope in dict.fromkeys(scopes) for each in call.identifiers]

    def _tell(self, tries: Iterable[Try], attempts: dict[str, Attempt]) -> list[Letter]:
        """Join the attempts into the told-state of every place they speak of."""
        news: dict[Cell, list[tuple[str, Told]]] = {}
        for each in tries:
            owed = each.call.obligation
            for scope, alias in self.places(each.call):
                blank = Told(owed.subject_ref, self.partner.name, owed.account, scope, alias)
                news.setdefault(self.view.told.cell(owed.subject_ref, blank.key), []).append((each.attempt, blank))

        def change(cell: Cell, held: Told | None) -> Told:
            told = held or news[cell][0][1]
            for name, _ in news[cell]:
                told = note(told, name, attempts[name])
            return told

        written = self.view.told.update(news, change)
        topic = self.topic("told")
        return [Letter(topic, f"{each.subject_ref}|{each.key}", self.codec.encode(each)) for each in written.values()]

    def _receipt(self, owed: Obligation, kind: ReceiptKind, end: Ending, attempt: str = "") -> Letter:
        parts = (owed.obligation_id, kind, attempt, str(end.grade), end.reason, end.reference, str(end.ended_at))
        receipt = Receipt(
            receipt_id=str(uuid5(NOTES, "\x1f".join(parts))),
            obligation_id=owed.obligation_id,
            subject_ref=owed.subject_ref,
            partner=owed.partner,
            account=owed.account,
            scope=owed.scope,
            verb=owed.verb,
            kind=kind,
            at=end.ended_at,
            attempt=attempt,
            generation=max(owed.generation, 1),
            grade=end.grade,
            reason=end.reason,
            reference=end.reference,
        )
        return Letter(self.topic("receipts"), owed.subject_ref, self.codec.encode(receipt))

    def _row(self, kind: str, each: Try, at: int, facts: dict[str, object], random: Random) -> Letter:
        owed = each.call.obligation
        row_id = str(uuid5(NOTES, f"{kind}\x1f{each.attempt}\x1f{owed.obligation_id}"))
        known = {
            "obligation": owed.obligation_id,
            "verb": owed.verb,
            "account": owed.account,
            "scope": owed.scope,
            "effect": each.call.effect,
            "reasons": owed.reasons,
            "request": request_id(owed),
            "identifiers": [identifier.kind for identifier in each.call.identifiers],
        }
        payload = msgspec.json.encode(known | facts)
        row = LogRow(
            row_id=row_id,
            kind=kind,
            subject_ref=owed.subject_ref,
            source=f"dispatch/{self.partner.name}",
            number=0,
            at=at,
            cause=owed.obligation_id,
            partner=self.partner.name,
            payload=seal_for_log(self.keyring, row_id, payload, random),
        )
        return Letter(self.topic("provision-log"), owed.subject_ref, self.codec.encode(row))
