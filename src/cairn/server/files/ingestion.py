"""Files in line for collections are read and indexed: those of the API, and those that the page sends.

The line is in the database: what waits when a server ends, however it ends, the next one goes on with. A
document, and that its file is done, are one transaction, so each is indexed once or not at all. A file that
was sent into a collection leaves the line when it is indexed; its bytes are then the document's alone.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import CairnError, StorageError
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval.documents import DocumentInfo, discard_artifacts
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.ingest import read
from cairn.server.files.attaching import CONTENT, leave_line
from cairn.server.tables import FileRow, VectorStoreFileRow

logger = logging.getLogger("cairn.server")

_MOST_MESSAGE = 2000
_PAUSE = 30.0
"""Seconds after which a disk or database that refused is asked again."""
_WORKERS = 2  # while one file is parsed by a child process, another is embedded
_MOST_REMEMBERED = 1000

Phase = Literal["reading", "indexing"]


class WithdrawnError(Exception):
    """A file that was cancelled, deleted or put in otherwise while it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A file in line."""

    collection_id: str
    file_id: str
    document_id: str
    source: str
    filename: str
    artifact: str
    size: int
    owner: str
    created_at: float
    chunking: dict[str, Any]
    labels: list[str] | None
    is_sent: bool
    """Whether it leaves the line for good when it is done."""


class Ingestor:
    """Works the line off as long as there is one; `close` it."""

    def __init__(self, registry: Registry, library: Callable[[], Library]) -> None:
        self._registry, self._library = registry, library
        self._changed = threading.Condition()
        self._num_calls = 0
        self._threads: list[threading.Thread] = []
        self._taken: set[str] = set()
        """Documents that are worked on; of two files for one the second waits for the first."""
        self._is_closed = False
        self.phases: dict[str, Phase] = {}
        """What is done with the files that are worked on, by id."""
        self.done: OrderedDict[str, tuple[Waiting, DocumentInfo]] = OrderedDict()
        """The newest files that were sent, by id, and what they became."""

    def wake(self) -> None:
        """There is something in line."""
        with self._changed:
            if not self._threads and not self._is_closed:
                self._threads = [
                    threading.Thread(target=self._run, name=f"ingestor-{number}", daemon=True)
                    for number in range(_WORKERS)
                ]
                for thread in self._threads:
                    thread.start()
            self._tell()

    def close(self) -> None:
        """End with the files that are being read."""
        with self._changed:
            self._is_closed = True
            threads = self._threads
            self._tell()
        for thread in threads:
            thread.join()

    def _tell(self) -> None:
        self._num_calls += 1
        self._changed.notify_all()

    def _run(self) -> None:
        while not self._is_closed:
            seen, pause = self._num_calls, None
            try:
                each = self._claim()
                if each is not None:
                    self._take(each)
                    continue
            except StorageError as error:
                logger.warning("files wait to be indexed: %s", error)
                pause = _PAUSE
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._is_closed or self._num_calls != seen, pause)  # type: ignore[misc]

    def _claim(self) -> Waiting | None:
        with self._changed:
            each = next_in_line(self._registry, self._taken)
            if each is not None:
                self._taken.add(each.document_id)
        return each

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
        finally:
            with self._changed:
                self._taken.discard(each.document_id)
                self.phases.pop(each.file_id, None)
                self._tell()

    def _index(self, each: Waiting) -> None:
        library = self._library()
        collection = library.collection(each.collection_id)
        path = self._registry.get(each.artifact).folder / CONTENT
        self.phases[each.file_id] = "reading"
        with read(self._registry, library.parsers, path, each.filename) as parsed:
            self.phases[each.file_id] = "indexing"
            document = NewDocument(
                source=each.source,
                original=path,
                parsed=parsed,
                labels=each.labels,
                chunk_tokens=each.chunking.get("max_chunk_size_tokens"),
                overlap_tokens=each.chunking.get("chunk_overlap_tokens"),
            )
            (prepared,) = collection.prepare([document])
            collection.write(prepared, also=partial(self._finish, each))
        if each.is_sent:
            discard_artifacts(self._registry, [each.artifact])

    def _finish(self, each: Waiting, session: Session, info: DocumentInfo) -> None:
        row = _waiting_row(session, each)
        if row is None:
            raise WithdrawnError
        if not each.is_sent:
            row.status = "failed" if info.status == "unreadable" else "completed"
            row.error_code, row.error_message = _error(info)
            return
        leave_line(session, each.collection_id, each.file_id)
        with self._changed:  # before it is gone from the line, so that it is always in one of the two
            self.done[each.file_id] = (each, info)
            while len(self.done) > _MOST_REMEMBERED:
                self.done.popitem(last=False)

    def _fail(self, each: Waiting, message: str) -> None:
        with self._registry.database.writing() as session:
            row = _waiting_row(session, each)
            if row is not None:
                row.status, row.error_code, row.error_message = "failed", "server_error", message


def next_in_line(registry: Registry, taken: Collection[str] = ()) -> Waiting | None:
    """The file that waits the longest, of those for documents that are not taken."""
    query = (
        select(VectorStoreFileRow, FileRow)
        .join(FileRow, FileRow.file_id == VectorStoreFileRow.file_id)
        .where(VectorStoreFileRow.status == "in_progress", VectorStoreFileRow.document_id.not_in(taken))
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
        document_id=row.document_id,
        source=row.source,
        filename=file.filename,
        artifact=file.artifact,
        size=file.size,
        owner=file.owner,
        created_at=row.created_at,
        chunking=row.chunking,
        labels=row.labels,
        is_sent=file.collection_id is not None,
    )


def _waiting_row(session: Session, each: Waiting) -> VectorStoreFileRow | None:
    """The row of a file, if it still waits for what was made of it."""
    row = session.get(VectorStoreFileRow, (each.collection_id, each.file_id))
    if row is None or row.status != "in_progress" or row.chunking != each.chunking:
        return None
    return row


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
