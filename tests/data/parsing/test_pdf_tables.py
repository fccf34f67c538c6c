"""Tables of a PDF: ruled, unruled, lost, and text that is none."""

from collections.abc import Sequence

from cairn.data.parsing import parse_bytes
from tests.data.parsing.pdfs import check, column, make_pdf, show, texts

ROWS = [["Item", "Place", "Count"], ["Chairs", "Hall 2", "40"], ["Desks", "", "12"], ["Lamps", "Roof", "7"]]
MARKDOWN = """\
| Item | Place | Count |
| --- | --- | --- |
| Chairs | Hall 2 | 40 |
| Desks |  | 12 |
| Lamps | Roof | 7 |"""


def written(rows: list[list[str]], xs: list[float], top: float, step: float = 20) -> str:
    return "".join(
        show(cell, xs[at], top - step * number)
        for number, row in enumerate(rows)
        for at, cell in enumerate(row)
        if cell
    )


def ruled(xs: Sequence[float], ys: Sequence[float]) -> str:
    across = "".join(f"{xs[0]} {y} m {xs[-1]} {y} l S\n" for y in ys)
    return across + "".join(f"{x} {ys[0]} m {x} {ys[-1]} l S\n" for x in xs)


def test_a_ruled_table_between_paragraphs() -> None:
    xs, ys = [70, 150, 250, 330], [655, 635, 615, 595, 575]
    content = (
        show("The inventory of the house follows here in full.", 72, 700)
        + ruled(xs, ys)
        + written(ROWS, [75, 155, 255], 640)
        + show("After it comes more text of the usual kind.", 72, 540)
    )
    document = parse_bytes(make_pdf([content]), "")
    check(document)
    assert [block.kind for block in document.blocks] == ["paragraph", "table", "paragraph"]
    assert texts(document, "table") == [MARKDOWN]
    assert not document.pages[0].problems


def test_cells_that_touch_are_cut_at_the_line() -> None:
    """One run of glyphs that reaches over the line between two cells, as wide numbers do."""
    content = ruled([70, 103, 180], [660, 640, 620]) + show("Total 12 000", 73, 645) + show("Net", 73, 625)
    document = parse_bytes(make_pdf([content + show("9 000", 106, 625)]), "")
    assert texts(document, "table") == ["| Total | 12 000 |\n| --- | --- |\n| Net | 9 000 |"]


def test_a_table_without_lines() -> None:
    content = (
        show("The inventory of the house follows here in full.", 72, 700)
        + written(ROWS, [75, 155, 255], 670, 15)
        + column(
            ["After it comes more text of the usual kind, long enough to", "reach over every column."],
            72,
            590,
        )
    )
    document = parse_bytes(make_pdf([content]), "")
    check(document)
    assert texts(document, "table") == [MARKDOWN]
    assert [block.kind for block in document.blocks] == ["paragraph", "table", "paragraph"]


def test_a_frame_is_no_table() -> None:
    content = "60 560 400 150 re S\n" + column(["Some words stand in a frame,", "and go on in it."], 72, 690)
    document = parse_bytes(make_pdf([content]), "")
    assert texts(document) == ["Some words stand in a frame, and go on in it."]


def test_columns_that_cannot_be_told_apart_are_reported() -> None:
    """Every row has three cells, and each reaches over two of the row above."""
    rows = [[f"some words {at}"] * 3 for at in range(5)]
    content = "".join(
        written([row], [72 + 40 * (at % 2) + 90 * cell for cell in range(3)], 700 - 15 * at)
        for at, row in enumerate(rows)
    )
    document = parse_bytes(make_pdf([content]), "")
    check(document)
    assert "lost_table" in [problem.kind for problem in document.pages[0].problems]
    assert document.pages[0].confidence == 1.0
    assert "some words 3" in document.text
