"""A tokenizer's vocabulary for the engine's grammars. Read when the first constrained request comes."""

from collections.abc import Callable, Sequence
from typing import overload

from cairn.data import Tokenizer
from cairn.engine import GrammarCompiler, GuidanceCompiler
from cairn.providers.detokenizer import bytes_of

_MARK = "\x02"


def grammars_of(
    tokenizer: Tokenizer, *, vocab_size: int, eos_token_ids: Sequence[int]
) -> GrammarCompiler | None:
    """Compiles grammars for a model of `vocab_size` rows; None for one without an end token."""
    if not eos_token_ids:
        return None
    return GuidanceCompiler(
        _Vocabulary(tokenizer, vocab_size),
        special_token_ids=sorted(tokenizer.special_tokens.values()),
        end_token_ids=eos_token_ids,
        encode=_encoder(tokenizer),
    )


class _Vocabulary(Sequence[bytes]):
    """Bytes of every row of the embedding, made when asked for."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer = tokenizer
        self._size = size

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        ids = range(self._size)[place]
        if isinstance(ids, range):
            return [bytes_of(self._tokenizer, token_id) for token_id in ids]
        return bytes_of(self._tokenizer, ids)


def _encoder(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Token ids of text in the middle of a reply, where no space is put before it."""

    def encode(text: str) -> list[int]:
        if tokenizer.is_concatenative:
            return tokenizer.encode(text)
        return tokenizer.encode(_MARK + text)[len(tokenizer.encode(_MARK)) :]

    return encode
