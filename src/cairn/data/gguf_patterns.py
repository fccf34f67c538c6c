"""How llama.cpp's names for pre-tokenizers (`tokenizer.ggml.pre`) read in a tokenizer.json, and back.

A byte-level BPE first splits text by a pattern; GGUF holds only the pattern's name. The patterns are
those of the tokenizers the names stand for; llama.cpp spells the same ones without case folding.
Source: llama-vocab.cpp of ggml-org/llama.cpp, whose comments quote the originals.
"""

import json
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

from cairn.core.errors import UnsupportedModelError
from cairn.data.split_pattern import SPLIT_PATTERN

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPELLED = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START, _TAIL = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*|\p{{N}}{_TAIL}"
_GPT4O = (
    rf"{_START}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_START}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}{_TAIL}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrePattern:
    """One way to split text before BPE."""

    split: str | None = None
    """None: GPT-2's own pattern, which ByteLevel has built in."""
    single_digits: bool = False
    ignore_merges: bool = False
    """A word that is a token as a whole is not built from merges."""
    add_bos: bool = False
    nfc: bool = False
    """Text is put in Unicode's composed form first."""


_BY_PATTERN: tuple[tuple[PrePattern, str], ...] = (
    (PrePattern(), "gpt-2 phi-2 olmo mpt jais exaone4 gigachat mellum modern-bert trillion"),
    (PrePattern(single_digits=True), "smollm starcoder refact command-r codeshell exaone minerva-7b"),
    (PrePattern(split=_QWEN2, nfc=True), "qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open"),
    (
        PrePattern(split=_LLAMA3, ignore_merges=True, add_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 pixtral lfm2",
    ),
    (PrePattern(split=_LLAMA3), "smaug-bpe dbrx"),
    (PrePattern(split=_TEKKEN, ignore_merges=True, add_bos=True), "tekken"),
    (PrePattern(split=_GPT4O), "gpt-4o llama4"),
)
PATTERNS = {name: pattern for pattern, names in _BY_PATTERN for name in names.split()}


def pattern_named(name: Any) -> PrePattern:
    """The pattern of `tokenizer.ggml.pre`; `UnsupportedModelError` for one that is not known."""
    if not isinstance(name, str) or name not in PATTERNS:
        raise UnsupportedModelError(
            f"tokenizer.ggml.pre is {name!r}, allowed: {', '.join(PATTERNS)}",
            remedy="import the Hugging Face checkpoint, which has its tokenizer.json",
        )
    return PATTERNS[name]


def apply_pattern(backend: tokenizers.Tokenizer, pattern: PrePattern) -> None:
    """Make a byte-level tokenizer split so."""
    steps: list[Any] = []
    if pattern.split is not None:
        steps.append(pre_tokenizers.Split(Regex(pattern.split), behavior="isolated"))
    if pattern.single_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern.split is None))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if pattern.nfc:
        backend.normalizer = normalizers.NFC()


def pattern_name(spec: dict[str, Any]) -> str:
    """The name for what a byte-level tokenizer.json does; our own pattern is nearest to `qwen2`.

    Ours also takes the typographic apostrophe for a contraction's, which differs from qwen2 only where
    letters go on after it: "’tis" is two pieces here and one there.
    """
    steps = _flat(spec.get("pre_tokenizer"))
    splits = [step.get("pattern", {}).get("Regex") for step in steps if step["type"] == "Split"]
    has_digits = any(step["type"] == "Digits" and step.get("individual_digits") for step in steps)
    split = splits[0].replace(_SPELLED, _CONTRACTIONS) if len(splits) == 1 and splits[0] else None
    split = _QWEN2 if split == SPLIT_PATTERN else split
    ignores = bool(spec["model"].get("ignore_merges"))
    if len(splits) == (split is not None):
        for pattern, names in _BY_PATTERN:
            same = (pattern.split, pattern.single_digits) == (split, has_digits)
            if same and (split != _LLAMA3 or pattern.ignore_merges == ignores):
                return names.split()[0]
    raise UnsupportedModelError(
        f"llama.cpp has no name for how this tokenizer splits text: {json.dumps(splits)}",
        remedy="it has one for GPT-2, SmolLM, Qwen 2, Llama 3, Tekken, GPT-4o and tokenizers trained here",
    )


def _flat(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step.get("type") == "Sequence":
        return [each for part in step["pretokenizers"] for each in _flat(part)]
    return [step]
