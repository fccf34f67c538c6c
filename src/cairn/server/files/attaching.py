"""Files in collections, in the database: attached, listed, taken out, in a session of the caller's."""

import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from sqlalchemy import Select, delete, exists, select
from sqlalchemy.orm import Session

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.documents import document_id, remove_documents
from cairn.retrieval.tables import DocumentRow
from cairn.server.files.objects import NewStoreFile, sizes_of
from cairn.server.filters import ComparisonFilter, CompoundFilter, Scalar, fits
from cairn.server.tables import FileRow, VectorStoreFileRow

CONTENT = "content"
"""The file of an artifact of the kind `file`."""
_FAILED_SECONDS = 86400.0
"""How long a file that was sent and could not be indexed is kept, so that it can be told why."""


def own_file(session: Session, file_id: str, owner: str) -> FileRow:
    """A file of this user's; `NotFoundError` also when it is another's."""
    row = session.get(FileRow, file_id)
    if row is None or row.owner != owner or row.collection_id is not None:
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


def send(
    session: Session, collection_id: str, file: FileRow, source: str, labels: Sequence[str] | None
) -> VectorStoreFileRow:
    """Put a file in line that becomes a document of a collection, in the place of one of its name."""
    session.add(file)
    session.add(ArtifactUseRow(digest=file.artifact, user=use_of(file.file_id)))
    session.flush()
    row = VectorStoreFileRow(
        collection_id=collection_id,
        file_id=file.file_id,
        document_id=document_id(collection_id, source),
        source=source,
        batch_id="",
        attributes={},
        chunking={},
        labels=None if labels is None else list(labels),
        status="in_progress",
        error_code="",
        error_message="",
        created_at=time.time(),
    )
    session.add(row)
    session.flush()
    return row


def leave_line(session: Session, collection_id: str, file_id: str) -> None:
    """A file that was sent became its document: it goes, and rows of what was the document before.

    The caller discards its artifact.
    """
    row = session.get_one(VectorStoreFileRow, (collection_id, file_id))
    same = select(VectorStoreFileRow).where(
        VectorStoreFileRow.document_id == row.document_id,
        (VectorStoreFileRow.status != "in_progress") | (VectorStoreFileRow.file_id == file_id),
    )
    for each in session.scalars(same).all():
        session.delete(each)
    session.flush()
    _delete_files(session, [session.get_one(FileRow, file_id)])


def left_over(session: Session) -> Sequence[FileRow]:
    """Files that were sent and are not in line, or failed long ago."""
    is_of_file = VectorStoreFileRow.file_id == FileRow.file_id
    is_failed = (VectorStoreFileRow.status == "failed") & (
        VectorStoreFileRow.created_at < time.time() - _FAILED_SECONDS
    )
    is_wanted = exists().where(is_of_file, ~is_failed)
    return session.scalars(select(FileRow).where(FileRow.collection_id.is_not(None), ~is_wanted)).all()


def remove_left_over(session: Session) -> list[str]:
    """Delete these; returns their artifacts."""
    gone = left_over(session)
    for file in gone:
        session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.file_id == file.file_id))
    return _delete_files(session, gone)


def remove_file(session: Session, file: FileRow) -> list[str]:
    """Delete a file, from every collection too; returns artifacts that nothing here uses any more."""
    rows = session.scalars(select(VectorStoreFileRow).where(VectorStoreFileRow.file_id == file.file_id)).all()
    return [*detach(session, rows), *_delete_files(session, [file])]


def use_of(file_id: str) -> str:
    """Who needs the artifact of a file's bytes."""
    return f"file {file_id}"


def new_file_id() -> str:
    """`file-…`, as documents are called too."""
    return f"file-{uuid.uuid4().hex[:24]}"


def of_files() -> Select[VectorStoreFileRow]:
    """Rows of uploaded files, without those that were sent into collections."""
    return (
        select(VectorStoreFileRow)
        .join(FileRow, FileRow.file_id == VectorStoreFileRow.file_id)
        .where(FileRow.collection_id.is_(None))
    )


def file_ids(session: Session, document_ids: Iterable[str]) -> dict[str, tuple[str, dict[str, Scalar]]]:
    """For documents that came as files: the file, and what it is said to be."""
    query = of_files().where(VectorStoreFileRow.document_id.in_(set(document_ids)))
    return {row.document_id: (row.file_id, row.attributes) for row in session.scalars(query)}


def fitting(
    session: Session, collection_ids: Iterable[str], wanted: ComparisonFilter | CompoundFilter
) -> frozenset[str]:
    """The documents of collections whose files pass a filter."""
    fits(wanted, {})  # one that compares what cannot be compared is wrong with no files too
    ids = set(collection_ids)
    rows = of_files().where(VectorStoreFileRow.collection_id.in_(ids))
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


def _delete_files(session: Session, files: Iterable[FileRow]) -> list[str]:
    freed = []
    for file in files:
        session.execute(delete(ArtifactUseRow).where(ArtifactUseRow.user == use_of(file.file_id)))
        session.delete(file)
        freed.append(file.artifact)
    return freed


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
