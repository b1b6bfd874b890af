"""A disclosure as a person gets it: files, receipts that verify, and a letter that can be read."""

import stat
from pathlib import Path

import msgspec
import pypdfium2
import pytest
import reportlab
from msgspec.structs import replace

from tests.laws.events import provide
from tests.processors.test_disclosure import DAY, RULES, others, provisions
from tests.streams.test_reading import WHY, environ, looks, said
from tests.town import Town
from todoke.processors.disclosure import DECISIONS, GROUNDS, Language, disclose
from todoke.processors.keys import subject_ref
from todoke.schemas import toml
from todoke.schemas.errors import Misconfigured
from todoke.schemas.policy import Label
from todoke.schemas.records import Record
from todoke.streams import settings, shards
from todoke.streams.disclosurepdf import LAWS, WORDS, Letterhead, as_pdf
from todoke.streams.metrics import Metrics

POLICY = toml.default_policy()
NAMES: dict[str, Label] = {each.name: each.label for each in POLICY.purposes}
HEAD = Letterhead("株式会社見本ストア", "東京都千代田区架空町1-2-3", "代表取締役 見本 花子", "privacy@mihon.example")


def letter(records: list[Record], language: Language) -> list[str]:
    """The text of each page, without the line breaks."""
    data = as_pdf(disclose(records, RULES, "subject", DAY), HEAD, "N-1", language, NAMES)
    pages = pypdfium2.PdfDocument(data)
    return [page.get_textpage().get_text_range().replace("\r\n", "") for page in pages]


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_letter_says_who_what_to_whom_why_and_how_to_check_it(language: Language) -> None:
    text = "".join(letter([*others(), *provisions()], language))

    wanted = [HEAD.name, HEAD.contact, DAY, "Meta Platforms, Inc.", "todoke log verify --receipt"]
    wanted += [getattr(WORDS[each], language) for each in ("title", "left", "check", "write", "missing")]
    wanted += [
        getattr(NAMES["targeted-advertising"], language),
        getattr(GROUNDS["no-provision-record"].label, language),
    ]
    assert [each for each in wanted if each.replace(" ", "") not in text.replace(" ", "")] == []


@pytest.mark.parametrize("language", ["ja", "en"])
def test_long_names_and_many_records_stay_on_the_pages_which_are_numbered(language: Language) -> None:
    one = next(each for each in provisions() if each.partner == "meta")
    name = "株式会社" * 60 + "W" * 200
    many = [
        replace(one, record_id=f"{number:032x}", disclosable={**one.disclosable, "recipient_name": name})
        for number in range(150)
    ]

    data = as_pdf(disclose(many, RULES, "subject", DAY), HEAD, "N-1", language, NAMES)

    pages = pypdfium2.PdfDocument(data)
    assert len(pages) > 20
    for number, page in enumerate(pages, 1):
        text = page.get_textpage()
        assert getattr(WORDS["page"], language).format(number, len(pages)) in text.get_text_range()
        for index in range(text.count_rects()):
            left, bottom, right, top = text.get_rect(index)
            assert left > 50
            assert right < page.get_width() - 50
            assert bottom > 25
            assert top < page.get_height() - 40


def test_markup_in_a_name_is_text() -> None:
    one = replace(provisions()[1], disclosable={"recipient_name": "A & <b>B</b> <para>"})

    assert "A & <b>B</b> <para>" in "".join(letter([one], "en"))


def test_with_nothing_to_show_the_letter_says_so() -> None:
    text = "".join(letter(others(), "en"))

    assert WORDS["none"].en in text


def test_a_font_that_is_named_is_embedded_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    vera = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
    found = disclose(provisions(), RULES, "subject", DAY)
    (tmp_path / "no.ttf").write_text("no font")

    data = as_pdf(found, replace(HEAD, font=str(vera)), "N-1", "en", NAMES)

    assert b"/FontFile2" in data
    for path in (tmp_path / "no.ttf", tmp_path / "missing.ttf"):
        with pytest.raises(Misconfigured, match=r"operator\.font"):
            as_pdf(found, replace(HEAD, font=str(path)), "N-1", "en", NAMES)


def test_every_law_that_a_person_is_shown_can_be_said_in_japanese() -> None:
    laws = {each.law for each in RULES.record if each.duty} | {GROUNDS[each].law for each in DECISIONS}

    assert laws <= set(LAWS)


@pytest.mark.stack
async def test_a_person_gets_their_records_with_receipts_that_an_outsider_verifies(town: Town, tmp_path: Path) -> None:
    wrong = provide("taro", "meta", counterpart_name="くらMRC", counterpart_address="東京都")
    right = provide(
        "taro", "meta", 600, counterpart_name="くらCRM", counterpart_address="東京都", corrects=wrong.event_id
    )
    await town.publish("provisions", wrong, provide("hanako", "meta", counterpart_name="くらCRM"))
    await town.publish("provisions", right)
    await town.settled()
    more = (
        f'[ledger]\nvault = "{tmp_path}/vault"\nlog = "{tmp_path}/log"\nguard = "{tmp_path}/guard"\n'
        f'origin = "log.example"\nkey = "file:{tmp_path}/log.key"\npublish_ms = 50\n'
        f'[operator]\nname = "{HEAD.name}"\ncontact = "{HEAD.contact}"\n'
    )
    place = environ(town, tmp_path, more)
    public = await said(place, "ledger", "key", str(tmp_path / "log.key"))
    (tmp_path / "log.pub").write_text(public.output)
    loaded, keyring = settings.load(place), town.made.tools.keyring
    ledger = shards.ledger(loaded, keyring, 0)
    runner = shards.runner(loaded, ledger, 0, keyring, Metrics())
    runner.start()
    ref = subject_ref(keyring, "taro")
    assert await town.until(lambda: sum(each.record.kind == "provision" for each in ledger.vault.of(ref)) == 2)
    runner.stop()
    ledger.publish()
    ledger.close()

    words = ["disclose", "taro", "--to", str(tmp_path / "out"), *WHY]
    done = await said(place, *words, "--format", "json", "--format", "csv", "--format", "pdf")
    again = await said(place, *words)

    assert done.exit_code == 0, done.output
    files = sorted(each.relative_to(tmp_path / "out") for each in (tmp_path / "out").rglob("*") if each.is_file())
    assert [each.suffix for each in files] == [".csv", ".json", ".pdf", ".json", ".json"]
    assert not any("taro" in str(each) or ref in str(each) for each in files)
    assert {stat.S_IMODE((tmp_path / "out" / each).stat().st_mode) for each in files} == {0o600}
    told = msgspec.json.decode((tmp_path / "out" / files[1]).read_bytes())
    first, second = told["lines"]
    names = [{one["name"]: one["value"] for one in each["values"]}["recipient_name"] for each in (first, second)]
    assert names == ["くらMRC", "くらCRM"]
    assert (first["corrected_by"], second["replaces"]) == (second["record_id"], first["record_id"])
    proof = await said(
        place, "log", "verify", "--receipt", str(tmp_path / "out" / files[3]), "--key", str(tmp_path / "log.pub")
    )
    assert (proof.exit_code, "withheld: principal, internal" in proof.output) == (0, True), proof.output
    assert (again.exit_code, "is there already" in again.output) == (1, True)
    assert {(who, row["command"]) for who, row in looks(town)} == {(ref, "disclose")}
