"""What is shipped: the policy covers its text from heading to heading, and the partners of the demo are sound."""

import re

import pytest

from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured
from todoke.schemas.partners import Check, Partner
from todoke.schemas.policy import Policy, Problem

COVERAGE = """
purposes  section 2(1) Providing Services to Customers      service
purposes  section 2(1) Order Processing                     orders
purposes  section 2(1) Correspondence to Inquiries          inquiries
purposes  section 2(1) Marketing 1                          marketing-communications
purposes  section 2(1) Marketing 2                          research
purposes  section 2(1) Marketing 3                          profiling
purposes  section 2(1) Marketing 4                          targeted-advertising
purposes  section 2(1) Marketing 5                          personalisation
purposes  section 2(1) Site Operations 1-3                  site-operations
purposes  section 2(1) Site Operations, second note         publish-content
purposes  section 1 Sensitive personal information          sensitive-information
purposes  section 10(3)                                     related-information-matching
purposes  section 8                                         cross-border-transfer
purposes  section 11(2) (1)                                 cookie-functional
purposes  section 11(2) (2)                                 cookie-analysis
purposes  section 11(2) (3)                                 cookie-advertising
purposes  section 11(2) (4)                                 cookie-social
purposes  section 2(2)                                      business-partners
purposes  section 2(3)                                      recruitment
purposes  section 2(4) HR labor management                  employee-management
purposes  section 2(4) Payment of compensation              employee-pay
purposes  section 2(4) Decision of treatment                employee-development
purposes  section 2(4) Health care                          employee-health
channels  section 9(2)                                      email-magazine direct-mail
channels  section 9(2), etc.                                phone sms push line
cookies   section 11(2) (1)                                 functional
cookies   section 11(2) (2)                                 analysis
cookies   section 11(2) (3)                                 advertising
cookies   section 11(2) (4)                                 social
roles     section 4(1)                                      ad-distributor data-analysis-provider business-partner
roles     section 4(1)                                      research-company
roles     section 4(2)                                      public-body
roles     section 5(1)                                      joint-user
roles     section 5(2)                                      joint-user-overseas
roles     section 5(3)                                      health-insurance-society
roles     section 6                                         subcontractor
roles     section 6(1)                                      service-provider
roles     section 6(2)                                      credit-analysis-company debt-collection-company
roles     section 8                                         successor
roles     section 10(3)                                     marketing-company dmp
roles     section 11(2) (4)                                 social-network
items     section 1 Contact information                     name postal-address email-address telephone-number
items     section 1 Contact information                     social-login-id
items     section 1 Account credentials                     login-id screen-name password security-questions
items     section 1 Demographic information and objects of interest  birth-date age-group gender location interests
items     section 1 Demographic information and objects of interest  lifestyle
items     section 1 Information from computers and mobile devices  ip-address device-information mobile-device-id
items     section 1 Information from computers and mobile devices  advertising-id device-location
items     section 1 Website and communication usage information  usage-history usage-performance
items     section 1 Market research and feedback            inquiry-content reviews survey-answers call-recordings
items     section 1 Content created by Customers            user-content
items     section 1 Third-party social network information  social-profile
items     section 1 Payment and financial information       payment-card payment-method
items     section 10(1)                                     cookie-data site-identifier visited-urls referrer
items     section 10(1)                                     browsing-history search-history purchase-history
items     section 10(1)                                     taste-attributes
items     section 2(2)                                      business-contact equipment
items     section 2(3)                                      applicant-contact applicant-history
items     section 2(4)                                      employee-contact identity-documents pay my-number
items     section 2(4)                                      pension-number bank-account dependents employee-history
items     section 2(4)                                      appraisals health-checks
items     section 1 Sensitive personal information          sensitive-information
"""
"""Every purpose, channel, cookie category, role and kind of data of the text, by section, and its entry."""

TRANSFER = re.compile(r"\[partner\.transfer\]\n(?:.+\n)+")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return toml.default_policy()


def partners() -> str:
    return toml.shipped("partners.toml")


def complaints(text: str, policy: Policy, connectors: dict[str, Check] | None = None) -> list[str]:
    """What is said of partners, without the line."""
    with pytest.raises(Misconfigured) as raised:
        toml.registry(text, "partners.toml", policy, connectors)
    return [each.split(": ", 1)[1] for each in str(raised.value).splitlines()]


@pytest.mark.parametrize("table", ["purposes", "channels", "cookies", "roles", "items"])
def test_the_policy_has_an_entry_for_every_heading_of_its_text_and_no_other(table: str, policy: Policy) -> None:
    rows = [re.split(r" {2,}", line) for line in COVERAGE.strip().splitlines()]
    expected = {name: section for kind, section, names in rows if kind == table for name in names.split()}

    assert {each.name: each.source for each in getattr(policy, table)} == expected


def test_every_label_is_in_both_languages(policy: Policy) -> None:
    tables = (policy.purposes, policy.channels, policy.cookies, policy.roles, policy.items, policy.regimes)
    labels = [policy.label, *(each.label for table in tables for each in table)]
    japanese = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")

    assert [each for each in labels if japanese.search(each.en)] == []
    assert [each for each in labels if not japanese.search(each.ja)] == []


