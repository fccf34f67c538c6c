"""Documents on their way into a collection: cut into chunks, then embedded, a bounded part at a time.

What is made of a long document waits on disk, in files without a name, until all of it can be written.
"""

import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Generic, TypeVar

from cairn.data.parsing import Parsed
from cairn.registry import Database
from cairn.retrieval.chunking import Chunk, chunk_document
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.documents import Vectors
from cairn.retrieval.encoders import Encoders, RecentVectors, embed_chunks

BATCH_BYTES = 1 << 18
"""Text that is embedded together."""
_IN_MEMORY_BYTES = 1 << 20
"""Of what was made of one document."""
Report = Callable[[int, int], None]
"""Told of each document, by its place, how many bytes of its text are embedded now besides."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A parsed document on its way into a collection."""

    source: str
    original: bytes | Path
    """Its bytes, or the file that holds them and does not change any more."""
    parsed: Parsed
    labels: Sequence[str] | None = None
    """Who may see it; None: as the document did before, else as the collection says."""
    modified_at: float = 0.0
    chunk_tokens: int | None = None
    """Other than the collection's."""
    overlap_tokens: int | None = None
    replaces: str | None = None
    """The artifact that must still be the document's, or it is left as it is; None: whatever it was."""


class Spool(Generic[T]):
    """Items in the order in which they were added; more than a few are on disk."""

    def __init__(self, folder: Path) -> None:
        self._file = SpooledTemporaryFile[bytes](_IN_MEMORY_BYTES, dir=str(folder))
        weakref.finalize(self, self._file.close)

    def add(self, item: T) -> None:
        pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)

    def __iter__(self) -> Iterator[T]:
        self._file.seek(0)
        while True:
            try:
                item: T = pickle.load(self._file)
            except EOFError:
                return
            yield item


@dataclass(frozen=True, slots=True)
class CutDocument:
    """A document and its chunks, which were cut for the embedder of a space."""

    document: NewDocument
    chunks: Spool[Chunk]
    space_id: int


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document with its chunks and their vectors [chunks, dimensions] in spaces, batch by batch."""

    document: NewDocument
    spaces: frozenset[int]
    batches: Spool[tuple[Sequence[Chunk], Mapping[int, Vectors]]]


def chunks_here(
    parsed: Parsed,
    config: CollectionConfig,
    encoders: Encoders,
    chunk_tokens: int | None = None,
    overlap_tokens: int | None = None,
) -> Iterator[Chunk]:
    """The chunks of a document; what is given goes before the collection's own settings."""
    given = {"chunk_tokens": chunk_tokens, "overlap_tokens": overlap_tokens}
    config = config.model_copy(update={name: value for name, value in given.items() if value is not None})
    budget = encoders.budget(config)
    return chunk_document(
        parsed,
        budget=budget,
        overlap=min(config.overlap_tokens, budget // 4),
        least_confidence=config.least_confidence,
        count=encoders.count_tokens,
    )


def cut(
    document: NewDocument, config: CollectionConfig, space_id: int, encoders: Encoders, scratch: Path
) -> CutDocument:
    """Cut a document for the embedder of a space; `scratch` is a folder with room for it."""
    done = CutDocument(document, Spool(scratch), space_id)
    for chunk in chunks_here(
        document.parsed, config, encoders, document.chunk_tokens, document.overlap_tokens
    ):
        done.chunks.add(chunk)
    return done


def embed(
    database: Database,
    spaces: Mapping[int, Encoders],
    documents: Sequence[CutDocument],
    scratch: Path,
    recent: RecentVectors,
    *,
    anew: bool = False,
    report: Report | None = None,
) -> list[PreparedDocument]:
    """Embed documents for spaces, many chunks together, whatever document they are of."""
    prepared = [PreparedDocument(each.document, frozenset(spaces), Spool(scratch)) for each in documents]
    for batch in _batches(documents):
        chunks = [chunk for _, chunk in batch]
        vectors = {
            space_id: embed_chunks(
                encoders,
                database,
                space_id,
                chunks,
                recent,
                truncate=any(each.space_id != space_id for each in documents),
                anew=anew,
            )
            for space_id, encoders in spaces.items()
        }
        start = 0
        for place, group in groupby(batch, itemgetter(0)):
            mine = [chunk for _, chunk in group]
            part = slice(start, start + len(mine))
            prepared[place].batches.add((mine, {space_id: each[part] for space_id, each in vectors.items()}))
            start += len(mine)
            if report is not None:
                report(place, sum(len(chunk.text.encode()) for chunk in mine))
    return prepared


def _batches(documents: Iterable[CutDocument]) -> Iterator[list[tuple[int, Chunk]]]:
    """Chunks with the places of their documents."""
    batch: list[tuple[int, Chunk]] = []
    size = 0
    for place, document in enumerate(documents):
        for chunk in document.chunks:
            batch.append((place, chunk))
            size += len(chunk.text)
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
