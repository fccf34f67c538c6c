"""The plainest index and embedder there can be, to hold collections against."""

import hashlib
import math
import re
import threading
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cairn.core.embedding import Embeddings, TextInput
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.index import Entry, Filter, Index, Match

DIMENSIONS = 32


def words(text: str) -> list[str]:
    """Words in lower case, as they stand."""
    return re.findall(r"\w+", text.lower())


class ExactIndex:
    """Every entry is compared with every query; kept in memory alone."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions, self.position = dimensions, 0
        self.entries: dict[int, Entry] = {}
        self._lock = threading.Lock()

    def apply(self, position: int, upserts: Sequence[Entry], deletes: Sequence[int]) -> None:
        with self._lock:
            entries = {**self.entries, **{entry.chunk_id: entry for entry in upserts}}
            for chunk_id in deletes:
                entries.pop(chunk_id, None)
            self.entries, self.position = entries, position

    def search(self, vector: NDArray[np.float32], limit: int, where: Filter) -> list[Match]:
        return _best(
            [Match(entry.chunk_id, float(entry.vector @ vector)) for entry in self._seen(where)], limit
        )

    exact = search

    def search_text(self, query: str, limit: int, where: Filter) -> list[Match]:
        seen = {entry.chunk_id: Counter(words(entry.text)) for entry in self._seen(where)}
        mean = sum(count.total() for count in seen.values()) / max(len(seen), 1)
        scores: Counter[int] = Counter()
        for term in words(query):
            holding = [chunk_id for chunk_id, count in seen.items() if term in count]
            weight = math.log(1 + (len(seen) - len(holding) + 0.5) / (len(holding) + 0.5))
            for chunk_id in holding:
                count = seen[chunk_id]
                length = 1.2 * (0.25 + 0.75 * count.total() / mean)
                scores[chunk_id] += weight * count[term] * 2.2 / (count[term] + length)  # type: ignore[assignment]
        return _best([Match(chunk_id, score) for chunk_id, score in scores.items()], limit)

    def count(self) -> int:
        return len(self.entries)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def _seen(self, where: Filter) -> list[Entry]:
        return [
            entry
            for entry in self.entries.values()
            if (where.labels is None or where.labels & entry.allowed)
            and (where.documents is None or entry.document_id in where.documents)
        ]


def _best(matches: list[Match], limit: int) -> list[Match]:
    return sorted(matches, key=lambda match: (-match.score, match.chunk_id))[:limit]


class ExactIndexes:
    """Nothing outlives the object: an index that is opened again is made anew."""

    def __init__(self) -> None:
        self.opened: dict[str, ExactIndex] = {}

    def open(self, key: str, dimensions: int) -> Index:
        self.opened[key] = ExactIndex(dimensions)
        return self.opened[key]

    def drop(self, key: str) -> None:
        self.opened.pop(key, None)


class WordEmbedder:
    """A text is the sum of its words, each a direction of its own."""

    def __init__(self, dimensions: int = DIMENSIONS, max_tokens: int = 64) -> None:
        self.dimensions, self.max_tokens = dimensions, max_tokens
        self.num_embedded = 0

    def embed(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        self.num_embedded += len(texts)
        assert truncate or max(count_tokens([str(text) for text in texts]), default=0) <= self.max_tokens
        rows = [self._direction(str(text)) for text in texts]
        return Embeddings(np.array(rows, np.float32).reshape(-1, self.dimensions), len(texts))

    async def embed_async(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        return self.embed(texts, truncate=truncate)

    def _direction(self, text: str) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.full(self.dimensions, 1e-3)
        for term in words(text):
            total += _direction_of(term, self.dimensions)
        total /= np.linalg.norm(total)
        return total


@lru_cache(10_000)
def _direction_of(term: str, dimensions: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(term.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(dimensions)


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Words and two special tokens; long words are several."""
    return [2 + sum(-(-len(word) // 8) for word in text.split()) for text in texts]


def encoders(**options: int) -> Encoders:
    return Encoders(embedder=WordEmbedder(**options), digest="sha256:words", count_tokens=count_tokens)
