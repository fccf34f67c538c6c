"""Decontamination: keep what evaluation sets ask out of training data.

A text is contaminated where it shares 13 words in a row with an evaluation item (Brown et al. 2020,
appendix C), letter case and punctuation aside. Shorter items count as a whole from 8 words on. The
paragraphs that hold a shared run are cut out, or the whole document is dropped; which document hit which
set is reported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from cairn.core.config import Config
from cairn.data.duplicates import paragraphs_of
from cairn.data.hash_table import HashTable
from cairn.data.words import Words, find_words, ngram_hashes


class DecontaminateConfig(Config):
    """What counts as contamination and what follows from it."""

    ngram: int = Field(default=13, ge=2, description="words in a row that make a hit")
    min_ngram: int = Field(default=8, ge=2, description="shorter items count as a whole from this many words")
    action: Literal["cut", "drop"] = Field(
        default="cut", description="cut out the paragraphs with a hit, or drop the document"
    )


@dataclass(frozen=True, slots=True)
class Hit:
    """A run shared with an evaluation set: where in the document's UTF-8 bytes, and with which set."""

    dataset: str
    start: int
    end: int


class EvaluationIndex:
    """All 13-word runs of the evaluation sets, by hash."""

    def __init__(self, texts: Mapping[str, Iterable[str]], config: DecontaminateConfig | None = None) -> None:
        self.config = config or DecontaminateConfig()
        self._names: list[str] = []
        self._tables: dict[int, HashTable] = {}
        for name, items in texts.items():
            self._names.append(name)
            for item in items:
                self._add(item)

    def _add(self, text: str) -> None:
        hashes = find_words(text.encode()).hashes
        size = min(self.config.ngram, len(hashes))
        if size < min(self.config.min_ngram, self.config.ngram):
            return
        keys = ngram_hashes(hashes, size)
        table = self._tables.setdefault(size, HashTable())
        table.add(keys, np.full(len(keys), len(self._names) - 1, np.uint32))

    def hits(self, words: Words) -> list[Hit]:
        """Every shared run of a document, in order of length, then place."""
        found: list[Hit] = []
        for size, table in sorted(self._tables.items()):
            is_hit, values = table.find(ngram_hashes(words.hashes, size))
            for place in np.flatnonzero(is_hit):
                start, end = int(words.starts[place]), int(words.ends[place + size - 1])
                found.append(Hit(self._names[values[place]], start, end))
        return found


def cut_hits(text: str, hits: list[Hit]) -> str:
    """The text without the paragraphs that hold a hit."""
    data = text.encode()
    starts, _ = paragraphs_of(data)
    borders = np.append(starts, len(data))
    first = np.searchsorted(starts, [hit.start for hit in hits], side="right") - 1
    last = np.searchsorted(starts, [hit.end - 1 for hit in hits], side="right") - 1
    touched = {place for begin, end in zip(first, last, strict=True) for place in range(begin, end + 1)}
    kept = [data[borders[i] : borders[i + 1]] for i in range(len(starts)) if i not in touched]
    return b"".join(kept).decode().strip("\n")
