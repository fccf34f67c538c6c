"""The key-values of GGUF that say what a tokenizer does; the way back is `gguf_tokenizer`.

A byte-level BPE is written as `gpt2`, one over pieces with byte fallback as `llama`, whose scores are the
ranks of the merges, so that the merges made from them are the same. The tokenizer.json goes in whole as
well.
"""

import json
from contextlib import suppress
from typing import Any

from cairn.core.errors import CairnError, UnsupportedModelError
from cairn.data.conversation import end_of_turn_id
from cairn.data.gguf_patterns import pattern_name
from cairn.data.gguf_tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    PREFIX,
    TEMPLATE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    WHOLE,
)
from cairn.data.tokenizer import Tokenizer

_LEAST_SCORE = -1e9


def gguf_tokenizer_keys(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The key-values of a tokenizer for a model of `vocab_size` rows."""
    text = tokenizer.to_json()
    spec = json.loads(text)
    if spec["model"].get("type") != "BPE":
        raise UnsupportedModelError(
            f"the tokenizer is {spec['model'].get('type')}, allowed for GGUF: BPE",
            remedy="models with another tokenizer travel by: cairn artifact export",
        )
    is_pieces = bool(spec["model"].get("byte_fallback"))
    tokens, types = _listed(spec, vocab_size, is_pieces=is_pieces)
    merges = [merge if isinstance(merge, list) else merge.split(" ", 1) for merge in spec["model"]["merges"]]
    keys: dict[str, Any] = {"model": "llama" if is_pieces else "gpt2"}
    keys |= {"pre": "default" if is_pieces else pattern_name(spec), "tokens": tokens, "token_type": types}
    if is_pieces:
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(merges):
            ranks.setdefault("".join(pair), rank)
        keys["scores"] = [-float(ranks[token]) if token in ranks else _LEAST_SCORE for token in tokens]
        keys["add_space_prefix"] = _has_prefix(spec)
    else:
        keys["merges"] = [" ".join(pair) for pair in merges]
    keys |= _special_keys(tokenizer)
    named = {PREFIX + key: value for key, value in keys.items()} | {WHOLE: text}
    template = tokenizer.chat_template
    return named | ({TEMPLATE: template.source} if template is not None else {})


def _listed(spec: dict[str, Any], vocab_size: int, *, is_pieces: bool) -> tuple[list[str], list[int]]:
    """Text and type of every id; ids without a token are there to fill up the embedding."""
    tokens = [f"[PAD{token_id}]" for token_id in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for text, token_id in spec["model"]["vocab"].items():
        is_byte = is_pieces and len(text) == 6 and text.startswith("<0x")
        is_unknown = is_pieces and text == spec["model"].get("unk_token")
        tokens[token_id], types[token_id] = text, BYTE if is_byte else UNKNOWN if is_unknown else NORMAL
    for added in spec["added_tokens"]:
        token_id, text = added["id"], added["content"]
        if types[token_id] == UNKNOWN:
            continue
        tokens[token_id] = text if added["special"] or not is_pieces else text.replace("▁", " ")
        types[token_id] = CONTROL if added["special"] else USER_DEFINED
    return tokens, types


def _special_keys(tokenizer: Tokenizer) -> dict[str, Any]:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if tokenizer.chat_template is not None:
        with suppress(CairnError):  # a template whose end cannot be told
            ids["eot_token_id"] = end_of_turn_id(tokenizer)
    keys: dict[str, Any] = {key: value for key, value in ids.items() if value is not None}
    return keys | {"add_bos_token": bool(tokenizer.encode("", add_bos=True))}


def _has_prefix(spec: dict[str, Any]) -> bool:
    """Whether a space is put before a text: by the normalizer (Llama 2), or by Metaspace."""
    text = json.dumps([spec.get("normalizer"), spec.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text
