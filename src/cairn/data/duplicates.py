"""Duplicates: exact ones by hash, near ones by MinHash (Broder 1997) and locality-sensitive hashing.

The first of a group stays. Both see documents one after the other and keep some 25 bytes for each hash, so a
corpus far larger than memory streams through: 25 bytes a document or paragraph for exact duplicates, 350 for
near ones at 14 bands. A near duplicate is a document that agrees in one whole band with an earlier one; with
8 rows to a band, documents sharing three quarters of their 5-word runs are found three times out of four.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cairn.core.config import Config
from cairn.core.errors import MissingExtraError
from cairn.data.hash_table import HashTable
from cairn.data.words import Hashes, Words, find_words, mix, ngram_hashes

_SEED = 42
_BREAK = re.compile(rb"\n\n+")


class ExactConfig(Config):
    """Exact duplicates."""

    documents: bool = Field(
        default=True, description="drop documents whose words occurred before in this order"
    )
    paragraphs: bool = Field(default=True, description="remove paragraphs that occurred before")
    min_paragraph_bytes: int = Field(default=200, ge=1, description="shorter paragraphs may repeat")


class NearConfig(Config):
    """Near duplicates."""

    ngram: int = Field(default=5, ge=1, description="words to a shingle")
    bands: int = Field(default=14, ge=1, description="bands; one equal band makes a duplicate")
    rows: int = Field(default=8, ge=1, description="MinHashes to a band; more rows, stricter")


class ExactDuplicates:
    """Remembers documents and paragraphs by hash."""

    def __init__(self, config: ExactConfig) -> None:
        self._config = config
        self._documents = HashTable()
        self._paragraphs = HashTable()

    def is_repeated(self, words: Words) -> bool:
        """Whether a document of the same words came before; remembers it if not."""
        start, end = np.zeros(1, np.int64), words.ends[-1:] if len(words.ends) else np.zeros(1, np.int64)
        return bool(_seen(self._documents, _hashes_of_stretches(words, start, end))[0])

    def without_repeated_paragraphs(self, text: str, words: Words | None = None) -> str:
        """The text without paragraphs that came before, in this document or an earlier one."""
        data = text.encode()
        starts, ends = paragraphs_of(data)
        is_long = ends - starts >= self._config.min_paragraph_bytes
        if not is_long.any():
            return text
        hashes = _hashes_of_stretches(words or find_words(data), starts[is_long], ends[is_long])
        repeated = np.zeros(len(starts), np.bool_)
        repeated[is_long] = _seen(self._paragraphs, hashes)
        if not repeated.any():
            return text
        borders = np.append(starts, len(data))
        kept = [data[borders[i] : borders[i + 1]] for i in np.flatnonzero(~repeated)]
        return b"".join(kept).decode().rstrip("\n")


class NearDuplicates:
    """Remembers the bands of every document that stayed."""

    def __init__(self, config: NearConfig) -> None:
        self._config = config
        self._bands = HashTable()

    def is_repeated(self, signature: Hashes) -> bool:
        """Whether a document like it came before; remembers it if not. Too short a text is never one."""
        if not len(signature):
            return False
        if self._bands.find(signature)[0].any():
            return True
        self._bands.add(signature, np.zeros(len(signature), np.uint32))
        return False


def signature_of(words: Words, config: NearConfig) -> Hashes:
    """[bands] hashes of the MinHash bands of a document; empty when it has too few words."""
    shingles = ngram_hashes(words.hashes, config.ngram)
    if not len(shingles):
        return shingles
    matrix = _rensa().RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, np.array([0, len(shingles)], np.uint64), config.bands * config.rows, _SEED
    )
    digest = np.array(matrix.to_rows()[0], np.uint64).reshape(config.bands, config.rows)
    band = np.arange(1, config.bands + 1, dtype=np.uint64)
    for row in digest.T:
        band = mix(band * np.uint64(0x9E3779B97F4A7C15) + row)
    return band


def paragraphs_of(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the paragraphs of a text begin and end, in bytes; blank lines lie between."""
    breaks = [match.span() for match in _BREAK.finditer(data)]
    starts = np.array([0, *(end for _, end in breaks)], np.int64)
    ends = np.array([*(start for start, _ in breaks), len(data)], np.int64)
    return starts, ends


def _hashes_of_stretches(words: Words, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """One hash for the words of each stretch of bytes, in their order."""
    first = np.searchsorted(words.starts, starts)
    counts = np.searchsorted(words.starts, ends) - first
    ends_of_sums = np.cumsum(counts)
    place = np.arange(int(counts.sum())) - np.repeat(ends_of_sums - counts, counts)
    mixed = mix(words.hashes[np.repeat(first, counts) + place] ^ mix(place.astype(np.uint64) + np.uint64(1)))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    return mix((total[ends_of_sums] - total[ends_of_sums - counts]) ^ counts.astype(np.uint64))


def _seen(table: HashTable, keys: Hashes) -> NDArray[np.bool_]:
    """[n] whether each key came before, in the table or earlier among the keys; adds them."""
    _, first = np.unique(keys, return_index=True)
    repeated = np.ones(len(keys), np.bool_)
    repeated[first] = False
    repeated |= table.find(keys)[0]
    table.add(keys, np.zeros(len(keys), np.uint32))
    return repeated


def _rensa() -> Any:
    try:
        import rensa  # noqa: PLC0415 (optional package)
    except ImportError:
        raise MissingExtraError("near-duplicate removal", "train") from None
    return rensa
