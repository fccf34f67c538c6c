"""Word, Excel, PowerPoint and EPUB: structure, tables, and pages for sheets, slides and chapters."""

from cairn.data.parsing import parse_bytes
from tests.data.parsing.containers import A, W, docx, epub, pptx, shape, word_item, word_paragraph, xlsx
from tests.data.parsing.pdfs import check, texts


def test_word() -> None:
    table = (
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>who</w:t></w:r></w:p></w:tc>"
        "<w:tc><w:p><w:r><w:t>day</w:t></w:r></w:p></w:tc></w:tr>"
        '<w:tr><w:tc><w:tcPr><w:vMerge w:val="restart"/></w:tcPr><w:p><w:r><w:t>Ann</w:t></w:r></w:p></w:tc>'
        "<w:tc><w:p><w:r><w:t>Mon|Tue</w:t></w:r></w:p></w:tc></w:tr>"
        "<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr><w:p/></w:tc><w:tc><w:p><w:r><w:t>Wed</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    body = (
        word_paragraph("Travel", '<w:pStyle w:val="H1"/>')
        + word_paragraph("Rules", '<w:pStyle w:val="Mine"/><w:outlineLvl w:val="1"/>')
        + "<w:p><w:r><w:t>Old</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:r><w:tab/><w:t>and new</w:t></w:r></w:p>"
        + word_item("one", 1)
        + word_item("inner", 2, 1)
        + word_item("two", 1)
        + table
        + "<w:sdt><w:sdtContent>"
        + word_paragraph("in a field")
        + "</w:sdtContent></w:sdt>"
        + word_paragraph("ring", '<w:pStyle w:val="Ring"/>')
    )
    notes = f"<w:footnotes {W}><w:footnote>{word_paragraph('See page 2.')}</w:footnote></w:footnotes>"
    document = parse_bytes(docx(body, {"word/footnotes.xml": notes}), "plan.docx")
    check(document)
    assert document.title == "Plan"
    assert document.metadata == {"creator": "Ann"}
    assert texts(document) == [
        "# Travel",
        "## Rules",
        "Old\tand new",
        "1. one\n  - inner\n2. two",
        "| who | day |\n| --- | --- |\n| Ann | Mon\\|Tue |\n| Ann | Wed |",
        "in a field",
        "ring",
        "See page 2.",
    ]
    assert [block.kind for block in document.blocks][3:5] == ["list", "table"]


def test_a_word_file_of_pictures_alone() -> None:
    picture = f"<w:p><w:r><w:drawing {A}><a:blip/></w:drawing></w:r></w:p>"
    document = parse_bytes(docx(picture), "scan.docx")
    assert [problem.kind for problem in document.pages[0].problems] == ["image_only"]
    assert document.pages[0].confidence == 0.0


def test_excel() -> None:
    styles = (
        '<styleSheet><numFmts><numFmt numFmtId="170" formatCode="[Red]yyyy\\-mm"/></numFmts><cellXfs>'
        '<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="10"/><xf numFmtId="170"/></cellXfs></styleSheet>'
    )
    rows = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="XFD1" t="inlineStr"><is><t>far</t></is></c></row>'
        '<row r="2"><c r="A2" s="1"><v>45000</v></c><c r="XFD2" s="2"><v>0.125</v></c></row>'
        '<row r="3"><c r="A3" s="3"><v>45000.5</v></c><c r="XFD3"><v>0.30000000000000004</v></c></row>'
        '<row r="1048576"><c r="B1048576" t="b"><v>1</v></c><c t="e"><v>#REF!</v></c></row>'
    )
    document = parse_bytes(xlsx({"Sales": rows, "Empty": ""}, ["When"], styles), "book.xlsx")
    check(document)
    assert texts(document, "table") == [
        "| When | far |\n| --- | --- |\n| 2023-03-15 | 12.5% |\n| 2023-03-15 12:00:00 | 0.3 |",
        "| TRUE | #REF! |\n| --- | --- |",
    ]
    assert texts(document, "heading") == ["# Sales", "# Empty"]
    assert {block.name for block in document.blocks} == {"Sales", "Empty"}
    assert [page.number for page in document.pages] == [1, 2]


def test_a_long_sheet_is_cut_with_its_header() -> None:
    rows = "".join(
        f'<row r="{at}"><c t="str"><v>k{at}</v></c><c><v>{at}</v></c></row>' for at in range(1, 2502)
    )
    document = parse_bytes(xlsx({"Long": rows}), "")
    check(document)
    tables = texts(document, "table")
    assert len(tables) == 3
    assert all(table.startswith("| k1 | 1 |\n") for table in tables)
    assert document.text.count("\n| k") == 2501 + 2


def test_powerpoint() -> None:
    cells = "".join(f"<a:tc><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:tc>" for text in ("a", "b"))
    chart = (
        '<c:chart xmlns:c="urn:c"><c:ser><c:tx><c:v>2024</c:v></c:tx>'
        "<c:cat><c:pt><c:v>Q1</c:v></c:pt></c:cat>"
        "<c:val><c:pt><c:v>7</c:v></c:pt></c:val></c:ser></c:chart>"
    )
    frame = f"<p:graphicFrame><a:tbl><a:tr>{cells}</a:tr><a:tr>{cells}</a:tr></a:tbl></p:graphicFrame>"
    linked = '<p:graphicFrame><c:chart xmlns:c="urn:c" r:id="c"/></p:graphicFrame>'
    title, number = shape(["Title"], "title", y=9), shape(["7"], "sldNum")
    first = shape(["lower"], y=5) + shape(["upper", "second"], y=1) + title + number
    notes = f'<p:n xmlns:p="urn:p" {A}>{shape(["Say hello."], "body")}</p:n>'
    parts = {"ppt/slides/notes.xml": notes, "ppt/slides/chart.xml": chart}
    document = parse_bytes(pptx([first + linked, frame, "<p:pic/>"], parts), "talk.pptx")
    check(document)
    assert texts(document) == [
        "# Title",
        "|  | 2024 |\n| --- | --- |\n| Q1 | 7 |",
        "- upper\n- second",
        "lower",
        "Say hello.",
        "| a | b |\n| --- | --- |\n| a | b |",
    ]
    assert [block.page for block in document.blocks] == [1, 1, 1, 1, 1, 2]
    assert [problem.kind for problem in document.pages[2].problems] == ["image_only"]


def test_epub() -> None:
    chapters = {
        "one.xhtml": "<html><head><title>x</title></head><h1>One</h1><p>First&nbsp;words.</p></html>",
        "cover.xhtml": "<html><body><img src='c.png'/></body></html>",
        "locked.xhtml": "\x01\x02",
    }
    lock = '<e xmlns="urn:e"><CipherReference URI="OPS/locked.xhtml"/></e>'
    document = parse_bytes(epub(chapters, {"META-INF/encryption.xml": lock}), "book.epub")
    check(document)
    assert document.title == "The Book"
    assert document.metadata == {"creator": "Ann"}
    assert texts(document) == ["# One", "First words."]
    kinds = [[problem.kind for problem in page.problems] for page in document.pages]
    assert kinds == [[], ["image_only"], ["encrypted"]]
