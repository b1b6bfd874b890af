"""A disclosure as a letter that a person can read, in Japanese or English."""

import io
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from msgspec import Struct
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from todoke.processors.disclosure import Disclosure, Language, LeftOut, Line, Value
from todoke.schemas.errors import Misconfigured
from todoke.schemas.policy import Label

CID = "HeiseiKakuGo-W5"
MARGIN = 20 * mm
LABELS = 48 * mm
GREY = colors.Color(0.35, 0.35, 0.35)
RULE = colors.Color(0.78, 0.78, 0.78)

WORDS: dict[str, Label] = {
    "title": Label("Records of provision to and from third parties", "第三者提供記録の開示"),
    "to": Label("To the person concerned, or their agent", "ご本人様又は代理人様"),
    "opening": Label(
        "You asked for the records of what we gave to and received from others of your personal data. This letter shows them "
        "as they stood on the day below (Act on the Protection of Personal Information, Art. 33(5)).",
        "個人情報の保護に関する法律第33条第5項に基づくご請求により、当社が作成した第三者提供記録を、下記基準日の状態で開示いたします。",
    ),
    "number": Label("Number of this letter", "文書番号"),
    "day": Label("State of", "基準日"),
    "records": Label("Records shown", "開示する記録"),
    "none": Label("There is no record that we would have to show you.", "開示の対象となる記録はありません。"),
    "missing": Label("not recorded", "記録なし"),
    "others": Label("Without a name", "名称の記録なし"),
    "record": Label("Record", "記録番号"),
    "law": Label("Made under", "根拠法令"),
    "corrected": Label("Corrected by record", "訂正後の記録"),
    "annulled": Label("Annulled by record", "取消しの記録"),
    "replaces": Label("Takes the place of record", "訂正・取消しの対象"),
    "extra": Label(
        "* kept by us though the law doesn't ask for it", "* 法定の記録事項ではありませんが、当社が記録しているもの"
    ),
    "left": Label("What is not shown, and why", "開示しないもの及びその理由"),
    "count": Label("Number", "件数"),
    "ground": Label("Ground", "理由"),
    "nothing": Label("Nothing was left out.", "開示しないものはありません。"),
    "records_of": Label("records", "記録"),
    "items_of": Label("items", "項目"),
    "check": Label("How to check a record", "記録の確認方法"),
    "how": Label(
        "With this letter come receipts, one for each record, in the folder receipts. Each proves that the record stood in our log "
        "before the log's checkpoint was signed, and has not been changed since. Anybody can check one, with the log's public key "
        "and free software:",
        "本書には、記録ごとの受領証(receipts フォルダ内のファイル)が添付されています。受領証により、当該記録が当社のログに記載され、"
        "その後変更されていないことを、ログの公開鍵を用いてどなたでも確認できます。",
    ),
    "write": Label("Who to write to", "お問い合わせ先"),
    "wrong": Label(
        "If something here is wrong, you may ask us to correct it (Art. 34). Complaints may also be taken to the Personal "
        "Information Protection Commission.",
        "内容が事実と異なる場合は、訂正等を請求できます(同法第34条)。苦情は個人情報保護委員会にも申し出ることができます。",
    ),
    "page": Label("Page {} of {}", "{} / {} ページ"),
}
BASES: dict[str, Label] = {
    "consent": Label("The person's consent was obtained", "本人の同意を得ている"),
    "opt-out": Label("Opt-out (Art. 27(2))", "オプトアウト(法第27条第2項)"),
}
LAWS: dict[str, str] = {
    "APPI Art. 29(1), Rules 19, 20(1)(ii)": "法第29条第1項、規則第19条・第20条第1項第2号",
    "APPI Arts. 27(2), 29(1), Rules 19, 20(1)(i)": "法第27条第2項・第29条第1項、規則第19条・第20条第1項第1号",
    "APPI Art. 30(3), Rules 22 to 24": "法第30条第3項、規則第22条から第24条まで",
    "APPI Art. 31(3), Rules 26 to 28": "法第31条第3項、規則第26条から第28条まで",
    "Cabinet Order 11(i)": "施行令第11条第1号",
    "Cabinet Order 11(ii)": "施行令第11条第2号",
    "Cabinet Order 11(iii)": "施行令第11条第3号",
    "Cabinet Order 11(iv)": "施行令第11条第4号",
    "APPI Art. 33(5), 33(2)(i)": "法第33条第5項・第2項第1号",
    "APPI Art. 33(5), 33(2)(ii)": "法第33条第5項・第2項第2号",
    "APPI Art. 33(5), 33(2)(iii)": "法第33条第5項・第2項第3号",
    "APPI Art. 33(5), guideline 3-8-3": "法第33条第5項、ガイドライン通則編3-8-3",
    "record rules": "記録規程",
}
"""How Japanese cites what rules and grounds name in English; another is shown as it stands."""
METHODS: dict[str, Label] = {
    "each": Label("Each time", "提供の都度"),
    "lump-sum": Label("Once for a period", "一括"),
    "substitute": Label("By a contract or document", "契約書等による代替"),
}
CODES = {"legal_basis": BASES, "method": METHODS}
COUNTERPARTS = ("recipient_name", "provider_name")


