"""What a file is after parsing: one text, cut into blocks and pages, and what went wrong on each page.

Spans count UTF-8 bytes of `text`. For text formats (plain text, Markdown, CSV, source code) the text is the
file's own bytes where they are valid UTF-8, so a span of the text is a span of the file. For the others
(PDF, Word, HTML) it is written as Markdown: headings, lists, tables and code look as they do there.

A document goes from process to process, and to disk, as pieces: its pages in order, then an `Ending`. A piece
is a line of JSON, so that a long one need never be in memory as a whole.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

BlockKind = Literal["heading", "paragraph", "list", "table", "code", "caption", "image"]
ProblemKind = Literal[
    "empty",
    "garbled",
    "image_only",
    "encrypted",
    "truncated",
    "too_large",
    "lost_table",
    "unsupported",
    "failed",
]


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, a table: what is never cut without need."""

    kind: BlockKind
    span: tuple[int, int]
    page: int
    """From 1. A format without pages (Markdown, HTML) has one; a sheet or a slide is a page."""
    level: int = 0
    """Of a heading: 1 is the outermost."""
    name: str = ""
    """Of a definition in source code; of a sheet or a slide."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a page cannot be trusted."""

    kind: ProblemKind
    page: int
    message: str
    """For people: what was seen, and what to do."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page; what is below the collection's least confidence is counted and shown, and not indexed."""

    number: int
    span: tuple[int, int]
    confidence: float
    """From 0, nothing legible, to 1."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """A page with its blocks and the text since the end of the page before."""

    page: Page
    blocks: tuple[Block, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a file when its pages are read."""

    media_type: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Author, dates, language, sender: what the format itself says; JSON values."""


Piece = ParsedPage | Ending


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A parsed file in memory."""

    text: str
    blocks: tuple[Block, ...]
    """In reading order; they do not overlap, and what lies between them is white space."""
    pages: tuple[Page, ...]
    media_type: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """As an `Ending` has it."""

    def pieces(self) -> Iterator[Piece]:
        """Its pages, and the ending."""
        data, start = self.text.encode(), 0
        blocks = {number: tuple(group) for number, group in groupby(self.blocks, lambda block: block.page)}
        for page in self.pages:
            end = page.span[1] if page is not self.pages[-1] else len(data)
            yield ParsedPage(page, blocks.get(page.number, ()), data[start:end].decode())
            start = end
        yield Ending(self.media_type, self.title, self.metadata)


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A parsed file on disk, as `dump_document` wrote it: only what is said of its pages is in memory."""

    path: Path
    pages: tuple[Page, ...]
    ending: Ending

    @classmethod
    def open(cls, path: Path) -> "ParsedFile":
        """What a file of pieces holds."""
        pages = list[Page]()
        for piece in _read(path):
            if isinstance(piece, Ending):
                return cls(path, tuple(pages), piece)
            pages.append(piece.page)
        raise ValueError(f"{path} has no ending")

    @property
    def media_type(self) -> str:
        return self.ending.media_type

    @property
    def title(self) -> str:
        return self.ending.title

    def pieces(self) -> Iterator[Piece]:
        """Its pages, and the ending."""
        return _read(self.path)


Parsed = ParsedDocument | ParsedFile


def gathered(pieces: Iterable[Piece]) -> ParsedDocument:
    """The document of these pieces."""
    texts, blocks, pages, ending = list[str](), list[Block](), list[Page](), Ending("")
    for piece in pieces:
        if isinstance(piece, Ending):
            ending = piece
        else:
            texts.append(piece.text)
            blocks += piece.blocks
            pages.append(piece.page)
    text = "".join(texts)
    return ParsedDocument(text, tuple(blocks), tuple(pages), ending.media_type, ending.title, ending.metadata)


def dump_document(document: Parsed) -> Iterator[bytes]:
    """The lines of a document: `parsed.jsonl` of its artifact, and what a parsing process hands back."""
    return map(dump_piece, document.pieces())


def load_document(lines: Iterable[bytes]) -> ParsedDocument:
    """What `dump_document` wrote."""
    return gathered(map(load_piece, lines))


def dump_piece(piece: Piece) -> bytes:
    """A line of JSON."""
    fields: dict[str, Any]
    if isinstance(piece, Ending):
        fields = asdict(piece)
    else:
        blocks = [(block.kind, *block.span, block.level, block.name) for block in piece.blocks]
        fields = {"page": asdict(piece.page), "blocks": blocks, "text": piece.text}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def load_piece(line: bytes) -> Piece:
    """What `dump_piece` wrote."""
    fields = json.loads(line)
    if "page" not in fields:
        return Ending(**fields)
    said = fields["page"]
    problems = tuple(Problem(**problem) for problem in said["problems"])
    page = Page(said["number"], tuple(said["span"]), said["confidence"], problems)
    blocks = tuple(
        Block(kind, (start, end), page.number, level, name)
        for kind, start, end, level, name in fields["blocks"]
    )
    return ParsedPage(page, blocks, fields["text"])


def _read(path: Path) -> Iterator[Piece]:
    with path.open("rb") as file:
        yield from map(load_piece, file)
