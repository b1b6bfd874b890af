"""The keyring as text: TOML of base64 keys, one table for each ring of generations. Made, read, and changed here."""

import base64
import binascii
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from todoke.processors.keys import KEY_BYTES, RINGS, Keyring, Ring, check
from todoke.schemas.errors import Misconfigured
from todoke.schemas.record import by_number

Random = Callable[[int], bytes]
FIX = "make a file with `todoke keys new PATH`, and keep a copy where only keys are kept"
HEAD = """\
# Todoke's keys. Whoever has them can open every identifier; without them nothing opens again.
# `reference` is never rotated: every subject's internal name comes from it.
"""


def parse(text: str) -> Keyring:
    """The keyring in a TOML text. Raises `Misconfigured`; no message holds a key."""
    try:
        tree: dict[str, Any] = tomllib.loads(text)
        rings = {name: _ring(dict(tree[name])) for name in RINGS}
        return check(Keyring(reference=_key(tree["reference"]), **rings))
    except KeyError as error:
        raise Misconfigured(f"keys: {error.args[0]} is missing: {FIX}") from None
    except (tomllib.TOMLDecodeError, binascii.Error, AttributeError, TypeError, ValueError):
        raise Misconfigured(f"keys: expected TOML of base64 keys: {FIX}") from None


def dump(keyring: Keyring) -> str:
    """The keyring as TOML: the inverse of `parse`."""
    text = f'{HEAD}reference = "{_text(keyring.reference)}"\n'
    for ring, each in keyring.rings():
        lines = [f'{name} = "{_text(each.keys[name])}"' for name in sorted(each.keys, key=by_number)]
        text += "\n".join(["", f"[{ring}]", f'current = "{each.current}"', *lines, ""])
    return text


def fresh(random: Random = os.urandom) -> Keyring:
    """A new keyring, with one generation of each key."""
    rings = {ring: Ring(f"{ring[0]}1", {f"{ring[0]}1": random(KEY_BYTES)}) for ring in RINGS}
    return Keyring(reference=random(KEY_BYTES), **rings)


def create(path: Path, random: Random = os.urandom) -> None:
    """Write a new keyring to `path`, for the owner's eyes alone. Refuses to overwrite one."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(
            f"keys: {path} exists, and overwriting it would lose what it opens: choose another path"
        ) from None
    with os.fdopen(handle, "w") as file:
        file.write(dump(fresh(random)))


def read(path: Path) -> Keyring:
    """The keyring in a file. Raises `Misconfigured`."""
    try:
        return parse(path.read_text())
    except OSError as error:
        raise Misconfigured(f"keys: {path}: {error.strerror}: {FIX}") from None


def rewrite(path: Path, keyring: Keyring) -> None:
    """Put another keyring in place of the one at `path`: whole or not at all, for the owner's eyes alone."""
    beside = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(dump(check(keyring)))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def add(keyring: Keyring, ring: str, random: Random = os.urandom) -> tuple[Keyring, str]:
    """The keyring with one generation more, and its name. It is not current yet: every process must have it first."""
    held: Ring = getattr(keyring, ring)
    newest = max(held.keys, key=by_number)
    name = f"{newest.rstrip('0123456789')}{by_number(newest)[0] + 1}"
    return _with(keyring, ring, replace(held, keys=held.keys | {name: random(KEY_BYTES)})), name


def use(keyring: Keyring, ring: str, name: str) -> Keyring:
    """The keyring with another current generation. Raises `Misconfigured` for one that is older than it."""
    held: Ring = getattr(keyring, ring)
    if name in held.keys and by_number(name) < by_number(held.current):
        raise Misconfigured(f"keys: {ring}.{name} is older than the current one: add a new one instead")
    return check(_with(keyring, ring, replace(held, current=name)))


def remove(keyring: Keyring, ring: str, name: str) -> Keyring:
    """The keyring without one generation. Raises `Misconfigured` for the current one, or one that it hasn't."""
    held: Ring = getattr(keyring, ring)
    if name == held.current or name not in held.keys:
        what = "is the current one" if name == held.current else "is not in the keyring"
        raise Misconfigured(f"keys: {ring}.{name} {what}: see `todoke keys status`")
    return _with(keyring, ring, replace(held, keys={each: key for each, key in held.keys.items() if each != name}))


def _with(keyring: Keyring, name: str, ring: Ring) -> Keyring:
    return Keyring(keyring.reference, **{**dict(keyring.rings()), name: ring})


def _ring(table: dict[str, Any]) -> Ring:
    current = table.pop("current")
    return Ring(str(current), {str(name): _key(key) for name, key in table.items()})


def _key(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
