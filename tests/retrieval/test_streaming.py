"""A document that comes page by page is cut into the same chunks as one that is there as a whole."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage
from html import escape
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cairn.data.parsing import ParsedDocument, ParsedFile, ParserPool, dump_document, parse_bytes
from cairn.retrieval.chunking import Chunk, chunk_document
from tests.data.parsing.containers import docx, epub, pptx, shape, word_paragraph, xlsx
from tests.data.parsing.pdfs import make_pdf, show
from tests.retrieval.test_chunking import count, documents

Parts = list[list[str]]
"""For each page its paragraphs; the first is the heading."""


def pdf(pages: Parts) -> bytes:
    return make_pdf(
        [
            "".join(
                show(text, 72, 720 - 60 * at, size=22 if at == 0 else 10, font="F1" if at else "F2")
                for at, text in enumerate(page)
            )
            for page in pages
        ]
    )


def html(page: list[str]) -> str:
    rows = "".join(f"<tr><td>{escape(word)}</td><td>1</td></tr>" for word in page[-1].split())
    body = "".join(f"<p>{escape(text)}</p>" for text in page[1:])
    return f"<html><body><h1>{escape(page[0])}</h1>{body}<table>{rows}</table></body></html>"


def mail(page: list[str]) -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "ann@example.org", page[0]
    message.set_content("\n\n".join(page[1:]) + "\n")
    return message.as_bytes()


def mbox(pages: Parts) -> bytes:
    return b"".join(b"From ann@example.org Mon Mar  2 10:00:00 2026\n" + mail(page) for page in pages)


def word(pages: Parts) -> bytes:
    heading = '<w:pStyle w:val="H1"/>'
    return docx(
        "".join(
            word_paragraph(escape(text), "" if at else heading)
            for page in pages
            for at, text in enumerate(page)
        )
    )


def sheets(pages: Parts) -> bytes:
    return xlsx(
        {
            f"Sheet {at}": "".join(
                "<row>" + "".join(f"<c t='str'><v>{escape(word)}</v></c>" for word in text.split()) + "</row>"
                for text in page
            )
            for at, page in enumerate(pages)
        }
    )


def slides(pages: Parts) -> bytes:
    return pptx([shape(page[:1], "title") + shape(page[1:], y=1) for page in pages])


def notebook(pages: Parts) -> bytes:
    cells = [
        {"cell_type": kind, "source": source}
        for page in pages
        for kind, source in (("markdown", f"# {page[0]}"), ("code", "\n".join(page[1:])))
    ]
    return json.dumps({"cells": cells}).encode()


def markdown(pages: Parts) -> bytes:
    table = "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 9
    return "\n\n".join("# " + "\n\n".join(page) + f"\n\n{table}" for page in pages).encode()


def plain(pages: Parts) -> bytes:
    return "\n\n".join(text for page in pages for text in page).encode()


def rows(pages: Parts) -> bytes:
    return ("a,b\n" + "".join(f"{page[0]},{text}\n" for page in pages for text in page)).encode()


def lines(pages: Parts) -> bytes:
    return "".join(json.dumps(page, ensure_ascii=False) + "\n" for page in pages).encode()


def code(pages: Parts) -> bytes:
    return "\n\n\n".join(f"def f{at}():\n    return {page!r}" for at, page in enumerate(pages)).encode()


FORMATS: dict[str, Callable[[Parts], bytes]] = {
    "book.epub": lambda pages: epub({f"{at}.xhtml": html(page) for at, page in enumerate(pages)}),
    "book.pdf": pdf,
    "box.mbox": mbox,
    "data.json": lambda pages: json.dumps(dict(enumerate(pages)), indent=2, ensure_ascii=False).encode(),
    "letter.docx": word,
    "lines.jsonl": lines,
    "module.py": code,
    "note.eml": lambda pages: mail(pages[0]),
    "notes.md": markdown,
    "notes.txt": plain,
    "page.html": lambda pages: html([text for page in pages for text in page]).encode(),
    "rows.csv": rows,
    "sheets.xlsx": sheets,
    "slides.pptx": slides,
    "study.ipynb": notebook,
}
words = st.lists(
    st.sampled_from(["alpha", "größe", "Über.", "no", "word!", "and the lazy dog sleeps"]),
    min_size=1,
    max_size=30,
)
parts = st.lists(st.lists(words.map(" ".join), min_size=2, max_size=4), min_size=1, max_size=4)


def cut(parsed: ParsedDocument | ParsedFile, budget: int) -> list[Chunk]:
    return list(chunk_document(parsed, budget=budget, overlap=8, least_confidence=0.5, count=count))


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(1) as opened:
        yield opened


@pytest.mark.parametrize("name", FORMATS)
@given(parts, st.integers(20, 120))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streamed_is_whole(name: str, pool: ParserPool, tmp_path: Path, pages: Parts, budget: int) -> None:
    data = FORMATS[name](pages)
    whole = parse_bytes(data, name)
    streamed = pool.parse_to(tmp_path / "parsed", data, name)
    assert list(streamed.pieces()) == list(whole.pieces())
    assert (streamed.pages, streamed.media_type, streamed.title) == (
        whole.pages,
        whole.media_type,
        whole.title,
    )
    chunks = cut(whole, budget)
    assert cut(streamed, budget) == chunks
    # A format of which nothing is read would prove nothing.
    assert chunks or name == "book.pdf"  # few words in odd proportions are taken for garbled


@given(documents(), st.integers(20, 60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_from_disk_is_from_memory(tmp_path: Path, parsed: ParsedDocument, budget: int) -> None:
    path = tmp_path / "parsed.jsonl"
    path.write_bytes(b"".join(dump_document(parsed)))
    assert cut(ParsedFile.open(path), budget) == cut(parsed, budget)


@given(documents().filter(lambda parsed: len(parsed.pages) > 2), st.integers(20, 60))
@settings(max_examples=100, deadline=None)
def test_later_pages_change_nothing(parsed: ParsedDocument, budget: int) -> None:
    """Why a window of one page is enough."""
    chunks = cut(parsed, budget)
    for num in range(2, len(parsed.pages)):
        end = parsed.pages[num - 1].span[1]
        text = parsed.text.encode()[:end].decode()
        blocks = tuple(block for block in parsed.blocks if block.page <= num)
        first = replace(parsed, text=text, pages=parsed.pages[:num], blocks=blocks)
        assert cut(first, budget) == [chunk for chunk in chunks if chunk.page <= num]
