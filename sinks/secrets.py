"""Secrets by reference: `env:NAME` or `file:PATH` in the registry, read once at start, never printed."""

from collections.abc import Mapping
from hmac import compare_digest
from pathlib import Path
from typing import Any, NoReturn

from msgspec.structs import replace

from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Partner

ENVIRONMENT = "env:"
FILE = "file:"


class Secret:
    """A value that must not be shown. `reveal` is the one way to it, so every use can be found by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: for a signature or a header, never for a message."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled or copied")


def is_reference(value: str) -> bool:
    """Whether `value` names where a secret is read from."""
    return any(value.startswith(scheme) and value != scheme for scheme in (ENVIRONMENT, FILE))


def resolve(partner: Partner, environ: Mapping[str, str]) -> tuple[Partner, dict[str, Secret]]:
    """The partner with every setting `env:NAME` replaced by its value, and its secrets by name.

    Raises `Misconfigured`, which names partner, key and fix, when a variable or file is missing or empty.
    """
    secrets = {
        key: Secret(read(reference, f"partner {partner.name}: secrets.{key}", environ))
        for key, reference in partner.secrets.items()
    }
    settings = {
        key: _substitute(value, f"partner {partner.name}: settings.{key}", environ)
        for key, value in partner.settings.items()
    }
    return replace(partner, settings=settings), secrets


def _substitute(value: Any, where: str, environ: Mapping[str, str]) -> Any:
    """Tables and lists are walked: an audience's id may differ between staging and production too."""
    if isinstance(value, dict):
        return {key: _substitute(each, f"{where}.{key}", environ) for key, each in value.items()}
    if isinstance(value, list):
        return [_substitute(each, f"{where}[{index}]", environ) for index, each in enumerate(value)]
    if isinstance(value, str) and value.startswith(ENVIRONMENT):
        return _variable(value, where, environ)
    return value


def read(reference: str, where: str, environ: Mapping[str, str]) -> str:
    """What a reference leads to. Raises `Misconfigured`, which begins with `where` and never holds the value."""
    if reference.startswith(ENVIRONMENT):
        return _variable(reference, where, environ)
    if not reference.startswith(FILE):
        raise Misconfigured(f"{where}: a secret stands here itself; give env:NAME or file:PATH instead")
    path = Path(reference.removeprefix(FILE))
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{where}: can't read {path}: {type(error).__name__}; mount or write it") from None
    if not value:
        raise Misconfigured(f"{where}: {path} is empty; write the secret into it")
    return value


def _variable(reference: str, where: str, environ: Mapping[str, str]) -> str:
    name = reference.removeprefix(ENVIRONMENT)
    value = environ.get(name, "").strip()
    if not value:
        raise Misconfigured(f"{where}: the variable {name} is missing or empty; set it")
    return value
