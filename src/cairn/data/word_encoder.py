"""Encoding long texts by remembering words: the same ids as the tokenizer, several times faster.

Natural text repeats its words, and a byte-level BPE encodes every piece of its splitting pattern by itself.
So each different piece is encoded once, and a text becomes a lookup and one numpy gather. Text that
Python's `re` might split otherwise is refused: characters its Unicode tables (which may be older than the
tokenizer's) do not know, and letters beyond the basic plane.
"""

import re
import unicodedata

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from cairn.data.split_pattern import SPLIT_PATTERN

_MAX_WORDS = 1 << 20
# Unicode's White_Space property, which is what \s means to the tokenizer; Python's \s is wider.
_WHITE_SPACE = {0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


class WordEncoder:
    """Encodes ordinary text for one tokenizer that splits by `SPLIT_PATTERN`. Not safe across threads."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        whole = tokenizers.Tokenizer.from_str(backend.to_str())
        whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        whole.encode_special_tokens = True
        self._whole = whole
        self._splitter = _Splitter()
        self._reset()

    def _reset(self) -> None:
        self._number: dict[str, int] = {}
        self._ids = np.zeros(0, np.uint32)
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int64)

    def encode(self, text: str) -> NDArray[np.uint32] | None:
        """[tokens] ids of a text, or None when it is refused."""
        words = self._splitter.split(text)
        if words is None:
            return None
        if len(self._number) > _MAX_WORDS:
            self._reset()
        try:
            numbers = np.fromiter(map(self._number.__getitem__, words), np.int64, len(words))
        except KeyError:
            self._learn(set(words) - self._number.keys())
            numbers = np.fromiter(map(self._number.__getitem__, words), np.int64, len(words))
        starts, lengths = self._starts[numbers], self._lengths[numbers]
        # Place of every token among its word's tokens, then of that token in the store.
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        places = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
        ids: NDArray[np.uint32] = self._ids[places]
        return ids

    def _learn(self, words: set[str]) -> None:
        """Encode words not seen before. Sorted, so that a run is repeatable."""
        new = sorted(words)
        encoded = [item.ids for item in self._whole.encode_batch_fast(new, add_special_tokens=False)]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        known = len(self._number)
        self._number.update(zip(new, range(known, known + len(new)), strict=True))
        starts = len(self._ids) + np.cumsum(lengths) - lengths
        flat = [token_id for ids in encoded for token_id in ids]
        self._ids = np.concatenate([self._ids, np.array(flat, np.uint32)])
        self._starts = np.concatenate([self._starts, starts])
        self._lengths = np.concatenate([self._lengths, lengths])


class _Splitter:
    """`SPLIT_PATTERN` for Python's `re`, which has no property classes: the characters met are spelled out.

    Classes of all letters there are would make matching six times slower than classes of those in use.
    """

    def __init__(self) -> None:
        self._known = {chr(code) for code in range(128)}
        self._refused: set[str] = set()
        self._classes = {"L": "A-Za-z", "N": "0-9", "W": "\t-\r "}
        self._pattern = self._compile()

    def split(self, text: str) -> list[str] | None:
        """The pieces of a text, or None when it is refused."""
        if not text.isascii():
            met = set(text)
            if new := met - self._known:
                self._meet(new)
            if self._refused and not self._refused.isdisjoint(met):
                return None
        pieces: list[str] = self._pattern.findall(text)
        return pieces

    def _meet(self, new: set[str]) -> None:
        for character in sorted(new):
            category = unicodedata.category(character)
            kind = "W" if ord(character) in _WHITE_SPACE else category[0]
            if category == "Cn" or (kind in "LN" and ord(character) > 0xFFFF):
                self._refused.add(character)
            elif kind in self._classes:
                self._classes[kind] += character
        self._known |= new
        self._pattern = self._compile()

    def _compile(self) -> re.Pattern[str]:
        source = SPLIT_PATTERN.replace(r"\S", "[^{W}]")
        # Inside brackets the characters alone, elsewhere with brackets of their own.
        source = re.sub(r"\[\^[^]]*\]", lambda match: _inside(match[0]), source)
        source = source.replace(r"\p{L}", "[{L}]").replace(r"\p{N}", "[{N}]").replace(r"\s", "[{W}]")
        for kind, characters in self._classes.items():
            source = source.replace(f"{{{kind}}}", characters)
        return re.compile(source)


def _inside(brackets: str) -> str:
    return brackets.replace(r"\p{L}", "{L}").replace(r"\p{N}", "{N}").replace(r"\s", "{W}")
