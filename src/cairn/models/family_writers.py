"""What each family's config.json says: from an `Architecture` to the keys transformers reads.

The inverse of `family_readers`; reading what was written gives an equal config.
"""

from typing import Any

from cairn.models.architecture import Architecture
from cairn.models.hf_values import FULL, SLIDING
from cairn.models.specs import ExpertsSpec, RopeSpec

Fields = dict[str, Any]
_ACTIVATION_NAMES = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu"}
_YARN_KEYS = ("factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")


def _write_rope(rope: RopeSpec, head_dim: int) -> Fields:
    """`rope_parameters`, only the keys its scaling knows."""
    keys = {
        "linear": ("factor",),
        "dynamic": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
        "yarn": _YARN_KEYS,
    }.get(rope.scaling, ())
    values: Fields = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    values.update({key: getattr(rope, key) for key in keys if getattr(rope, key) is not None})
    if rope.original_max_position is not None:
        values["original_max_position_embeddings"] = rope.original_max_position
    if rope.rotary_dim != head_dim:
        values["partial_rotary_factor"] = rope.rotary_dim / head_dim
    return values


def _write_common(config: Architecture, *, activation_key: str = "hidden_act") -> Fields:
    """The keys every family but GPT-2 has."""
    rope = next((layer.rope for layer in config.layers if layer.rope), None)
    dense = [layer.intermediate_size for layer in config.layers]
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": dense[0],
        "max_position_embeddings": config.max_position,
        "rms_norm_eps": config.norm_eps,
        activation_key: _ACTIVATION_NAMES[config.activation],
        "rope_parameters": _write_rope(rope, config.head_dim) if rope else None,
        "attention_dropout": 0.0,
    }


def _layer_types(config: Architecture) -> list[str]:
    return [SLIDING if layer.window else FULL for layer in config.layers]


def _window(config: Architecture) -> int | None:
    return next((layer.window for layer in config.layers if layer.window), None)


def write_gpt2(config: Architecture) -> Fields:
    first, last = config.layers[0].attention.scale, config.layers[-1].attention.scale
    return {
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_positions": config.max_position,
        "n_inner": config.layers[0].intermediate_size,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "scale_attn_by_inverse_layer_idx": first != last,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def write_llama(config: Architecture) -> Fields:
    biases = {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}
    return {**_write_common(config), **biases}


def write_mistral(config: Architecture) -> Fields:
    return {**_write_common(config), "sliding_window": _window(config)}


def write_qwen(config: Architecture) -> Fields:
    window = _window(config)
    return {
        **_write_common(config),
        "attention_bias": config.attention_output_bias,
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": _layer_types(config),
    }


def write_with_attention_bias(config: Architecture) -> Fields:
    return {**_write_common(config), "attention_bias": config.qkv_bias}


def write_gemma(config: Architecture) -> Fields:
    attention = config.layers[0].attention
    ropes = {kind: layer.rope for kind, layer in zip(_layer_types(config), config.layers, strict=True)}
    values = {
        **_write_common(config, activation_key="hidden_activation"),
        "attention_bias": config.qkv_bias,
        "query_pre_attn_scalar": round(attention.scale**-2),
        "attn_logit_softcapping": attention.softcap,
        "final_logit_softcapping": config.logit_softcap,
        "sliding_window": _window(config) or config.max_position,
        "layer_types": _layer_types(config),
    }
    if config.qk_norm == "head":
        values["rope_parameters"] = {
            kind: _write_rope(rope, config.head_dim) for kind, rope in ropes.items() if rope is not None
        }
    return values


def write_smollm3(config: Architecture) -> Fields:
    window = _window(config)
    return {
        **write_llama(config),
        "no_rope_layers": [int(layer.rope is not None) for layer in config.layers],
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": _layer_types(config),
    }


def _experts(config: Architecture) -> ExpertsSpec:
    found = next((layer.experts for layer in config.layers if layer.experts), None)
    return found or ExpertsSpec(num_experts=0, num_experts_per_token=0, intermediate_size=0)


def write_mixtral(config: Architecture) -> Fields:
    experts = _experts(config)
    return {
        **write_mistral(config),
        "intermediate_size": experts.intermediate_size,
        "num_local_experts": experts.num_experts,
        "num_experts_per_tok": experts.num_experts_per_token,
        "router_aux_loss_coef": config.router_aux_loss_coef,
    }


def write_qwen_moe(config: Architecture) -> Fields:
    experts = _experts(config)
    return {
        **write_qwen(config),
        "attention_bias": config.attention_output_bias,
        "qkv_bias": config.qkv_bias,
        "num_experts": experts.num_experts,
        "num_experts_per_tok": experts.num_experts_per_token,
        "moe_intermediate_size": experts.intermediate_size,
        "shared_expert_intermediate_size": experts.shared_intermediate_size,
        "norm_topk_prob": experts.norm_topk_prob,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [i for i, layer in enumerate(config.layers) if layer.experts is None],
        "router_aux_loss_coef": config.router_aux_loss_coef,
    }
