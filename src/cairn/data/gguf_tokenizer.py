"""A tokenizer from the key-values of a GGUF file; the way back is `gguf_tokenizer_keys`.

`tokenizer.ggml.model` is `gpt2` (byte-level BPE: tokens, merges, the name of a split pattern) or `llama`
(SentencePiece BPE: tokens with scores, `<0x0A>` for bytes without a piece, U+2581 for a space); any other
is refused by name. For `llama` the merges are made from the scores: two pieces merge when their join is a
piece, the best-scored join first, as SentencePiece does. A whole tokenizer.json in the file
(`tokenizer.huggingface.json`) is taken as it is when its tokens are the file's. Source: docs/gguf.md of
ggml and llama-vocab.cpp of llama.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, processors

from cairn.core.errors import CairnError, IntegrityError, UnsupportedModelError
from cairn.data.chat_template import ChatTemplate
from cairn.data.gguf_patterns import apply_pattern, pattern_named
from cairn.data.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
PREFIX = "tokenizer.ggml."
WHOLE = "tokenizer.huggingface.json"
TEMPLATE = "tokenizer.chat_template"
_REMEDY = "convert the model again with a current llama.cpp, or import its Hugging Face checkpoint"
_ENDS = frozenset(
    [
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<eos>",
    ]
)
"""Tokens that end an answer whatever the keys say, as in llama.cpp."""


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The tokens of a file: texts and types by id."""

    keys: Mapping[str, Any]
    texts: list[str]
    types: list[int]

    def flag(self, key: str, default: bool) -> bool:
        return bool(self.keys.get(PREFIX + key, default))

    def token(self, key: str) -> str | None:
        """The text of a special token; None where there is none."""
        token_id = self.keys.get(f"{PREFIX}{key}_token_id")
        if token_id is None:
            return None
        if type(token_id) is not int or not 0 <= token_id < len(self.texts):
            raise IntegrityError(
                f"{PREFIX}{key}_token_id is {token_id!r}, allowed: 0 to {len(self.texts) - 1}",
                remedy=_REMEDY,
            )
        return self.texts[token_id]


