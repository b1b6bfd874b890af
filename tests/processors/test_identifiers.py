"""The forms of identifiers. A hash that differs from the vendor's is a person who is silently never removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoke.processors import identifiers
from todoke.processors.identifiers import (
    canonical,
    digest,
    email,
    email_analytics,
    email_gmail,
    email_google,
    phone_digits,
    phone_e164,
    phone_national,
)
from todoke.schemas.errors import REASONS, Refused
from todoke.schemas.identity import KINDS, IdentifierKind

ADDRESS = "taro.yamada@example.com"
NUMBER = "+819012345678"

# Written here as hashes, so that neither the forms nor the hash can drift together with what they are compared to.
VECTORS = {
    email: "b6ebd83922edfa96b0ff9166a958badcc230dd68d2315ddfea22f20eaf05994a",
    phone_e164: "3d06a39d40790f11761295e053029378ae28c4b4f6f301693005e079f3d4ca64",
    phone_digits: "0ad07193350775c6d4377f8b039d32877e66c69a454ed886b05279771c0fca0b",
    phone_national: "9876ccefa1e426aad25916a9cec49e9598bffcd5434d356c7d0c3cd3f0142baa",
}

EMAILS = [
    ADDRESS,
    " Taro.Yamada@Example.COM\t",
    "ｔａｒｏ．ｙａｍａｄａ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    "\u3000taro.yamada@example.com\r\n",
    "\ufefftaro.yamada@example.com\u200b",
]
NUMBERS = [
    NUMBER,
    "09012345678",
    "090-1234-5678",
    "(090) 1234-5678",
    "０９０１２３４５６７８",
    "０９０ー１２３４ー５６７８",  # the long vowel of an input method
    "090ｰ1234ｰ5678",  # half-width kana
    "０９０－１２３４－５６７８",
    "０９０−１２３４−５６７８",  # minus
    "090‐1234–5678",
    "　090　1234　5678　",
    "+81 90 1234 5678",
    "+81 (0)90-1234-5678",
    "＋８１９０１２３４５６７８",
    "010-81-90-1234-5678",
    "90-1234-5678",
    "090-1234-5678 ext. 12",
]
DEVICE = "6d92078a-8246-4ba4-ae5b-76104861e7dc"
REFUSED: list[tuple[IdentifierKind, str]] = [
    *[("email", value) for value in ("", "taro", "@example.org", "taro@", "taro@example", "a@b@example.com")],
    *[
        ("email", value)
        for value in ("ta ro@example.com", "taro@-example.com", "taro@example..com", "ta\x00ro@example.com")
    ],
    *[("email", value) for value in ("a" * 65 + "@example.com", "a@" + "b." * 126 + "com", "taro\u202e@example.com")],
    *[("phone", value) for value in ("", "119", "taro", "0081 90 1234 5678", "15559876543", "090-1234", "+0")],
    *[("phone", value) for value in ("090-1234-5678/080-1111-2222", "9" * 300, "\ud800")],
    *[(kind, value) for kind in ("member_id", "cookie_id", "line_id") for value in ("", " ", "a\nb", "x" * 257)],
    *[
        (kind, value)
        for kind in ("idfa", "gaid")
        for value in ("", "0" * 32, DEVICE[:-1], DEVICE + "0", "g" + DEVICE[1:])
    ],
    ("idfa", "00000000-0000-0000-0000-000000000000"),
    *[("postal_address", value) for value in ("", "　", "x" * 513, "東京都\x07")],
    ("fax", "03-1234-5678"),  # type: ignore[list-item]  # what an undecoded message might say
]


@pytest.mark.parametrize("form", VECTORS)
def test_the_vectors_hold(form: object) -> None:
    assert callable(form)
    value = ADDRESS if form is email else "090-1234-5678"

    assert digest(form(value)) == VECTORS[form]


@pytest.mark.parametrize("value", EMAILS)
def test_one_address_has_one_form(value: str) -> None:
    assert canonical("email", value) == ADDRESS


@pytest.mark.parametrize("value", NUMBERS)
def test_one_number_has_one_form(value: str) -> None:
    assert canonical("phone", value) == NUMBER
    assert (phone_digits(value), phone_national(value)) == ("819012345678", "09012345678")


def test_metas_own_examples_hold() -> None:
    assert digest(email("mary@example.com")) == "f1904cf1a9d73a55fa5de0ac823c4403ded71afd4c3248d00bdcd0866552bb79"
    assert (
        digest(phone_digits("+1 (555) 987-6543")) == "1ef970831d7963307784fa8688e8fce101a15685d62aa765fed23f3a2c576a4e"
    )


def test_the_other_hashes_hold() -> None:
    assert digest(email_gmail("Taro.Yamada+news@GMail.com"), encoding="base64") == (
        "UA6HUEG/2oHE9nvGjw117JlihhUeG9x6/mXUjKiFDiQ="
    )
    assert email_gmail("taro.yamada+news@example.com") == "taro.yamada+news@example.com"
    assert email_google("cloudy.sanfrancisco+shopping@gmail.com") == "cloudysanfrancisco@gmail.com"  # Google's own
    assert email_google("user.name+NYC@Example.com") == "user.name+nyc@example.com"  # and this
    assert digest(email_google(" Taro.Yamada+news@GoogleMail.com")) == (
        "b533fe92542676c380cbd576e176282a1f8d38505e8e2b9b2115031f2da355a1"
    )
    with pytest.raises(Refused):
        email_google("+news@gmail.com")
    assert email_analytics(" Taro.Yamada+news@GoogleMail.com") == "taroyamada+news@googlemail.com"
    assert email_analytics("a.b@example.com") == "a.b@example.com"
    with pytest.raises(Refused):
        email_analytics("..@gmail.com")
    assert digest(email(ADDRESS), "md5") == "e38d570fb835e18f80a5d8ae95a184dd"
    assert digest("abc", "sha1") == "a9993e364706816aba3e25717850c26c9cd0d89d"  # FIPS 180-4
    assert digest("", "md5", "base64") == "1B2M2Y8AsgTpgAmY7PhCfg=="  # RFC 1864


@pytest.mark.parametrize(
    "value", ["a..b@docomo.ne.jp", "a.@ezweb.ne.jp", "o'neil+x@mail.example.co.uk", "山田@例え.jp"]
)
def test_addresses_that_live_outside_the_grammar_are_taken(value: str) -> None:
    assert email(value) == value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("03-1234-5678", "+81312345678"),
        ("0120-444-444", "+81120444444"),
        ("060-1234-5678", "+816012345678"),  # opened in 2026: too new for older tables
        ("+44 20 7183 8750", "+442071838750"),
    ],
)
def test_other_numbers(value: str, wanted: str) -> None:
    assert phone_e164(value) == wanted


def test_devices_keep_the_case_of_their_makers() -> None:
    assert canonical("idfa", f" {DEVICE} ") == DEVICE.upper()
    assert canonical("gaid", DEVICE.upper().replace("-", "")) == DEVICE


@pytest.mark.parametrize("kind", ["member_id", "cookie_id", "line_id"])
def test_opaque_ids_are_only_trimmed(kind: IdentifierKind) -> None:
    assert canonical(kind, "\tAbC 全角１ \ufeff") == "AbC 全角１"


@pytest.mark.parametrize(
    "value",
    [
        "〒１５０−０００１　東京都渋谷区神宮前１ー２ー３　ＡＢＣタワー１０１",
        "150-0001 東京都渋谷区神宮前1-2-3 ABCﾀﾜｰ101",
        "〒1500001東京都渋谷区神宮前1‐2‐3　 ABCタワー101",
        "〒 150-0001\n東京都渋谷区神宮前1 - 2 - 3 ABCタワー101",
    ],
)
def test_one_address_on_paper_has_one_form(value: str) -> None:
    assert canonical("postal_address", value) == "150-0001 東京都渋谷区神宮前1-2-3 ABCタワー101"


def test_an_address_abroad_keeps_its_number() -> None:
    assert canonical("postal_address", "1600  Example Ave,  Springfield") == "1600 Example Ave, Springfield"


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_what_names_nobody_is_refused_without_being_quoted(kind: IdentifierKind, value: str) -> None:
    with pytest.raises(Refused) as raised:
        canonical(kind, value)

    assert raised.value.reason in REASONS
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert not value.strip() or value not in str(raised.value)


@given(st.sampled_from(KINDS), st.text(max_size=80))
def test_a_form_is_its_own_form(kind: IdentifierKind, value: str) -> None:
    try:
        once = canonical(kind, value)
    except Refused:
        return

    assert canonical(kind, once) == once


@given(st.emails(), st.sampled_from(["", " ", "\u3000", "\ufeff"]))
def test_ascii_addresses_are_trimmed_and_lowered_and_no_more(value: str, around: str) -> None:
    try:
        form = email(around + value + around)
    except Refused:
        return  # st.emails quotes and brackets what nobody registers with

    assert form == value.lower()


@given(st.integers(0, 99_999_999), st.sampled_from(["-", "ー", "－", " ", "", "−"]))
def test_every_mobile_number_comes_back_however_it_is_written(digits: int, dash: str) -> None:
    number = f"{digits:08d}"
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    written = f"090{dash}{number[:4]}{dash}{number[4:]}"

    assert phone_e164(written) == phone_e164(written.translate(wide)) == f"+8190{number}"


def test_a_change_of_form_must_change_the_version_and_these_vectors() -> None:
    assert identifiers.VERSION == 1
