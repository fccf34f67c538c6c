"""Documents in the database: written, renamed, relabelled, removed, each in one transaction with its changes.

Functions take a `Database.writing` session. A document's bytes and parse are an artifact that a row of
`artifact_uses` keeps; when the last use is gone, `discard_artifacts` removes it.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, delete, insert, literal, select, update
from sqlalchemy.orm import Session

from cairn.core import ConflictError, NotFoundError
from cairn.core.digests import digest_bytes
from cairn.data.parsing import Problem
from cairn.registry import Registry
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.chunking import Chunk
from cairn.retrieval.graph.tables import CommunityChunkRow, CommunityRow
from cairn.retrieval.tables import ChangeRow, ChunkRow, ChunkVectorRow, CollectionRow, DocumentRow

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentInfo:
    """A document as the catalogue knows it."""

    document_id: str
    collection_id: str
    source: str
    digest: str
    artifact: str
    title: str
    media_type: str
    size: int
    modified_at: float
    labels: tuple[str, ...]
    status: str
    problems: tuple[Problem, ...]
    num_pages: int
    skipped_pages: tuple[int, ...]
    chunk_tokens: int | None
    """Where it was given sizes of its own; else the collection's hold."""
    overlap_tokens: int | None
    updated_at: float


def document_id(collection_id: str, source: str) -> str:
    """The id of a document: it outlives changes of its text."""
    digest = hashlib.sha256("\0".join((collection_id, source)).encode("utf-8", "surrogateescape"))
    return f"file-{digest.hexdigest()[:24]}"


def write_document(
    session: Session,
    document: DocumentInfo,
    batches: Iterable[tuple[Sequence[Chunk], Mapping[int, Vectors]]],
) -> list[str]:
    """Put a document in the place of what was there: batches of its chunks with their vectors in each space.

    Returns artifacts that it no longer uses.
    """
    if session.get(CollectionRow, document.collection_id) is None:
        raise NotFoundError(f"collection {document.collection_id} is gone", remedy="make a new one")
    freed = remove_documents(session, [document.document_id])
    session.execute(insert(DocumentRow), [_fields(document)])
    session.execute(
        insert(ArtifactUseRow), [{"digest": document.artifact, "user": _user(document.document_id)}]
    )
    for chunks, vectors in batches:
        _insert_chunks(session, document, chunks, vectors)
    _note_changes(session, document.collection_id, ChunkRow.document_id == document.document_id, "upsert")
    return [digest for digest in freed if digest != document.artifact]


def remove_documents(session: Session, document_ids: Iterable[str]) -> list[str]:
    """Delete documents with their chunks and vectors; returns the artifacts they used."""
    freed = []
    for each in document_ids:
        row = session.get(DocumentRow, each)
        if row is None:
            continue
        of_document = ChunkRow.document_id == each
        _note_changes(session, row.collection_id, of_document, "delete")
        ids = select(ChunkRow.chunk_id).where(of_document)
        session.execute(delete(ChunkVectorRow).where(ChunkVectorRow.chunk_id.in_(ids)))
        session.execute(delete(ChunkRow).where(of_document))
        session.execute(delete(ArtifactUseRow).where(ArtifactUseRow.user == _user(each)))
        session.execute(delete(DocumentRow).where(DocumentRow.document_id == each))
        session.expunge(row)
        freed.append(row.artifact)
    return freed


def relabel_documents(session: Session, document_ids: Sequence[str], labels: Sequence[str]) -> None:
    """Let others see documents from this moment on; `labels` are checked."""
    for each in document_ids:
        row = session.get(DocumentRow, each)
        if row is None:
            raise no_document(each)
        if row.labels != list(labels):
            row.labels = list(labels)
            _note_changes(session, row.collection_id, ChunkRow.document_id == each, "upsert")


def rename_document(session: Session, old_id: str, source: str) -> str:
    """Give a document another source, and with it another id; nothing is embedded again."""
    row = session.get(DocumentRow, old_id)
    if row is None:
        raise no_document(old_id)
    new_id = document_id(row.collection_id, source)
    if session.get(DocumentRow, new_id) is not None:
        raise ConflictError(f"there is a document {source!r} already", remedy="delete that one first")
    renamed = replace(_info(row), document_id=new_id, source=source)
    session.execute(insert(DocumentRow), [_fields(renamed)])
    session.execute(update(ChunkRow).where(ChunkRow.document_id == old_id).values(document_id=new_id))
    session.execute(
        update(ArtifactUseRow).where(ArtifactUseRow.user == _user(old_id)).values(user=_user(new_id))
    )
    session.delete(row)
    _note_changes(session, row.collection_id, ChunkRow.document_id == new_id, "upsert")
    return new_id


