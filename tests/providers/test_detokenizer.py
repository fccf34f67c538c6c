"""Text comes out whole, wherever tokens cut it."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from cairn.data import Tokenizer
from cairn.providers.detokenizer import Detokenizer, bytes_of
from tests.providers.scripted import tiny_tokenizer


def byte_fallback_tokenizer() -> Tokenizer:
    """Like Llama's: words with U+2581 for the space, single bytes for the rest."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocab |= {"▁": 256, "a": 257, "▁a": 258, "é": 259, "<s>": 260}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab, [("▁", "a")], byte_fallback=True, fuse_unk=True, unk_token=None)
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(["<s>"])
    return Tokenizer(backend, {"bos_token": "<s>"})


TOKENIZERS = [tiny_tokenizer(), byte_fallback_tokenizer()]
anything = st.text() | st.text(alphabet="🙂👩‍👩‍👧é漢 a\n")


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(text=anything)
def test_pieces_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    detokenizer = Detokenizer(tokenizer)
    # One byte a token: the hardest cut there is.
    ids = [token for byte in text.encode() for token in [_byte_token(tokenizer, byte)]]
    pieces = [detokenizer.push(token_id) for token_id in ids]
    assert "".join(pieces) + detokenizer.finish() == text
    assert all("�" not in piece for piece in pieces) or "�" in text


@given(text=anything)
def test_pieces_of_real_tokens_join_to_the_text(text: str) -> None:
    tokenizer = tiny_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token_id) for token_id in tokenizer.encode(text)]
    assert "".join(pieces) + detokenizer.finish() == text


@given(ids=st.lists(st.integers(0, 299)))
def test_any_tokens_give_what_decoding_at_once_gives(ids: list[int]) -> None:
    tokenizer = tiny_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token_id) for token_id in ids]
    special = set(tokenizer.special_tokens.values())
    whole = b"".join(bytes_of(tokenizer, i) for i in ids if i not in special)
    assert "".join(pieces) + detokenizer.finish() == whole.decode(errors="replace")


def test_half_a_character_waits() -> None:
    tokenizer = tiny_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    first, *rest = [_byte_token(tokenizer, byte) for byte in "🙂".encode()]
    assert [detokenizer.push(token_id) for token_id in (first, *rest)] == ["", "", "", "🙂"]
    assert detokenizer.push(first) == ""
    assert detokenizer.finish() == "�"


def test_control_tokens_are_silent_unless_visible() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.special_tokens["<|im_end|>"]
    assert Detokenizer(tokenizer).push(end) == ""
    assert Detokenizer(tokenizer, visible={"<|im_end|>"}).push(end) == "<|im_end|>"


def _byte_token(tokenizer: Tokenizer, byte: int) -> int:
    return next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == bytes([byte]))
