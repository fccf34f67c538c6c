"""Long work on collections that somebody asked for: another embedder, a check of the index, a new one.

One thread does it, one piece after the other. What was filled stays when a server ends; who looks after the
collection has it go on.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from cairn.core.errors import CairnError, ConflictError
from cairn.core.progress import Silent
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval import reembedding
from cairn.retrieval.asked import kept_queries
from cairn.retrieval.checking import check
from cairn.retrieval.collection import Collection
from cairn.retrieval.spaces import settings_for

logger = logging.getLogger("cairn.server")

Action = Literal["embed", "switch", "rollback", "drop", "check", "rebuild"]


class StoppedError(Exception):
    """The server ends, or the work is not wanted any more."""


@dataclass(slots=True)
class Work:
    """A piece of work, and what became of it."""

    action: Action
    actor: str
    embedder: str = ""
    is_over: bool = False
    message: str = ""
    """What was found."""
    problem: str = ""
    """Why it failed."""
    stop: threading.Event = field(default_factory=threading.Event)


class Stoppable(Silent):
    """Progress that ends the work at its next step once it is to stop."""

    def __init__(self, work: Work) -> None:
        self._work = work

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator["Stoppable"]:
        self.advance(0)
        yield self

    def advance(self, amount: float = 1) -> None:
        if self._work.stop.is_set():
            raise StoppedError


class Upkeep:
    """Does it; `close` it."""

    def __init__(self, registry: Registry, library: Callable[[], Library]) -> None:
        self._registry, self._library = registry, library
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="upkeep")
        self._works: dict[str, Work] = {}

    def of(self, collection_id: str) -> Work | None:
        """The last piece of work on a collection since the server's start."""
        return self._works.get(collection_id)

    def start(self, collection_id: str, action: Action, *, actor: str, embedder: str = "") -> None:
        """Begin something; only dropping may follow upon what is under way, and ends it."""
        work = Work(action, actor, embedder)
        with self._lock:
            before = self._works.get(collection_id)
            if before is not None and not before.is_over:
                if action != "drop" or before.action != "embed":
                    raise ConflictError("the collection is being worked on", remedy="wait until that is done")
                before.stop.set()
            self._works[collection_id] = work
            self._worker.submit(self._run, collection_id, work)

    def close(self) -> None:
        """End with the step that is being done."""
        with self._lock:
            for work in self._works.values():
                work.stop.set()
        self._worker.shutdown(cancel_futures=True)

    def _run(self, collection_id: str, work: Work) -> None:
        """A process edge: whatever happens is told with the work."""
        try:
            self._do(self._library(), collection_id, work)
        except StoppedError:
            pass
        except CairnError as error:
            work.problem = error.sentence
        except Exception:
            logger.exception("%s of %s failed", work.action, collection_id)
            work.problem = "the server failed on this; its log says why"
        finally:
            work.is_over = True

    def _do(self, library: Library, collection_id: str, work: Work) -> None:
        collection, progress = library.collection(collection_id), Stoppable(work)
        match work.action:
            case "embed":
                _embed(library, collection, work.embedder, progress)
            case "switch":
                reembedding.switch(collection, progress, actor=work.actor)
            case "rollback":
                reembedding.roll_back(collection, progress, actor=work.actor)
            case "drop":
                reembedding.drop(self._registry, collection_id, collection.indexes)
            case "check":
                work.message = _checked(collection, progress)
            case "rebuild":
                collection.rebuild()
                work.message = _checked(collection, progress)


def _embed(library: Library, collection: Collection, embedder: str, progress: Stoppable) -> None:
    settings = settings_for(collection.database, collection.info.collection_id, {"embedder": embedder})
    encoders = library.encoders(str(settings["embedder"]))
    space = reembedding.begin(collection, encoders, settings)
    reembedding.fill(collection, space, encoders, progress)


def _checked(collection: Collection, progress: Stoppable) -> str:
    queries = kept_queries(collection.database, collection.info.collection_id)
    found = check(collection, queries, is_given=False, progress=progress)
    wrong = {
        "are missing from the index": found.num_missing,
        "are in it and nowhere else": found.num_extra,
        "lack a vector": found.num_without_vector,
    }
    said = [f"{count} passages {what}" for what, count in wrong.items() if count]
    return "; ".join(said) or "the index holds exactly what the database does"
