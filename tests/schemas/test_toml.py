"""Policy and partners as TOML: every way to be wrong, and what is said of it."""

import pytest

from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured
from todoke.schemas.policy import Policy

POLICY = """\
name = "small"
revision = 3
label = { en = "Small", ja = "小" }
designated_countries = ["FR"]
[[item]]
name = "email-address"
label = { en = "E-mail", ja = "メール" }
[[regime]]
name = "appi"
label = { en = "APPI", ja = "個人情報保護法" }
[[version]]
name = "one"
effective = "2023-04-01"
[[version]]
name = "two"
effective = "2024-07-01"
reconsent = ["cross-border-transfer"]
[[cookie]]
name = "analysis"
label = { en = "Analysis", ja = "分析" }
[[purpose]]
name = "service"
kind = "required"
absent = "allow"
label = { en = "Service", ja = "サービス" }
[[purpose]]
name = "marketing"
kind = "opt-out"
absent = "deny"
bars_minors = true
items = ["email-address"]
label = { en = "Marketing", ja = "ご案内" }
[[purpose]]
name = "cross-border-transfer"
kind = "opt-in"
absent = "deny"
label = { en = "Abroad", ja = "外国" }
[[purpose]]
name = "cookie-analysis"
kind = "opt-out"
absent = "allow"
cookie = "analysis"
label = { en = "Analysis", ja = "分析" }
[[channel]]
name = "letter"
purposes = ["marketing"]
label = { en = "Letter", ja = "手紙" }
[[role]]
name = "advertiser"
third_party = true
label = { en = "Advertiser", ja = "広告" }
[[role]]
name = "sender"
third_party = false
label = { en = "Sender", ja = "発送" }
[minors]
marketing_below = 18
dealing_below = 13
"""

PARTNERS = """\
revision = 7
[[partner]]
name = "ads"
label = "広告株式会社"
address = "東京都"
representative = "代表取締役 何某"
country = "US"
role = "advertiser"
legal_basis = "consent"
items = ["email-address"]
identifiers = ["email", "idfa"]
connector = "meta"
secrets.access_token = "env:ADS_TOKEN"
deadline_hours = { withdraw = 24, suspend = 24, delete = 72 }
[partner.limits]
items = 100
age_ms = 0
[partner.transfer]
basis = "consent"
system = "…"
measures = "…"
informed_on = "2024-07-01"
[partner.related]
use = "joined"
confirmed_by = "privacy-office"
confirmed_on = "2024-06-20"
method = "a declaration"
[[partner.account]]
name = "default"
scopes = ["marketing", "letter"]
[[partner]]
name = "mail"
label = "発送株式会社"
role = "sender"
legal_basis = "entrustment"
identifiers = ["email"]
connector = "webhook"
deadline_hours = { withdraw = 1, suspend = 1, delete = 2, grant = 4 }
grants = true
account = [{ name = "default", scopes = ["letter"] }]
"""


