"""Finding passages and answering from them: the protocols through which other rooms ask for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cairn.core.chat import Principal


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, as it is shown, cited and given to a model."""

    chunk_id: int
    document_id: str
    """The document in its collection; it stays the same when the document's text changes."""
    document_digest: str
    """`sha256:...` of the document's bytes."""
    name: str
    """What a reader knows the document by: its path in the source, or the name of the upload."""
    text: str
    span: tuple[int, int]
    """UTF-8 bytes of the document's parsed text."""
    page: int
    """Of the document, from 1."""
    heading_path: tuple[str, ...] = ()
    """Headings above the piece, the outermost first."""
    collection_id: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found; more score is better."""

    passage: Passage
    score: float
    """What the order follows."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Score of each stage that saw the passage: `lexical`, `dense`, `fused`, `graph`, `reranked`."""


class Retriever(Protocol):
    """Finds what a principal may see."""

    async def retrieve(self, query: str, principal: Principal, *, limit: int = 10) -> list[Hit]:
        """The best passages for a query, best first; never one the principal may not see."""
        ...


class Reranker(Protocol):
    """Judges how well passages answer a query, each read together with it."""

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """A score for each passage, comparable within and between queries; more is better."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """An answer that stands in a passage, word for word."""

    passage: int
    """Place of the passage among those that were read."""
    start: int
    end: int
    """Characters of the passage's text."""
    text: str
    confidence: float
    """Calibrated: of answers said with 0.8, about 80 in 100 are right."""


class Reader(Protocol):
    """Finds the answer to a question in passages."""

    def read(self, question: str, passages: Sequence[str], *, limit: int = 1) -> list[Span]:
        """The best spans, best first; their confidence tells whether there is an answer at all."""
        ...
