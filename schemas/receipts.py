"""Evidence, and the receipts that carry it: what was tried at a partner and what came of it."""

from enum import IntEnum
from typing import Literal

from msgspec import Struct

Verb = Literal["grant", "withdraw", "suspend", "delete"]

RESTRICTIVE: frozenset[str] = frozenset({"withdraw", "suspend", "delete"})


class Evidence(IntEnum):
    """How strong the proof is (law 4). A 2xx is `accepted` at most; what counts as done is the partner's to state."""

    none = 0
    sent = 1
    accepted = 2
    processed = 3
    confirmed = 4


ReceiptKind = Literal["attempting", "ended", "settled", "reopened", "superseded", "blocked", "given-up", "person"]


class Receipt(Struct, frozen=True, kw_only=True):
    """One step of one obligation. Key of `receipts`: the subject.

    `attempting` is durable before a call starts; `ended` says how the call ended and with what grade; `settled` closes
    without a call since every possibility told already is what is asked; `reopened` begins the generation that it names,
    in which no earlier evidence counts, for `reason`; `superseded` names the newer obligation in `reference`; `blocked` leaves it open with a reason and an owner; `given-up`
    likewise, with a dead letter; `person` is an act of somebody of the privacy office (`by`, `reason` is the act, `ground` why,
    `reference` where the proof is kept).
    """

    receipt_id: str
    obligation_id: str
    subject_ref: str
    partner: str
    account: str
    scope: str
    verb: Verb
    kind: ReceiptKind
    at: int
    attempt: str = ""
    generation: int = 0
    grade: int = 0
    reason: str = ""
    reference: str = ""
    ground: str = ""
    by: str = ""
