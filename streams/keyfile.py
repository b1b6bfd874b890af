"""The keyring's file: where keys come from, and how new ones are made.

A keyring is TOML of base64 values, in a file (`file:PATH`) or in a variable (`env:NAME`).
"""

import base64
import binascii
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from todoke.processors.keys import KEY_BYTES, Keyring, check
from todoke.schemas.errors import Misconfigured

FIX = "make a file with `todoke keys PATH`, and keep a copy where only keys are kept"


def load(reference: str) -> Keyring:
    """The keyring that `reference` names. Raises `Misconfigured`; no message holds a key."""
    kind, _, name = reference.partition(":")
    if kind == "file":
        try:
            text = Path(name).read_text()
        except OSError as error:
            raise Misconfigured(f"keys: {name}: {error.strerror}: {FIX}") from None
    elif kind == "env" and name in os.environ:
        text = os.environ[name]
    else:
        raise Misconfigured(f"keys: expected file:PATH or env:NAME of a variable that is set: {FIX}")
    return parse(text)


def parse(text: str) -> Keyring:
    """The keyring in a TOML text."""
    try:
        tree: dict[str, Any] = tomllib.loads(text)
        wrapping = {name: base64.b64decode(key, validate=True) for name, key in tree["wrapping"].items()}
        plain = {name: base64.b64decode(tree[name], validate=True) for name in ("reference", "alias", "log")}
        return check(Keyring(**plain, wrapping=wrapping, current=tree["current"]))
    except KeyError as error:
        raise Misconfigured(f"keys: {error.args[0]} is missing: {FIX}") from None
    except (tomllib.TOMLDecodeError, binascii.Error, AttributeError, TypeError):
        raise Misconfigured(f"keys: expected TOML of base64 keys: {FIX}") from None


def render(random: Callable[[int], bytes]) -> str:
    """A new keyring as TOML."""

    def key() -> str:
        return base64.b64encode(random(KEY_BYTES)).decode()

    return "\n".join(
        [
            "# Todoke's keys. Whoever has them can open every identifier; without them nothing opens again.",
            "# `reference` is never rotated: every subject's internal name comes from it.",
            'current = "w1"',
            f'reference = "{key()}"',
            f'alias = "{key()}"',
            f'log = "{key()}"',
            "",
            "[wrapping]",
            f'w1 = "{key()}"',
            "",
        ]
    )


def create(path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
    """Write a new keyring to `path`, for the owner's eyes alone. Refuses to overwrite one."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(
            f"keys: {path} exists, and overwriting it would lose what it opens: choose another path"
        ) from None
    with os.fdopen(handle, "w") as file:
        file.write(render(random))
