"""Identifiers of people, brought into one form: ours for finding a person, each vendor's for naming them there.

All functions are pure. A value that can't be of its kind is `Refused`, and the error never holds the value (law 7).
"""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import md5, sha1, sha256
from typing import Literal

import phonenumbers

from todoke.schemas.errors import Refused
from todoke.schemas.identity import IdentifierKind

VERSION = 1
"""Version of every form in this module.

A form is a promise: the alias index finds a person by the keyed hash of `canonical`, and a vendor removes a person only
when our hash equals the one that was uploaded. So a change that alters the result for any value that was accepted
before raises this number, and is a migration: the aliases are computed again from the sealed identifiers, and until that
has ended both are looked up (correctness, 1). Accepting what was refused before needs no new number. The vectors in the
tests pin the forms, also against a new release of `phonenumbers`, whose tables take part in the phone forms.
"""

REGION = "JP"
JAPAN = 81
LONGEST = 256
LONGEST_ADDRESS = 512
LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3: a path of 256 octets, less its angle brackets
LONGEST_LOCAL = 64  # RFC 5321, 4.5.3.1.1
LONGEST_DOMAIN = 253  # RFC 1035, 3.1, as text

_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"  # travel along when text is copied from a page
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2500\uff0d\ufe63"
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
_DEVICE = re.compile(r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.IGNORECASE)
_POSTAL_CODE = re.compile(r"(?:〒 ?(\d{3})-?(\d{4})|(\d{3})-(\d{4}))(?!\d) ?")
_LONG_VOWEL_AS_DASH = re.compile(r"(?<=\d)ー(?=\d)")
_NO_DEVICE = "00000000-0000-0000-0000-000000000000"

Hash = Literal["sha256", "sha1", "md5"]
Encoding = Literal["hex", "base64"]
_HASHES = {"sha256": sha256, "sha1": sha1, "md5": md5}


def canonical(kind: IdentifierKind, value: str) -> str:
    """The one form of `value` that finds its person, whoever wrote it and however. Raises `Refused`."""
    form = _CANONICAL.get(kind)
    if form is None:
        raise Refused("invalid-identifier", "identifiers", "Give a kind of identifier that the schema lists.")
    return form(value)


def email(value: str) -> str:
    """Trim, lower-case, NFKC; one @ between a local part and a domain of at least two labels.

    For addresses in ASCII this is the "trim and lower-case" of Meta, Google, Snap, Microsoft and LiveRamp. Dots are not
    judged: Japanese carriers have given out `a..b@` and `a.@`, which RFC 5321 does not allow.
    """
    folded = _fold(_fold(value).lower())
    local, at, domain = folded.partition("@")
    labels = domain.split(".")
    sound = (
        at == "@"
        and _clean(folded)
        and " " not in folded
        and 0 < len(local.encode()) <= LONGEST_LOCAL
        and len(domain) <= LONGEST_DOMAIN
        and len(folded.encode()) <= LONGEST_EMAIL
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels)
    )
    if not sound:
        raise Refused("invalid-identifier", "identifiers.email", "Give one address, such as name@example.com.")
    return folded


def email_gmail(value: str) -> str:
    """`email`, without dots and `+tag` where the domain is gmail.com: the form of UID2, and so of The Trade Desk."""
    local, _, domain = email(value).partition("@")
    return f"{local.split('+')[0].replace('.', '')}@{domain}" if domain == "gmail.com" else f"{local}@{domain}"


def email_google(value: str) -> str:
    """`email`, without dots and `+tag` where the domain is gmail.com or googlemail.com, which both stay as they are.

    Google, "Format user data" of the Data Manager API; until 2025 the page took the dots alone, at first nothing.
    """
    local, _, domain = email(value).partition("@")
    if domain not in {"gmail.com", "googlemail.com"}:
        return f"{local}@{domain}"
    bare = local.split("+")[0].replace(".", "")
    if not bare:
        raise Refused("invalid-identifier", "identifiers.email", "Give one address, such as name@example.com.")
    return f"{bare}@{domain}"


def email_analytics(value: str) -> str:
    """`email`, without dots where the domain is gmail.com or googlemail.com; `+tag` stays.

    Google, Analytics Admin API, `properties.submitUserDeletion`, which has kept the rule that "Format user data" left.
    """
    local, _, domain = email(value).partition("@")
    if domain not in {"gmail.com", "googlemail.com"}:
        return f"{local}@{domain}"
    bare = local.replace(".", "")
    if not bare:
        raise Refused("invalid-identifier", "identifiers.email", "Give one address, such as name@example.com.")
    return f"{bare}@{domain}"


def phone_e164(value: str) -> str:
    """E.164: `+`, country code, national number. Numbers without a country are Japanese.

    A number counts as one by its length, not by the allocation tables alone, which are older than the newest ranges: a
    stop must not be refused since a range was opened last month. An extension is left out.
    """
    return phonenumbers.format_number(_phone(value), phonenumbers.PhoneNumberFormat.E164)


