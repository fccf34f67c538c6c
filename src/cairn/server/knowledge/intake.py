"""Files on their way into collections: put to disk as they come, then read and indexed one after the other.

What waits lives as long as the server: a file that was not indexed when it ended has to be sent again.
Cairn's own documentation comes in the same way, when somebody first asks what collections there are.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cairn.core.errors import CairnError, OverloadedError
from cairn.providers.knowledge import EMBEDDER_REMEDY, Library, embedder_is_here
from cairn.providers.own_docs import bring_own_docs
from cairn.registry import Registry
from cairn.registry.durable import storage_errors
from cairn.retrieval.collection import NewDocument
from cairn.retrieval.documents import DocumentInfo
from cairn.server.identity import ADMIN

logger = logging.getLogger("cairn.server")

State = Literal["waiting", "reading", "indexing", "done", "failed"]
_MOST_WAITING = 200
_MOST_WAITING_BYTES = 4 << 30
_MOST_REMEMBERED = 1000
_WORKERS = 2  # while one file is parsed by a child process, another is embedded


@dataclass(slots=True, kw_only=True)
class Upload:
    """A file that was sent, and how far it is."""

    upload_id: str
    collection_id: str
    user_id: str
    source: str
    labels: tuple[str, ...] | None
    path: Path
    size: int
    state: State = "waiting"
    message: str = ""
    """Of one that failed: why."""
    document: DocumentInfo | None = None
    """Of one that is done."""
    finished_at: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


class Intake:
    """What is coming in, for all users; `close` it."""

    def __init__(self, registry: Registry, library: Callable[[], Library]) -> None:
        self._registry, self._library = registry, library
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}
        self._closing = ExitStack()
        self._scratch: Path | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._has_asked = False
        self.preparing: tuple[int, int] | None = None
        """Pages of Cairn's own documentation that are done, of how many; None when there is nothing to do."""

    def problem(self) -> dict[str, str]:
        """Why nothing can be put in; empty when it can."""
        if embedder_is_here(self._registry):
            return {}
        return {
            "message": "The encoder that makes texts findable is not installed",
            "remedy": EMBEDDER_REMEDY,
        }

    async def receive(
        self,
        body: AsyncIterator[bytes],
        *,
        collection_id: str,
        user_id: str,
        source: str,
        labels: tuple[str, ...] | None,
    ) -> Upload:
        """Take a file from a request to disk, and put it in line."""
        with self._lock:
            waiting = [each for each in self._uploads.values() if not each.is_over]
            if len(waiting) >= _MOST_WAITING or sum(each.size for each in waiting) > _MOST_WAITING_BYTES:
                raise OverloadedError(
                    f"{len(waiting)} files wait to be read",
                    remedy="send more when some are done",
                    retry_after=5,
                )
        upload_id = f"upload_{uuid.uuid4().hex[:20]}"
        path = await asyncio.to_thread(self._place, upload_id)
        size = 0
        try:
            with storage_errors("cannot keep the file"), path.open("wb") as file:
                async for part in body:
                    size += len(part)
                    await asyncio.to_thread(file.write, part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        upload = Upload(
            upload_id=upload_id,
            collection_id=collection_id,
            user_id=user_id,
            source=source,
            labels=labels,
            path=path,
            size=size,
        )
        with self._lock:
            self._uploads[upload_id] = upload
            over = [each for each in self._uploads.values() if each.is_over]
            for each in over[: len(over) - _MOST_REMEMBERED]:
                del self._uploads[each.upload_id]
        self._submit(self._take, upload)
        return upload

    def uploads(self, collection_id: str, user_id: str) -> list[Upload]:
        """What a user sent to a collection since the server's start, the oldest first."""
        with self._lock:
            return [
                each
                for each in self._uploads.values()
                if (each.collection_id, each.user_id) == (collection_id, user_id)
            ]

    def bring_own_docs(self) -> None:
        """Begin, once, to make a collection of Cairn's own documentation."""
        with self._lock:
            if self._has_asked or not embedder_is_here(self._registry):
                return
            self._has_asked, self.preparing = True, (0, 0)
        self._submit(self._bring_own_docs)

    def close(self) -> None:
        """Drop what waits; what is being indexed is finished."""
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.shutdown(cancel_futures=True)
        self._closing.close()

    def _place(self, name: str) -> Path:
        with self._lock:
            if self._scratch is None:
                self._scratch = self._closing.enter_context(self._registry.store.stage())
            return self._scratch / name

    def _submit(self, work: Callable[..., None], *arguments: Upload) -> None:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="intake")
            self._workers.submit(work, *arguments)

    def _take(self, upload: Upload) -> None:
        """Read and index a file. A process edge: whatever happens to a file is told with it."""
        try:
            library = self._library()
            collection = library.collection(upload.collection_id)
            upload.state = "reading"
            parsed = library.parsers.parse(upload.path, upload.source.rsplit("/", 1)[-1])
            upload.state = "indexing"
            upload.document = collection.put(
                NewDocument(source=upload.source, original=upload.path, parsed=parsed, labels=upload.labels)
            )
            upload.state = "done"
        except CairnError as error:
            upload.state, upload.message = "failed", error.sentence
        except Exception as error:
            logger.error("an upload failed: %s", upload.upload_id, exc_info=error)
            upload.state, upload.message = "failed", "the server failed on this file; its log says why"
        finally:
            upload.finished_at = time.time()
            upload.path.unlink(missing_ok=True)

    def _bring_own_docs(self) -> None:
        def report(done: int, total: int) -> None:
            self.preparing = (done, total)

        try:
            bring_own_docs(self._library(), owner=ADMIN, report=report)
        except CairnError as error:
            logger.warning("Cairn's own documentation was not indexed: %s", error.sentence)
        except Exception as error:
            logger.error("Cairn's own documentation was not indexed", exc_info=error)
        finally:
            self.preparing = None
