"""Those on stage for a reason of their own: everybody who joins, the protagonist, test accounts, visitors."""

from random import Random
from typing import Any

from msgspec.structs import replace

from todoke.schemas.events import Age, Unsubscribe
from todoke.schemas.identity import Identifier

from .people import Person, chance, named, person
from .scene import ADS, DAY, HOUR, MAIL, MINUTE, Said, Scene

PROTAGONIST = named(42)
REGISTRATION = {
    "marketing-communications": 0.62,
    "targeted-advertising": 0.40,
    "cross-border-transfer": 0.30,
    "profiling": 0.18,
    "research": 0.12,
    "service": 0.10,
}
"""The boxes of the registration form, and how many tick them."""
COOKIES = ("cookie-analysis", "cookie-advertising", "cookie-social")


def register(scene: Scene) -> None:
    """Most join within the hour, the others days ago and arrive by the nightly file; each ticks the boxes they like."""
    rng = scene.rng
    source = rng.choice(("member-site", "member-site", "shop-app", "pos-register"))
    late: dict[str, Any] = {}
    at = scene.ago(58, 36)
    if rng.random() < 0.3:
        at, late = scene.ago(12, 1, DAY), {"arrives": scene.ago(60, 50)}
    ticked = [name for name, share in REGISTRATION.items() if rng.random() < share] or ["service"]
    form: dict[str, Any] = {"source": source, "method": "checkbox", "age": scene.who.age}
    for purpose in ticked:
        scene.consent("registration", at, purpose, identifiers=_entered(scene.who, source, rng), **form, **late)
    if rng.random() < 0.16:
        banner = {"source": "web-shop", "method": "cookie-banner"}
        for purpose in rng.sample(COOKIES, rng.randint(1, 2)):
            scene.consent("cookie-choice", at, purpose, _either(rng), **banner, **late)
        if rng.random() < 0.5:
            scene.give("provision", scene.ago(29, 20), "aozora-analytics", source="tag-manager")
    if rng.random() < 0.3:
        given = {"kura-crm": MAIL in ticked, "meta": ADS in ticked, "hoshi-dmp": ADS in ticked and rng.random() < 0.5}
        for counterpart in [name for name, so in given.items() if so]:
            scene.give("provision", scene.ago(29, 20), counterpart)


def _entered(who: Person, source: str, rng: Random) -> tuple[Identifier, ...]:
    """What the form asks for, whichever system shows it, and the device if that is the app."""
    form = who.known("member-site", rng)
    return form + tuple(each for each in who.known(source, rng) if each.kind in ("idfa", "gaid"))


def protagonist(now: int, seed: int) -> list[Said]:
    """The one whom a reader follows: in, given away, one click, out, and an old yes that comes too late."""
    scene = Scene(replace(person(42, now), age=Age(birth_date="1988-04-12")), now, chance(seed, PROTAGONIST))
    form: dict[str, Any] = {"method": "checkbox", "age": scene.who.age, "arrives": now - 59 * MINUTE}
    for purpose in (MAIL, ADS, "cross-border-transfer"):
        scene.consent("story:registers", now - 3 * DAY, purpose, **form)
    for hours, counterpart in ((46, "kura-crm"), (45, "meta"), (44, "hoshi-dmp")):
        scene.give("story:given", now - hours * HOUR, counterpart, arrives=now - 55 * MINUTE)
    alone = {"subject": None, "source": "mail-tool", "method": "one-click"}
    scene.say(Unsubscribe, "story:one-click", now - 13 * MINUTE, channel="email-magazine", **alone)
    scene.consent("story:withdraws", now - 9 * MINUTE, ADS, "withdrawn", arrives=now - 9 * MINUTE + 400)
    again = replace(scene.said[-1], arrives=now - 3 * MINUTE, about="duplicate:story:withdraws")
    late: dict[str, Any] = {"source": "shop-app", "arrives": now - 4 * MINUTE}
    scene.consent("story:late-grant", now - 21 * MINUTE, ADS, **late)
    return [*scene.said, again]


def burst(number: int, now: int, seed: int) -> list[Said]:
    """A test account of the shop that flips one switch sixty times within ten seconds."""
    rng = chance(seed, "burst", number)
    scene = Scene(person(900_000 + number, now), now, rng)
    start = scene.ago(25, 5)
    for _ in range(60):
        at = start + rng.randrange(10_000)
        scene.consent("burst", at, MAIL, _either(rng), arrives=at + rng.randrange(20_000))
    return scene.said


def visit(number: int, now: int, seed: int) -> list[Said]:
    """A visitor who is no member: a cookie, and what was clicked on the banner or sent by the browser."""
    rng = chance(seed, "visit", number)
    scene = Scene(person(700_000 + number, now), now, rng)
    at = scene.ago(58, 1)
    banner = {"subject": None, "source": "tag-manager", "method": "cookie-banner"}
    for purpose in rng.sample(COOKIES, rng.randint(1, 3)):
        scene.consent("visitor", at, purpose, _either(rng), **banner)
    if rng.random() < 0.2:
        signal = banner | {"method": "gpc-signal"}
        scene.consent("visitor", at + MINUTE, "cookie-advertising", "withdrawn", **signal)
    return scene.said


def _either(rng: Random) -> str:
    return rng.choice(("granted", "withdrawn"))
