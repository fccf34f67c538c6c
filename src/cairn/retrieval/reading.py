"""What a reader may see of collections, without opening them: it needs neither an embedder nor an index.

Who owns a collection looks after it, and sees names, labels and state of all that is in it. What a document
says is for those whose labels open it, its collection's owner included. What may not be seen is not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cairn.core.chat import Principal
from cairn.core.retrieval import Passage
from cairn.registry import Database
from cairn.retrieval.access import labels_of, may_see
from cairn.retrieval.catalogue import CollectionInfo, CollectionStats, list_collections
from cairn.retrieval.documents import DocumentInfo, find_documents, no_document
from cairn.retrieval.passages import load_passages
from cairn.retrieval.tables import ChunkRow, DocumentRow


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPage:
    """Some of the documents that fit, and how many do."""

    documents: Sequence[DocumentInfo]
    total: int


def owns(info: CollectionInfo, reader: Principal) -> bool:
    """Whether a reader may put documents into a collection, change and delete it."""
    return info.owner == reader.user_id


def reads(document: DocumentInfo, reader: Principal) -> bool:
    """Whether a reader may see what a document says."""
    return may_see(document.labels, labels_of(reader))


def list_readable(database: Database, reader: Principal) -> list[tuple[CollectionInfo, CollectionStats]]:
    """Collections with something for this reader, by name, and what they hold for them."""
    with database.session(read_only=True) as session:
        num_chunks = _chunks_by_document(session)
        found = [(info, _visible(session, info, reader)) for info in list_collections(database)]
    return [(info, _stats(rows, num_chunks)) for info, rows in found if rows or _is_open(info, reader)]


def stats_for(database: Database, info: CollectionInfo, reader: Principal) -> CollectionStats:
    """What a collection holds for this reader."""
    with database.session(read_only=True) as session:
        return _stats(_visible(session, info, reader), _chunks_by_document(session, info.collection_id))


def page_of_documents(
    database: Database,
    info: CollectionInfo,
    reader: Principal,
    *,
    words: str = "",
    status: str = "",
    offset: int = 0,
    limit: int = 100,
) -> DocumentPage:
    """Documents by source, of those whose source or title holds all the words and that have the status."""
    wanted = words.lower().split()
    with database.session(read_only=True) as session:
        ids = [
            row.document_id
            for row in _visible(session, info, reader)
            if (not status or row.status == status)
            and all(word in f"{row.source} {row.title}".lower() for word in wanted)
        ]
        shown = DocumentRow.document_id.in_(ids[offset : offset + limit])
        return DocumentPage(documents=find_documents(session, shown), total=len(ids))


def find_document(
    database: Database, info: CollectionInfo, document_id: str, reader: Principal
) -> DocumentInfo:
    """A document that a reader sees in the list; `reads` says whether they may also read it."""
    mine = DocumentRow.collection_id == info.collection_id
    with database.session(read_only=True) as session:
        found = find_documents(session, mine & (DocumentRow.document_id == document_id))
    if not found or not (owns(info, reader) or reads(found[0], reader)):
        raise no_document(document_id)
    return found[0]


def given_passages(
    database: Database, sources: Iterable[Mapping[str, Any]], labels: frozenset[str] | None
) -> list[Passage] | None:
    """The passages that a receipt names, as its sources; None when one is gone or not open to the labels."""
    found = []
    with database.session(read_only=True) as session:
        for source in sources:
            seen = load_passages(session, source["collection_id"], source["chunk_ids"], labels)
            if len(seen) < len(source["chunk_ids"]):
                return None
            found.append(seen[source["chunk_ids"][0]])
    return found


def _is_open(info: CollectionInfo, reader: Principal) -> bool:
    return owns(info, reader) or may_see(info.labels, labels_of(reader))


def _visible(session: Session, info: CollectionInfo, reader: Principal) -> list[Any]:
    """What lists and counts need of each document that the reader sees."""
    query = (
        select(
            DocumentRow.document_id,
            DocumentRow.source,
            DocumentRow.title,
            DocumentRow.labels,
            DocumentRow.status,
            DocumentRow.size,
            DocumentRow.num_pages,
            DocumentRow.skipped_pages,
        )
        .where(DocumentRow.collection_id == info.collection_id)
        .order_by(DocumentRow.source)
    )
    labels = None if owns(info, reader) else labels_of(reader)
    return [row for row in session.execute(query) if may_see(row.labels, labels)]


def _chunks_by_document(session: Session, collection_id: str | None = None) -> dict[str, int]:
    query = select(ChunkRow.document_id, func.count()).group_by(ChunkRow.document_id)
    if collection_id is not None:
        query = query.join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id).where(
            DocumentRow.collection_id == collection_id
        )
    return {row[0]: row[1] for row in session.execute(query)}


def _stats(rows: Sequence[Any], num_chunks: dict[str, int]) -> CollectionStats:
    return CollectionStats(
        num_documents=len(rows),
        num_chunks=sum(num_chunks.get(row.document_id, 0) for row in rows),
        num_bytes=sum(row.size for row in rows),
        num_pages=sum(row.num_pages for row in rows),
        num_skipped_pages=sum(len(row.skipped_pages) for row in rows),
        num_unreadable=sum(row.status == "unreadable" for row in rows),
    )
