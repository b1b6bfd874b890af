"""What members do after they have joined: one plot for each, dealt from a deck."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from todoke.schemas.events import (
    DeletionRequest,
    IdentityLink,
    Provision,
    RightsRequest,
    SuspensionRequest,
    Unsubscribe,
)
from todoke.schemas.identity import Identifier

from .people import minor, person
from .scene import ADS, DAY, MAIL, MINUTE, SECOND, Scene

OLD_VERSION = "2023-04"
OLD_TEXT = 1_706_745_600_000  # 2024-02-01, under the older text
CHANNELS = ("email-magazine", "direct-mail", "phone", "sms", "push", "line")
WITHDRAWN = (MAIL, ADS, "profiling", "research", "site-operations")

Plot = Callable[[Scene], None]


def quiet(_: Scene) -> None:
    """Never heard of again."""


def channels(scene: Scene) -> None:
    """Stop one or two channels on the member site; some take one up again."""
    rng = scene.rng
    for channel in rng.sample(CHANNELS, rng.choice((1, 1, 2))):
        listing = "weekly-news" if channel == "email-magazine" and rng.random() < 0.4 else "*"
        at = scene.ago(25, 10)
        scene.say(Unsubscribe, "unsubscribe", at, channel=channel, scope=listing, method="settings")
        if rng.random() < 0.15:
            again: dict[str, Any] = {
                "channel": channel,
                "scope": listing,
                "action": "resubscribed",
                "method": "settings",
            }
            scene.say(Unsubscribe, "resubscribe", at + rng.randint(1, 8) * MINUTE, **again)


def one_click(scene: Scene) -> None:
    """RFC 8058, in the mail program: the mail tool knows the address alone."""
    alone = {"subject": None, "source": "mail-tool", "method": "one-click"}
    scene.say(Unsubscribe, "one-click", scene.ago(14, 1), channel="email-magazine", **alone)


def household(scene: Scene) -> None:
    """Two members share a telephone, and one of them tells the call centre to stop: it holds for both."""
    number = int(scene.who.subject.rpartition("-")[2]) + 500_000
    spouse = person(number, scene.now)
    spouse = replace(spouse, values=spouse.values | {"phone": scene.who.values["phone"]})
    other = Scene(spouse, scene.now, scene.rng)
    for purpose in (MAIL, ADS):
        other.consent("registration", scene.ago(50, 36), purpose, method="checkbox", age=spouse.age)
    scene.said += other.said
    alone = {"subject": None, "source": "call-centre", "method": "operator"}
    for channel in ("phone", "sms"):
        scene.say(Unsubscribe, "stopped-by-phone", scene.ago(14, 1), channel=channel, **alone)


def line_block(scene: Scene) -> None:
    """Connect LINE with the account, then block it: LINE knows its own id alone."""
    line = (Identifier("line_id", scene.who.values["line_id"]),)
    scene.say(IdentityLink, "link", scene.ago(27, 20), source="line-official", identifiers=line)
    alone = {"subject": None, "source": "line-official", "method": "blocked"}
    scene.say(Unsubscribe, "line-blocked", scene.ago(14, 1), channel="line", **alone)


def withdraws(scene: Scene) -> None:
    """Withdraw one or two purposes."""
    for purpose in scene.rng.sample(WITHDRAWN, scene.rng.choice((1, 1, 1, 2))):
        scene.consent("withdrawal", scene.ago(28, 1), purpose, "withdrawn")


def late_withdrawal(scene: Scene) -> None:
    """Withdrawn in the app without a network, granted again on the site, and only then is the withdrawal heard."""
    at = scene.ago(25, 18)
    scene.consent("grant", at + 5 * MINUTE, ADS)
    late: dict[str, Any] = {"source": "shop-app", "arrives": scene.ago(8, 1)}
    scene.consent("late-withdrawal", at, ADS, "withdrawn", **late)


def late_grant(scene: Scene) -> None:
    """The other way round: a grant that is older than the withdrawal, and is heard after it."""
    at = scene.ago(25, 18)
    scene.consent("withdrawal", at + 5 * MINUTE, ADS, "withdrawn")
    scene.consent("late-grant", at, ADS, source="shop-app", arrives=scene.ago(8, 1))


def tie(scene: Scene) -> None:
    """Yes in one window and no in the other, in the same millisecond."""
    at = scene.ago(28, 1)
    both = [("tie", MAIL, "granted"), ("tie", MAIL, "withdrawn")]
    scene.rng.shuffle(both)
    for about, purpose, decision in both:
        scene.consent(about, at, purpose, decision)


def everything(scene: Scene) -> None:
    """Withdraw everything by telephone. Some grant one thing anew, of some an older grant is still on its way."""
    at = scene.ago(26, 12)
    scene.consent("withdraw-everything", at, "*", "withdrawn", source="call-centre", method="operator")
    match scene.rng.randrange(3):
        case 0:
            scene.consent("regrant", at + 8 * MINUTE, MAIL)
        case 1:
            scene.consent("late-grant", at - 4 * MINUTE, ADS, source="shop-app", arrives=scene.ago(8, 1))


def regrants(scene: Scene) -> None:
    """Withdraw, and think better of it."""
    at = scene.ago(26, 12)
    scene.consent("withdrawal", at, MAIL, "withdrawn")
    scene.consent("regrant", at + scene.rng.randint(1, 10) * MINUTE, MAIL)


def fast_clock(scene: Scene) -> None:
    """A telephone whose clock is ahead, within the skew. It beats what was said before, and no withdrawal after it."""
    ahead = scene.rng.randint(5, 40) * SECOND
    scene.consent("withdrawal", scene.ago(20, 10), ADS, "withdrawn")
    soon: dict[str, Any] = {"source": "shop-app", "arrives": scene.ago(30, 10, SECOND)}
    scene.consent("fast-clock", scene.now + ahead, ADS, **soon)
    if scene.rng.random() < 0.4:
        scene.consent("fast-clock", scene.now + ahead + MINUTE, ADS, "withdrawn", **soon)


def suspends(scene: Scene) -> None:
    """Have use, or provision to third parties, suspended: for good, until a day, or until it is lifted."""
    rng = scene.rng
    at = scene.ago(26, 12)
    told = {"scope": rng.choice(("use", "provision")), "source": "privacy-desk", "identity_check": "verified"}
    until = rng.choice((None, None, scene.now + 90 * DAY, scene.now - DAY))
    began = at - 30 * DAY if until and until < scene.now else at
    asked = {"ground": "利用停止・第三者提供停止の請求", "channel": "web-form", "until": until}
    scene.say(SuspensionRequest, "suspension", began, **told, **asked, arrives=at + SECOND)
    if rng.random() < 0.4:
        lifted = {"action": "lifted", "ground": "本人の申出による解除", "channel": "phone"}
        scene.say(SuspensionRequest, "lifting", at + rng.randint(1, 10) * MINUTE, **told, **lifted)


def leaves(scene: Scene) -> None:
    """Ask for deletion, once it is known who asks. Some take it back, which restores nothing; some register again."""
    rng = scene.rng
    at = scene.ago(26, 14)
    told = {"source": "privacy-desk", "identity_check": "verified"}
    agent = {"agent_check": "verified", "channel": "post"} if rng.random() < 0.2 else {"channel": "web-form"}
    scene.say(DeletionRequest, "deletion", at, ground="退会に伴う消去の請求", **told, **agent)
    match rng.randrange(5):
        case 0:
            back = {"action": "cancelled", "ground": "本人より取下げの申出", "channel": "phone"}
            scene.say(DeletionRequest, "cancellation", at + 6 * MINUTE, **told, **back)
        case 1:
            again: dict[str, Any] = {"age": scene.who.age, "method": "checkbox"}
            for purpose in (MAIL, ADS):
                scene.consent("re-registration", at + 10 * MINUTE, purpose, **again)
        case 2:
            scene.consent("late-grant", at - 2 * MINUTE, ADS, source="shop-app", arrives=scene.ago(6, 1))


def asks(scene: Scene) -> None:
    """Ask what is held, why, from where, and who was given it; some before it is known who asks."""
    rng = scene.rng
    right = rng.choice(("access", "source", "correction", "provision_records", "purpose_notice"))
    told = {"right": right, "identity_check": rng.choice(("verified", "verified", "pending"))}
    scene.say(RightsRequest, "rights-request", scene.ago(28, 1), source="privacy-desk", channel="web-form", **told)


def moves(scene: Scene) -> None:
    """A new e-mail address, and soon a click on the unsubscribe link in the first magazine that it gets."""
    values = scene.who.values
    fresh = replace(scene.who, values=values | {"email": f"new.{values['email']}"})
    scene.say(IdentityLink, "link", scene.ago(27, 20), identifiers=(Identifier("email", fresh.values["email"]),))
    scene.who = fresh
    if scene.rng.random() < 0.6:
        one_click(scene)


def old_text(scene: Scene) -> None:
    """Paper of the older text, typed in today: what the newer one asks for anew no longer counts."""
    at = min(OLD_TEXT, scene.now - 30 * DAY) - scene.rng.randint(0, 150 * DAY)
    version = scene.rng.choice((OLD_VERSION, OLD_VERSION, ""))
    paper: dict[str, Any] = {
        "source": "pos-register",
        "method": "paper-form",
        "policy_version": version,
        "arrives": scene.ago(28, 1),
    }
    for purpose in ("cross-border-transfer", MAIL):
        scene.consent("old-text", at, purpose, **paper)


def other_law(scene: Scene) -> None:
    """The same person under the GDPR, or a house rule: each keeps its own answer, and the strictest counts."""
    regime = scene.rng.choice(("gdpr", "gdpr", "house"))
    decision = scene.rng.choice(("withdrawn", "granted"))
    scene.consent("other-regime", scene.ago(28, 1), scene.rng.choice((MAIL, ADS)), decision, regime=regime)


def campaign(scene: Scene) -> None:
    """Profiling for the time of a campaign, which is over or not yet."""
    ends = scene.now + scene.rng.choice((-2, 30)) * DAY
    app: dict[str, Any] = {"source": "shop-app", "method": "app-dialogue", "arrives": scene.ago(28, 1)}
    scene.consent("campaign", scene.ago(9, 5, DAY), "profiling", expires_at=ends, **app)


def bought(scene: Scene) -> None:
    """Received from a list company (Art. 30), or joined by a DMP with its own members (Art. 31)."""
    if scene.rng.random() < 0.5:
        seller = {"counterpart": "mihon-list", "counterpart_name": "見本名簿株式会社", "legal_basis": "opt-out"}
        how = {
            "how_acquired": "展示会のアンケート（本人記入）",
            "purposes": (MAIL,),
            "items": ("email-address", "name"),
        }
        scene.say(Provision, "received", scene.ago(28, 1), direction="received", source="crm-import", **seller, **how)
    else:
        joined = {"direction": "joined", "items": ("cookie-data",), "purposes": ("cookie-advertising",)}
        confirmed = {"consent_confirmed": "提供先の同意取得画面の写しを確認", "source": "tag-manager"}
        scene.give("joined", scene.ago(28, 1), "hoshi-dmp", **joined, **confirmed)


def found_minor(scene: Scene) -> None:
    """The till learns that somebody who shops as an adult is sixteen at most."""
    at = scene.ago(28, 1)
    scene.consent("found-minor", at, "research", source="pos-register", age=minor(scene.rng, scene.now))


def surveyed(scene: Scene) -> None:
    """Given to a research company that the registry of partners lacks."""
    scene.give("unknown-recipient", scene.ago(28, 1), "fukuro-research")


def breach(scene: Scene) -> None:
    """The nightly upload goes by yesterday's list: given after it was withdrawn."""
    at = scene.ago(28, 12)
    scene.consent("withdrawal", at, ADS, "withdrawn")
    scene.give("provision-after-withdrawal", at + 10 * MINUTE, "meta")


DECK: dict[Plot, int] = {
    quiet: 21,
    channels: 11,
    one_click: 7,
    household: 2,
    line_block: 2,
    withdraws: 10,
    late_withdrawal: 3,
    late_grant: 3,
    tie: 2,
    everything: 4,
    regrants: 4,
    fast_clock: 2,
    suspends: 4,
    leaves: 4,
    asks: 4,
    moves: 4,
    old_text: 3,
    other_law: 2,
    campaign: 2,
    bought: 3,
    found_minor: 1,
    surveyed: 1,
    breach: 1,
}
"""How many of a hundred members have which plot."""
