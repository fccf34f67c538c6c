"""Quality rules in the manner of Gopher (Rae et al. 2021) and C4 (Raffel et al. 2020).

Each rule has a name, a measure and a bound; a document is dropped by the first rule it breaks, and the
report counts drops by name. The measures suit prose: switch rules off for code, tables and verse.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cairn.core.config import Config
from cairn.data.words import Hashes, Words, find_words, ngram_hashes

STOP_WORDS = b"the be to of and that have with"
_BULLETS = ("-", "*", "•", "‣", "–")


class QualityConfig(Config):
    """Bounds of the rules. None switches a rule off."""

    min_words: int | None = Field(default=50, description="fewest words")
    max_words: int | None = Field(default=None, description="most words (Gopher: 100,000; books are longer)")
    min_mean_word_length: float | None = Field(default=3.0, description="least mean word length, in bytes")
    max_mean_word_length: float | None = Field(default=10.0, description="most mean word length, in bytes")
    max_symbol_ratio: float | None = Field(default=0.1, description="most `#` and ellipses per word")
    max_bullet_lines: float | None = Field(default=0.9, description="largest share of lines that are bullets")
    max_ellipsis_lines: float | None = Field(
        default=0.3, description="largest share of lines ending in an ellipsis"
    )
    min_alphabetic_words: float | None = Field(default=0.8, description="least share of words with a letter")
    min_stop_words: int | None = Field(
        default=2, description="fewest different stop words of eight (English)"
    )
    max_duplicate_lines: float | None = Field(default=0.3, description="largest share of repeated lines")
    max_duplicate_line_bytes: float | None = Field(default=0.2, description="largest share of bytes in them")
    max_duplicate_paragraphs: float | None = Field(
        default=0.3, description="largest share of repeated paragraphs"
    )
    max_top_ngrams: tuple[float, ...] | None = Field(
        default=(0.2, 0.18, 0.16), description="largest share of words in the commonest 2-, 3- and 4-gram"
    )
    max_duplicate_ngrams: tuple[float, ...] | None = Field(
        default=(0.15, 0.14, 0.13, 0.12, 0.11, 0.1),
        description="largest share of words in repeated 5- to 10-grams",
    )
    forbidden: tuple[str, ...] = Field(
        default=("lorem ipsum", "javascript must be enabled", "please enable javascript"),
        description="phrases (lower case) whose presence drops a document",
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the rules look at."""

    text: str
    words: Words
    lines: list[str]
    config: QualityConfig


def broken_rule(text: str, config: QualityConfig, words: Words | None = None) -> str:
    """The name of the first rule a text breaks, or an empty string."""
    words = words if words is not None else find_words(text.encode())
    lines = [line for line in text.split("\n") if line.strip()]
    measured = _Measured(text, words, lines, config)
    if not len(words.hashes):
        return "min_words" if config.min_words else ""
    return next((name for name, breaks in RULES.items() if breaks(measured)), "")


def _share(count: float, total: float) -> float:
    return count / total if total else 0.0


def _holds_any(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in phrases)


def _mean_word_length(m: _Measured) -> float:
    return float((m.words.ends - m.words.starts).mean())


def _symbol_ratio(m: _Measured) -> float:
    symbols = m.text.count("#") + m.text.count("...") + m.text.count("…")
    return symbols / len(m.words.hashes)


def _ellipsis_lines(m: _Measured) -> float:
    return _share(sum(line.rstrip().endswith(("...", "…")) for line in m.lines), len(m.lines))


def _bullet_lines(m: _Measured) -> float:
    return _share(sum(line.lstrip().startswith(_BULLETS) for line in m.lines), len(m.lines))


_DIGITS_ONLY = re.compile(rb"(?<![0-9A-Za-z\x80-\xff])[0-9]+(?![0-9A-Za-z\x80-\xff])")


def _alphabetic_words(m: _Measured) -> float:
    return 1 - _share(len(_DIGITS_ONLY.findall(m.text.encode())), len(m.words.hashes))


_STOP_HASHES = find_words(STOP_WORDS).hashes


def _stop_words(m: _Measured) -> int:
    return sum(bool((m.words.hashes == stop).any()) for stop in _STOP_HASHES)


def _duplicates(parts: list[str]) -> tuple[float, float]:
    """Share of parts that repeat an earlier one, and of their characters."""
    seen: set[str] = set()
    repeated = [part for part in parts if part in seen or seen.add(part)]  # type: ignore[func-returns-value]
    return _share(len(repeated), len(parts)), _share(sum(map(len, repeated)), sum(map(len, parts)))


