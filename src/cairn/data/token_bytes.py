"""The raw bytes behind every token, for byte-level and sentencepiece-like vocabularies.

Byte-level BPE writes each byte as one printable character (Radford et al. 2019, GPT-2);
sentencepiece writes a space as U+2581 and a byte it has no piece for as `<0xE2>`.
"""

import json
import re
from typing import Any

import tokenizers

from cairn.core.errors import UnsupportedModelError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_characters() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 characters are themselves, the others move to U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(moved)}


BYTE_OF_CHARACTER = _byte_characters()


def token_byte_table(backend: tokenizers.Tokenizer, vocab_size: int) -> list[bytes]:
    """Bytes of every id below `vocab_size`; ids without a token stand for no bytes."""
    kinds = _component_types(json.loads(backend.to_str()))
    if "ByteLevel" not in kinds and not kinds & {"ByteFallback", "Metaspace"}:
        raise UnsupportedModelError(
            "this tokenizer is neither byte-level nor sentencepiece-like, so its tokens have no known bytes",
            remedy="use a byte-level BPE tokenizer, or one with byte fallback",
        )
    is_byte_level = "ByteLevel" in kinds
    added = {token_id: token.content for token_id, token in backend.get_added_tokens_decoder().items()}
    table = [b""] * vocab_size
    for token, token_id in backend.get_vocab(with_added_tokens=True).items():
        if is_byte_level:
            table[token_id] = token.encode() if token_id in added else _byte_level(token)
        else:
            table[token_id] = _sentencepiece(token)
    return table


def _byte_level(token: str) -> bytes:
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    except KeyError:
        return token.encode()


def _sentencepiece(token: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token.replace("▁", " ").encode()


def _component_types(spec: dict[str, Any]) -> set[str]:
    """The `type` of every decoder and pre-tokenizer, nested sequences included."""
    kinds: set[str] = set()
    queue = [spec.get("decoder"), spec.get("pre_tokenizer")]
    while queue:
        part = queue.pop()
        if isinstance(part, dict):
            kinds.add(str(part.get("type")))
            queue += [*part.get("decoders", []), *part.get("pretokenizers", [])]
    return kinds
