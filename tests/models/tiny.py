"""A tiny config.json of every family, with windows and rope scalings that short prompts exercise."""

from typing import Any

import torch

from cairn.models import Decoder, DecoderConfig

_BASE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GEMMA = {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24, "tie_word_embeddings": True}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}


def _llama(scaling: str, **parameters: Any) -> dict[str, Any]:
    rope = {"rope_type": scaling, "rope_theta": 500.0, **parameters}
    return {**_BASE, "model_type": "llama", "rope_parameters": rope}


TINY: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 97,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": {**_BASE, "model_type": "llama"},
    "llama-biased": {**_BASE, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama3": _llama(
        "llama3",
        factor=4.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=32,
    ),
    "llama-linear": _llama("linear", factor=4.0),
    "llama-dynamic": _llama("dynamic", factor=4.0),
    "llama-yarn": _llama("yarn", factor=4.0, original_max_position_embeddings=32),
    "mistral": {**_BASE, "model_type": "mistral", "sliding_window": 7},
    "phi3": {**_BASE, "model_type": "phi3", "sliding_window": 9},
    "qwen2": {
        **_BASE,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 2,
        "tie_word_embeddings": True,
    },
    "qwen3": {**_BASE, "model_type": "qwen3", "head_dim": 16},
    "gemma": {**_BASE, "model_type": "gemma", "head_dim": 16, "tie_word_embeddings": True},
    "gemma2": {
        **_BASE,
        **_GEMMA,
        "model_type": "gemma2",
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 2.0,
    },
    "gemma3_text": {
        **_BASE,
        **_GEMMA,
        "model_type": "gemma3_text",
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "olmo2": {**_BASE, "model_type": "olmo2"},
    "smollm3": {**_BASE, "model_type": "smollm3"},
    "mixtral": {**_BASE, "model_type": "mixtral", "num_local_experts": 4},
    "qwen3_moe": {
        **_BASE,
        **_EXPERTS,
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "num_experts": 6,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
    },
    "qwen2_moe": {
        **_BASE,
        **_EXPERTS,
        "model_type": "qwen2_moe",
        "num_experts": 6,
        "shared_expert_intermediate_size": 40,
        "decoder_sparse_step": 2,
    },
}
EXPERT_FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe")


def tiny_config(name: str, **changes: Any) -> DecoderConfig:
    """The config of a tiny model, with keys of its config.json changed."""
    return DecoderConfig.from_hf({**TINY[name], **changes})


def tiny_decoder(name: str, *, seed: int = 0, **changes: Any) -> Decoder:
    """A tiny model with weights large enough that every part of it shows in the output."""
    model = Decoder(tiny_config(name, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            deviation = 0.2 if parameter.dim() > 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
    return model


def tokens(
    lengths: list[int], *, seed: int = 0, vocab_size: int = 97
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Random documents laid end to end: ids [T], positions [T] that restart, boundaries."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(0, vocab_size, (sum(lengths),), generator=generator)
    positions = torch.cat([torch.arange(length) for length in lengths])
    bounds = [sum(lengths[:index]) for index in range(len(lengths) + 1)]
    return input_ids, positions, bounds