def tokenizer_from_gguf(keys: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer and chat template of a file; `UnsupportedModelError` for kinds that are not read."""
    vocabulary = _read_vocabulary(keys)
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    kind = keys.get(PREFIX + "model")
    if not isinstance(kind, str) or kind not in builders:
        raise UnsupportedModelError(
            f"the file's tokenizer is {kind!r}, allowed: {', '.join(builders)}",
            remedy="import the Hugging Face checkpoint, which has its tokenizer.json",
        )
    try:
        backend = _whole(vocabulary) or builders[kind](vocabulary)
    except CairnError:
        raise
    except Exception as error:  # noqa: BLE001 (the backend raises bare Exception for tokens that do not fit)
        raise IntegrityError(f"the file's tokenizer cannot be built: {error}", remedy=_REMEDY) from None
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    found = {name: vocabulary.token(key) for name, key in names.items()}
    config = {name: text for name, text in found.items() if text is not None}
    source = keys.get(TEMPLATE)
    template = ChatTemplate(source) if isinstance(source, str) and source else None
    return Tokenizer(backend, {"tokenizer_class": "PreTrainedTokenizerFast", **config}, template)


def end_token_ids(keys: Mapping[str, Any]) -> list[int]:
    """The tokens that end an answer: end of text, of turn and of message, and those known by their text."""
    vocabulary = _read_vocabulary(keys)
    texts = {vocabulary.token(key) for key in ("eos", "eot", "eom")} - {None}
    return [
        token_id
        for token_id, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.types, strict=True))
        if text in texts or (kind == CONTROL and text in _ENDS)
    ]


def _read_vocabulary(keys: Mapping[str, Any]) -> _Vocabulary:
    texts = keys.get(PREFIX + "tokens")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise UnsupportedModelError(
            "the file has no tokens, allowed: a list of texts in tokenizer.ggml.tokens", remedy=_REMEDY
        )
    if len(set(texts)) != len(texts):
        raise IntegrityError("a token comes twice in tokenizer.ggml.tokens", remedy=_REMEDY)
    types = keys.get(PREFIX + "token_type")
    if types is None:
        return _Vocabulary(keys, texts, [NORMAL] * len(texts))
    return _Vocabulary(keys, texts, _per_token(keys, "token_type", len(texts)).astype(int).tolist())


def _per_token(keys: Mapping[str, Any], key: str, count: int) -> np.ndarray[Any, Any]:
    """An array with a finite number for every token."""
    values = keys.get(PREFIX + key)
    if not isinstance(values, np.ndarray) or len(values) != count or not np.isfinite(values).all():
        got = f"{len(values)} values" if isinstance(values, np.ndarray | list) else repr(values)
        raise IntegrityError(f"{PREFIX}{key} has {got}, allowed: {count} finite ones", remedy=_REMEDY)
    return values


def _whole(vocabulary: _Vocabulary) -> tokenizers.Tokenizer | None:
    """The tokenizer.json in the file, if there is one."""
    text = vocabulary.keys.get(WHOLE)
    if not isinstance(text, str) or not text:
        return None
    backend = tokenizers.Tokenizer.from_str(text)
    own = backend.get_vocab(with_added_tokens=True)
    for token_id, (token, kind) in enumerate(zip(vocabulary.texts, vocabulary.types, strict=True)):
        if kind == NORMAL and own.get(token) != token_id:
            raise IntegrityError(
                f"{token!r} is {own.get(token)} in {WHOLE} and {token_id} in {PREFIX}tokens",
                remedy=_REMEDY,
            )
    return backend


def _byte_level(vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    merges = vocabulary.keys.get(PREFIX + "merges")
    if not isinstance(merges, list) or not all(isinstance(merge, str) for merge in merges):
        raise IntegrityError("the file has no tokenizer.ggml.merges for its byte-level BPE", remedy=_REMEDY)
    pattern = pattern_named(vocabulary.keys.get(PREFIX + "pre"))
    pairs = [(merge[: merge.find(" ", 1)], merge[merge.find(" ", 1) + 1 :]) for merge in merges]
    backend = tokenizers.Tokenizer(models.BPE(_vocab(vocabulary), pairs, ignore_merges=pattern.ignore_merges))
    apply_pattern(backend, pattern)
    backend.decoder = decoders.ByteLevel()
    return _finish(backend, vocabulary, add_bos=pattern.add_bos)


def _sentencepiece(vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    unknown = next(
        (t for t, kind in zip(vocabulary.texts, vocabulary.types, strict=True) if kind == UNKNOWN), None
    )
    model = models.BPE(
        _vocab(vocabulary), _merges(vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    backend = tokenizers.Tokenizer(model)
    has_prefix = vocabulary.flag("add_space_prefix", True)
    prefix = [normalizers.Prepend("▁")] if has_prefix else []
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(content=" ", left=1)] if has_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return _finish(backend, vocabulary, add_bos=True)


def _merges(vocabulary: _Vocabulary) -> list[tuple[str, str]]:
    """Every way to make a piece of two, best score first; of equal ones the longer halves first."""
    scores = _per_token(vocabulary.keys, "scores", len(vocabulary.texts)).tolist()
    pieces = {
        text: score
        for text, kind, score in zip(vocabulary.texts, vocabulary.types, scores, strict=True)
        if kind == NORMAL
    }
    ways = [
        (score, at, len(piece) - at, piece)
        for piece, score in pieces.items()
        for at in range(1, len(piece))
        if piece[:at] in pieces and piece[at:] in pieces
    ]
    ways.sort(key=lambda way: way[:3], reverse=True)
    return [(piece[:at], piece[at:]) for _, at, _, piece in ways]


def _vocab(vocabulary: _Vocabulary) -> dict[str, int]:
    """Ids by text, without the rows that only fill up the embedding."""
    return {
        text: token_id
        for token_id, text in enumerate(vocabulary.texts)
        if vocabulary.types[token_id] != UNUSED or text != f"[PAD{token_id}]"
    }


def _finish(backend: tokenizers.Tokenizer, vocabulary: _Vocabulary, *, add_bos: bool) -> tokenizers.Tokenizer:
    """Control tokens, tokens that users defined, and the token before every text."""
    added = [
        AddedToken(text, special=kind != USER_DEFINED, normalized=False)
        for text, kind in zip(vocabulary.texts, vocabulary.types, strict=True)
        if kind in (CONTROL, UNKNOWN, USER_DEFINED) and text
    ]
    backend.add_tokens(added)
    bos = vocabulary.token("bos")
    if vocabulary.flag("add_bos_token", add_bos) and bos:
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", bos, "$B"], special_tokens=[(bos, backend.token_to_id(bos))]
        )
    return backend
