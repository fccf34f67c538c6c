"""Other people's stores behind the same protocol: vectors and filters there, words here.

A store keeps what is compared by meaning. The words stay in an embedded index beside Cairn, so that BM25 is
the same whatever the store, and both follow the same changes; each knows how far it is. Client libraries
are imported when a store is opened.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cairn.core.errors import ConfigError, MissingExtraError
from cairn.retrieval.index import Index
from cairn.retrieval.stores.joined import JoinedIndex, VectorStore

STORES = ("chroma", "lancedb", "milvus", "pgvector", "pinecone", "qdrant", "weaviate")


class StoreIndexes:
    """Indexes in one store, `kind`; `options` are what its module's `connect` takes: `url`, `api_key`."""

    def __init__(self, kind: str, words: Path, **options: Any) -> None:
        if kind not in STORES:
            raise ConfigError(f"no store {kind!r}", remedy=f"choose one of {', '.join(STORES)}")
        try:
            self._connect: Callable[..., VectorStore] = import_module(
                f"cairn.retrieval.stores.{kind}"
            ).connect
        except ImportError:
            raise MissingExtraError(f"the store {kind}", kind) from None
        self._words, self._options = words, options

    def open(self, key: str, dimensions: int) -> Index:
        """The index of a key; a new one where there is none."""
        return JoinedIndex(self._connect(key, dimensions, **self._options), self._words / key)

    def drop(self, key: str) -> None:
        """Throw away what is kept under a key; it may be missing."""
        store = self._connect(key, 1, **self._options)
        store.drop()
        store.close()
        JoinedIndex.drop_words(self._words / key)
