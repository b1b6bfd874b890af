"""Where the keyring comes from: one small function for each kind of place, and one table of them.

A provider gets what stands after its name in the setting `keys`, and the installation's namespace, and returns the
keyring's TOML. It is called once, at start. It raises `Misconfigured`, which names the setting and the fix, and never
puts a key, a ciphertext or a foreign error's text into a message.
"""

import os
from collections.abc import Callable
from pathlib import Path

from todoke.processors.keys import Keyring
from todoke.schemas.errors import Misconfigured

from . import keyfile

Provider = Callable[[str, str], str]


def of_file(name: str, _: str) -> str:
    """A file: a mounted Secret, or what a key store's agent writes."""
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise Misconfigured(f"keys: {name}: {reason}: {keyfile.FIX}") from None


def of_environment(name: str, _: str) -> str:
    """A variable."""
    if not os.environ.get(name):
        raise Misconfigured(f"keys: the variable {name} is not set: set it to the text of a keyring, or name another")
    return os.environ[name]


def of_aws_kms(name: str, namespace: str) -> str:
    """A file sealed under a key of AWS KMS, opened by one call."""
    from . import kms

    return kms.opened(Path(name), namespace)


PROVIDERS: dict[str, Provider] = {"file": of_file, "env": of_environment, "aws-kms": of_aws_kms}
"""By the first word of the setting."""


def load(reference: str, namespace: str = "") -> Keyring:
    """The keyring that the setting `keys` names. Raises `Misconfigured`; no message holds a key."""
    kind, _, name = reference.partition(":")
    provider = PROVIDERS.get(kind)
    if provider is None or not name:
        raise Misconfigured(f"keys: expected file:PATH, env:NAME or aws-kms:PATH: {keyfile.FIX}")
    return keyfile.parse(provider(name, namespace))
