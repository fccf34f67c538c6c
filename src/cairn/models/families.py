"""The families of decoders: the table of who reads and who writes each one's config.json.

A family is a pair of small functions: `read` turns a config.json into the fields of a `DecoderConfig`,
`write` the family's own keys back. What all families share is read and written here.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cairn.core import UnsupportedModelError
from cairn.models import family_readers as readers
from cairn.models import family_writers as writers
from cairn.models.architecture import Architecture
from cairn.models.generation import token_ids
from cairn.models.hf_values import HfValues

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """How one `model_type` is read and written; `architecture` is the class transformers opens it with."""

    architecture: str
    read: Callable[[HfValues], Fields]
    write: Callable[[Architecture], Fields]


def read_config(values: Mapping[str, Any]) -> Fields:
    """The fields of a `DecoderConfig` from the content of a config.json."""
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise _unknown(model_type)
    hf = HfValues(values)
    hf.refuse("quantization_config")
    shared = {
        "family": model_type,
        "vocab_size": hf.integer("vocab_size"),
        "initializer_range": hf.number("initializer_range", 0.02),
        "bos_token_id": next(iter(token_ids(hf.get("bos_token_id"))), None),
        "eos_token_ids": token_ids(hf.get("eos_token_id")),
        "pad_token_id": next(iter(token_ids(hf.get("pad_token_id"))), None),
    }
    return {**shared, **FAMILIES[model_type].read(hf)}


def write_config(config: Architecture) -> Fields:
    """The content of a config.json, without `dtype`, which belongs to the weights."""
    family = FAMILIES[config.family]
    eos: int | list[int] | None = list(config.eos_token_ids) or None
    shared = {
        "architectures": [family.architecture],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.initializer_range,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids[0] if len(config.eos_token_ids) == 1 else eos,
        "pad_token_id": config.pad_token_id,
        "use_cache": True,
    }
    return {**shared, **family.write(config)}


def _unknown(model_type: Any) -> UnsupportedModelError:
    if not isinstance(model_type, str):
        return UnsupportedModelError(
            "config.json names no model_type", remedy=f"add one of: {', '.join(sorted(FAMILIES))}"
        )
    near = difflib.get_close_matches(model_type, FAMILIES, n=3)
    hint = f" (near: {', '.join(near)})" if near else ""
    return UnsupportedModelError(
        f"models of the family {model_type!r} are not supported{hint}",
        remedy=f"supported families: {', '.join(sorted(FAMILIES))}",
    )


FAMILIES: dict[str, Family] = {
    "gpt2": Family("GPT2LMHeadModel", readers.read_gpt2, writers.write_gpt2),
    "llama": Family("LlamaForCausalLM", readers.read_llama, writers.write_llama),
    "mistral": Family("MistralForCausalLM", readers.read_mistral, writers.write_mistral),
    "phi3": Family("Phi3ForCausalLM", readers.read_phi3, writers.write_mistral),
    "qwen2": Family("Qwen2ForCausalLM", readers.read_qwen2, writers.write_qwen),
    "qwen3": Family("Qwen3ForCausalLM", readers.read_qwen3, writers.write_qwen),
    "gemma": Family("GemmaForCausalLM", readers.read_gemma, writers.write_with_attention_bias),
    "gemma2": Family("Gemma2ForCausalLM", readers.read_gemma2, writers.write_gemma),
    "gemma3_text": Family("Gemma3ForCausalLM", readers.read_gemma3, writers.write_gemma),
    "olmo2": Family("Olmo2ForCausalLM", readers.read_olmo2, writers.write_with_attention_bias),
    "smollm3": Family("SmolLM3ForCausalLM", readers.read_smollm3, writers.write_smollm3),
    "mixtral": Family("MixtralForCausalLM", readers.read_mixtral, writers.write_mixtral),
    "qwen2_moe": Family("Qwen2MoeForCausalLM", readers.read_qwen2_moe, writers.write_qwen_moe),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", readers.read_qwen3_moe, writers.write_qwen_moe),
}
