"""What the ledger keeps: a record of one row of the provision log, in four faces that can be shown apart.

A record is committed to face by face, so that one face can be withheld and the rest still be proved (decision 0020).
"""

from typing import Any, Literal

from msgspec import Struct

Face = Literal["head", "disclosable", "principal", "internal"]
FACES: tuple[Face, ...] = ("head", "disclosable", "principal", "internal")
"""In the order in which they are committed to; never changed, since old commitments stand on it."""


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record. Times are ms since 1970 UTC, days are ISO days in JST.

    `record_id` is the row's id (UUIDv5), so that a row that comes twice is one record. `retention` names a class of the
    record rules; it counts from `anchor`, and `expires` is the first day on which nobody has to keep it any more, which
    a later provision may put off (empty: it is never over). `disclosable` is what the person may see (APPI Art. 33(5)),
    `principal` says who it is about, `internal` is for the privacy office, auditors and the Commission. Records of a person
    that have the same `rolls` are kept until the last of them has expired: they stand for one that goes on.
    """

    record_id: str
    kind: str
    rule: str
    at: int
    subject_ref: str
    source: str
    number: int
    partner: str = ""
    retention: str
    anchor: str
    expires: str
    supersedes: str = ""
    rolls: str = ""
    disclosable: dict[str, Any]
    principal: dict[str, Any]
    internal: dict[str, Any]

    def __repr__(self) -> str:
        """No part of who it is about: a record may end in a log line."""
        return f"Record({self.record_id}, {self.kind})"

    def face(self, name: Face) -> dict[str, Any]:
        """The values of one face, as they are committed to. What may change later (`expires`) is in none."""
        if name == "head":
            return {
                "anchor": self.anchor,
                "at": self.at,
                "kind": self.kind,
                "record_id": self.record_id,
                "retention": self.retention,
                "rule": self.rule,
                "supersedes": self.supersedes,
            }
        if name == "disclosable":
            return self.disclosable
        if name == "principal":
            return self.principal | {"subject_ref": self.subject_ref}
        return self.internal | {"number": self.number, "partner": self.partner, "source": self.source}
