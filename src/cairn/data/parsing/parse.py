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
from cairn.data.parsing.parsed import ParsedDocument, Piece, gathered
from cairn.data.parsing.pdf import parse_pdf
from cairn.data.parsing.plain import parse_markdown, parse_plain
from cairn.data.parsing.pptx import parse_pptx
from cairn.data.parsing.rows import parse_csv, parse_json, parse_notebook
from cairn.data.parsing.sniff import SNIFFED_BYTES, is_pdf, sniff
from cairn.data.parsing.xlsx import parse_xlsx

_Parser = Callable[[bytes, str, Composer], None]


def parse_file(path: Path, name: str = "", *, limits: ParseLimits | None = None) -> ParsedDocument:
    """What stands in a file, whose name may be another than its path's.

    For files of strangers use `parse_in_child`: this one has no bound on memory.
    """
    return _whole(path, name, limits)


def parse_bytes(data: bytes, name: str = "", *, limits: ParseLimits | None = None) -> ParsedDocument:
    """What stands in these bytes of a file of this name. The content decides; the name tells texts apart."""
    return _whole(data, name, limits)


def parse_into(source: bytes | Path, name: str, composer: Composer) -> None:
    """Hand what stands in a file, or in its bytes, to a composer; what goes wrong is its last page."""
    try:
        if isinstance(source, Path):
            _file(source, name or source.name, composer)
        else:
            _bytes(source, name, composer)
        return
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    except RecursionError:
        composer.stop("too_large", "nested too deeply to be read")
    except MemoryError:
        composer.stop("too_large", "reading it takes more memory than is allowed")
    composer.finish()


def _whole(source: bytes | Path, name: str, limits: ParseLimits | None) -> ParsedDocument:
    pieces: list[Piece] = []
    parse_into(source, name, Composer(limits or ParseLimits(), pieces.append))
    return gathered(pieces)


def _file(path: Path, name: str, composer: Composer) -> None:
    _check_size(path.stat().st_size, composer)
    with path.open("rb") as file:
        if is_pdf(file.read(SNIFFED_BYTES)):
            # A long one is read a part at a time.
            parse_pdf(path, name, composer)
            return
        file.seek(0)
        _bytes(file.read(), name, composer)


def _bytes(data: bytes, name: str, composer: Composer) -> None:
    _check_size(len(data), composer)
    if not data.strip():
        composer.stop("empty", "the file is empty")
        composer.finish("text/plain")
        return
    kind = sniff(data, name)
    if kind in _PARSERS:
        _PARSERS[kind](data, name, composer)
    else:
        _unread(kind, composer)


def _check_size(size: int, composer: Composer) -> None:
    most = composer.limits.max_file_bytes
    if size > most:
        raise ParsingStoppedError("too_large", f"the file has {size:,} bytes and {most:,} are allowed")


def _unread(kind: str, composer: Composer) -> None:
    if kind.startswith("image/"):
        composer.stop("image_only", "a picture; text in it is not recognised")
    elif kind == "encrypted":
        raise ParsingStoppedError("encrypted", "locked by a password; save it without one")
    elif kind == "broken zip":
        raise ParsingStoppedError("failed", "its zip container is damaged; fetch or export it again")
    elif kind == "application/x-ole-storage":
        message = "a file of an old Office or of Outlook; save it as .docx, .xlsx, .pptx or .eml"
        composer.stop("unsupported", message)
    else:
        composer.stop("unsupported", f"files of type {kind} are not read")
    composer.finish(kind)


def _of_text(parse: Callable[[TextFile, str], ParsedDocument], media_type: str = "") -> _Parser:
    """A parser of decoded text as one of bytes; it gets the name's suffix."""

    def parser(data: bytes, name: str, composer: Composer) -> None:
        text, encoding = decode(data)
        suffix = PurePath(name).suffix.lower()
        file = TextFile(text, composer.limits, media_type or f"text/x-{suffix[1:]}", encoding)
        for piece in parse(file, suffix).pieces():
            composer.sink(piece)

    return parser


def _html(data: bytes, name: str, composer: Composer) -> None:
    title = ""
    try:
        title = compose_html(decode_html(data), composer)
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    composer.finish("text/html", title or composer.first_heading)


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
