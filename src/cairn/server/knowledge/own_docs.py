"""Cairn's own documentation: it becomes a collection when somebody first asks what collections there are."""

import logging
import threading
from collections.abc import Callable

from cairn.core.errors import CairnError
from cairn.providers.knowledge import EMBEDDER_REMEDY, Library, embedder_is_here
from cairn.providers.own_docs import bring_own_docs
from cairn.registry import Registry
from cairn.server.identity import ADMIN

logger = logging.getLogger("cairn.server")


def missing(registry: Registry) -> dict[str, str]:
    """Why nothing can be put into collections; empty when it can."""
    if embedder_is_here(registry):
        return {}
    return {"message": "The encoder that makes texts findable is not installed", "remedy": EMBEDDER_REMEDY}


class StoppedError(Exception):
    """The server ends; the next one goes on with the pages that are not there."""


class OwnDocs:
    """Brings them once, on a thread of its own; `close` it."""

    def __init__(self, registry: Registry, library: Callable[[], Library]) -> None:
        self._registry, self._library = registry, library
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self.preparing: tuple[int, int] | None = None
        """Pages that are done, of how many; None when there is nothing to do."""

    def bring(self) -> None:
        """Begin, the first time that it can be done."""
        with self._lock:
            if self._thread is None and embedder_is_here(self._registry):
                self.preparing = (0, 0)
                self._thread = threading.Thread(target=self._run, name="own-docs", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End with the page that is being read."""
        self._end.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        def report(done: int, total: int) -> None:
            self.preparing = (done, total)
            if self._end.is_set():
                raise StoppedError

        try:
            bring_own_docs(self._library(), owner=ADMIN, report=report)
        except StoppedError:
            logger.info("Cairn's own documentation is indexed when the server is back")
        except CairnError as error:
            logger.warning("Cairn's own documentation was not indexed: %s", error.sentence)
        except Exception:
            logger.exception("Cairn's own documentation was not indexed")
        finally:
            self.preparing = None