POLICY_CASES = r"""
revision = 3 → revision = 0
revision: expected 1 or more, got 0. Count up from 1 with every change.
revision = 3 → revision = 3⏎skew_seconds = -1 @ skew
skew_seconds: expected 0 or more, got -1. Write skew_seconds = 300.
name = "small" → name = ""
name: empty. Write it out.
ja = "小" → ja = " "
label.ja: empty. Write it out.
en = "APPI" → en = ""
regime[0] "appi".label.en: empty. Write it out.
["FR"] → ["FR", "fr"]
designated_countries[1]: expected two capital letters, got "fr". Write an ISO 3166 code, such as "JP" or "US".
"sender" → "advertiser" @ "advertiser"⏎third_party = false
role[1] "advertiser".name: another role is called "advertiser". Rename one, or take it out.
"two" → "one" @ "one"⏎effective = "2024
version[1] "one".name: another version is called "one". Rename one, or take it out.
name = "letter" → name = "Letter_A"
channel[0] "Letter_A".name: expected a-z, 0-9 and single hyphens, got "Letter_A". Write name = "letter-a".
name = "letter" → name = "手"
channel[0] "手".name: expected a-z, 0-9 and single hyphens, got "手". Write name = "a-name".
name = "letter" → name = "service" @ name = "service"⏎purposes
channel[0] "service".name: a purpose is called "service" too. Rename one of them.
["marketing"] → ["marketin"]
channel[0] "letter".purposes[0]: no purpose is called "marketin". Write "marketing".
["marketing"] → ["marketing", "marketing"]
channel[0] "letter".purposes[1]: "marketing" stands here twice. Take one out.
items = ["email-address"] → items = ["income"]
purpose[1] "marketing".items[0]: no item is called "income". Write one of email-address.
cookie = "analysis" → cookie = "analytics"
purpose[3] "cookie-analysis".cookie: no cookie is called "analytics". Write "analysis".
bars_minors = true → cookie = "analysis" @ [[cookie]]
cookie[0] "analysis": expected one purpose that decides about it, got 2. Write cookie = "analysis" in one [[purpose]], and in no other.
"required" → "required"⏎bars_minors = true
purpose[0] "service".kind: a required purpose can't bar minors: they can't do without it. Make it opt-in or opt-out, or take bars_minors out.
kind = "opt-in"⏎absent = "deny" → kind = "opt-in"⏎absent = "allow" @ "allow"⏎label = { en = "Abroad"
purpose[2] "cross-border-transfer".absent: of a person of whom nothing is known, opt-in means deny. Write absent = "deny".
absent = "deny"⏎bars → absent = "allow"⏎bars
purpose[1] "marketing".absent: of a person of whom nothing is known, the age isn't known either, and the purpose bars minors. Write absent = "deny", or age_unknown = "allow".
"2024-07-01" → "20240701"
version[1] "two".effective: expected a day as YYYY-MM-DD, got "20240701". Write effective = "2024-07-01".
"2024-07-01" → "July"
version[1] "two".effective: expected a day as YYYY-MM-DD, got "July". Write effective = "2024-07-01".
"2024-07-01" → "2023-04-01" @ "2023-04-01"⏎rec
version[1] "two".effective: expected a day after 2023-04-01. Put the oldest first.
["cross-border-transfer"] → ["abroad"]
version[1] "two".reconsent[0]: no purpose is called "abroad". Write one of service, marketing, cross-border-transfer, cookie-analysis.
["cross-border-transfer"] → ["service"]
version[1] "two".reconsent[0]: "service" is required, so nobody consents to it. Take it out, or make the purpose opt-in.
dealing_below = 13 → dealing_below = 19
minors.dealing_below: higher than marketing_below, 18. Who may not be dealt with gets no marketing: make marketing_below as high at least.
dealing_below = 13 → dealing_below = -1
minors.dealing_below: expected an age of 0 or more. Write 0 where there is no such limit.
revision = 3 → revision = "3"
revision: expected a whole number, got text. Write digits alone, without quotes.
revision = 3 → revision = 3⏎revison = 3 @ revison
revison: unknown key. Write revision.
revision = 3⏎ →  @ name
revision: missing. Add revision = 1.
effective = "2024-07-01" → effective = 2024-07-01
version[1] "two".effective: expected text, got a date or time. Put it in quotes.
bars_minors = true → bars_minors = 1
purpose[1] "marketing".bars_minors: expected true or false, got a whole number. Write true or false, without quotes.
items = ["email-address"] → items = "email-address"
purpose[1] "marketing".items: expected a list, got text. Put it in brackets.
kind = "required"⏎ →  @ [[purpose]]⏎name = "service"
purpose[0] "service".kind: missing. Add kind, one of required, opt-in, opt-out.
kind = "required" → kind = "must"
purpose[0] "service".kind: expected one of required, opt-in, opt-out, got "must". Choose one of them.
[minors]⏎marketing_below = 18⏎ → [minor]⏎
minor: unknown key. Write minors.
"""

