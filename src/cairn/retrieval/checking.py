"""An index held against the truth it was made from, and documents made anew from what is kept of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from cairn.core import ConflictError, NotFoundError
from cairn.core.progress import Progress, Silent
from cairn.data.parsing import ParserPool
from cairn.retrieval.collection import Collection
from cairn.retrieval.document_files import parsed_file
from cairn.retrieval.documents import DocumentInfo
from cairn.retrieval.encoders import unit_length
from cairn.retrieval.incoming import BATCH_BYTES, NewDocument, PreparedDocument
from cairn.retrieval.index import Filter
from cairn.retrieval.recall import note_recall, recall_of
from cairn.retrieval.spaces import OpenSpace, num_lacking
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow, DocumentRow

_EVERYTHING = Filter(None)


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found."""

    num_passages: int
    num_missing: int
    """Passages that the index lacks."""
    num_extra: int
    """Entries of the index that are no passages."""
    num_without_vector: int
    recall: float
    num_samples: int
    least_recall: float
    queries: str
    """What recall was measured with: `given`, `asked`, or `passages`, whose own vectors find themselves."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing needs to be done."""
        is_whole = not (self.num_missing or self.num_extra or self.num_without_vector)
        return is_whole and self.recall >= self.least_recall


@dataclass(slots=True)
class Rebuilt:
    """What became of documents that were made anew."""

    documents: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """They changed or went meanwhile."""


def check(
    collection: Collection,
    queries: Sequence[str],
    *,
    is_given: bool,
    most: int = 200,
    progress: Progress | None = None,
) -> Check:
    """Compare the index with the database, and its search with an exact one; the recall is noted."""
    collection_id, database = collection.info.collection_id, collection.database
    with collection.using() as space:
        with database.session(read_only=True) as session:
            ids = set(
                session.scalars(
                    select(ChunkRow.chunk_id)
                    .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
                    .where(DocumentRow.collection_id == collection_id)
                )
            )
            without = num_lacking(session, collection_id, space.space_id)
        vectors = _query_vectors(space, queries[:most]) or _own_vectors(collection, space, most)
        index = space.index()
        anything = unit_length(np.ones(index.dimensions, np.float32))
        held = {match.chunk_id for match in index.exact(anything, index.count(), _EVERYTHING)}
        shares = []
        with (progress or Silent()).task("checking", len(vectors)) as task:
            for vector in vectors:
                share = recall_of(index, vector, _EVERYTHING)
                shares += [] if share is None else [share]
                task.advance()
        if shares:
            note_recall(database, collection_id, space.space_id, shares, anew=True)
    return Check(
        num_passages=len(ids),
        num_missing=len(ids - held),
        num_extra=len(held - ids),
        num_without_vector=without,
        recall=sum(shares) / len(shares) if shares else 1.0,
        num_samples=len(shares),
        least_recall=collection.info.config.least_recall,
        queries="passages" if not queries else "given" if is_given else "asked",
    )


def rebuild_documents(
    collection: Collection, *, parsers: ParserPool | None = None, progress: Progress | None = None
) -> Rebuilt:
    """Cut and embed every document anew from what is kept of it; `parsers` read its bytes anew first.

    Small ones are embedded together. Each is replaced in one transaction, with the labels it has at that
    moment and chunks of its own sizes.
    """
    done = Rebuilt()
    documents = collection.documents(None)
    with (progress or Silent()).task("rebuilding", sum(info.size for info in documents)) as task:
        for batch in _batches(documents):
            task.note(batch[0].source)
            with collection.registry.store.stage() as scratch:
                kept = [
                    (info, again) for info in batch if (again := _again(collection, info, parsers, scratch))
                ]
                prepared = collection.prepare([again for _, again in kept], anew=True)
                written = {
                    info.source
                    for (info, _), each in zip(kept, prepared, strict=True)
                    if _put(collection, each)
                }
            for info in batch:
                (done.documents if info.source in written else done.skipped).append(info.source)
                task.advance(info.size)
    return done


def _batches(documents: Sequence[DocumentInfo]) -> Iterator[list[DocumentInfo]]:
    batch, size = list[DocumentInfo](), 0
    for info in documents:
        batch.append(info)
        size += info.size
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _again(
    collection: Collection, info: DocumentInfo, parsers: ParserPool | None, scratch: Path
) -> NewDocument | None:
    """A document from what is kept of it; None: it has gone."""
    try:
        original = collection.original(info.document_id, None)
        parsed = (
            parsers.parse_to(scratch / info.document_id, original, PurePosixPath(info.source).name)
            if parsers is not None
            else parsed_file(collection.registry, info)
        )
    except (NotFoundError, FileNotFoundError):
        return None
    return NewDocument(
        source=info.source,
        original=original,
        parsed=parsed,
        modified_at=info.modified_at,
        chunk_tokens=info.chunk_tokens,
        overlap_tokens=info.overlap_tokens,
        replaces=info.artifact,
    )


def _put(collection: Collection, prepared: PreparedDocument) -> bool:
    """Whether it was put; not where it changed or went meanwhile."""
    try:
        collection.write(prepared)
    except (ConflictError, NotFoundError, FileNotFoundError):
        return False
    return True


def _query_vectors(space: OpenSpace, queries: Sequence[str]) -> list[NDArray[np.float32]]:
    asked = [query for query in queries if query.strip()]
    if not asked:
        return []
    return [unit_length(vector) for vector in space.encoders.embedder.embed(asked, truncate=True).vectors]


def _own_vectors(collection: Collection, space: OpenSpace, most: int) -> list[NDArray[np.float32]]:
    """Vectors of passages of chance."""
    some = (
        select(ChunkVectorRow.vector)
        .join(ChunkRow, ChunkRow.chunk_id == ChunkVectorRow.chunk_id)
        .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
        .where(
            DocumentRow.collection_id == collection.info.collection_id,
            ChunkVectorRow.space_id == space.space_id,
        )
        .order_by(func.random())
        .limit(most)
    )
    with collection.database.session(read_only=True) as session:
        return [np.frombuffer(vector, "<f4") for vector in session.scalars(some)]
