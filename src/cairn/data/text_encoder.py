"""Whole texts, or pairs of texts, as an encoder wants them: with its special tokens, and not too long.

Text from outside never becomes a control token: `[SEP]` within a text is read letter by letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import tokenizers

from cairn.core.errors import ContextLengthError, UnsupportedModelError
from cairn.data.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Token ids, and which of two segments each belongs to."""

    token_ids: list[int]
    types: list[int]


class TextEncoder:
    """A tokenizer with its post-processor (`[CLS] … [SEP]`) and a limit of `max_tokens`."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._json = tokenizer.to_json()
        self._backend = self._open()
        if self._backend.num_special_tokens_to_add(True) >= max_tokens:
            raise UnsupportedModelError(
                f"the model reads {max_tokens} tokens, its special tokens take as many"
            )
        # Of a pair the longer text is cut first.
        self._backend.enable_truncation(max_tokens, strategy="longest_first")

    def encode(
        self, texts: Sequence[str | tuple[str, str]], *, truncate: bool, param: str = "input"
    ) -> list[EncodedText]:
        """Texts and pairs in order; `ContextLengthError` for one that is too long, unless it may be cut."""
        found = self._backend.encode_batch(list(texts))
        for place, encoding in enumerate(found):
            if encoding.overflowing and not truncate:
                raise self._too_long(place, texts[place], param)
        return [EncodedText(encoding.ids, encoding.type_ids) for encoding in found]

    def count(self, texts: Sequence[str | tuple[str, str]]) -> list[int]:
        """Tokens of each text or pair, special ones included, however long it is."""
        return [len(encoding.ids) for encoding in self._counter.encode_batch_fast(list(texts))]

    @cached_property
    def _counter(self) -> tokenizers.Tokenizer:
        return self._open()

    def _open(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self._json)
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
        return backend

    def _too_long(self, place: int, text: str | tuple[str, str], param: str) -> ContextLengthError:
        return too_long(place, self.count([text])[0], self._max_tokens, param)


def too_long(place: int, num_tokens: int, max_tokens: int, param: str) -> ContextLengthError:
    """The error for a text that an encoder cannot read in one piece."""
    return ContextLengthError(
        f"text {place} has {num_tokens} tokens, the model reads {max_tokens}",
        remedy="cut it into shorter texts",
        param=param,
    )