PARTNER_CASES = r"""
revision = 7 → revision = -7
revision: expected 1 or more, got -7. Count up from 1 with every change.
"mail"⏎ → "ads"⏎ @ "ads"⏎label = "発
partner[1] "ads".name: another partner is called "ads". Rename one, or take it out.
"mail"⏎ → "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"⏎
partner[1] "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm".name: expected 40 characters at most, got 41. Shorten it: topics and metrics carry it.
"mail"⏎ → "Mail.EU"⏎
partner[1] "Mail.EU".name: expected a-z, 0-9 and single hyphens, got "Mail.EU". Write name = "mail-eu".
"発送株式会社" → ""
partner[1] "mail".label: empty. Write it out.
"webhook" → ""
partner[1] "mail".connector: empty. Write it out.
"webhook" → "webhook"⏎owner = "" @ ""
partner[1] "mail".owner: empty. Write it out.
"sender" → "sendr"
partner[1] "mail".role: no role is called "sendr". Write "sender".
legal_basis = "consent" → legal_basis = "joint-use"
partner[0] "ads".legal_basis: "joint-use" doesn't fit the role "advertiser", which is a third party. Write one of consent, opt-out, exception, or give the partner another role.
"entrustment" → "consent" @ "consent"⏎identifiers = ["email"]
partner[1] "mail".legal_basis: "consent" doesn't fit the role "sender", which is no third party (Art. 27(5)). Write one of entrustment, joint-use, succession, or give the partner another role.
representative = "代表取締役 何某"⏎ →  @ [[partner]]
partner[0] "ads".representative: empty, and the record of every provision must have it (Art. 29, Rule 20). Write it out.
"US" → "USA"
partner[0] "ads".country: expected two capital letters, got "USA". Write an ISO 3166 code, such as "JP" or "US".
"US" → "JP" @ [partner.transfer]
partner[0] "ads".transfer: the partner is in JP. Take it out, or correct the country.
"entrustment" → "entrustment"⏎country = "FR" @ [[partner]]⏎name = "mail"
partner[1] "mail".transfer: missing, and the partner is abroad (Art. 28). Add [partner.transfer] with basis = "consent", "designated-country" or "equivalent-measures".
basis = "consent"⏎system → basis = "designated-country"⏎system
partner[0] "ads".transfer.basis: "US" is no designated country of the policy. Choose another basis, or add the country to the policy's designated_countries if the law did.
basis = "consent"⏎system → basis = "equivalent-measures"⏎system @ [partner.transfer]
partner[0] "ads".transfer.checked_on: expected a day as YYYY-MM-DD, got "". Write checked_on = "2024-07-01".
system = "…" → system = ""
partner[0] "ads".transfer.system: empty, and people must be told before they consent (Rule 17(2)). Write it out, or say under unavailable why it can't be had.
informed_on = "2024-07-01" → informed_on = "2024-7-1"
partner[0] "ads".transfer.informed_on: expected a day as YYYY-MM-DD, got "2024-7-1". Write informed_on = "2024-07-01".
[partner.related]⏎use = "joined"⏎confirmed_by = "privacy-office"⏎confirmed_on = "2024-06-20"⏎method = "a declaration"⏎ →  @ [[partner]]⏎name = "ads"
partner[0] "ads".related: missing, and the partner takes idfa (Art. 31). Add [partner.related] with use = "joined" or "barred".
"privacy-office" → ""
partner[0] "ads".related.confirmed_by: empty. Write it out.
"2024-06-20" → "soon"
partner[0] "ads".related.confirmed_on: expected a day as YYYY-MM-DD, got "soon". Write confirmed_on = "2024-07-01".
items = ["email-address"] → items = ["e-mail-address"]
partner[0] "ads".items[0]: no item is called "e-mail-address". Write "email-address".
identifiers = ["email"] → identifiers = []
partner[1] "mail".identifiers: empty, so nobody could be named to the partner. Write at least one kind.
identifiers = ["email"] → identifiers = ["e-mail"]
partner[1] "mail".identifiers[0]: expected one of email, phone, member_id, cookie_id, idfa, gaid, line_id, postal_address, got "e-mail". Write "email".
[{ name = "default", scopes = ["letter"] }] → []
partner[1] "mail".account: none, so the partner would be told nothing. Add [[partner.account]] with name = "default".
["letter"] }] → ["letter"] }, { name = "default", scopes = ["letter"] }]
partner[1] "mail".account[1] "default".name: another account is called "default". Rename one, or take it out.
["letter"] → ["leter"]
partner[1] "mail".account[0] "default".scopes[0]: no purpose or channel is called "leter". Write "letter".
["letter"] → []
partner[1] "mail".account[0] "default".scopes: empty, so the account would be told nothing. Write at least one.
items = 100 → items = 0
partner[0] "ads".limits.items: expected 1 or more, got 0. Take it out for the default, or write 1 or more.
age_ms = 0 → age_ms = -1
partner[0] "ads".limits.age_ms: expected 0 or more, got -1. Take it out for the default, or write 0 or more.
grant = 4 → grant = 0
partner[1] "mail".deadline_hours.grant: expected 1 or more, got 0. Write grant = 24.
grant = 4 → grants = 4
partner[1] "mail".deadline_hours.grants: unknown key. Write grant.
grant = 4 → grant = 4, x = 4
partner[1] "mail".deadline_hours.x: unknown key. Take it out; there is grant, withdraw, suspend, delete.
account = [{ name = "default", scopes = ["letter"] }] → account = "default"
partner[1] "mail".account: expected a list, got text. Write it as [[partner.account]].
account = [{ name = "default", scopes = ["letter"] }] →  @ [[partner]]⏎name = "mail"
partner[1] "mail".account: missing. Add [[partner.account]].
["letter"] }] → ["letter"] }, 5]
partner[1] "mail".account[1]: expected a table, got a whole number. Write it as a table, or in braces.
label = "発送株式会社"⏎ →  @ [[partner]]⏎name = "mail"
partner[1] "mail".label: missing. Add label = "…".
"webhook" → "webhook"⏎"a.b\n" = 1 @ a.b
partner[1] "mail"."a.b\n": unknown key. Take it out; there is name, label, address, representative, country, role, legal_basis, transfer, related, items, identifiers, account, connector, settings, secrets, limits, done, deadline_hours, assumed_to_hold, grants, owner.
"""

