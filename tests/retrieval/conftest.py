"""A collection to work on, and documents to put into it."""

from collections.abc import Iterator, Sequence

import pytest

from cairn.core.chat import Principal
from cairn.data.parsing import Block, BlockKind, Page, ParsedDocument, Problem
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.incoming import NewDocument
from tests.retrieval.exact import ExactIndexes, encoders

ANN, BOB = Principal("ann", frozenset({"makers"})), Principal("bob", frozenset({"readers"}))


def parsed(text: str, *, confidence: Sequence[float] = (1.0,)) -> ParsedDocument:
    """Paragraphs and headings as Markdown has them; pages end at form feeds."""
    blocks, pages, place = list[Block](), list[Page](), 0
    for number, part in enumerate(text.split("\f"), start=1):
        begin = place
        for paragraph in part.split("\n\n"):
            size = len(paragraph.encode())
            level = len(paragraph) - len(paragraph.lstrip("#"))
            kind: BlockKind = "heading" if level else "paragraph"
            if paragraph.strip():
                blocks.append(Block(kind, (place, place + size), number, level))
            place += size + 2
        place -= 1  # a form feed is one byte, a paragraph's end two
        trust = confidence[(number - 1) % len(confidence)]
        problems = (Problem("garbled", number, "unreadable"),) if trust < 0.5 else ()
        pages.append(Page(number, (begin, place - 1), trust, problems))
    return ParsedDocument(text, tuple(blocks), tuple(pages), "text/markdown", "A title")


def document(source: str, text: str, labels: Sequence[str] | None = None) -> NewDocument:
    return NewDocument(source=source, original=text.encode(), parsed=parsed(text), labels=labels)


@pytest.fixture
def indexes() -> ExactIndexes:
    return ExactIndexes()


@pytest.fixture
def models() -> Encoders:
    return encoders()


@pytest.fixture
def collection(registry: Registry, models: Encoders, indexes: ExactIndexes) -> Iterator[Collection]:
    """Ann's, open to everyone unless a document says otherwise."""
    create_collection(registry, "notes", owner="ann", labels=["everyone"])
    with Collection.open(registry, "notes", models, indexes) as opened:
        yield opened
