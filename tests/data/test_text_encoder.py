"""Texts as an encoder reads them, against transformers' BERT tokenizer."""

from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import ContextLengthError, UnsupportedModelError
from cairn.data import Tokenizer
from cairn.data.text_encoder import TextEncoder
from tests.data.tiny_wordpiece import save_wordpiece


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wordpiece")
    save_wordpiece(folder)
    return folder


WORDS = st.lists(
    st.sampled_from(["the", "Cat", "sat", "on", "zebra", "Äpfel", "42", "...", "東京"]), max_size=40
)
TEXT = WORDS.map(" ".join)


@settings(max_examples=60, deadline=None)
@given(items=st.lists(TEXT | st.tuples(TEXT, TEXT), min_size=1, max_size=4), most=st.integers(5, 30))
def test_ids_and_segments_are_those_of_transformers(
    folder: Path, items: list[str | tuple[str, str]], most: int
) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = TextEncoder(Tokenizer.load(folder), most).encode(items, truncate=True)
    for item, encoded in zip(items, ours, strict=True):
        parts = (item,) if isinstance(item, str) else item
        # As lists: alone, an empty second text counts as none.
        expected = theirs(*([part] for part in parts), truncation="longest_first", max_length=most)
        assert encoded.token_ids == expected["input_ids"][0]
        assert encoded.types == expected["token_type_ids"][0]


def test_a_text_that_is_too_long_is_refused_with_its_length(folder: Path) -> None:
    encoder = TextEncoder(Tokenizer.load(folder), 8)
    with pytest.raises(ContextLengthError, match="text 1 has 12 tokens, the model reads 8"):
        encoder.encode(["the cat", "the cat " * 5], truncate=False)
    with pytest.raises(ContextLengthError, match="text 0 has 9 tokens"):
        encoder.encode([("the cat sat", "the cat sat")], truncate=False)
    assert len(encoder.encode(["the cat " * 5], truncate=True)[0].token_ids) == 8
    assert len(encoder.encode(["the cat sat on the mat"], truncate=False)[0].token_ids) == 8


def test_text_never_becomes_a_control_token(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    encoded = TextEncoder(tokenizer, 40).encode(["a [SEP] b [CLS]"], truncate=False)[0]
    marks = [tokenizer.special_tokens[name] for name in ("[CLS]", "[SEP]")]
    assert [encoded.token_ids.count(mark) for mark in marks] == [1, 1]


def test_a_limit_below_the_special_tokens_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError):
        TextEncoder(Tokenizer.load(folder), 3)