class Letterhead(Struct, frozen=True):
    """Who answers: name, address, representative, whom to write to; and a TrueType font to embed, or none."""

    name: str
    address: str
    representative: str
    contact: str
    font: str = ""


def font(path: str) -> str:
    """The name of the font to write in: the one embedded from a file, else one that every reader of Japanese PDFs brings."""
    if not path:
        pdfmetrics.registerFont(UnicodeCIDFont(CID))
        return CID
    try:
        pdfmetrics.registerFont(TTFont("letter", path))
    except (TTFError, OSError):
        raise Misconfigured(
            f"operator.font: {path} is no TrueType font that can be read: name a .ttf or .ttc"
        ) from None
    return "letter"


def as_pdf(found: Disclosure, head: Letterhead, number: str, language: Language, names: Mapping[str, Label]) -> bytes:
    """The letter. `names` are the labels of data items and purposes by their codes."""
    return _Writer(head, number, language, names).written(found)


class _Writer:
    """One letter under way."""

    def __init__(self, head: Letterhead, number: str, language: Language, names: Mapping[str, Label]) -> None:
        self.head, self.number, self.language, self.names = head, number, language, names
        self.font = font(head.font)

        def style(size: float, lead: float, **more: Any) -> ParagraphStyle:
            # CJK breaks a line anywhere, which is right for Japanese and, in English, keeps names without spaces inside
            wrap = "CJK" if language == "ja" else None
            return ParagraphStyle(
                f"s{size}{len(more)}",
                fontName=self.font,
                fontSize=size,
                leading=lead,
                wordWrap=wrap,
                splitLongWords=1,
                **more,
            )

        self.body = style(9.5, 15)
        self.small = style(8, 12, textColor=GREY)
        self.right = style(9, 13, alignment=TA_RIGHT)
        self.title = style(16, 22, spaceBefore=8, spaceAfter=10)
        self.heading = style(11.5, 17, spaceBefore=12, spaceAfter=4)

    def written(self, found: Disclosure) -> bytes:
        """The letter's bytes. It is set twice, since only the first setting says how many pages there are."""
        pages, _ = self._set(found, 0)
        return self._set(found, pages)[1]

    def _set(self, found: Disclosure, pages: int) -> tuple[int, bytes]:
        out, text = io.BytesIO(), self.word("page")

        def foot(canvas: Canvas, _: SimpleDocTemplate) -> None:
            canvas.setFont(self.font, 8)
            canvas.setFillColor(GREY)
            canvas.drawRightString(
                A4[0] - MARGIN, 11 * mm, f"{self.number}    {text.format(canvas.getPageNumber(), pages)}"
            )

        document = SimpleDocTemplate(
            out,
            pagesize=A4,
            leftMargin=MARGIN,
            rightMargin=MARGIN,
            topMargin=MARGIN,
            bottomMargin=MARGIN,
            title=self.word("title"),
            author=self.head.name,
            lang="ja-JP" if self.language == "ja" else "en-GB",
        )
        document.build(self._story(found, document.width), onFirstPage=foot, onLaterPages=foot)
        return document.page, out.getvalue()

    def word(self, name: str) -> str:
        text: str = getattr(WORDS[name], self.language)
        return text

    def _story(self, found: Disclosure, width: float) -> list[Flowable]:
        head = self.head
        lines = [each for each in (head.name, head.address, head.representative, head.contact) if each]
        story: list[Flowable] = [Paragraph(self._safe(each), self.right) for each in lines]
        story += [Paragraph(self.word("title"), self.title), Paragraph(self.word("to"), self.body), Spacer(1, 6)]
        story += [Paragraph(self.word("opening"), self.body), Spacer(1, 8)]
        facts = [("number", self.number), ("day", found.day), ("records", str(len(found.lines)))]
        story.append(self._table([(self.word(name), value) for name, value in facts], width))
        if not found.lines:
            story += [Spacer(1, 8), Paragraph(self.word("none"), self.body)]
        by_name: dict[str, list[Line]] = {}
        for line in found.lines:
            by_name.setdefault(_counterpart(line) or self.word("others"), []).append(line)
        for name, theirs in sorted(by_name.items()):
            first, *rest = [self._record(line, width) for line in theirs]
            story.append(KeepTogether([Paragraph(self._safe(name), self.heading), *first]))
            story += [KeepTogether(each) for each in rest]
        if any(not each.statutory for line in found.lines for each in line.values):
            story.append(Paragraph(self.word("extra"), self.small))
        story += self._left(found.left_out, width)
        story += self._end()
        return story

    def _record(self, line: Line, width: float) -> list[Flowable]:
        rows = [
            (f"{getattr(each.label, self.language)}{'' if each.statutory else ' *'}", self._said(each))
            for each in line.values
        ]
        rows += [(self.word("law"), self._law(line.law)), (self.word("record"), line.record_id)]
        for name, value in (
            ("corrected", line.corrected_by),
            ("annulled", line.annulled_by),
            ("replaces", line.replaces),
        ):
            if value:
                rows.append((self.word(name), value))
        title = Paragraph(f"{line.on}　{self._safe(getattr(line.label, self.language))}", self.body)
        return [title, self._table(rows, width), Spacer(1, 8)]

    def _said(self, each: Value) -> str:
        if each.value is None:
            return self.word("missing")
        many = each.value if isinstance(each.value, list | tuple) else [each.value]
        known = CODES.get(each.name, self.names)
        return ("、" if self.language == "ja" else ", ").join(self._named(known, str(one)) for one in many)

    def _named(self, known: Mapping[str, Label], code: str) -> str:
        return str(getattr(known[code], self.language)) if code in known else code

    def _law(self, text: str) -> str:
        return LAWS.get(text, text) if self.language == "ja" else text

    def _left(self, left: tuple[LeftOut, ...], width: float) -> list[Flowable]:
        title = Paragraph(self.word("left"), self.heading)
        if not left:
            return [title, Paragraph(self.word("nothing"), self.body)]
        rows = [
            (
                f"{each.count} {self.word(f'{each.what}_of')}",
                f"{getattr(each.label, self.language)} ({self._law(each.law)})",
            )
            for each in left
        ]
        return [KeepTogether([title, self._table(rows, width)])]

    def _end(self) -> list[Flowable]:
        command = "todoke log verify --receipt receipts/RECORD.json --key log.pub"
        check = [Paragraph(self.word("check"), self.heading), Paragraph(self.word("how"), self.body)]
        write = [Paragraph(self.word("write"), self.heading)]
        write += [
            Paragraph(self._safe(each), self.body)
            for each in (self.head.name, self.head.address, self.head.contact)
            if each
        ]
        write.append(Paragraph(self.word("wrong"), self.body))
        return [KeepTogether([*check, Paragraph(command, self.small)]), KeepTogether(write)]

    def _table(self, rows: list[tuple[str, str]], width: float) -> Table:
        cells = [
            [Paragraph(self._safe(label), self.small), Paragraph(self._safe(value), self.body)] for label, value in rows
        ]
        return Table(
            cells,
            colWidths=[LABELS, width - LABELS],
            style=[
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ],
            splitInRow=1,
        )

    def _safe(self, text: str) -> str:
        return escape("".join(each if each.isprintable() else " " for each in text))


def _counterpart(line: Line) -> str:
    found = next((each.value for each in line.values if each.name in COUNTERPARTS and each.value), None)
    return str(found or line.partner)
