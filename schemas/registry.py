"""The revisions of what Todoke is told to do: policies and partners, each as one text."""

from typing import Literal

from msgspec import Struct

RuleKind = Literal["policy", "partners"]


class RegistryRevision(Struct, frozen=True, kw_only=True):
    """One revision of the policy or of the partners, whole.

    `revision` rises by one with every change of its kind, going back to an old text included; `effective_at` is in ms;
    `toml` was validated before it was written.
    """

    kind: RuleKind
    revision: int
    effective_at: int
    toml: str

    @property
    def key(self) -> str:
        """Key in `registry`: one for each revision, so that compaction keeps the history (correctness, 13)."""
        return f"{self.kind}/{self.revision}"
