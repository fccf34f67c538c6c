"""Real files: every sample is read or says why not, and what is in it is found."""

from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.data import get_dataset
from cairn.data.parsing import ParsedDocument, parse_file
from tests.data.parsing.pdfs import check, texts

pytestmark = pytest.mark.mirror


@pytest.fixture(scope="module")
def pdfs(mirror_settings: Settings) -> Path:
    return get_dataset("pdf-samples", mirror_settings).folder


@pytest.fixture(scope="module")
def office(mirror_settings: Settings) -> Path:
    return get_dataset("office-samples", mirror_settings).folder


def read(folder: Path, name: str) -> ParsedDocument:
    document = parse_file(next(folder.rglob(name)))
    check(document)
    return document


def kinds(document: ParsedDocument) -> set[str]:
    return {problem.kind for page in document.pages for problem in page.problems}


def test_every_sample_is_read_or_says_why_not(pdfs: Path, office: Path) -> None:
    for path in [*pdfs.rglob("*"), *office.rglob("*")]:
        if path.is_file() and path.name != "GeoTopo-komprimiert.pdf":
            document = parse_file(path)
            check(document)
            assert document.text.strip() or document.pages[0].problems, path.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("libreoffice-writer-password.pdf", {"encrypted"}),
        ("imagemagick-lzw.pdf", {"image_only"}),
        ("grayscale-image.pdf", {"image_only"}),
        ("unreadablemetadata.pdf", {"failed"}),
        ("habibi.pdf", {"garbled"}),
        ("minimal-document.pdf", set[str]()),
        ("google-doc-document.pdf", set[str]()),
        ("crazyones-pdfa.pdf", set[str]()),
    ],
)
def test_what_is_wrong_with_pdfs(pdfs: Path, name: str, expected: set[str]) -> None:
    document = read(pdfs, name)
    assert kinds(document) == expected
    assert (min(page.confidence for page in document.pages) < 0.5) == bool(expected)


def test_columns_and_hyphens(pdfs: Path) -> None:
    document = read(pdfs, "multicolumn.pdf")
    assert texts(document, "heading")[0] == "# Two-Column Document with Lorem Ipsum"
    assert "consectetuer adipiscing elit. Ut purus elit, vestibulum ut, placerat ac" in document.text
    assert not kinds(document)


def test_an_outline_names_the_headings(pdfs: Path) -> None:
    document = read(pdfs, "pdflatex-outline.pdf")
    found = [text.lstrip("# ") for text in texts(document, "heading")]
    assert {"1 Foo", "2 Bar", "3 Baz"} <= set(found)


def test_a_table_without_lines_is_whole(office: Path) -> None:
    name = "SPARSE-2024-INV-1234_borderless_table"
    expected = next(office.rglob(f"{name}.md")).read_text()
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in expected.splitlines()
        if line.startswith("|") and "---" not in line
    ]
    found = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for table in texts(read(office, f"{name}.pdf"), "table")
        for line in table.splitlines()
        if "---" not in line
    ]
    assert len(rows) > 15
    assert found == rows


def test_scans_are_told(office: Path) -> None:
    document = read(office, "MEDRPT-2024-PAT-3847_medical_report_scan.pdf")
    assert kinds(document) == {"image_only"}
    assert all(page.confidence == 0.0 for page in document.pages)


@pytest.mark.parametrize(
    ("name", "needles"),
    [
        ("test.docx", ["# Abstract", "AutoGen is an open-source framework", "| 1 | 2 | 3 | 4 | 5 | 6 |"]),
        (
            "test.xlsx",
            ["# Sheet1", "| 58 | 6ff4173b-42a5-4784-9b19-f49caff4d93d | 22 | 9 |", "affc7dad-52dc-4b98"],
        ),
        (
            "test.pptx",
            ["# 2cdda5c8-e50e-4db4-b5f0-9722a649f455", "1b92870d-e3b5-4e65-8153-919f4ff45592"],
        ),
        ("test.epub", ["# Chapter 1: Test Content", "- A bullet point\n- Another point"]),
        ("test_mskanji.csv", ["佐藤太郎,30,東京"]),
        (
            "test_blog.html",
            [
                "Large language models (LLMs) are powerful tools that can generate natural language texts",
                "## ",
            ],
        ),
        ("test_wikipedia.html", ["Microsoft entered the operating system (OS) business in 1980", "| "]),
        ("test_notebook.ipynb", ["# Test Notebook", '```python\nprint("markitdown")\n```']),
        ("equations.docx", ["From Eq. 36.1.3"]),
    ],
)
def test_office_samples(office: Path, name: str, needles: list[str]) -> None:
    document = read(office, name)
    assert [needle for needle in needles if needle not in document.text] == []
    assert not kinds(document)
