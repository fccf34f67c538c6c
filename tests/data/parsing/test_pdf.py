"""PDF: text in reading order with its structure, and pages that cannot be trusted."""

from pathlib import Path

import pytest

from cairn.data.parsing import ParseLimits, parse_bytes, parse_file
from tests.data.parsing.pdfs import assemble, check, column, make_pdf, show, stream, texts

LEFT = [f"the left column has its line number {at} here" for at in range(12)]
RIGHT = [f"while the right one counts {at} lines as well" for at in range(12)]


def test_headings_paragraphs_and_lists() -> None:
    content = (
        show("Travel Policy", 72, 720, size=20)
        + column(
            ["Every trip needs an approval by the man-", "ager before it is booked. This holds", "for all."],
            72,
            690,
        )
        + show("1.2 Booking", 72, 640, font="F2")
        + column(["Use the tool. These words are running text and they", "end on the second line."], 72, 620)
        + column(["• trains first", "• planes when it is far"], 90, 580)
    )
    document = parse_bytes(make_pdf([content]), "policy.pdf")
    check(document)
    assert document.media_type == "application/pdf"
    assert document.title == "Travel Policy"
    assert texts(document) == [
        "# Travel Policy",
        "Every trip needs an approval by the manager before it is booked. This holds for all.",
        "## 1.2 Booking",
        "Use the tool. These words are running text and they end on the second line.",
        "- trains first\n- planes when it is far",
    ]
    assert [block.level for block in document.blocks] == [1, 0, 2, 0, 0]
    assert document.pages[0].confidence == 1.0


@pytest.mark.parametrize("row_by_row", [False, True])
def test_columns_are_read_one_after_the_other(row_by_row: bool) -> None:
    title = show("A Title That Reaches Over Both Of The Columns Of This Page Here", 72, 740, size=14)
    if row_by_row:
        rows = "".join(
            column([left], 60, 700 - 15 * at) + column([right], 330, 700 - 15 * at)
            for at, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True))
        )
    else:
        rows = column(RIGHT, 330, 700) + column(LEFT, 60, 700)
    footer = show("and a line below that spans the columns again, from one side to the other one", 60, 480)
    document = parse_bytes(make_pdf([title + rows + footer]), "")
    check(document)
    parts = ("A Title", LEFT[0], LEFT[11], RIGHT[0], RIGHT[11], "a line below")
    order = [document.text.index(part) for part in parts]
    assert order == sorted(order)


def test_pages_and_what_is_wrong_with_them() -> None:
    image = stream(
        "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8",
        b"\x80",
    )
    page = "/Resources << /Font << /F1 3 0 R >> /XObject << /Im 5 0 R >> >>"
    picture = "q 612 0 0 792 0 0 cm /Im Do Q\n"
    good = column([f"some ordinary words stand on line {at}" for at in range(5)], 72, 700)
    backwards = column(
        [line[::-1] for line in ["this is the text and that is for the birds with wings"] * 6], 72, 700
    )
    shifted = column(["Wkh txlfn eurzq ira mxpsv ryhu wkh odcb grj zklfk vwdqgv wkhuh"] * 6, 72, 700)
    spaceless = column(["thequickbrownfoxjumpsoverthelazydogagainandagain"] * 5, 72, 700)
    contents = [good, "", picture, picture + show("Scan 1", 10, 10), backwards, shifted, spaceless]
    document = parse_bytes(make_pdf(contents, objects=[image], page=page), "")
    check(document)
    kinds = [[problem.kind for problem in page.problems] for page in document.pages]
    assert kinds == [[], ["empty"], ["image_only"], ["image_only"], ["garbled"], ["garbled"], ["garbled"]]
    assert document.pages[0].confidence == 1.0
    assert all(page.confidence <= 0.2 for page in document.pages[1:])


