"""From a decoder's config to the key-values that llama.cpp reads; the way back is `gguf_config`.

What llama.cpp would compute in another way, as it is fixed in its code and no key says otherwise, is
refused.
"""

from typing import Any

from cairn.core import UnsupportedModelError
from cairn.models.config import DecoderConfig
from cairn.models.gguf_config import FAMILIES, LAYERS_OF_27B, MIXTRAL, PATTERNS, SUMS_TO_ONE
from cairn.models.specs import RopeSpec

_ARCHITECTURES = {family: architecture for architecture, family in FAMILIES.items()} | {MIXTRAL: "llama"}


def gguf_keys(config: DecoderConfig) -> dict[str, Any]:
    """The key-values of the network; those of the tokenizer come from elsewhere."""
    if config.family not in _ARCHITECTURES:
        raise UnsupportedModelError(
            f"models of the family {config.family!r} are not written as GGUF",
            remedy=f"allowed: {', '.join(_ARCHITECTURES)}; others travel by: cairn artifact export",
        )
    architecture = _ARCHITECTURES[config.family]
    rope = next((layer.rope for layer in config.layers if layer.window is None), config.layers[-1].rope)
    _check(config, architecture, rope)
    assert rope is not None
    keys = {
        "context_length": config.max_position,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.layers[0].intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "vocab_size": config.vocab_size,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": rope.theta,
        **_rope_keys(rope),
        **(_gemma_keys(config, architecture) if architecture in PATTERNS else {}),
        **_expert_keys(config),
    }
    return {
        "general.architecture": architecture,
        "general.type": "model",
        **{f"{architecture}.{key}": value for key, value in keys.items()},
    }


def _rope_keys(rope: RopeSpec) -> dict[str, Any]:
    if rope.scaling == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": rope.factor}
    if rope.scaling != "yarn":
        return {}
    return {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": rope.factor,
        "rope.scaling.original_context_length": rope.original_max_position,
        "rope.scaling.yarn_beta_fast": rope.beta_fast,
        "rope.scaling.yarn_beta_slow": rope.beta_slow,
    }


def _gemma_keys(config: DecoderConfig, architecture: str) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    local = next((layer for layer in config.layers if layer.window), None)
    if local is not None:
        keys["attention.sliding_window"] = local.window
    is_local = [layer.window is not None for layer in config.layers]
    every = PATTERNS[architecture]
    if is_local != [index % every < every - 1 for index in range(config.num_layers)] and any(is_local):
        keys["attention.sliding_window_pattern"] = is_local
    if local is not None and local.rope is not None and architecture == "gemma3":
        keys["rope.freq_base_swa"] = local.rope.theta
    if config.layers[0].attention.softcap is not None:
        keys["attn_logit_softcapping"] = config.layers[0].attention.softcap
    if config.logit_softcap is not None:
        keys["final_logit_softcapping"] = config.logit_softcap
    return keys


def _expert_keys(config: DecoderConfig) -> dict[str, Any]:
    experts = config.layers[0].experts
    if experts is None:
        return {}
    keys = {"expert_count": experts.num_experts, "expert_used_count": experts.num_experts_per_token}
    if config.family == MIXTRAL:
        return keys | {"feed_forward_length": experts.intermediate_size}
    keys["expert_feed_forward_length"] = experts.intermediate_size
    if shared := experts.shared_intermediate_size:
        keys["expert_shared_feed_forward_length"] = shared
    return keys


def _check(config: DecoderConfig, architecture: str, rope: RopeSpec | None) -> None:
    """Refuse what llama.cpp fixes otherwise."""
    layers = config.layers
    if rope is None or any(layer.rope is None for layer in layers):
        raise _other(config, "layers without rotary embedding")
    if any(layer.rope and layer.rope.rotary_dim != config.head_dim for layer in layers):
        raise _other(config, "a rotary embedding of part of a head")
    if rope.scaling == "dynamic":
        raise _other(config, "dynamic rope scaling")
    if rope.scaling == "llama3" and architecture != "llama":
        raise _other(config, "Llama 3's rope scaling")
    if rope.scaling == "yarn" and not _is_plain_yarn(rope):
        raise _other(config, "yarn with its own attention factor")
    if config.attention_output_bias and architecture != "llama":
        raise _other(config, "a bias after attention")
    if architecture not in PATTERNS and any(layer.window for layer in layers):
        raise _other(config, "windows of attention")
    if architecture == "gemma2" and (layers[0].attention.softcap is None or config.logit_softcap is None):
        raise _other(config, "no soft caps")
    if architecture == "gemma2" and not any(layer.window for layer in layers):
        raise _other(config, "no windows of attention")
    if config.family in SUMS_TO_ONE:
        _check_experts(config)
    local = {layer.rope for layer in layers if layer.window}
    if architecture == "gemma3" and any(each and each.scaling != "default" for each in local):
        raise _other(config, "scaled rope within windows")
    is_27b = config.num_layers == LAYERS_OF_27B.get(architecture)
    scale = (config.hidden_size // config.num_heads if is_27b else config.head_dim) ** -0.5
    if any(abs(layer.attention.scale / scale - 1) > 1e-6 for layer in layers):
        raise _other(config, f"attention scaled by {layers[0].attention.scale:g} instead of {scale:g}")


def _check_experts(config: DecoderConfig) -> None:
    experts = {layer.experts for layer in config.layers}
    first = config.layers[0].experts
    if first is None or len(experts) > 1:
        raise _other(config, "layers without experts")
    if first.norm_topk_prob != SUMS_TO_ONE[config.family]:
        raise _other(config, f"norm_topk_prob {str(first.norm_topk_prob).lower()}")
    if config.family == "qwen2_moe" and not first.shared_intermediate_size:
        raise _other(config, "no shared expert")
    if config.family == "qwen2_moe" and config.tie_embeddings:
        raise _other(config, "a head that is the embedding")


def _is_plain_yarn(rope: RopeSpec) -> bool:
    return rope.truncate and not (rope.attention_factor or rope.mscale or rope.mscale_all_dim)


def _other(config: DecoderConfig, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"llama.cpp has no {config.family} with {what}",
        remedy="it would give other answers there, so it is not written",
    )
