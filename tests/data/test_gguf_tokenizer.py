"""Tokenizers to the key-values of GGUF and back, byte-level and SentencePiece-like."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from cairn.core.errors import CairnError, IntegrityError, UnsupportedModelError
from cairn.data import Tokenizer
from cairn.data.gguf_patterns import PATTERNS, apply_pattern, pattern_name
from cairn.data.gguf_tokenizer import end_token_ids, tokenizer_from_gguf
from cairn.data.gguf_tokenizer_keys import gguf_tokenizer_keys

CORPUS = [
    "the cat sat on the mat and ate 12 fish, isn't it? I'll say WE'VE 1234567\n\n  def f(x):\n\treturn x  \n"
    * 20,
    "a stone on a stone makes a cairn; naïve café “quotes” ’tis don’t " * 20,
]
TEXTS = [
    "Hello the cat, isn't it 12345 stone?",
    "  two  spaces\n\n\nnewlines \t tab",
    "naïve café – “quoted” don’t 日本 🙂",
    "WE'VE x<|im_end|>y stone's",
    "",
]
WHOLE = "tokenizer.huggingface.json"


def as_read(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The key-values as the reader of files hands them out: numbers in arrays."""
    is_numbers = {
        name: isinstance(v, list) and not isinstance((v or [""])[0], str) for name, v in keys.items()
    }
    return {name: np.array(value) if is_numbers[name] else value for name, value in keys.items()}


def rebuilt(tokenizer: Tokenizer, **changes: Any) -> Tokenizer:
    """Through GGUF's own lists, without the whole tokenizer.json."""
    keys = gguf_tokenizer_keys(tokenizer, tokenizer.vocab_size) | {WHOLE: ""}
    return tokenizer_from_gguf(as_read(keys | changes))


def byte_level(name: str) -> Tokenizer:
    pattern = PATTERNS[name]
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=pattern.ignore_merges))
    apply_pattern(backend, pattern)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True, normalized=False)])
    return Tokenizer(backend, {"eos_token": "<|im_end|>"})


