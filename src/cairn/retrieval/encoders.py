"""What a collection needs of models, handed in from above, and embedding in batches of like lengths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cairn.core.digests import digest_bytes
from cairn.core.embedding import Embedder
from cairn.core.retrieval import Reranker
from cairn.registry import Database
from cairn.retrieval.chunking import Chunk
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.passages import vectors_of_texts
from cairn.retrieval.splitting import CountTokens

_BATCH_TOKENS = 8192
_MOST_RECENT = 4096
_LEAST_BUDGET = 16  # with less there is no room for a word and its heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders:
    """An embedder with the counter of its tokens, and a reranker where there is one."""

    embedder: Embedder
    digest: str
    """Of the embedder's artifact: it names the space of the vectors."""
    count_tokens: CountTokens
    """As the embedder counts, special tokens included."""
    reranker: Reranker | None = None
    forget: Callable[[], None] = lambda: None
    """Let go of what is kept of texts: one of them was deleted."""

    def budget(self, config: CollectionConfig) -> int:
        """Most tokens of a chunk."""
        return min(
            max(config.chunk_tokens or self.embedder.max_tokens, _LEAST_BUDGET), self.embedder.max_tokens
        )


RecentVectors = dict[tuple[int, str], NDArray[np.float32]]
"""The newest by space and digest of the text: what is not written yet cannot be found. For one thread."""


def embed_chunks(
    encoders: Encoders,
    database: Database,
    space_id: int,
    chunks: Sequence[Chunk],
    recent: RecentVectors,
    *,
    truncate: bool = False,
    anew: bool = False,
) -> NDArray[np.float32]:
    """Vectors of chunks [chunks, dimensions]; `truncate` where they were cut for one that reads more."""
    texts, lengths = [chunk.embedded for chunk in chunks], [chunk.num_tokens for chunk in chunks]
    return embed_texts(
        encoders, database, space_id, texts, lengths, recent=recent, truncate=truncate, anew=anew
    )


def embed_texts(
    encoders: Encoders,
    database: Database,
    space_id: int,
    texts: Sequence[str],
    lengths: Sequence[int],
    *,
    recent: RecentVectors | None = None,
    truncate: bool = False,
    anew: bool = False,
) -> NDArray[np.float32]:
    """Vectors of texts [texts, dimensions], `lengths` being about their tokens.

    One that was embedded in the space before, or is `recent`, is not embedded again; with `anew` only what
    is recent is not.
    """
    recent = {} if recent is None else recent
    vectors = np.zeros((len(texts), encoders.embedder.dimensions), np.float32)
    digests = [digest_bytes(text.encode()) for text in texts]
    with database.session(read_only=True) as session:
        known = {} if anew else vectors_of_texts(session, space_id, set(digests))
    new: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        found = recent.get((space_id, digest), known.get(digest))
        if found is not None:
            vectors[place] = found
        else:
            new.setdefault(digest, []).append(place)
    all_places = list(new.values())
    for batch in _batches([lengths[places[0]] for places in all_places]):
        made = encoders.embedder.embed([texts[all_places[each][0]] for each in batch], truncate=truncate)
        for each, vector in zip(batch, made.vectors, strict=True):
            places = all_places[each]
            vectors[places] = unit_length(vector)
            recent[space_id, digests[places[0]]] = vectors[places[0]].copy()
    for oldest in list(recent)[: max(0, len(recent) - _MOST_RECENT)]:
        del recent[oldest]
    return vectors


def unit_length(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """A vector made of length one; zero stays."""
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Places sorted by length, in batches of about as many tokens."""
    batches: list[list[int]] = []
    spent = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not batches or spent + lengths[place] > _BATCH_TOKENS:
            batches.append([])
            spent = 0
        batches[-1].append(place)
        spent += lengths[place]
    return batches