def phone_digits(value: str) -> str:
    """Country code and national number, digits alone: Meta, Snap."""
    return phone_e164(value).removeprefix("+")


def phone_national(value: str) -> str:
    """The digits as dialled within the country, trunk 0 included: LINE and Yahoo! JAPAN, perhaps (unresolved)."""
    national = phonenumbers.format_number(_phone(value), phonenumbers.PhoneNumberFormat.NATIONAL)
    return "".join(character for character in national if character.isdecimal())


def digest(text: str, kind: Hash = "sha256", encoding: Encoding = "hex") -> str:
    """The hash of the UTF-8 bytes of `text`, in lower-case hex or in Base64 with padding."""
    raw = _HASHES[kind](text.encode(), usedforsecurity=False).digest()
    return raw.hex() if encoding == "hex" else b64encode(raw).decode()


def _phone(value: str) -> phonenumbers.PhoneNumber:
    folded = _fold(value)
    number = None
    with suppress(phonenumbers.NumberParseException):
        number = phonenumbers.parse(folded if len(folded) <= LONGEST else "", REGION)
    if number is None or not _plausible(number):
        fix = "Give one number, Japanese as dialled or with + and country code."
        raise Refused("invalid-identifier", "identifiers.phone", fix)
    number.extension = None
    return number


def _plausible(number: phonenumbers.PhoneNumber) -> bool:
    """A number abroad by its length. A Japanese one has 9 or 10 digits after the trunk 0, or stands in the tables.

    By length alone, `0081 90…` and a foreign number without its `+` would pass for long Japanese ones, and nobody would
    notice that the vendor never found the hash.
    """
    if number.country_code != JAPAN:
        return phonenumbers.is_possible_number(number)
    ordinary = not number.italian_leading_zero and 9 <= len(str(number.national_number)) <= 10
    return ordinary or phonenumbers.is_valid_number(number)


def _opaque(kind: str) -> Callable[[str], str]:
    """Ids made by machines: trimmed, else as they are. Case tells two of them apart."""

    def form(value: str) -> str:
        trimmed = _trim(value)
        if not 0 < len(trimmed) <= LONGEST or not _clean(trimmed):
            fix = f"Give 1 to {LONGEST} characters without control characters."
            raise Refused("invalid-identifier", f"identifiers.{kind}", fix)
        return trimmed

    return form


def _idfa(value: str) -> str:
    """Upper case, as iOS shows it (`ASIdentifierManager.advertisingIdentifier.uuidString`)."""
    return _uuid("idfa", value).upper()


def _gaid(value: str) -> str:
    """Lower case, as Android shows it (`AdvertisingIdClient.Info.getId`)."""
    return _uuid("gaid", value)


def _uuid(kind: str, value: str) -> str:
    """All zeros is what a device gives whose owner limits tracking: it names millions of people, so nobody."""
    match = _DEVICE.fullmatch(_fold(value))
    form = "-".join(match.groups()).lower() if match else _NO_DEVICE
    if form == _NO_DEVICE:
        raise Refused("invalid-identifier", f"identifiers.{kind}", "Give the device's UUID; all zeros is nobody's.")
    return form


def _address(value: str) -> str:
    """NFKC, runs of white space as one space, dashes as `-`, a leading Japanese postal code as `NNN-NNNN `.

    `ー` is a dash between digits (`１ー２`), else a long vowel (`タワー`). Nothing is dropped or expanded: `1丁目2番3号` and
    `1-2-3` stay two addresses, since taking two homes for one would tell a stranger's wish to a partner.
    """
    text = " ".join(_fold(value).split()).translate({ord(dash): "-" for dash in _DASHES})
    text = re.sub(r" ?- ?", "-", _LONG_VOWEL_AS_DASH.sub("-", text))
    code = _POSTAL_CODE.match(text)
    if code:
        first, second = (code[1], code[2]) if code[1] else (code[3], code[4])
        text = f"{first}-{second} {text[code.end() :]}".strip()
    if not 0 < len(text) <= LONGEST_ADDRESS or not _clean(text):
        raise Refused("invalid-identifier", "identifiers.postal_address", f"Give 1 to {LONGEST_ADDRESS} characters.")
    return text


def _fold(value: str) -> str:
    """NFKC (full-width forms, half-width kana) without what surrounds the value."""
    return _trim(unicodedata.normalize("NFKC", value))


def _trim(value: str) -> str:
    trimmed = value.strip().strip(_INVISIBLE)
    while trimmed != value:
        value, trimmed = trimmed, trimmed.strip().strip(_INVISIBLE)
    return trimmed


def _clean(text: str) -> bool:
    """Whether `text` is free of control, format and surrogate characters, which have no place in any identifier."""
    return not any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in text)


_CANONICAL: dict[IdentifierKind, Callable[[str], str]] = {
    "email": email,
    "phone": phone_e164,
    "member_id": _opaque("member_id"),
    "cookie_id": _opaque("cookie_id"),
    "line_id": _opaque("line_id"),
    "idfa": _idfa,
    "gaid": _gaid,
    "postal_address": _address,
}