def pieces(*, prefix: bool) -> Tokenizer:
    """A BPE over pieces with U+2581 for spaces and byte fallback, as Llama 2 (with prefix) and Gemma have."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    prepend = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, show_progress=False, special_tokens=special)
    )
    spec = json.loads(backend.to_str()) | {"pre_tokenizer": None}
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    backend = tokenizers.Tokenizer.from_str(json.dumps(spec))
    strip = [decoders.Strip(content=" ", left=1)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True, normalized=False)])
    backend.post_processor = processors.TemplateProcessing(
        single=["<s>", "$A"], special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


MADE = {
    "trained here": Tokenizer.train(CORPUS, vocab_size=400),
    **{name: byte_level(name) for name in ("gpt-2", "smollm", "qwen2", "llama-bpe", "tekken", "gpt-4o")},
    "pieces": pieces(prefix=True),
    "pieces without a prefix": pieces(prefix=False),
}


@pytest.mark.parametrize("label", MADE)
def test_the_lists_alone_make_the_same_tokenizer(label: str) -> None:
    made = MADE[label]
    again = rebuilt(made)
    for text in TEXTS:
        for allow_special in (False, True):
            ids = made.encode(text, allow_special=allow_special, add_bos=True)
            assert again.encode(text, allow_special=allow_special, add_bos=True) == ids, text
            assert again.decode(ids) == made.decode(ids)
    assert again.special_tokens == made.special_tokens
    assert (again.bos_token, again.eos_token) == (made.bos_token, made.eos_token)
    assert [again.token_bytes(i) for i in range(300)] == [made.token_bytes(i) for i in range(300)]


@pytest.mark.parametrize("label", MADE)
def test_a_whole_tokenizer_json_is_taken_as_it_is(label: str) -> None:
    made = MADE[label]
    keys = as_read(gguf_tokenizer_keys(made, made.vocab_size + 5))
    assert json.loads(tokenizer_from_gguf(keys).to_json()) == json.loads(made.to_json())


@pytest.mark.parametrize("name", [name for name in MADE if name in PATTERNS])
def test_patterns_are_told_by_what_they_do(name: str) -> None:
    assert pattern_name(json.loads(MADE[name].to_json())) == name


def sentencepiece(text: str, scores: Mapping[str, float]) -> list[str]:
    """The rule itself, as llama.cpp has it: the best-scored pair that is a piece merges, leftmost first."""
    parts = list("▁" + text.replace(" ", "▁"))
    while True:
        pairs = [(scores[a + b], -at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in scores]
        if not pairs:
            return parts
        at = -max(pairs)[1]
        parts[at : at + 2] = ["".join(parts[at : at + 2])]


@given(text=st.text("theca sonm ri", min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_pieces_merge_by_score(text: str) -> None:
    made = MADE["pieces"]
    keys = gguf_tokenizer_keys(made, made.vocab_size)
    scored = zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.scores"], strict=True)
    expected = sentencepiece(text, {token: score for token, score in scored if score > -1e9})
    assert [made.token_bytes(i).decode() for i in REBUILT_PIECES.encode(text)] == [
        part.replace("▁", " ") for part in expected
    ]


REBUILT_PIECES = rebuilt(MADE["pieces"])


def test_ends_are_all_that_end() -> None:
    made = MADE["trained here"]
    keys = as_read(gguf_tokenizer_keys(made, made.vocab_size))
    ends = [made.token_id("<|endoftext|>"), made.token_id("<|im_end|>")]
    assert end_token_ids(keys) == ends
    assert keys["tokenizer.ggml.eot_token_id"] == ends[1]
    # Files without the key: known by its text.
    del keys["tokenizer.ggml.eot_token_id"]
    assert end_token_ids(keys) == ends


def test_chat_template_and_rows_without_a_token() -> None:
    made = MADE["trained here"]
    keys = as_read(gguf_tokenizer_keys(made, made.vocab_size + 3) | {WHOLE: ""})
    assert keys["tokenizer.ggml.tokens"][-1] == f"[PAD{made.vocab_size + 2}]"
    again = tokenizer_from_gguf(keys)
    assert again.vocab_size == made.vocab_size
    assert again.chat_template is not None
    assert made.chat_template is not None
    assert again.chat_template.source == made.chat_template.source


REFUSED: dict[str, tuple[type[CairnError], dict[str, Any], str]] = {
    "kind": (UnsupportedModelError, {"tokenizer.ggml.model": "t5"}, "'t5', allowed: gpt2, llama"),
    "no kind": (UnsupportedModelError, {"tokenizer.ggml.model": None}, "allowed: gpt2, llama"),
    "pattern": (UnsupportedModelError, {"tokenizer.ggml.pre": "stone"}, "'stone', allowed"),
    "no tokens": (UnsupportedModelError, {"tokenizer.ggml.tokens": []}, "no tokens"),
    "tokens twice": (IntegrityError, {"tokenizer.ggml.tokens": ["a"] * 400}, "comes twice"),
    "types": (IntegrityError, {"tokenizer.ggml.token_type": np.ones(3)}, "has 3 values"),
    "merges": (IntegrityError, {"tokenizer.ggml.merges": None}, "no tokenizer.ggml.merges"),
    "a merge of nothing": (IntegrityError, {"tokenizer.ggml.merges": ["zz zzzz"]}, "cannot be built"),
    "an end token": (IntegrityError, {"tokenizer.ggml.eos_token_id": 1 << 20}, "allowed: 0 to"),
    "another tokenizer.json": (
        IntegrityError,
        {WHOLE: MADE["gpt-2"].to_json()},
        "is .* in tokenizer.hugging",
    ),
    "a broken tokenizer.json": (IntegrityError, {WHOLE: "{"}, "cannot be built"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    error, changes, message = REFUSED[case]
    with pytest.raises(error, match=message):
        rebuilt(MADE["trained here"], **changes)


def test_scores_must_be_there() -> None:
    with pytest.raises(IntegrityError, match="scores"):
        rebuilt(MADE["pieces"], **{"tokenizer.ggml.scores": np.full(500, np.nan)})


def test_splits_without_a_name_are_refused() -> None:
    backend = tokenizers.Tokenizer.from_str(MADE["qwen2"].to_json())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("x+"), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    with pytest.raises(UnsupportedModelError, match="no name for how"):
        gguf_tokenizer_keys(Tokenizer(backend, {}), 401)
