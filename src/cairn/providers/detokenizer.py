"""Token ids to text, as they come, and never half a character.

A token stands for bytes, not characters: an emoji may be spread over four tokens. Bytes wait here
until they complete a character; what is not UTF-8 becomes U+FFFD, at the latest when the text ends.
So the pieces joined equal the whole decoded at once, wherever the cuts fall.
"""

import codecs
from collections.abc import Set
from typing import Protocol


class TokenBytes(Protocol):
    """What is needed of a tokenizer."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """Control tokens by their text."""
        ...

    @property
    def vocab_size(self) -> int:
        """Ids from here on stand for nothing."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for."""
        ...


def bytes_of(tokenizer: TokenBytes, token_id: int) -> bytes:
    """The bytes of a token; none for the rows that pad an embedding beyond the vocabulary."""
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.vocab_size else b""


class Detokenizer:
    """The text of one growing sequence. Control tokens are silent, except those in `visible`."""

    def __init__(self, tokenizer: TokenBytes, *, visible: Set[str] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._silent = {
            token_id for text, token_id in tokenizer.special_tokens.items() if text not in visible
        }
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; may be none."""
        if token_id in self._silent:
            return ""
        return self._decoder.decode(bytes_of(self._tokenizer, token_id))

    def finish(self) -> str:
        """What an incomplete character at the end is shown as; may be nothing."""
        return self._decoder.decode(b"", final=True)
