"""What goes by itself: vector stores whose time has come, and what is left of files that were sent.

One thread looks now and then, as long as the server lives.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import CairnError, ConflictError
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval.documents import discard_artifacts
from cairn.server.files.attaching import left_over, remove_left_over
from cairn.server.tables import VectorStoreRow

logger = logging.getLogger("cairn.server")

SECONDS = 300.0
"""Between two looks."""
_DAY = 86400.0
_ACTOR = "expiry"


class Housekeeper:
    """Looks on a thread of its own; `close` it."""

    def __init__(
        self, registry: Registry, library: Callable[[], Library], *, also: Sequence[Callable[[], object]] = ()
    ) -> None:
        self._registry, self._library, self._also = registry, library, also
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End with what is under way."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                tidy(self._registry, self._library)
                for each in self._also:
                    each()
            except CairnError as error:
                logger.warning("what has expired waits: %s", error.sentence)
            except Exception:
                logger.exception("what has expired waits")
            if self._end.wait(SECONDS):
                return


def tidy(registry: Registry, library: Callable[[], Library]) -> list[str]:
    """Delete what has expired; returns the ids of vector stores that went, with documents and index."""
    with registry.database.session(read_only=True) as session:
        limited = session.scalars(select(VectorStoreRow).where(VectorStoreRow.expires_days.is_not(None)))
        expired = [row.collection_id for row in limited if is_expired(row)]
    gone = []
    for collection_id in expired:

        def check(session: Session, collection_id: str = collection_id) -> None:
            row = session.get(VectorStoreRow, collection_id)
            if row is None or not is_expired(row):
                raise ConflictError(f"{collection_id} is used again")

        try:
            library().delete(collection_id, actor=_ACTOR, check=check)
            gone.append(collection_id)
        except CairnError as error:  # the others are not kept waiting
            logger.info("%s stays: %s", collection_id, error.sentence)
    with registry.database.session(read_only=True) as session:
        is_clean = not left_over(session)
    if not is_clean:
        with registry.database.writing() as session:
            freed = remove_left_over(session)
        discard_artifacts(registry, freed)
    return gone


def is_expired(row: VectorStoreRow) -> bool:
    """Whether a vector store's time has come."""
    return row.expires_days is not None and time.time() > row.last_active_at + row.expires_days * _DAY
