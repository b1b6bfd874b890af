"""Settings of a connector: a frozen struct declared beside its code, read with errors that name key and fix."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Misconfigured
from todoke.schemas.identity import IdentifierKind
from todoke.schemas.partners import Partner

from .secrets import ENVIRONMENT

Config = TypeVar("Config", bound=Struct)

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

Url = Annotated[str, Meta(description="An https address; http for this machine, or where insecure_http says so")]


def read(config: type[Config], partner: Partner) -> Config:
    """The settings of `partner` as `config`. Raises `Misconfigured` with every problem found."""
    found = problems(config, partner.settings)
    if found:
        raise Misconfigured(f"partner {partner.name}: " + "; ".join(found))
    return msgspec.convert(partner.settings, config)


def problems(config: type[Struct], settings: dict[str, Any]) -> list[str]:
    """What is wrong with the names and types in `settings`, each with its fix."""
    fields = msgspec.structs.fields(config)
    known = [field.name for field in fields]
    found = [f"settings.{key}: unknown setting{suggest(key, known)}" for key in settings if key not in known]
    found += [
        f"settings.{field.name}: missing; set it" for field in fields if field.required and field.name not in settings
    ]
    if not found:
        try:
            msgspec.convert(settings, config)
        except msgspec.ValidationError as error:
            # msgspec writes "$.audiences[...]" for the place
            found.append(f"settings: {error}".replace("`$.", "`settings."))
    return found


def suggest(word: str, known: Iterable[str]) -> str:
    """A question whether one of the `known` was meant, else the list of them."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known) or 'none'}"


def url_problems(name: str, url: str, *, insecure: bool) -> list[str]:
    """What is wrong with an address. One that is still `env:NAME` is judged when it is known."""
    if url.startswith(ENVIRONMENT):
        return []
    parts = split(url)
    host = (parts.hostname if parts else None) or ""
    if parts is None or parts.scheme not in {"http", "https"} or not _sound(host):
        return [f"settings.{name}: not an http(s) address; give https://host/path"]
    found = []
    if parts.scheme == "http" and not insecure and not this_machine(host):
        found.append(f"settings.{name}: http would show people's identifiers to the network; use https")
    if parts.username or parts.password or parts.fragment:
        found.append(f"settings.{name}: no user, password or fragment in an address; use secrets")
    return found


def unsaid(partner: Partner, kinds: Collection[IdentifierKind], where: str) -> list[str]:
    """Kinds that the entry accepts and its interface can't say: who has no other would be refused, not `unreachable`.

    So for an interface that takes one kind of data at a time, each kind is a partner of its own.
    """
    return [
        f"identifiers: {kind} can't be said with {where}; drop it, or make it a partner of its own"
        for kind in partner.identifiers
        if kind not in kinds
    ]


def account_problems(partner: Partner, setting: str, given: Collection[str], *, give: str, drop: str) -> list[str]:
    """What is wrong with a setting that has an entry for each account: `give` is what it holds, `drop` what one is called."""
    accounts = {account.name for account in partner.accounts}
    return [
        *(f"settings.{setting}: account {name} has none; give {give}" for name in sorted(accounts - set(given))),
        *(
            f"settings.{setting}: {name} is no account of this partner; add the account or drop the {drop}"
            for name in sorted(set(given) - accounts)
        ),
    ]


def sound(pattern: str | re.Pattern[str], text: str) -> bool:
    """Whether a value has the form wanted. One that is still `env:NAME` is judged when it is known."""
    return text.startswith(ENVIRONMENT) or bool(re.fullmatch(pattern, text))


def authority(url: str) -> str:
    """`host:port` of an address, as the sender's list of allowed hosts has it; empty when there is none."""
    parts = split(url)
    if parts is None or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = {"http": 80, "https": 443, "sftp": 22}.get(parts.scheme, 0) if parts.port is None else parts.port
    return f"{host}:{port}"


def split(url: str) -> SplitResult | None:
    """The parts of an address, None when its port or brackets are unsound."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _sound(host: str) -> bool:
    """An IP address, or labels of 1 to 63 letters, digits, hyphens and underscores; other scripts as `xn--`."""
    return ":" in host or all(_LABEL.fullmatch(label) for label in host.split("."))


def this_machine(host: str) -> bool:
    """Whether a host, with or without its port, is this machine and no other."""
    host = (split(f"//{host}") or SplitResult("", "", "", "", "")).hostname or host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
