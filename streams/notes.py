"""What a dispatcher writes down, before and after every call: receipts, told-state and log rows.

The order is the guarantee: the attempt is durable before the call starts, the outcome before the wake-up is let go.
"""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from todoke.processors.fence import NAMED_BY, clear_from
from todoke.processors.keys import Keyring, Random, seal_for_log
from todoke.processors.reconcile import Call, Recipient
from todoke.schemas.codec import Codec
from todoke.schemas.events import DeadLetter, LogRow
from todoke.schemas.obligations import Obligation
from todoke.schemas.receipts import Evidence, Receipt, ReceiptKind
from todoke.schemas.told import Attempt, Told, note

from .kept import message
from .outbox import Letter
from .view import Cell, View

NOTES = UUID("9a4fd0c5-3a67-5a2b-a6ce-5f4d6f2b8e11")


class Try(Struct, frozen=True):
    """One call for one obligation: its attempt's name, when it was noted, and by when it has ended.

    `job` and `awaited_until` (ms) are there where it is known before the call by what name its job will be asked about.
    """

    call: Call
    attempt: str
    started_at: int
    ends_by: int
    job: str = ""
    awaited_until: int = 0


def request_id(owed: Obligation) -> str:
    """The id that the partner sees: the same for every try of the same generation (correctness, 10)."""
    return str(uuid5(NOTES, f"{owed.obligation_id}\x1f{owed.round}"))


class Ending(Struct, frozen=True):
    """How a try ended: the grade, or why not. `refused` when the partner surely did not act.

    `job` is the reference by which the partner may say more, `awaited_until` (ms) how long somebody waits for that.
    """

    ended_at: int
    grade: int
    reference: str = ""
    reason: str = ""
    refused: bool = False
    job: str = ""
    awaited_until: int = 0


RUNNING = Ending(0, Evidence.none)


def _attempt(tried: Try, end: Ending = RUNNING) -> Attempt:
    owed = tried.call.obligation
    return Attempt(
        tried.call.effect,
        tried.started_at,
        tried.ends_by,
        end.ended_at,
        end.grade,
        end.refused,
        owed.obligation_id[:NAMED_BY],
        owed.round,
        tried.call.partial,
        end.job or tried.job,
        end.awaited_until or tried.awaited_until,
    )


