"""A question and a passage as a reader takes them, in windows, and the way back from tokens to characters.

`[CLS] question [SEP] window [SEP]`: a passage longer than a window is read in windows that overlap. The same
in training, calibration and answering.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tokenizers

from cairn.core.errors import UnsupportedModelError
from cairn.data.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text in tokens, and the characters each stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last token that hold characters of `start` to `end`."""
        inside = [place for place, (begin, stop) in enumerate(self.offsets) if begin < end and stop > start]
        return (inside[0], inside[-1]) if inside else None


@dataclass(frozen=True, slots=True)
class Window:
    """A question with a part of a passage."""

    token_ids: list[int]
    types: list[int]
    context: int
    """Place of the part's first token; its last one is before the final `[SEP]`."""
    first: int
    """Place of that token among the passage's."""


class SpanEncoder:
    """The tokenizer of an encoder with `[CLS]` and `[SEP]`; text from outside never becomes one of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        begin, end = tokenizer.token_id("[CLS]"), tokenizer.token_id("[SEP]")
        if begin is None or end is None:
            raise UnsupportedModelError(
                "heads need an encoder whose tokenizer knows [CLS] and [SEP]", remedy="choose one of BERT's"
            )
        self._begin, self._end = begin, end
        self._backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
        self._backend.encode_special_tokens = True
        self._backend.no_padding()
        self._backend.no_truncation()

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary."""
        return self._backend.get_vocab_size()

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Texts in tokens, without special ones."""
        found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [Pieces(each.ids, each.offsets) for each in found]

    def single(self, pieces: Pieces, longest: int) -> list[int]:
        """One text alone, cut to `longest` tokens, special ones included."""
        return [self._begin, *pieces.ids[: longest - 2], self._end]

    def window(self, question: Pieces, passage: Pieces, first: int, size: int) -> Window:
        """A question with `size` tokens of a passage."""
        asked, read = [self._begin, *question.ids, self._end], passage.ids[first : first + size]
        types = [0] * len(asked) + [1] * (len(read) + 1)
        return Window([*asked, *read, self._end], types, len(asked), first)

    def windows(self, question: Pieces, passage: Pieces, *, longest: int, overlap: int) -> list[Window]:
        """All of a passage, in windows of at most `longest` tokens, question and special ones included."""
        asked = Pieces(question.ids[: longest // 3], question.offsets)
        size = longest - len(asked.ids) - 3
        last = max(0, len(passage.ids) - size)
        firsts = [*range(0, last, size - overlap), last] if last else [0]
        return [self.window(asked, passage, first, size) for first in firsts]