def _duplicate_paragraphs(m: _Measured) -> float:
    return _duplicates([part for part in m.text.split("\n\n") if part.strip()])[0]


def _top_ngram(hashes: Hashes, size: int) -> float:
    """Share of the words that lie in the commonest run of `size` words."""
    _, counts = np.unique(ngram_hashes(hashes, size), return_counts=True)
    most = int(counts.max()) if len(counts) else 0
    return _share(most * size, len(hashes)) if most > 1 else 0.0


def _duplicate_ngrams(hashes: Hashes, size: int) -> float:
    """Share of the words inside a run of `size` words that occurred before."""
    grams = ngram_hashes(hashes, size)
    if not len(grams):
        return 0.0
    _, first = np.unique(grams, return_index=True)
    is_repeat = np.ones(len(grams), np.bool_)
    is_repeat[first] = False
    return _share(int(_covered(is_repeat, size, len(hashes)).sum()), len(hashes))


def _covered(starts: NDArray[np.bool_], size: int, length: int) -> NDArray[np.bool_]:
    """[length] whether a place lies in a run of `size` that begins at one of `starts`."""
    change = np.zeros(length + 1, np.int32)
    change[: len(starts)] += starts
    change[size : size + len(starts)] -= starts[: length + 1 - size]
    covered: NDArray[np.bool_] = np.cumsum(change[:-1]) > 0
    return covered


_BUCKETS = 1 << 18


def _has_top_ngram(m: _Measured) -> bool:
    bounds = m.config.max_top_ngrams
    if not bounds:
        return False
    hashes = m.words.hashes
    # A longer run occurs no oftener than a shorter one, and no pair oftener than its bucket is filled: that
    # settles most texts without sorting.
    pairs = (ngram_hashes(hashes, 2) & np.uint64(_BUCKETS - 1)).astype(np.int64)
    most = int(np.bincount(pairs).max()) if len(pairs) else 0
    if most * (len(bounds) + 1) <= min(bounds) * len(hashes):
        return False
    return any(_top_ngram(hashes, size) > bound for size, bound in enumerate(bounds, start=2))


def _has_duplicate_ngrams(m: _Measured) -> bool:
    bounds = m.config.max_duplicate_ngrams
    if not bounds:
        return False
    hashes = m.words.hashes
    # Words inside a repeated long run are inside repeated short ones too, and each covers five at most.
    grams = np.sort(ngram_hashes(hashes, 5))
    num_repeats = int((grams[1:] == grams[:-1]).sum())
    if 5 * num_repeats <= min(bounds) * len(hashes):
        return False
    return any(_duplicate_ngrams(hashes, size) > bound for size, bound in enumerate(bounds, start=5))


def _above(value: float, bound: float | None) -> bool:
    return bound is not None and value > bound


def _below(value: float, bound: float | None) -> bool:
    return bound is not None and value < bound


Rule = Callable[[_Measured], bool]
# Cheap rules first: the later ones are not looked at when an earlier one is broken.
RULES: dict[str, Rule] = {
    "min_words": lambda m: _below(len(m.words.hashes), m.config.min_words),
    "max_words": lambda m: _above(len(m.words.hashes), m.config.max_words),
    "min_mean_word_length": lambda m: _below(_mean_word_length(m), m.config.min_mean_word_length),
    "max_mean_word_length": lambda m: _above(_mean_word_length(m), m.config.max_mean_word_length),
    "forbidden": lambda m: _holds_any(m.text.lower(), m.config.forbidden),
    "max_symbol_ratio": lambda m: _above(_symbol_ratio(m), m.config.max_symbol_ratio),
    "max_bullet_lines": lambda m: _above(_bullet_lines(m), m.config.max_bullet_lines),
    "max_ellipsis_lines": lambda m: _above(_ellipsis_lines(m), m.config.max_ellipsis_lines),
    "min_alphabetic_words": lambda m: _below(_alphabetic_words(m), m.config.min_alphabetic_words),
    "min_stop_words": lambda m: _below(_stop_words(m), m.config.min_stop_words),
    "max_duplicate_lines": lambda m: _above(_duplicates(m.lines)[0], m.config.max_duplicate_lines),
    "max_duplicate_line_bytes": lambda m: _above(_duplicates(m.lines)[1], m.config.max_duplicate_line_bytes),
    "max_duplicate_paragraphs": lambda m: _above(_duplicate_paragraphs(m), m.config.max_duplicate_paragraphs),
    "max_top_ngrams": _has_top_ngram,
    "max_duplicate_ngrams": _has_duplicate_ngrams,
}