LISTING = """\
partners.toml:1: revison: unknown key. Write revision.
partners.toml:7: partner[0] "ads".country: expected two capital letters, got "us". Write an ISO 3166 code, such as "JP" or "US".
partners.toml:11: partner[0] "ads".identifiers[1]: expected one of email, phone, member_id, cookie_id, idfa, gaid, line_id, postal_address, got "idfaa". Write "idfa".
partners.toml:13: partner[0] "ads".secrets.access_token: expected env:NAME or file:PATH, got something else, not shown. Write "env:NAME" or "file:PATH"; a secret that stood here has been in a file, so replace it.
partners.toml:16: partner[0] "ads".limits.items: expected 1 or more, got 0. Take it out for the default, or write 1 or more.
partners.toml:30: partner[0] "ads".account[0] "default".scopes[1]: no purpose or channel is called "leter". Write "letter".
partners.toml:39: partner[1] "mail".grants: expected true or false, got text. Write true or false, without quotes.
partners.toml:40: partner[1] "mail".done: expected one of sent, accepted, processed, confirmed, got "acepted". Write done = "accepted".
partners.toml:41: partner[1] "mail".account[0] "default".scopes[0]: no purpose or channel is called "leter". Write "letter".
"""


def cases(text: str, block: str) -> list[tuple[str, int, str]]:
    """Each edited text with the line complained of: where the edit is, or where the text after the @ stands."""
    found = []
    lines = block.strip().split("\n")
    for edit, says in zip(lines[::2], lines[1::2], strict=True):
        old, new = edit.replace("⏎", "\n").split(" → ")
        new, _, at = new.partition(" @ ")
        assert text.count(old) == 1, old
        edited = text.replace(old, new)
        place = edited.index(at) if at else text.index(old)
        found.append((edited, edited[:place].count("\n") + 1, says))
    return found


def complaints(text: str, name: str, *, policy: Policy | None = None) -> list[str]:
    with pytest.raises(Misconfigured) as raised:
        toml.registry(text, name, policy) if policy else toml.policy(text, name)
    return str(raised.value).split("\n")


@pytest.fixture(scope="module")
def small() -> Policy:
    return toml.policy(POLICY, "policy.toml")


@pytest.mark.parametrize(("text", "line", "says"), cases(POLICY, POLICY_CASES))
def test_a_policy_that_is_wrong_is_told_where_and_what_to_do(text: str, line: int, says: str) -> None:
    assert complaints(text, "policy.toml") == [f"policy.toml:{line}: {says}"]


@pytest.mark.parametrize(("text", "line", "says"), cases(PARTNERS, PARTNER_CASES))
def test_partners_that_are_wrong_are_told_where_and_what_to_do(text: str, line: int, says: str, small: Policy) -> None:
    assert complaints(text, "partners.toml", policy=small) == [f"partners.toml:{line}: {says}"]


def test_all_problems_are_told_at_once_in_the_order_of_the_file(small: Policy) -> None:
    text = PARTNERS.replace("revision = 7", "revison = 7").replace('"US"', '"us"').replace("idfa", "idfaa")
    text = text.replace('"env:ADS_TOKEN"', '"s3cr3t"').replace("items = 100", "items = 0").replace("letter", "leter")
    text = text.replace("grants = true\n", 'grants = "yes"\ndone = "acepted"\n')

    assert complaints(text, "partners.toml", policy=small) == LISTING.splitlines()


@pytest.mark.parametrize(
    "written",
    [
        'secrets.access_token = "s3cr3t"',
        'secrets.access_token = "env:s3cr3t-"',
        'secrets.access_token = "file: s3cr3t"',
        'secrets.access_token = ["s3cr3t"]',
        'secrets.access_token = { value = "s3cr3t" }',
        'secrets = "s3cr3t"',
        'secrts.access_token = "s3cr3t"',
        'access_token = "s3cr3t"',
        'secrets.access_token = "s3cr3t',
        "secrets.access_token = s3cr3t",
        "secrets.access_token = 's3cr3t\\n'x",
        'secrets.access_token = "s3cr3t\\q"',
        'secrets.access_token = """s3cr3t"',
    ],
)
def test_a_secret_that_stands_in_the_file_is_refused_and_not_shown(written: str, small: Policy) -> None:
    text = PARTNERS.replace('secrets.access_token = "env:ADS_TOKEN"', written)

    told = complaints(text, "partners.toml", policy=small)

    assert told
    assert "s3cr3t" not in "".join(told)


@pytest.mark.parametrize("written", ["env:TOKEN", "env:_t0", "file:secrets/token", "file:/run/secrets/my token"])
def test_a_secret_by_reference_is_taken(written: str, small: Policy) -> None:
    text = PARTNERS.replace("env:ADS_TOKEN", written)

    registry = toml.registry(text, "partners.toml", small)

    assert registry.partners[0].secrets == {"access_token": written}
