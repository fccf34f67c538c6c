"""Repetition and diversity of generated text: does it loop, and does it say different things.

distinct-n (Li et al. 2016) over all texts; `repetition`, the share of 4-grams in a text that
occurred in it before (Welleck et al. 2020 call it seq-rep-4). Words are split at spaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diversity:
    """Shares between 0 and 1."""

    distinct_1: float
    distinct_2: float
    repetition: float
    """Mean over texts of the share of repeated 4-grams; 0 is none."""


def diversity(texts: Sequence[str]) -> Diversity:
    """Measures over a set of texts; empty input counts as diverse."""
    words = [text.split() for text in texts]
    repeated = [repetition(text) for text in texts]
    return Diversity(
        distinct_1=_distinct(words, 1),
        distinct_2=_distinct(words, 2),
        repetition=sum(repeated) / len(repeated) if repeated else 0.0,
    )


def repetition(text: str, n: int = 4) -> float:
    """Share of a text's word n-grams that are repeats."""
    grams = _grams(text.split(), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    grams = [gram for words in texts for gram in _grams(words, n)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
