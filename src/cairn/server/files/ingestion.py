"""Files in line for collections are read and indexed one after the other, by one thread.

The line is in the database: what waits when a server ends, however it ends, the next one goes on with. A
document, and that its file is done, are one transaction, so each is indexed once or not at all.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import CairnError, StorageError
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval.collection import NewDocument
from cairn.retrieval.documents import DocumentInfo
from cairn.server.files.uploaded import CONTENT
from cairn.server.tables import FileRow, VectorStoreFileRow

logger = logging.getLogger("cairn.server")

_MOST_MESSAGE = 2000
_PAUSE = 30.0
"""Seconds after which a disk or database that refused is asked again."""


class WithdrawnError(Exception):
    """A file that was cancelled, deleted or put in otherwise while it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A file in line."""

    collection_id: str
    file_id: str
    source: str
    filename: str
    artifact: str
    chunking: dict[str, Any]


class Ingestor:
    """Works the line off as long as there is one; `close` it."""

    def __init__(self, registry: Registry, library: Callable[[], Library]) -> None:
        self._registry, self._library = registry, library
        self._lock = threading.Lock()
        self._signal = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def wake(self) -> None:
        """There is something in line."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="ingestor", daemon=True)
                self._thread.start()
        self._signal.set()

    def close(self) -> None:
        """End with the file that is being read."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._signal.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            self._signal.clear()
            try:
                each = next_in_line(self._registry)
                if each is not None:
                    self._take(each)
                elif not self._is_closed:
                    self._signal.wait()
            except StorageError as error:
                logger.warning("files wait to be indexed: %s", error)
                self._signal.wait(_PAUSE)

    def _take(self, each: Waiting) -> None:
        """Read and index a file. A process edge: whatever happens to it is told with it."""
        try:
            self._index(each)
        except WithdrawnError:
            logger.info("%s was taken back while it was read", each.file_id)
        except StorageError:
            raise
        except CairnError as error:
            self._fail(each, error.sentence)
        except Exception:
            logger.exception("cannot index %s", each.file_id)
            self._fail(each, "the server failed on this file; its log says why")

    def _index(self, each: Waiting) -> None:
        library = self._library()
        collection = library.collection(each.collection_id)
        path = self._registry.get(each.artifact).folder / CONTENT
        document = NewDocument(
            source=each.source,
            original=path,
            parsed=library.parsers.parse(path, each.filename),
            chunk_tokens=each.chunking.get("max_chunk_size_tokens"),
            overlap_tokens=each.chunking.get("chunk_overlap_tokens"),
        )
        (prepared,) = collection.prepare([document])
        collection.write(prepared, also=partial(_finish, each))

    def _fail(self, each: Waiting, message: str) -> None:
        with self._registry.database.writing() as session:
            row = _waiting_row(session, each)
            if row is not None:
                row.status, row.error_code, row.error_message = "failed", "server_error", message


def next_in_line(registry: Registry) -> Waiting | None:
    """The file that waits the longest."""
    query = (
        select(VectorStoreFileRow, FileRow)
        .join(FileRow, FileRow.file_id == VectorStoreFileRow.file_id)
        .where(VectorStoreFileRow.status == "in_progress")
        .order_by(VectorStoreFileRow.created_at, VectorStoreFileRow.file_id)
        .limit(1)
    )
    with registry.database.session(read_only=True) as session:
        found = session.execute(query).first()
    if found is None:
        return None
    row, file = found
    return Waiting(
        collection_id=row.collection_id,
        file_id=row.file_id,
        source=row.source,
        filename=file.filename,
        artifact=file.artifact,
        chunking=row.chunking,
    )


def _waiting_row(session: Session, each: Waiting) -> VectorStoreFileRow | None:
    """The row of a file, if it still waits for what was made of it."""
    row = session.get(VectorStoreFileRow, (each.collection_id, each.file_id))
    if row is None or row.status != "in_progress" or row.chunking != each.chunking:
        return None
    return row


def _finish(each: Waiting, session: Session, info: DocumentInfo) -> None:
    row = _waiting_row(session, each)
    if row is None:
        raise WithdrawnError
    row.status = "failed" if info.status == "unreadable" else "completed"
    row.error_code, row.error_message = _error(info)


def _error(info: DocumentInfo) -> tuple[str, str]:
    """What is wrong with the pages that are not indexed; empty when all are."""
    if not info.skipped_pages:
        return "", ""
    problems = [problem for problem in info.problems if problem.page in info.skipped_pages]
    is_unsupported = bool(problems) and all(problem.kind == "unsupported" for problem in problems)
    count = f"{len(info.skipped_pages)} of {info.num_pages} pages are not indexed"
    said = "; ".join(f"page {problem.page}: {problem.message}" for problem in problems)
    return (
        "unsupported_file" if is_unsupported else "invalid_file",
        f"{count}. {said}"[:_MOST_MESSAGE],
    )
