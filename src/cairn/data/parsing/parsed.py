"""What a file is after parsing: one text, cut into blocks and pages, and what went wrong on each page.

Spans count UTF-8 bytes of `text`. For text formats (plain text, Markdown, CSV, source code) the text is the
file's own bytes where they are valid UTF-8, so a span of the text is a span of the file. For the others
(PDF, Word, HTML) it is written as Markdown: headings, lists, tables and code look as they do there.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
class ParsedDocument:
    """A parsed file."""

    text: str
    blocks: tuple[Block, ...]
    """In reading order; they do not overlap, and what lies between them is white space."""
    pages: tuple[Page, ...]
    media_type: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Author, dates, language, sender: what the format itself says; JSON values."""


def dump_document(document: ParsedDocument) -> bytes:
    """The document as JSON: `parsed.json` of its artifact, and what a parsing process hands back."""
    return json.dumps(asdict(document), ensure_ascii=False, separators=(",", ":")).encode()


def load_document(data: bytes) -> ParsedDocument:
    """What `dump_document` wrote."""
    fields = json.loads(data)
    blocks = (Block(**{**block, "span": tuple(block["span"])}) for block in fields.pop("blocks"))
    pages = []
    for page in fields.pop("pages"):
        problems = tuple(Problem(**problem) for problem in page["problems"])
        pages.append(Page(**{**page, "span": tuple(page["span"]), "problems": problems}))
    return ParsedDocument(blocks=tuple(blocks), pages=tuple(pages), **fields)