def touch_document(session: Session, document_id: str, modified_at: float) -> None:
    """Note that a file was looked at and is the same."""
    row = session.get(DocumentRow, document_id)
    if row is not None:
        row.modified_at = modified_at


def find_documents(session: Session, where: ColumnElement[bool]) -> list[DocumentInfo]:
    """Documents in the order of their sources."""
    return [
        _info(row) for row in session.scalars(select(DocumentRow).where(where).order_by(DocumentRow.source))
    ]


def discard_artifacts(registry: Registry, digests: Iterable[str]) -> None:
    """Remove artifacts that nothing uses any more; one that something uses stays."""
    for digest in set(digests):
        try:
            registry.remove(digest, actor="collections")
        except (ConflictError, NotFoundError):
            continue


def no_document(ref: str) -> NotFoundError:
    """The same for one that is not there and one that the reader may not see."""
    return NotFoundError(f"there is no document {ref!r}", remedy="list them: cairn index ls COLLECTION")


def _insert_chunks(
    session: Session, document: DocumentInfo, chunks: Sequence[Chunk], vectors: Mapping[int, Vectors]
) -> None:
    assert vectors, "there is an active space"
    assert all(len(each) == len(chunks) for each in vectors.values()), "every chunk has a vector"
    rows: list[dict[str, Any]] = [
        {
            "document_id": document.document_id,
            "span_start": chunk.span[0],
            "span_end": chunk.span[1],
            "page": chunk.page,
            "section": chunk.section,
            "heading_path": list(chunk.heading_path),
            "context": chunk.context,
            "text": chunk.text,
            "num_tokens": chunk.num_tokens,
            "embedded_digest": digest_bytes(chunk.embedded.encode()),
        }
        for chunk in chunks
    ]
    statement = insert(ChunkRow).returning(ChunkRow.chunk_id, sort_by_parameter_order=True)
    ids = session.scalars(statement, rows).all()
    session.execute(
        insert(ChunkVectorRow),
        [
            {"chunk_id": chunk_id, "space_id": space_id, "vector": vector.astype("<f4").tobytes()}
            for space_id, of_space in vectors.items()
            for chunk_id, vector in zip(ids, of_space, strict=True)
        ],
    )


def _note_changes(session: Session, collection_id: str, chunks: ColumnElement[bool], kind: str) -> None:
    """A new position for each chunk, in the place of what was said of it before.

    What was written about it together with others is gone.
    """
    ids = select(ChunkRow.chunk_id).where(chunks)
    touched = select(CommunityChunkRow.community_id).where(CommunityChunkRow.chunk_id.in_(ids))
    session.execute(delete(CommunityRow).where(CommunityRow.community_id.in_(touched)))
    session.execute(delete(ChangeRow).where(ChangeRow.chunk_id.in_(ids)))
    said = (
        select(literal(collection_id), ChunkRow.chunk_id, literal(kind))
        .where(chunks)
        .order_by(ChunkRow.chunk_id)
    )
    session.execute(insert(ChangeRow).from_select(["collection_id", "chunk_id", "kind"], said))


def _fields(document: DocumentInfo) -> dict[str, Any]:
    fields = {**asdict(document), "updated_at": time.time()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _user(document_id: str) -> str:
    return f"document {document_id}"


def _info(row: DocumentRow) -> DocumentInfo:
    return DocumentInfo(
        document_id=row.document_id,
        collection_id=row.collection_id,
        source=row.source,
        digest=row.digest,
        artifact=row.artifact,
        title=row.title,
        media_type=row.media_type,
        size=row.size,
        modified_at=row.modified_at,
        labels=tuple(row.labels),
        status=row.status,
        problems=tuple(Problem(**problem) for problem in row.problems),
        num_pages=row.num_pages,
        skipped_pages=tuple(row.skipped_pages),
        chunk_tokens=row.chunk_tokens,
        overlap_tokens=row.overlap_tokens,
        updated_at=row.updated_at,
    )
