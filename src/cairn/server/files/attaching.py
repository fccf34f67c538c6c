"""Files in collections, in the database: attached, listed, taken out, in a session of the caller's."""

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.documents import document_id, remove_documents
from cairn.retrieval.tables import DocumentRow
from cairn.server.files.objects import FileCounts, NewStoreFile, sizes_of
from cairn.server.filters import ComparisonFilter, CompoundFilter, Scalar, fits
from cairn.server.tables import FileRow, VectorStoreFileRow


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFile:
    """A file of a collection; a document that came in another way is one too, under its own id."""

    file_id: str
    collection_id: str
    document_id: str
    status: str
    created_at: float
    size: int = 0
    """Of its document; 0 while there is none."""
    attributes: dict[str, Scalar]
    chunking: dict[str, int]
    error_code: str = ""
    error_message: str = ""
    batch_id: str = ""


def own_file(session: Session, file_id: str, owner: str) -> FileRow:
    """A file of this user's; `NotFoundError` also when it is another's."""
    row = session.get(FileRow, file_id)
    if row is None or row.owner != owner:
        raise NotFoundError(f"there is no file {file_id!r}", remedy="list them: GET /v1/files")
    return row


def attach(
    session: Session, collection_id: str, owner: str, files: Sequence[NewStoreFile], *, batch_id: str = ""
) -> None:
    """Put files in line for a collection; one that is there already is read again."""
    for given in files:
        file = own_file(session, given.file_id, owner)
        row = session.get(VectorStoreFileRow, (collection_id, file.file_id))
        if row is None:
            source = _free_source(session, collection_id, file)
            row = VectorStoreFileRow(
                collection_id=collection_id,
                file_id=file.file_id,
                document_id=document_id(collection_id, source),
                source=source,
                created_at=time.time(),
            )
            session.add(row)
        row.batch_id, row.status, row.error_code, row.error_message = batch_id, "in_progress", "", ""
        row.attributes = dict(given.attributes or {})
        row.chunking = sizes_of(given.chunking_strategy)
        session.flush()


def detach(session: Session, rows: Iterable[VectorStoreFileRow]) -> list[str]:
    """Take files out of collections with their documents; returns artifacts that they no longer use."""
    freed = []
    for row in rows:
        freed += remove_documents(session, [row.document_id])
        session.delete(row)
    session.flush()
    return freed


def remove_file(session: Session, file: FileRow) -> list[str]:
    """Delete a file, from every collection too; returns artifacts that nothing here uses any more."""
    rows = session.scalars(select(VectorStoreFileRow).where(VectorStoreFileRow.file_id == file.file_id)).all()
    freed = detach(session, rows)
    session.execute(delete(ArtifactUseRow).where(ArtifactUseRow.user == use_of(file.file_id)))
    session.delete(file)
    return [*freed, file.artifact]


def use_of(file_id: str) -> str:
    """Who needs the artifact of a file's bytes."""
    return f"file {file_id}"


def new_file_id() -> str:
    """`file-…`, as documents are called too."""
    return f"file-{uuid.uuid4().hex[:24]}"


def store_files(session: Session, collection_id: str, *, batch_id: str = "") -> list[StoreFile]:
    """The files of a collection or batch; what was deleted from under them is gone."""
    rows = session.scalars(
        select(VectorStoreFileRow).where(
            VectorStoreFileRow.collection_id == collection_id,
            *([VectorStoreFileRow.batch_id == batch_id] if batch_id else []),
        )
    ).all()
    documents = {
        row.document_id: row
        for row in session.execute(
            select(DocumentRow.document_id, DocumentRow.size, DocumentRow.updated_at).where(
                DocumentRow.collection_id == collection_id
            )
        )
    }
    found = [
        _store_file(row, documents[row.document_id].size if row.document_id in documents else 0)
        for row in rows
        if row.status != "completed" or row.document_id in documents
    ]
    if not batch_id:
        uploaded = {row.document_id for row in rows}
        found += [
            StoreFile(
                file_id=each.document_id,
                collection_id=collection_id,
                document_id=each.document_id,
                status="completed",
                created_at=each.updated_at,
                size=each.size,
                attributes={},
                chunking={},
            )
            for each in documents.values()
            if each.document_id not in uploaded
        ]
    return found


def store_file(session: Session, collection_id: str, file_id: str) -> StoreFile:
    """One file of a collection."""
    for each in store_files(session, collection_id):
        if each.file_id == file_id:
            return each
    raise NotFoundError(f"there is no file {file_id!r} in {collection_id}", remedy="list its files")


def counts(files: Iterable[StoreFile]) -> FileCounts:
    """Files by what became of them."""
    found = Counter(each.status for each in files)
    return FileCounts(**found, total=found.total())


def file_ids(session: Session, document_ids: Iterable[str]) -> dict[str, tuple[str, dict[str, Scalar]]]:
    """For documents that came as files: the file, and what it is said to be."""
    query = select(VectorStoreFileRow).where(VectorStoreFileRow.document_id.in_(set(document_ids)))
    return {row.document_id: (row.file_id, row.attributes) for row in session.scalars(query)}


def fitting(
    session: Session, collection_ids: Iterable[str], wanted: ComparisonFilter | CompoundFilter
) -> frozenset[str]:
    """The documents of collections whose files pass a filter."""
    fits(wanted, {})  # one that compares what cannot be compared is wrong with no files too
    ids = set(collection_ids)
    rows = select(VectorStoreFileRow).where(VectorStoreFileRow.collection_id.in_(ids))
    attributes = {row.document_id: row.attributes for row in session.scalars(rows)}
    documents = session.scalars(select(DocumentRow.document_id).where(DocumentRow.collection_id.in_(ids)))
    return frozenset(each for each in documents if fits(wanted, attributes.get(each, {})))


def clean_filename(given: str) -> str:
    """A name as it is kept: the last part of a path, of letters that can be shown."""
    name = PurePosixPath(given.replace("\\", "/")).name
    name = "".join(letter for letter in name if letter.isprintable()).encode(errors="ignore").decode().strip()
    if not name:
        raise InvalidRequestError(
            f"the file's name is {given!r}, allowed: one that can be shown", param="file"
        )
    return name[-200:]


def _free_source(session: Session, collection_id: str, file: FileRow) -> str:
    """The file's name, or one made from it where another document has it."""
    path = PurePosixPath(file.filename)
    for source in (file.filename, f"{path.stem} ({file.file_id[-8:]}){path.suffix}"):
        used = VectorStoreFileRow.document_id == document_id(collection_id, source)
        if session.get(DocumentRow, document_id(collection_id, source)) is None and not session.scalar(
            select(VectorStoreFileRow.file_id).where(used)
        ):
            break
    return source


def _store_file(row: VectorStoreFileRow, size: int) -> StoreFile:
    return StoreFile(
        file_id=row.file_id,
        collection_id=row.collection_id,
        document_id=row.document_id,
        status=row.status,
        created_at=row.created_at,
        size=size,
        attributes=row.attributes,
        chunking=row.chunking,
        error_code=row.error_code,
        error_message=row.error_message,
        batch_id=row.batch_id,
    )
