"""Documents for the ingest benchmark, of public texts; runs in the peers' environment (fpdf2, python-docx).

    python make_documents.py mixed HANDBOOK BOOKS PDFS TRACES OUT     200 files of seven formats
    python make_documents.py long BOOKS NUM_PAGES OUT.pdf             one PDF

The same sources give the same texts. Prints how many files and pages there are; a file without pages is one.
"""

import email
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import markdown
from docx import Document
from fpdf import FPDF
from pypdf import PdfReader
from pypdf.errors import PyPdfError

LINES_A_PAGE, COLUMNS = 44, 88
NUM_PDF, PDF_PAGES = 50, 4
NUM_SAMPLES, MOST_SAMPLE_PAGES = 15, 10
NUM_MARKDOWN, NUM_HTML, NUM_DOCX, NUM_CSV, NUM_CODE = 45, 30, 30, 15, 15
ROWS = 40
SMALL, LARGE = 1_500, 12_000
"""Bytes between which a page of the handbook is taken."""


def pages_of_books(folder: Path) -> Iterator[list[str]]:
    """Pages of lines, book after book."""
    for path in sorted(folder.rglob("*.md")):
        lines = []
        for paragraph in path.read_text().split("\n\n"):
            lines += [*textwrap.wrap(" ".join(paragraph.split()), COLUMNS), ""]
        yield from (lines[at : at + LINES_A_PAGE] for at in range(0, len(lines), LINES_A_PAGE))


def write_pdf(pages: Sequence[list[str]], title: str, path: Path) -> None:
    pdf = FPDF(format="A4")
    pdf.set_title(title)
    for number, lines in enumerate(pages):
        pdf.add_page()
        if number == 0:
            pdf.set_font("helvetica", style="B", size=16)
            pdf.cell(0, 10, title, new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("times", size=11)
        for line in lines:
            pdf.cell(
                0, 5.4, line.encode("latin-1", "replace").decode("latin-1"), new_x="LMARGIN", new_y="NEXT"
            )
    pdf.output(str(path))


def write_docx(text: str, path: Path) -> None:
    document = Document()
    for paragraph in text.split("\n\n"):
        words = " ".join(paragraph.split())
        if words.startswith("#"):
            document.add_heading(words.lstrip("# "), min(words.count("#"), 9))
        elif words:
            document.add_paragraph(words)
    document.save(str(path))


def write_html(text: str, title: str, path: Path) -> None:
    body = markdown.markdown(text, extensions=["tables"])
    path.write_text(
        f"<!doctype html><html><head><title>{title}</title></head><body><main>{body}</main></body></html>"
    )


def handbook(folder: Path) -> list[tuple[str, str]]:
    """Names and texts of its pages, without front matter."""
    found = []
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text()
        if SMALL <= len(text.encode()) <= LARGE:
            found.append((path.stem, text.split("\n---\n", 1)[-1] if text.startswith("---") else text))
    return found


def readable(folder: Path) -> list[Path]:
    """Sample files of few pages that open without a password, the smallest first."""
    found = []
    for path in sorted(folder.rglob("*.pdf"), key=lambda path: path.stat().st_size):
        try:
            if len(PdfReader(path).pages) <= MOST_SAMPLE_PAGES:
                found.append(path)
        except PyPdfError:
            continue
    return found


def mixed(book: Path, classics: Path, samples: Path, traces: Path, out: Path) -> None:
    out.mkdir(parents=True)
    texts = iter(handbook(book))
    for number, (name, text) in enumerate(islice(texts, NUM_MARKDOWN)):
        (out / f"m{number:02}-{name}.md").write_text(text)
    for number, (name, text) in enumerate(islice(texts, NUM_HTML)):
        write_html(text, name, out / f"h{number:02}-{name}.html")
    for number, (name, text) in enumerate(islice(texts, NUM_DOCX)):
        write_docx(text, out / f"w{number:02}-{name}.docx")
    pages = list(pages_of_books(classics))
    step = len(pages) // NUM_PDF
    for number in range(NUM_PDF):
        first = number * step
        write_pdf(pages[first : first + PDF_PAGES], f"Part {number + 1}", out / f"book-{number:02}.pdf")
    for path in readable(samples)[:NUM_SAMPLES]:
        shutil.copyfile(path, out / f"sample-{path.name}")
    rows = min(traces.rglob("*.csv")).read_text().splitlines()
    for number in range(NUM_CSV):
        part = rows[1 + ROWS * number : 1 + ROWS * (number + 1)]
        (out / f"trace-{number:02}.csv").write_text("\n".join([rows[0], *part]) + "\n")
    code = sorted(Path(email.__file__).parent.glob("*.py"), key=lambda path: path.stat().st_size)
    for path in code[:NUM_CODE]:
        shutil.copyfile(path, out / f"email-{path.name}")
    files = list(out.iterdir())
    print(json.dumps({"files": len(files), "pages": sum(map(num_pages, files))}))


def num_pages(path: Path) -> int:
    return len(PdfReader(path).pages) if path.suffix == ".pdf" else 1


def long(classics: Path, count: int, out: Path) -> None:
    write_pdf(list(islice(pages_of_books(classics), count)), "A long book", out)
    print(json.dumps({"files": 1, "pages": num_pages(out)}))


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    if kind == "mixed":
        mixed(*map(Path, given))
    else:
        long(Path(given[0]), int(given[1]), Path(given[2]))
