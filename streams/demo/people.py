"""The members of the shop: who they are, and by which identifiers each of its systems knows them.

A member is the same person in every run, whatever the seed: only what they do differs.
"""

from datetime import UTC, datetime
from random import Random
from uuid import UUID

from msgspec import Struct

from todoke.schemas.events import Age
from todoke.schemas.identity import Identifier, IdentifierKind

GIVEN = (
    *("aoi", "haruto", "hina", "itsuki", "kaede", "kenji", "mao", "mei", "minato", "nagi", "ren", "riku"),
    *("rin", "sakura", "shiori", "sota", "tsumugi", "yamato", "yua", "yui", "yuki", "yuto"),
)
WIDE = str.maketrans("0123456789-", "０１２３４５６７８９－")

KNOWN_BY: dict[str, tuple[IdentifierKind, ...]] = {
    "member-site": ("email", "phone", "member_id"),
    "web-shop": ("email", "cookie_id"),
    "shop-app": ("member_id", "idfa", "gaid"),
    "pos-register": ("member_id", "phone"),
    "call-centre": ("phone",),
    "privacy-desk": ("email", "phone", "postal_address"),
    "batch-export": ("email", "phone", "idfa", "gaid"),
    "crm-import": ("email", "postal_address"),
    "tag-manager": ("cookie_id",),
    "mail-tool": ("email",),
    "line-official": ("line_id",),
}
"""By which identifiers each system of the shop knows a person. The last three know nothing else."""


class Person(Struct, frozen=True):
    """One member, with one value for each kind of identifier, as a careful clerk would write it."""

    subject: str
    values: dict[IdentifierKind, str]
    age: Age | None

    def __repr__(self) -> str:
        return f"Person({self.subject!r})"

    def known(self, source: str, rng: Random) -> tuple[Identifier, ...]:
        """The identifiers that `source` has of this person, each written as somebody there typed it."""
        kinds = [kind for kind in KNOWN_BY[source] if kind in self.values]
        return tuple(Identifier(kind, typed(kind, self.values[kind], rng)) for kind in kinds)


def chance(*parts: object) -> Random:
    """Chance that falls the same way for the same parts, on every machine."""
    return Random("/".join(str(part) for part in parts))  # noqa: S311


def named(number: int) -> str:
    """The subject id of a member."""
    return f"member-{number:06}"


def person(number: int, now: int) -> Person:
    """The member of that number; `now` (ms) serves the ages alone, none of which is about to cross a limit."""
    rng = chance("person", number)
    digits = f"0{rng.choice('987')}0-0{number * 7_654_321 % 10**7:07}"
    town, block = rng.choice(("東京都千代田区架空町", "大阪府大阪市北区見本町", "福岡県福岡市中央区例示")), number % 97
    values: dict[IdentifierKind, str] = {
        "email": f"{rng.choice(GIVEN)}.{number:06}@{rng.choice(('example.jp', 'example.com', 'mail.example.jp'))}",
        "phone": f"{digits[:8]}-{digits[8:]}",
        "member_id": f"M-{number:06}",
        "cookie_id": f"ck-{rng.getrandbits(128):032x}",
        "line_id": f"U{rng.getrandbits(128):032x}",
        "postal_address": f"〒{100 + number % 900}-{number % 10_000:04} {town}{1 + block % 9}-{block}-{number}",
    }
    device = str(UUID(int=rng.getrandbits(128), version=4))
    match rng.randrange(3):
        case 0:
            values["idfa"] = device.upper()
        case 1:
            values["gaid"] = device
    return Person(named(number), values, _age(rng, now))


def typed(kind: IdentifierKind, value: str, rng: Random) -> str:
    """`value` as it is found in real files: the same identifier, in one of its many spellings."""
    if kind == "phone":
        plain = value.replace("-", "")
        forms = (value, plain, value.translate(WIDE), f"+81{plain[1:]}", f"+81 {value[1:]}", f" {value}")
        return rng.choice(forms)
    if kind == "email":
        return rng.choice((value, value, value, value.title(), value.upper(), f"{value} "))
    if kind == "postal_address":
        return rng.choice((value, value.translate(WIDE), value.replace(" ", "\u3000")))
    return value


def minor(rng: Random, now: int) -> Age:
    """The age of somebody of 14 to 16."""
    return Age(birth_date=_born(rng, now, rng.choice((15, 16))))


def _age(rng: Random, now: int) -> Age | None:
    """Mostly adults; some known by a band alone, a few minors, a few of whom the shop never asked."""
    drawn = rng.random()
    if drawn < 0.84:
        return Age(birth_date=_born(rng, now, rng.randint(20, 79)))
    if drawn < 0.90:
        return Age(band="18_and_over")
    if drawn < 0.92:
        return minor(rng, now)
    if drawn < 0.93:
        return Age(band="13_to_17")
    if drawn < 0.94:
        return Age(birth_date=_born(rng, now, rng.randint(8, 11))) if rng.random() < 0.5 else Age(band="under_13")
    return None


def _born(rng: Random, now: int, years: int) -> str:
    """A birth date in the year that lies so many years back, so that nobody crosses a limit within this year."""
    year = datetime.fromtimestamp(now / 1000, UTC).year - years
    return f"{year}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