class Notes:
    """Writes for one partner."""

    def __init__(
        self, recipient: Recipient, view: View, codec: Codec, keyring: Keyring, topic: Callable[[str], str]
    ) -> None:
        """Everything is sealed or keyed: no note holds an identifier."""
        self.partner = recipient.partner
        self.permissive = recipient.permissive
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
        letters, _ = self._tell(tries, {each.attempt: _attempt(each) for each in tries})
        for each in tries:
            owed = each.call.obligation
            letters.append(self._receipt(owed, "attempting", Ending(each.started_at, Evidence.none), each.attempt))
            letters.append(self._row("delivery-intent", each, each.started_at, {}, random))
        return letters

    def ended(self, endings: Sequence[tuple[Try, Ending]], random: Random) -> tuple[list[Letter], dict[str, int]]:
        """Note in the view how each call ended, and make the letters that say so.

        Also returns, by attempt, from when on a call comes after every rival, for those that didn't. The evidence of
        such a call is noted, but a new generation has begun before it, in which it closes nothing.
        """
        attempts = {each.attempt: _attempt(each, end) for each, end in endings}
        letters, told = self._tell([each for each, _ in endings], attempts)
        overtaken = {}
        for each, end in endings:
            owed = each.call.obligation
            held = [told[self._cell(owed, *place)] for place in self.places(each.call)]
            clear = clear_from(held, each.call.effect, self.permissive)
            if clear > each.started_at:
                overtaken[each.attempt] = clear
                if end.grade >= Evidence.accepted:
                    later = replace(owed, generation=owed.round + 1)
                    letters.append(self._receipt(later, "reopened", Ending(end.ended_at, 0, reason="overtaken")))
            # a call for some of the identifiers ends nothing: what was told says how far it got
            shown = replace(end, grade=Evidence.none) if each.call.partial else end
            letters.append(self._receipt(owed, "ended", shown, each.attempt))
            facts = {"grade": end.grade, "reason": end.reason, "reference": end.reference}
            letters.append(self._row("delivery-outcome", each, end.ended_at, facts, random))
        return letters, overtaken

    def reported(self, tried: Try, end: Ending, reopened: str, random: Random) -> list[Letter]:
        """The letters that say what a partner reported of the job that a call became; `tried` is of that call's generation.

        `reopened` is why that evidence closes nothing, because the job failed or a rival may have come after it: a new
        generation begins.
        """
        owed, letters = tried.call.obligation, []
        if reopened:
            later = replace(owed, generation=owed.round + 1)
            letters.append(self._receipt(later, "reopened", Ending(end.ended_at, 0, reason=reopened)))
        shown = replace(end, grade=Evidence.none) if tried.call.partial else end
        letters.append(self._receipt(owed, "ended", shown, tried.attempt))
        facts = {"grade": end.grade, "reason": end.reason, "reference": end.reference}
        return [*letters, self._row("delivery-result", tried, end.ended_at, facts, random)]

    def given_up(self, obligation: Obligation, reason: str, at: int) -> list[Letter]:
        """The obligation stays open and blocked, with a dead letter by which a person can have it tried again."""
        name = f"{obligation.obligation_id}/{obligation.round}"
        dead = DeadLetter(
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
            Letter(self.topic("dead-letters"), name, self.codec.encode(dead)),
        ]

    def places(self, call: Call) -> list[tuple[str, str]]:
        """The (scope, alias) that a call speaks of: a delete speaks of every scope of its account."""
        owed = call.obligation
        scopes = [owed.scope]
        if owed.verb == "delete":
            scopes += [one for each in self.partner.accounts if each.name == owed.account for one in each.scopes]
        return [(scope, each.alias) for scope in dict.fromkeys(scopes) for each in call.identifiers]

    def _cell(self, owed: Obligation, scope: str, alias: str) -> Cell:
        return self.view.told.cell(owed.subject_ref, f"{self.partner.name}|{owed.account}|{scope}|{alias}")

    def _tell(self, tries: Iterable[Try], attempts: dict[str, Attempt]) -> tuple[list[Letter], dict[Cell, Told]]:
        """Join the attempts into the told-state of every place they speak of, and say what it holds then."""
        news: dict[Cell, list[tuple[str, Told]]] = {}
        for each in tries:
            owed = each.call.obligation
            for scope, alias in self.places(each.call):
                blank = Told(owed.subject_ref, self.partner.name, owed.account, scope, alias)
                news.setdefault(self._cell(owed, scope, alias), []).append((each.attempt, blank))

        def change(cell: Cell, held: Told | None) -> Told:
            told = held or news[cell][0][1]
            for name, _ in news[cell]:
                told = note(told, name, attempts[name])
            return told

        written = self.view.told.update(news, change)
        return [message(self.topic, self.codec, each) for each in written.values()], written

    def _receipt(self, owed: Obligation, kind: ReceiptKind, end: Ending, attempt: str = "") -> Letter:
        about = (owed.obligation_id, kind, attempt, str(end.grade), end.reason, end.reference, str(end.ended_at))
        parts = (*about, str(owed.round)) if owed.round > 1 else about
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
            generation=owed.round,
            grade=end.grade,
            reason=end.reason,
            reference=end.reference,
        )
        return Letter(self.topic("receipts"), owed.subject_ref, self.codec.encode(receipt))

    def _row(self, kind: str, each: Try, at: int, facts: dict[str, object], random: Random) -> Letter:
        owed = each.call.obligation
        about = f"{kind}\x1f{each.attempt}\x1f{owed.obligation_id}"
        if kind == "delivery-result":  # there may be several of one call
            about += f"\x1f{facts['grade']}\x1f{at}"
        row_id = str(uuid5(NOTES, about))
        known = {
            "obligation": owed.obligation_id,
            "verb": owed.verb,
            "account": owed.account,
            "scope": owed.scope,
            "effect": each.call.effect,
            "reasons": owed.reasons,
            "request": request_id(owed),
        }
        if each.call.identifiers:
            known["identifiers"] = [identifier.kind for identifier in each.call.identifiers]
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
