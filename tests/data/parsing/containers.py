"""Office files and books written by hand, with no more in them than a test needs."""

import io
import zipfile
from collections.abc import Mapping, Sequence

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip container of these parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def relations(targets: Mapping[str, tuple[str, str]]) -> str:
    """A part of relations: id, kind and target of each."""
    rows = (
        f'<Relationship Id="{name}" Type="{_RELATION}{kind}" Target="{target}"/>'
        for name, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="urn:x">{"".join(rows)}</Relationships>'


def office(main: str, parts: Mapping[str, str | bytes]) -> bytes:
    """An Office file whose main part is at this path."""
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations({"r1": ("officeDocument", main)}),
            "docProps/core.xml": '<p xmlns:d="urn:d"><d:title> Plan </d:title><d:creator>Ann</d:creator></p>',
            **parts,
        }
    )


def docx(body: str, parts: Mapping[str, str | bytes] | None = None) -> bytes:
    """A Word file with headings, a numbered list (1) and one with bullets (2)."""
    return office(
        "word/document.xml",
        {
            "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(
                {
                    "r1": ("styles", "styles.xml"),
                    "r2": ("numbering", "numbering.xml"),
                    "r3": ("footnotes", "footnotes.xml"),
                }
            ),
            "word/styles.xml": f"<w:styles {W}>"
            '<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
            '<w:style w:styleId="Mine"><w:name w:val="My own"/><w:basedOn w:val="H1"/></w:style>'
            '<w:style w:styleId="Ring"><w:name w:val="r"/><w:basedOn w:val="Ring"/></w:style>'
            "</w:styles>",
            "word/numbering.xml": f"<w:numbering {W}>"
            '<w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl>'
            '</w:abstractNum><w:abstractNum w:abstractNumId="8"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/>'
            "</w:lvl></w:abstractNum>"
            '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
            '<w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num></w:numbering>',
            **(parts or {}),
        },
    )


def word_paragraph(text: str, shape: str = "") -> str:
    """A paragraph of a Word file."""
    return f"<w:p><w:pPr>{shape}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def word_item(text: str, numbering: int, level: int = 0) -> str:
    """An item of a list."""
    return word_paragraph(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{numbering}"/></w:numPr>')


def xlsx(sheets: Mapping[str, str], strings: Sequence[str] = (), styles: str = "<styleSheet/>") -> bytes:
    """An Excel file: for each sheet its rows."""
    links = {f"s{at}": ("worksheet", f"worksheets/{at}.xml") for at in range(len(sheets))}
    listed = "".join(f'<sheet name="{name}" r:id="s{at}"/>' for at, name in enumerate(sheets))
    return office(
        "xl/workbook.xml",
        {
            "xl/workbook.xml": f"<workbook {R}><workbookPr/><sheets>{listed}</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations(
                {**links, "t": ("sharedStrings", "strings.xml"), "f": ("styles", "styles.xml")}
            ),
            "xl/strings.xml": f"<sst>{''.join(f'<si><t>{text}</t></si>' for text in strings)}</sst>",
            "xl/styles.xml": styles,
            **{
                f"xl/worksheets/{at}.xml": f"<worksheet><sheetData>{rows}</sheetData></worksheet>"
                for at, rows in enumerate(sheets.values())
            },
        },
    )


def pptx(slides: Sequence[str], parts: Mapping[str, str | bytes] | None = None) -> bytes:
    """A PowerPoint file: for each slide its shapes. Slide 1 links `notes.xml` and `chart.xml` beside it."""
    listed = "".join(f'<p:sldId id="{300 + at}" r:id="s{at}"/>' for at in range(len(slides)))
    return office(
        "ppt/presentation.xml",
        {
            "ppt/presentation.xml": f'<p:p xmlns:p="urn:p" {R}><p:sldIdLst>{listed}</p:sldIdLst></p:p>',
            "ppt/_rels/presentation.xml.rels": relations(
                {f"s{at}": ("slide", f"slides/{at}.xml") for at in range(len(slides))}
            ),
            "ppt/slides/_rels/0.xml.rels": relations(
                {"n": ("notesSlide", "notes.xml"), "c": ("chart", "chart.xml")}
            ),
            **{
                f"ppt/slides/{at}.xml": f'<p:sld xmlns:p="urn:p" {A} {R}>{shapes}</p:sld>'
                for at, shapes in enumerate(slides)
            },
            **(parts or {}),
        },
    )


def shape(texts: Sequence[str], role: str = "", y: int = 0) -> str:
    """A shape of a slide; `y` in inches from the top."""
    placed = f'<p:nvPr><p:ph type="{role}"/></p:nvPr>' if role else ""
    rows = "".join(f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for text in texts)
    return f'<p:sp>{placed}<a:off x="0" y="{y * 914_400}"/><p:txBody>{rows}</p:txBody></p:sp>'


def epub(chapters: Mapping[str, str], parts: Mapping[str, str | bytes] | None = None) -> bytes:
    """A book of these chapters, by file name."""
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in chapters
    )
    spine = "".join(f'<itemref idref="{name}"/>' for name in chapters)
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<c xmlns="urn:c"><rootfile full-path="OPS/book.opf"/></c>',
            "OPS/book.opf": '<package xmlns="urn:o"><metadata xmlns:dc="urn:dc"><dc:title>The Book</dc:title>'
            f"<dc:creator>Ann</dc:creator></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>",
            **{f"OPS/{name}": text for name, text in chapters.items()},
            **(parts or {}),
        }
    )
