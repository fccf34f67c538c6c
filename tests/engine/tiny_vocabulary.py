"""Bytes for the ids of the tiny decoders: characters, words of JSON, halves of characters, an end, a gap."""

import functools

from cairn.engine import GuidanceCompiler
from tests.engine.tiny_decoders import VOCAB

END, CONTROL, GAP = VOCAB - 1, VOCAB - 2, VOCAB - 3
_TEXTS = (
    *"abcdefghijklmnopqrstuvwxyz",
    *'0123456789{}[]":,.-+_/\\ \n|()<>=;*?#EAZ',
    *('{"', '":', '",', '"}', '": ', "true", "false", "null", "10", "ab", "the ", "\\u", '"a"', "]}"),
)
_HALVES = ("é".encode()[:1], "é".encode()[1:], "🙂".encode()[:2], "🙂".encode()[2:], b"\xff")
_BYTES = [*(text.encode() for text in _TEXTS), *_HALVES]
VOCABULARY: list[bytes] = [*_BYTES, *(b"z" * (2 + i) for i in range(GAP - len(_BYTES))), b"", b"<c>", b"<e>"]
assert len(VOCABULARY) == VOCAB


def encode(text: str) -> list[int]:
    """The longest token first."""
    data, ids = text.encode(), []
    while data:
        found = max((t for t in VOCABULARY[:GAP] if data.startswith(t)), key=len)
        ids.append(VOCABULARY.index(found))
        data = data[len(found) :]
    return ids


def text_of(token_ids: list[int]) -> str:
    """What tokens say, the end left out. Raises for what is no UTF-8 and for control tokens."""
    assert CONTROL not in token_ids
    assert GAP not in token_ids
    return b"".join(VOCABULARY[i] for i in token_ids if i != END).decode()


@functools.cache
def tiny_compiler() -> GuidanceCompiler:
    return GuidanceCompiler(VOCABULARY, special_token_ids=[CONTROL, END], end_token_ids=[END], encode=encode)
