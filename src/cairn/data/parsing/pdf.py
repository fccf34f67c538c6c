"""PDF, page by page, through PDFium. Only one page is held; what is kept of it is its text and blocks.

Not covered: text in pictures (such pages are flagged `image_only`), text on annotations, right-to-left
tables.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pypdfium2 as pdfium

from cairn.data.parsing.composer import Composer
from cairn.data.parsing.limits import ParsingStoppedError
from cairn.data.parsing.pdf_forms import filled_fields, open_form
from cairn.data.parsing.pdf_layout import Layout
from cairn.data.parsing.pdf_page import PageContent, PageReader

_WRONG_PASSWORD = 4
_PAGES_AT_ONCE = 100
"""PDFium keeps what it has read of a file until that is closed; so it is, now and then."""
_SCAN_SHARE = 0.4
"""Of a page's area under pictures, above which little text is a caption or a stamp and not the page."""
_FEW_CHARACTERS = 100
_NO_TITLES = ("", "untitled", "anonymous", "unspecified")
_PROGRAM = re.compile(r"^Microsoft \w+ - ")
_MAX_BOOKMARKS = 5_000


def parse_pdf(source: bytes | Path, name: str, composer: Composer) -> None:
    """Text, headings, lists and tables of every page, in reading order, columns one after the other."""
    metadata: dict[str, str] = {}
    layout, reader = Layout({}), PageReader()
    start, num_pages = 0, 1
    try:
        while start < num_pages:
            with _opened(source) as document:
                if start == 0:
                    num_pages, metadata = len(document), _metadata(document)
                    layout = Layout(_bookmarks(document))
                pages = range(start, min(start + _PAGES_AT_ONCE, num_pages))
                _compose(document, pages, reader, layout, composer)
            start += _PAGES_AT_ONCE
    except ParsingStoppedError as stopped:
        length = f"; the file has {num_pages:,} pages" if composer.num_pages else ""
        composer.stop(stopped.kind, f"{stopped}{length}")
    title = _PROGRAM.sub("", metadata.pop("title", ""))
    if title.strip("()").lower() in _NO_TITLES:
        title = composer.first_heading
    composer.finish("application/pdf", title, metadata)


@contextmanager
def _opened(source: bytes | Path) -> Iterator[pdfium.PdfDocument]:
    try:
        document = pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == _WRONG_PASSWORD:
            raise ParsingStoppedError("encrypted", "locked by a password; save it without one") from None
        raise ParsingStoppedError("failed", f"PDFium cannot open it ({error}); export it again") from None
    try:
        yield document
    finally:
        document.close()


def _compose(
    document: pdfium.PdfDocument, pages: range, reader: PageReader, layout: Layout, composer: Composer
) -> None:
    form = open_form(document)
    for number in pages:
        composer.begin_page()
        try:
            page = document[number]
        except pdfium.PdfiumError:
            composer.problem("failed", "this page cannot be opened", confidence=0.0)
            continue
        try:
            content = reader.read(page)
            fields = filled_fields(form, page) if form is not None else []
        except pdfium.PdfiumError:
            composer.problem("failed", "the text of this page cannot be read", confidence=0.0)
            continue
        finally:
            page.close()
        layout.compose(content, number, composer)
        composer.add("list", "\n".join(fields), name="form")
        _judge(content, composer)


def _judge(content: PageContent, composer: Composer) -> None:
    """Close the page, saying what its pictures hide."""
    num_characters = sum(len(segment.text) for segment in content.segments)
    if content.image_share > 0 and not composer.has_text:
        composer.problem("image_only", "a picture without text; text in it is not recognised", confidence=0.0)
    elif content.image_share > _SCAN_SHARE and num_characters < _FEW_CHARACTERS:
        message = "mostly a picture; text in it is not recognised"
        composer.problem("image_only", message, confidence=0.1)
    composer.end_page(content.num_unmapped)


def _metadata(document: pdfium.PdfDocument) -> dict[str, str]:
    fields = document.get_metadata_dict(skip_empty=True)
    return {key.lower(): value.strip() for key, value in fields.items() if value.strip()}


def _bookmarks(document: pdfium.PdfDocument) -> dict[int, dict[str, int]]:
    """Of each page the headings that the outline names, with their levels."""
    found: dict[int, dict[str, int]] = {}
    for bookmark in islice(document.get_toc(), _MAX_BOOKMARKS):
        target = bookmark.get_dest()
        at = target.get_index() if target else None
        if at is not None:
            found.setdefault(at, {})[" ".join(bookmark.get_title().split()).lower()] = bookmark.level + 1
    return found
