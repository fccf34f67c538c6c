"""Files of collections as they are listed; documents that came in otherwise too, under their own ids."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Select, Subquery, exists, func, literal, select, union_all
from sqlalchemy.orm import Session

from cairn.core.errors import NotFoundError
from cairn.retrieval.tables import DocumentRow
from cairn.server.files.objects import FileCounts
from cairn.server.files.paging import Walk, walked
from cairn.server.filters import Scalar
from cairn.server.tables import FileRow, VectorStoreFileRow


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFile:
    """A file of a collection."""

    file_id: str
    collection_id: str
    document_id: str
    status: str
    created_at: float
    size: int
    """Of its document; 0 while there is none."""
    attributes: dict[str, Scalar] = field(default_factory=dict)
    chunking: dict[str, int] = field(default_factory=dict)
    error_code: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """All files of a collection or batch together."""

    counts: FileCounts
    num_bytes: int
    created_at: float
    """Of the first one; 0 where there is none."""


def page_of_files(
    session: Session, collection_id: str, walk: Walk, *, status: str | None = None, batch_id: str = ""
) -> tuple[list[StoreFile], bool]:
    """A page of the files with a status, and whether there are more; deleted documents are gone."""
    listed = _listed(collection_id, batch_id)
    query: Select[Any] = select(listed)
    if status is not None:
        query = query.where(listed.c.status == status)
    rows, has_more = walked(session, query, listed.c.created_at, listed.c.file_id, walk)
    return _store_files(session, collection_id, rows), has_more


def store_file(session: Session, collection_id: str, file_id: str) -> StoreFile:
    """One file of a collection."""
    listed = _listed(collection_id)
    rows = session.execute(select(listed).where(listed.c.file_id == file_id)).all()
    if not rows:
        raise NotFoundError(f"there is no file {file_id!r} in {collection_id}", remedy="list its files")
    return _store_files(session, collection_id, rows)[0]


def totals(session: Session, collection_id: str, *, batch_id: str = "") -> Totals:
    """Files by what became of them, and their size."""
    listed = _listed(collection_id, batch_id)
    rows = session.execute(
        select(
            listed.c.status, func.count(), func.sum(listed.c.size), func.min(listed.c.created_at)
        ).group_by(listed.c.status)
    ).all()
    by_status = {row[0]: row[1] for row in rows}
    return Totals(
        FileCounts(**by_status, total=sum(by_status.values())),
        sum(int(row[2]) for row in rows),
        min((row[3] for row in rows), default=0.0),
    )


def _listed(collection_id: str, batch_id: str = "") -> Subquery:
    """What lists need of each file."""
    is_upload = (VectorStoreFileRow.file_id == FileRow.file_id) & FileRow.collection_id.is_(None)
    put_in = (
        select(
            VectorStoreFileRow.file_id,
            VectorStoreFileRow.document_id,
            VectorStoreFileRow.created_at,
            VectorStoreFileRow.status,
            func.coalesce(DocumentRow.size, 0).label("size"),
        )
        .join(FileRow, is_upload)
        .outerjoin(DocumentRow, DocumentRow.document_id == VectorStoreFileRow.document_id)
        .where(
            VectorStoreFileRow.collection_id == collection_id,
            (VectorStoreFileRow.status != "completed") | DocumentRow.document_id.is_not(None),
        )
    )
    if batch_id:
        return put_in.where(VectorStoreFileRow.batch_id == batch_id).subquery()
    came_as_file = exists().where(VectorStoreFileRow.document_id == DocumentRow.document_id, is_upload)
    otherwise = select(
        DocumentRow.document_id.label("file_id"),
        DocumentRow.document_id,
        DocumentRow.updated_at.label("created_at"),
        literal("completed").label("status"),
        DocumentRow.size,
    ).where(DocumentRow.collection_id == collection_id, ~came_as_file)
    return union_all(put_in, otherwise).subquery()


def _store_files(session: Session, collection_id: str, listed: Iterable[Row[Any]]) -> list[StoreFile]:
    listed = list(listed)
    query = select(VectorStoreFileRow).where(
        VectorStoreFileRow.collection_id == collection_id,
        VectorStoreFileRow.file_id.in_([each.file_id for each in listed]),
    )
    rows = {row.file_id: row for row in session.scalars(query)}
    found = []
    for each in listed:
        row = rows.get(each.file_id)
        more: dict[str, Any] = {}
        if row is not None:
            more = {
                "attributes": row.attributes,
                "chunking": row.chunking,
                "error_code": row.error_code,
                "error_message": row.error_message,
            }
        found.append(StoreFile(collection_id=collection_id, **each._asdict(), **more))
    return found
