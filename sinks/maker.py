"""What makes a connector of a partner's entry, and judges the entry before anything is sent."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from todoke.schemas.errors import Misconfigured
from todoke.schemas.identity import IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import RESTRICTIVE, Evidence, Verb

from .base import Connector
from .secrets import Secret, is_reference
from .settings import problems, suggest


class Maker(NamedTuple):
    """What makes a connector, and judges a partner's entry before anything is sent.

    `config` is the struct of its settings; `secrets` has a description of each and whether it must be there; `kinds`
    are the identifiers it can express; `reaches`, `addresses` (every one that it calls) and `problems` read a config that is
    sound in itself. With `parts`, an entry may leave restrictions out: whoever has no deadline is not asked of it.
    """

    config: type[Struct]
    secrets: Mapping[str, tuple[str, bool]]
    kinds: frozenset[IdentifierKind]
    effects: Mapping[Verb, str]
    reaches: Evidence | Callable[[Any], Evidence]
    addresses: Callable[[Any], tuple[str, ...]]
    problems: Callable[[Any, Partner], list[str]]
    make: Callable[[Partner, Mapping[str, Secret]], Connector]
    parts: bool = False

    def build(self, partner: Partner, secrets: Mapping[str, Secret]) -> Connector:
        """The connector of `partner`, whose settings are resolved. Raises `Misconfigured` with what `check` finds."""
        found = self.check(partner)
        found += [
            f"secrets.{name}: missing" for name in self._wanted() if name in partner.secrets and name not in secrets
        ]
        if found:
            raise Misconfigured(f"partner {partner.name}: " + "; ".join(found))
        return self.make(partner, secrets)

    def check(self, partner: Partner) -> list[str]:
        """Every problem of the entry, each with its key and its fix; empty when it is sound. Reads no secret."""
        found = self._secret_problems(partner)
        found += self._verb_problems(partner)
        found += problems(self.config, partner.settings)
        useful = self.kinds.intersection(partner.identifiers)
        if not useful:
            found.append(f"identifiers: this interface takes {', '.join(sorted(self.kinds))}; accept one of them")
        try:
            config = msgspec.convert(partner.settings, self.config)
        except msgspec.ValidationError:
            return found  # said above
        reach = self.reaches if isinstance(self.reaches, Evidence) else self.reaches(config)
        if Evidence.none < reach < Evidence[partner.done]:  # where it is none, a person closes what is owed
            found.append(
                f"done: {partner.done} is more than this interface gives evidence of; say {reach.name} at most"
            )
        return found + self.problems(config, partner)

    def _wanted(self) -> list[str]:
        return [name for name, (_, required) in self.secrets.items() if required]

    def _secret_problems(self, partner: Partner) -> list[str]:
        given = partner.secrets
        found = [
            f"secrets.{name}: unknown secret{suggest(name, self.secrets)}" for name in given if name not in self.secrets
        ]
        found += [
            f"secrets.{name}: missing; give env:NAME or file:PATH" for name in self._wanted() if name not in given
        ]
        return found + [
            f"secrets.{name}: a secret stands here itself; give env:NAME or file:PATH instead"
            for name, reference in given.items()
            if not is_reference(reference)
        ]

    def _verb_problems(self, partner: Partner) -> list[str]:
        """A deadline is needed for whatever is asked here, and can't be given for what can't be asked."""
        grants = {"grant"} if partner.grants else set()
        given = set(partner.deadline_hours)
        found = [
            f"deadline_hours.{verb}: can't be asked here; known: {', '.join(self.effects)}"
            for verb in sorted((given | grants) - set(self.effects))
        ]
        restrictions = set() if self.parts and RESTRICTIVE & given else RESTRICTIVE
        return found + [
            f"deadline_hours.{verb}: missing; write {verb} = 24, or what the contract says"
            for verb in sorted((restrictions | grants) & set(self.effects) - given)
        ]
