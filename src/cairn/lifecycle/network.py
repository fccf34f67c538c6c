"""From the recipe's `[model]` table to a decoder's config, by way of the Hugging Face layout."""

from typing import Any

from cairn.lifecycle.recipe import ModelStage
from cairn.models import DecoderConfig

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def decoder_config(model: ModelStage, *, vocab_size: int, eos_token_id: int | None = None) -> DecoderConfig:
    """The decoder a recipe describes, for a tokenizer of `vocab_size` entries."""
    return DecoderConfig.from_hf(_hf_config(model, vocab_size, eos_token_id))


def _hf_config(model: ModelStage, vocab_size: int, eos_token_id: int | None) -> dict[str, Any]:
    return {
        "model_type": model.family,
        "architectures": [_ARCHITECTURES[model.family]],
        "vocab_size": vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.width_of_head,
        "max_position_embeddings": model.context,
        "rope_theta": model.rope_theta,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": eos_token_id,
        "eos_token_id": eos_token_id,
    }