def test_a_font_without_letters_is_garbled() -> None:
    """Glyphs that no map names: PDFium makes something of them, and it is not what is printed."""
    descendant = (
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /CIDSystemInfo "
        b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /DW 600 /FontDescriptor 6 0 R >>"
    )
    descriptor = (
        b"<< /Type /FontDescriptor /FontName /X /Flags 4 /FontBBox [0 0 900 900] /Ascent 800 /Descent -200 >>"
    )
    font = b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [5 0 R] >>"
    page = "/Resources << /Font << /F1 7 0 R >> >>"
    content = "BT /F1 11 Tf 72 700 Td <0003001400250036004700580069> Tj ET\n" * 3
    document = parse_bytes(make_pdf([content], objects=[descendant, descriptor, font], page=page), "")
    check(document)
    assert document.pages[0].confidence < 0.5
    assert document.pages[0].problems


def test_a_turned_page_reads_as_it_is_shown() -> None:
    content = "0 1 -1 0 612 0 cm\n" + show("Second Turned Heading", 60, 500, size=18) + column(LEFT, 60, 400)
    data = make_pdf([content]).replace(b"/MediaBox", b"/Rotate 90 /MediaBox")
    document = parse_bytes(data, "")
    assert texts(document)[0].endswith("Second Turned Heading")
    assert document.text.index(LEFT[0]) < document.text.index(LEFT[11])


def test_outline_and_title() -> None:
    content = show("Over view", 72, 700) + show("some words of text below it", 72, 650)
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R /Outlines 4 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 6 0 R /Resources "
        b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /First 5 0 R /Last 5 0 R /Count 1 >>",
        b"<< /Title (Over view) /Parent 4 0 R /Dest [3 0 R /Fit] >>",
        stream("", content.encode()),
        b"<< /Title (Microsoft Word - Report) /Author (Ann) >>",
    ]
    document = parse_bytes(assemble(bodies, "/Info 7 0 R"), "")
    assert document.title == "Report"
    assert document.metadata["author"] == "Ann"
    assert texts(document, "heading") == ["# Over view"]


def test_what_was_typed_into_a_form() -> None:
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R 5 0 R] >> >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Annots [4 0 R 5 0 R] "
        b"/Contents 6 0 R /Resources << /Font << /F1 << /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (n) /TU (Your name) /V (Ann Smith) /Rect [9 9 99 9] >>",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (empty) /Rect [9 39 99 59] >>",
        stream("", show("Please fill in this form.", 72, 700).encode()),
    ]
    document = parse_bytes(assemble(bodies), "")
    check(document)
    assert texts(document) == ["Please fill in this form.", "- Your name: Ann Smith"]


def test_broken_locked_and_looping_files() -> None:
    whole = make_pdf([column(LEFT, 60, 700)] * 3)
    cut = parse_bytes(whole[: len(whole) // 2], "")
    check(cut)
    assert cut.pages[0].problems or "left column" in cut.text
    assert parse_bytes(b"%PDF-1.7\nrubbish", "").pages[0].problems[0].kind == "failed"
    encrypt = "/Encrypt << /Filter /Standard /V 1 /R 2 /O <" + "00" * 32 + "> /U <" + "11" * 32 + "> /P -4 >>"
    locked = assemble(
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 0 /Kids [] >>"], encrypt
    )
    assert parse_bytes(locked, "").pages[0].problems[0].kind == "encrypted"
    loop = assemble(
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 9 /Kids [2 0 R 2 0 R] >>"]
    )
    looping = parse_bytes(loop, "", limits=ParseLimits(max_pages=50))
    check(looping)
    assert all(page.confidence == 0.0 for page in looping.pages)


def test_a_long_file_is_read_in_parts(tmp_path: Path) -> None:
    """The same from a path as from bytes, over more pages than are read at once."""
    data = make_pdf([show(f"some words on page {at}", 72, 700) for at in range(1, 251)])
    path = tmp_path / "long.pdf"
    path.write_bytes(data)
    document = parse_file(path)
    check(document)
    assert texts(document) == [f"some words on page {at}" for at in range(1, 251)]
    assert document == parse_bytes(data, "long.pdf")


def test_too_many_pages_are_told() -> None:
    document = parse_bytes(
        make_pdf([show("words on a page", 72, 700)] * 5), "", limits=ParseLimits(max_pages=3)
    )
    check(document)
    assert len(document.pages) == 4
    assert document.pages[3].problems[0].kind == "too_large"
    assert "the file has 5 pages" in document.pages[3].problems[0].message
