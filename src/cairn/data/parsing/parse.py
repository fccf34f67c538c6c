"""Files into pages of text: its bytes decide who reads a file, and what goes wrong is a problem of a page."""

from collections.abc import Callable
from pathlib import Path, PurePath

from cairn.data.parsing.code import parse_code
from cairn.data.parsing.composer import Composer
from cairn.data.parsing.decoding import decode
from cairn.data.parsing.docx import parse_docx
from cairn.data.parsing.epub import parse_epub
from cairn.data.parsing.html import compose_html, decode_html
from cairn.data.parsing.limits import ParseLimits, ParsingStoppedError
from cairn.data.parsing.lines import TextFile
from cairn.data.parsing.mail import parse_mail, parse_mbox
from cairn.data.parsing.parsed import Page, ParsedDocument, Problem, ProblemKind
from cairn.data.parsing.pdf import parse_pdf
from cairn.data.parsing.plain import parse_markdown, parse_plain
from cairn.data.parsing.pptx import parse_pptx
from cairn.data.parsing.rows import parse_csv, parse_json, parse_notebook
from cairn.data.parsing.sniff import SNIFFED_BYTES, is_pdf, sniff
from cairn.data.parsing.xlsx import parse_xlsx

_Parser = Callable[[bytes, str, ParseLimits], ParsedDocument]


def parse_file(path: Path, name: str = "", *, limits: ParseLimits | None = None) -> ParsedDocument:
    """What stands in a file, whose name may be another than its path's.

    For files of strangers use `parse_in_child`: this one has no bound on memory.
    """
    limits = limits or ParseLimits()
    size = path.stat().st_size
    if size > limits.max_file_bytes:
        message = f"the file has {size:,} bytes and {limits.max_file_bytes:,} are allowed"
        return problem_document("too_large", message)
    with path.open("rb") as file:
        if is_pdf(file.read(SNIFFED_BYTES)):
            # A long one is read a part at a time.
            return _guarded(lambda: parse_pdf(path, name or path.name, limits))
        file.seek(0)
        return parse_bytes(file.read(), name or path.name, limits=limits)


def parse_bytes(data: bytes, name: str = "", *, limits: ParseLimits | None = None) -> ParsedDocument:
    """What stands in these bytes of a file of this name. The content decides; the name tells texts apart."""
    limits = limits or ParseLimits()
    if len(data) > limits.max_file_bytes:
        message = f"the file has {len(data):,} bytes and {limits.max_file_bytes:,} are allowed"
        return problem_document("too_large", message)
    if not data.strip():
        return problem_document("empty", "the file is empty", media_type="text/plain")
    kind = sniff(data, name)
    parser = _PARSERS.get(kind)
    return _guarded(lambda: parser(data, name, limits)) if parser else _unread(kind)


def _guarded(parse: Callable[[], ParsedDocument]) -> ParsedDocument:
    try:
        return parse()
    except ParsingStoppedError as stopped:
        return problem_document(stopped.kind, str(stopped))
    except RecursionError:
        return problem_document("too_large", "nested too deeply to be read")
    except MemoryError:
        return problem_document("too_large", "reading it takes more memory than is allowed")


def problem_document(
    kind: ProblemKind, message: str, media_type: str = "application/octet-stream"
) -> ParsedDocument:
    """A document of which nothing could be read: one page without text that says why."""
    page = Page(1, (0, 0), 0.0, (Problem(kind, 1, message),))
    return ParsedDocument("", (), (page,), media_type)


def _unread(kind: str) -> ParsedDocument:
    if kind.startswith("image/"):
        return problem_document("image_only", "a picture; text in it is not recognised", kind)
    if kind == "encrypted":
        return problem_document("encrypted", "locked by a password; save it without one")
    if kind == "broken zip":
        return problem_document("failed", "its zip container is damaged; fetch or export it again")
    if kind == "application/x-ole-storage":
        message = "a file of an old Office or of Outlook; save it as .docx, .xlsx, .pptx or .eml"
        return problem_document("unsupported", message, kind)
    return problem_document("unsupported", f"files of type {kind} are not read", kind)


def _of_text(parse: Callable[[TextFile, str], ParsedDocument], media_type: str = "") -> _Parser:
    """A parser of decoded text as one of bytes; it gets the name's suffix."""

    def parser(data: bytes, name: str, limits: ParseLimits) -> ParsedDocument:
        text, encoding = decode(data)
        suffix = PurePath(name).suffix.lower()
        return parse(TextFile(text, limits, media_type or f"text/x-{suffix[1:]}", encoding), suffix)

    return parser


def _html(data: bytes, name: str, limits: ParseLimits) -> ParsedDocument:
    composer = Composer(limits)
    title = ""
    try:
        title = compose_html(decode_html(data), composer)
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    return composer.finish("text/html", title or composer.first_heading)


_PARSERS: dict[str, _Parser] = {
    "code": _of_text(parse_code),
    "csv": _of_text(lambda file, _: parse_csv(file), "text/csv"),
    "docx": parse_docx,
    "epub": parse_epub,
    "html": _html,
    "json": _of_text(lambda file, _: parse_json(file, is_lines=False), "application/json"),
    "jsonl": _of_text(lambda file, _: parse_json(file, is_lines=True), "application/jsonl"),
    "mail": parse_mail,
    "markdown": _of_text(lambda file, _: parse_markdown(file), "text/markdown"),
    "mbox": parse_mbox,
    "notebook": parse_notebook,
    "pdf": parse_pdf,
    "pptx": parse_pptx,
    "text": _of_text(lambda file, _: parse_plain(file), "text/plain"),
    "xlsx": parse_xlsx,
}
