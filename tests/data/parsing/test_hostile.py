"""Files made to harm: each costs what it may, says what it was, and the next one is read as ever."""

from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from cairn.data.parsing import ParsedDocument, ParseLimits, ParserPool
from tests.data.parsing.containers import docx, epub, office, word_paragraph, xlsx
from tests.data.parsing.pdfs import assemble, check, make_pdf, stream

LIMITS = ParseLimits(
    seconds=30, memory_bytes=512 << 20, max_unpacked_bytes=1 << 20, max_text_bytes=1 << 18, max_pages=100
)
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {after} "{f"&{before};" * 10}">' for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY i SYSTEM "file:///etc/passwd">]>'
BODY = '<w:document xmlns:w="urn:w"><w:body>{}</w:body></w:document>'


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(1) as opened:
        yield opened


def only_problem(document: ParsedDocument) -> str:
    check(document)
    assert document.pages[-1].confidence == 0.0
    return document.pages[-1].problems[-1].kind


def test_zip_bombs(pool: ParserPool) -> None:
    bomb = b"<w:p>" + b"A" * (20 << 20)
    found = pool.parse(office("word/document.xml", {"word/document.xml": bomb}), "x.docx", limits=LIMITS)
    assert only_problem(found) == "too_large"
    many = epub({f"{at}.xhtml": "<html>" + "<div>" * 16_000 for at in range(15)})
    assert only_problem(pool.parse(many, "x.epub", limits=LIMITS)) == "too_large"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("declaration", [LAUGHS + "]>", OUTSIDE, "<!--" + "-" * 9000 + "x-->" + OUTSIDE])
def test_entities_are_refused(pool: ParserPool, declaration: str, encoding: str) -> None:
    text = (declaration.replace("---", "- -") + BODY.format("<w:p><w:r><w:t>&i;</w:t></w:r></w:p>")).encode(
        encoding
    )
    document = pool.parse(office("word/document.xml", {"word/document.xml": text}), "x.docx", limits=LIMITS)
    assert only_problem(document) == "failed"
    assert "root:" not in document.text


def test_deep_nesting(pool: ParserPool) -> None:
    deep = BODY.format("<w:x>" * 20_000 + "</w:x>" * 20_000)
    word = pool.parse(office("word/document.xml", {"word/document.xml": deep}), "x.docx", limits=LIMITS)
    assert only_problem(word) == "too_large"
    for name, data in [
        ("x.json", b'{"a":' * 50_000),
        ("x.py", b"(" * 50_000),
        ("x.py", b"-" * 50_000 + b"1"),
        ("x.md", b"> " * 10_000 + b"x"),
        ("x.md", b"- " * 2_000 + b"x"),
        ("x.html", b"<html>" + b"<b><i><table><tr><td>" * 10_000 + b"x"),
        ("x.ipynb", b'{"cells":' + b"[" * 50_000),
    ]:
        document = pool.parse(data, name, limits=LIMITS)
        check(document)
        assert document.text or document.pages[0].problems


def test_a_sheet_that_says_it_is_huge(pool: ParserPool) -> None:
    rows = (
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        '<row r="99999999999"><c r="ZZZZZZ9"><v>2</v></c></row>'
    )
    document = pool.parse(xlsx({"a": "<dimension ref='A1:XFD1048576'/>" + rows}), "x.xlsx", limits=LIMITS)
    check(document)
    assert "1" in document.text
    full = "".join(f"<row><c t='str'><v>{'x' * 900}</v></c><c><v>1</v></c></row>" for _ in range(600))
    assert only_problem(pool.parse(xlsx({"a": full}), "x.xlsx", limits=LIMITS)) == "too_large"


def test_mail_within_mail(pool: ParserPool) -> None:
    parts = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (at, at) for at in range(500)
    )
    check(pool.parse(b"From: a@b.c\nTo: d\nSubject: x\n" + parts + b"\nhello", "x.eml", limits=LIMITS))
    mail = EmailMessage()
    mail.set_content("x")
    check(
        pool.parse(b"Subject: " + b"=?utf-8?q?a?= " * 2_000 + b"\n" + mail.as_bytes(), "x.eml", limits=LIMITS)
    )


def test_pdfs(pool: ParserPool) -> None:
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /XObject << /X 5 0 R >> >> >>"
    )
    tree = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", page]
    form = "/Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >>"
    itself = assemble([*tree, stream("", b"/X Do"), stream(form, b"/X Do")])
    check(pool.parse(itself, "x.pdf", limits=LIMITS))
    loop = assemble([tree[0], b"<< /Type /Pages /Count 1000000000 /Kids [2 0 R 2 0 R] >>"])
    assert only_problem(pool.parse(loop, "x.pdf", limits=LIMITS)) in (
        "failed",
        "too_large",
        "empty",
        "truncated",
    )
    huge = make_pdf(["BT /F1 1 Tf (" + "word " * 40_000 + ") Tj ET"])
    check(pool.parse(huge, "x.pdf", limits=LIMITS))
    lines = make_pdf(["0 0 m 9 9 l S\n" * 30_000 + "BT /F1 9 Tf 9 9 Td (some words) Tj ET"])
    document = pool.parse(lines, "x.pdf", limits=LIMITS)
    assert "some words" in document.text


def test_slow_files_keep_what_was_read(pool: ParserPool) -> None:
    """Far more pages than the time allows: the first are there, and the last says where it stopped."""
    data = make_pdf(["BT /F1 9 Tf 72 700 Td (some words on this page) Tj ET"] * 3000)
    document = pool.parse(data, "x.pdf", limits=ParseLimits(seconds=0.1))
    check(document)
    assert only_problem(document) == "truncated"
    assert 1 < len(document.pages) < 3000
    assert "the file has 3,000 pages" in document.pages[-1].problems[0].message


def test_after_all_that_files_are_read_as_ever(pool: ParserPool) -> None:
    assert pool.parse(docx(word_paragraph("fine")), "x.docx", limits=LIMITS).text == "fine"