def test_what_needs_consent_before_is_opt_in_and_what_carries_the_service_is_required(policy: Policy) -> None:
    kinds = {kind: {each.name for each in policy.purposes if each.kind == kind} for kind in ("opt-in", "opt-out")}

    assert kinds["opt-in"] == {
        "marketing-communications",
        "targeted-advertising",
        "publish-content",
        "sensitive-information",
        "related-information-matching",
        "cross-border-transfer",
    }
    assert kinds["opt-out"] == {
        "research",
        "profiling",
        "personalisation",
        "site-operations",
        "cookie-analysis",
        "cookie-advertising",
        "cookie-social",
    }


def test_all_marketing_bars_minors(policy: Policy) -> None:
    marketing = [each for each in policy.purposes if "Marketing" in each.source]

    assert len(marketing) == 5
    assert all(each.bars_minors and each.absent == "deny" for each in marketing)


def test_neither_file_names_the_company_whose_text_it_follows() -> None:
    texts = toml.shipped("policy.toml") + partners()

    assert re.search("nestl|nespresso|ネスレ|ネスプレッソ", texts, re.IGNORECASE) is None


def test_the_partners_of_the_demo_hold_no_secret_and_no_address_of_a_machine() -> None:
    registry = toml.default_registry()

    assert [each.name for each in registry.partners] == ["meta", "kura-crm", "aozora-analytics", "hoshi-dmp"]
    assert all(each.startswith("env:TODOKE_") for one in registry.partners for each in one.secrets.values())
    assert all(
        one.settings.get("url", one.settings.get("base_url", "")).startswith("env:") for one in registry.partners
    )


def test_consent_to_a_transfer_abroad_needs_its_purpose() -> None:
    text = toml.shipped("policy.toml").replace('"cross-border-transfer"', '"going-abroad"')
    elsewhere = toml.policy(text, "policy.toml")

    [told] = complaints(partners(), elsewhere)

    assert told == (
        'partner[0] "meta".country: consent to a transfer abroad (Art. 28) needs a purpose "cross-border-transfer", '
        'which the policy lacks. Add the [[purpose]] "cross-border-transfer" to the policy.'
    )


@pytest.mark.parametrize(
    ("country", "transfer"),
    [
        ("US", 'basis = "equivalent-measures"\nmeasures = "…"\nchecked_on = "2024-05-01"\n'),
        ("FR", 'basis = "designated-country"\n'),
        ("US", 'basis = "consent"\nunavailable = "the country is not chosen yet"\ninformed_on = "2024-07-01"\n'),
    ],
)
def test_a_transfer_abroad_has_one_of_three_bases(country: str, transfer: str, policy: Policy) -> None:
    text = TRANSFER.sub(f"[partner.transfer]\n{transfer}", partners()).replace('"US"', f'"{country}"')

    registry = toml.registry(text, "partners.toml", policy)

    assert registry.partners[0].transfer
    assert transfer.startswith(f'basis = "{registry.partners[0].transfer.basis}"')


def test_a_subcontractor_abroad_needs_a_basis_for_the_transfer_too(policy: Policy) -> None:
    text = partners().replace('role = "subcontractor"', 'role = "subcontractor"\ncountry = "AU"')

    [told] = complaints(text, policy)

    assert told == (
        'partner[1] "kura-crm".transfer: missing, and the partner is abroad (Art. 28). Add [partner.transfer] with '
        'basis = "consent", "designated-country" or "equivalent-measures".'
    )


def test_names_of_a_policy_that_declares_none_of_a_kind_are_all_unknown(policy: Policy) -> None:
    text = toml.shipped("policy.toml")
    bare = toml.policy(text[: text.index("[[role]]")], "policy.toml")

    assert policy.role("dmp")
    assert (
        'partner[0] "meta".role: no role is called "ad-distributor". There are none yet: add it there.'
        in complaints(partners(), bare)
    )


def test_a_connector_adds_what_it_finds_where_nothing_else_is_wrong(policy: Policy) -> None:
    def webhook(partner: Partner) -> list[Problem]:
        url = Problem(("settings", "url"), f"missing for {partner.name}", "Add url.")
        return [url, Problem(("identifiers",), "no kind", "Shown only where nothing was said of it.")]

    text = partners().replace('connector = "meta"', 'connector = "mata"').replace('["cookie_id", "member_id"]', "[]")

    told = complaints(text, policy, {"meta": lambda _: [], "webhook": webhook})

    assert [each.removesuffix(" Write at least one kind.") for each in told] == [
        'partner[0] "meta".connector: no connector is called "mata". Write "meta".',
        'partner[1] "kura-crm".identifiers: no kind. Shown only where nothing was said of it.',
        'partner[1] "kura-crm".settings.url: missing for kura-crm. Add url.',
        'partner[2] "aozora-analytics".identifiers: empty, so nobody could be named to the partner.',
        'partner[2] "aozora-analytics".settings.url: missing for aozora-analytics. Add url.',
        'partner[3] "hoshi-dmp".identifiers: no kind. Shown only where nothing was said of it.',
        'partner[3] "hoshi-dmp".settings.url: missing for hoshi-dmp. Add url.',
    ]


def test_a_policy_needs_a_regime_a_version_and_a_purpose() -> None:
    text = 'name = "n"\nrevision = 1\nlabel = { en = "n", ja = "n" }\nregime = []\nversion = []\npurpose = []\n'

    with pytest.raises(Misconfigured) as raised:
        toml.policy(text, "policy.toml")

    assert str(raised.value).splitlines() == [
        "policy.toml:4: regime: none. Add at least one [[regime]].",
        "policy.toml:5: version: none. Add at least one [[version]], with the date it took effect.",
        "policy.toml:6: purpose: none. Add at least one [[purpose]].",
    ]
