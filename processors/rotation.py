"""Rotating keys in a record: what still leans on an old generation, and the record that doesn't any more.

Nothing is decided anew by it: names of identifiers stay, so told-state and obligations stay as they are.
"""

from msgspec import Struct
from msgspec.structs import replace

from todoke.schemas.record import ERASED, Key, SealedIdentifier, SubjectRecord, base, by_number, join

from .identifiers import canonical
from .keys import Keyring, Random, aliases, open_identifier, open_key, rewrap


class Needed(Struct, frozen=True):
    """How many subjects there are, and how many would be lost without each generation (`wrapping.w1`)."""

    subjects: int
    by: dict[str, int]


def needs(record: SubjectRecord, keyring: Keyring) -> frozenset[str]:
    """The generations without which something of the record could not be opened, or found.

    An identifier needs an old alias key until it has a hash under the current one.
    """
    wrapping = {f"wrapping.{key.wrapping}" for key in record.keys.values()}
    return frozenset(wrapping | {f"alias.{_finds(each, keyring)}" for each in record.identifiers.values()})


def stale(record: SubjectRecord, keyring: Keyring) -> bool:
    """Whether `renew` would change the record. What a later generation than the current one wrapped stays as it is."""
    return any(_behind(key, keyring) for key in record.keys.values()) or any(
        keyring.alias.current not in each.aliases for each in record.identifiers.values()
    )


def renew(record: SubjectRecord, keyring: Keyring, random: Random) -> SubjectRecord:
    """The record with its data keys wrapped, and its identifiers to be found, under the current generations.

    The version is left to the writer. Raises `Unopened` when the keyring lacks the key that is to be replaced.
    """
    ref = record.subject_ref
    keys = {name: rewrap(keyring, ref, name, key, random) for name, key in record.keys.items() if _behind(key, keyring)}
    found: dict[str, SealedIdentifier] = {}
    for name, each in record.identifiers.items():
        if keyring.alias.current not in each.aliases:
            data_key = open_key(keyring, ref, each.generation, record.keys[each.generation])
            value = canonical(each.kind, open_identifier(data_key, ref, each.kind, each.sealed))  # type: ignore[arg-type]  # admitted kinds only
            found[name] = replace(each, aliases=each.aliases | aliases(keyring, each.kind, value))
    return join(record, SubjectRecord(ref, keys=keys, identifiers=found))


def mark(record: SubjectRecord) -> SubjectRecord:
    """What says that, and how much, has been shredded of a subject: joined to an older copy, it shreds it again."""
    erased = {name: each for name, each in record.registers.items() if base(name) == ERASED}
    return SubjectRecord(
        record.subject_ref,
        registers=erased,
        shredded_through=record.shredded_through,
        identifiers_shredded=record.identifiers_shredded,
        merges=record.merges,  # without them, what others of the person had deleted would not count
    )


def _behind(key: Key, keyring: Keyring) -> bool:
    return by_number(key.wrapping) < by_number(keyring.wrapping.current)


def _finds(each: SealedIdentifier, keyring: Keyring) -> str:
    """The generation of the alias key that finds the identifier: the current one, else the latest that does."""
    if keyring.alias.current in each.aliases:
        return keyring.alias.current
    return max(each.aliases, key=by_number, default="?")
