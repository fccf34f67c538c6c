"""What each family's config.json means: from its keys to the fields of a `DecoderConfig`.

One function a family, composed of a few shared ones. Defaults are those of transformers' config classes,
but sizes are never guessed: a file that lacks them is refused. Dropout is not read: Cairn trains without it.
"""

from dataclasses import replace
from typing import Any

from cairn.core import UnsupportedModelError
from cairn.models.architecture import require
from cairn.models.hf_values import FULL, SLIDING, HfValues
from cairn.models.specs import AttentionSpec, ExpertsSpec, LayerSpec, RopeSpec

Fields = dict[str, Any]
_MOST_LAYERS = 10_000


def _sizes(hf: HfValues, *, head_dim: int | None = None, kv_heads: int | None = None) -> Fields:
    """The sizes every family but GPT-2 names alike; the arguments are the family's defaults."""
    hidden, heads = hf.integer("hidden_size", least=1), hf.integer("num_attention_heads", least=1)
    return {
        "hidden_size": hidden,
        "num_heads": heads,
        "num_kv_heads": hf.integer("num_key_value_heads", kv_heads or heads, least=1),
        "head_dim": hf.integer("head_dim", head_dim or max(1, hidden // heads), least=1),
        "max_position": hf.integer("max_position_embeddings"),
        "norm_eps": hf.number("rms_norm_eps", 1e-6),
        "activation": hf.activation("hidden_act", "silu"),
        "tie_embeddings": hf.flag("tie_word_embeddings", False),
    }


def _layers(
    hf: HfValues,
    sizes: Fields,
    rope: RopeSpec | None,
    windows: list[int | None] | None = None,
) -> tuple[LayerSpec, ...]:
    """Dense layers, alike but for their windows."""
    scale = sizes["head_dim"] ** -0.5
    width = hf.integer("intermediate_size")
    windows = windows or [None] * _num_layers(hf)
    return tuple(
        LayerSpec(attention=AttentionSpec(scale, window), rope=rope, intermediate_size=width)
        for window in windows
    )


def _windows(hf: HfValues, default: list[str], window: int | None) -> list[int | None]:
    """A window for each layer from `layer_types`."""
    return [window if kind == SLIDING else None for kind in hf.layer_types(default)]


def _num_layers(hf: HfValues) -> int:
    return hf.integer("num_hidden_layers", least=1, most=_MOST_LAYERS)


def read_gpt2(hf: HfValues) -> Fields:
    hf.refuse("add_cross_attention", False)
    hf.refuse("scale_attn_weights", True)
    hidden, heads = hf.integer("n_embd", least=1), hf.integer("n_head", least=1)
    require(hidden % heads == 0, f"n_embd {hidden} is no multiple of n_head {heads}")
    head_dim = hidden // heads
    by_layer = hf.flag("scale_attn_by_inverse_layer_idx", False)
    width = hf.integer("n_inner", 4 * hidden)
    return {
        "hidden_size": hidden,
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": head_dim,
        "max_position": hf.integer("n_positions", 1024),
        "layers": tuple(
            LayerSpec(
                attention=AttentionSpec(head_dim**-0.5 / (index + 1 if by_layer else 1)),
                rope=None,
                intermediate_size=width,
            )
            for index in range(hf.integer("n_layer", least=1, most=_MOST_LAYERS))
        ),
        "norm": "layer",
        "norm_eps": hf.number("layer_norm_epsilon", 1e-5),
        "activation": hf.activation("activation_function", "gelu_new"),
        "gated_mlp": False,
        "qkv_bias": True,
        "attention_output_bias": True,
        "mlp_bias": True,
        "learned_positions": True,
        "tie_embeddings": hf.flag("tie_word_embeddings", True),
    }


def read_llama(hf: HfValues) -> Fields:
    sizes = _sizes(hf)
    bias = hf.flag("attention_bias", False)
    return {
        **sizes,
        "layers": _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0)),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "mlp_bias": hf.flag("mlp_bias", False),
    }


def read_mistral(hf: HfValues) -> Fields:
    sizes = _sizes(hf, kv_heads=8)
    window = hf.integer_or_none("sliding_window", 4096)
    windows = [window] * _num_layers(hf)
    return {**sizes, "layers": _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0), windows)}


def read_phi3(hf: HfValues) -> Fields:
    sizes = _sizes(hf)
    windows = [hf.integer_or_none("sliding_window")] * _num_layers(hf)
    sizes["norm_eps"] = hf.number("rms_norm_eps", 1e-5)
    return {**sizes, "layers": _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0), windows)}


def _qwen_windows(hf: HfValues) -> list[int | None]:
    window = hf.integer_or_none("sliding_window", 4096) if hf.flag("use_sliding_window", False) else None
    first = hf.integer("max_window_layers", 28)
    default = [SLIDING if window and index >= first else FULL for index in range(_num_layers(hf))]
    return _windows(hf, default, window)


def read_qwen2(hf: HfValues) -> Fields:
    sizes = _sizes(hf)
    layers = _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0), _qwen_windows(hf))
    return {**sizes, "layers": layers, "qkv_bias": True}


def read_qwen3(hf: HfValues) -> Fields:
    sizes = _sizes(hf, head_dim=128)
    bias = hf.flag("attention_bias", False)
    layers = _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0), _qwen_windows(hf))
    return {**sizes, "layers": layers, "qkv_bias": bias, "attention_output_bias": bias, "qk_norm": "head"}


def _read_gemma(
    hf: HfValues, default_types: list[str], softcap: float | None, logit_cap: float | None
) -> Fields:
    """What Gemma 2 and 3 share: norms on both sides, scaled embeddings, local and global layers."""
    hf.refuse("use_bidirectional_attention", False)
    sizes = _sizes(hf, head_dim=256)
    sizes["activation"] = hf.activation("hidden_activation", "gelu_pytorch_tanh")
    sizes["tie_embeddings"] = hf.flag("tie_word_embeddings", True)
    bias = hf.flag("attention_bias", False)
    scale = hf.number("query_pre_attn_scalar", 256, above=0) ** -0.5
    window = hf.integer("sliding_window", 4096)
    layers = tuple(
        LayerSpec(
            attention=AttentionSpec(scale, window if kind == SLIDING else None, softcap),
            rope=_gemma_rope(hf, sizes["head_dim"], kind),
            intermediate_size=hf.integer("intermediate_size"),
        )
        for kind in hf.layer_types(default_types)
    )
    return {
        **sizes,
        "layers": layers,
        "norm_offset": 1.0,
        "post_norm": True,
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "embedding_scale": sizes["hidden_size"] ** 0.5,
        "logit_softcap": logit_cap,
    }


def read_gemma(hf: HfValues) -> Fields:
    hf.refuse("use_bidirectional_attention", False)
    sizes = _sizes(hf, head_dim=256)
    # The first files say "gelu" and mean its tanh form, as transformers knows.
    sizes["activation"] = hf.activation("hidden_act", "gelu")
    if sizes["activation"] == "gelu":
        sizes["activation"] = "gelu_tanh"
    sizes["tie_embeddings"] = hf.flag("tie_word_embeddings", True)
    bias = hf.flag("attention_bias", False)
    return {
        **sizes,
        "layers": _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0)),
        "norm_offset": 1.0,
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "embedding_scale": sizes["hidden_size"] ** 0.5,
    }


def _gemma_rope(hf: HfValues, head_dim: int, kind: str) -> RopeSpec:
    """Gemma 3 gives local layers a rope of their own: older files by `rope_local_base_freq`, unscaled."""
    if hf.get("model_type") == "gemma2":
        return hf.rope(head_dim, 10_000.0)
    nested = hf.mapping("rope_parameters")
    if kind == SLIDING and SLIDING not in nested:
        return RopeSpec(theta=hf.number("rope_local_base_freq", 10_000.0), rotary_dim=head_dim)
    return hf.rope(head_dim, 1_000_000.0 if kind == FULL else 10_000.0, layer_type=kind)


def read_gemma2(hf: HfValues) -> Fields:
    types = [FULL if index % 2 else SLIDING for index in range(_num_layers(hf))]
    softcap = hf.number_or_none("attn_logit_softcapping", 50.0)
    return _read_gemma(hf, types, softcap, hf.number_or_none("final_logit_softcapping", 30.0))


def read_gemma3(hf: HfValues) -> Fields:
    hf.refuse("attn_logit_softcapping")
    every = hf.integer("sliding_window_pattern", hf.integer("_sliding_window_pattern", 6), least=1)
    types = [SLIDING if (index + 1) % every else FULL for index in range(_num_layers(hf))]
    fields = _read_gemma(hf, types, None, hf.number_or_none("final_logit_softcapping"))
    return {**fields, "qk_norm": "head"}


def read_olmo2(hf: HfValues) -> Fields:
    sizes = _sizes(hf)
    bias = hf.flag("attention_bias", False)
    sizes["norm_eps"] = hf.number("rms_norm_eps", 1e-5)
    return {
        **sizes,
        "layers": _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0)),
        "pre_norm": False,
        "post_norm": True,
        "qk_norm": "full",
        "qkv_bias": bias,
        "attention_output_bias": bias,
    }


def read_smollm3(hf: HfValues) -> Fields:
    sizes = _sizes(hf, kv_heads=4)
    sizes["tie_embeddings"] = hf.flag("tie_word_embeddings", True)
    num, bias = _num_layers(hf), hf.flag("attention_bias", False)
    every = hf.integer("no_rope_layer_interval", 4, least=1)
    turns = hf.integers("no_rope_layers") or tuple(int((i + 1) % every != 0) for i in range(num))
    if len(turns) < num:
        raise UnsupportedModelError(
            f"no_rope_layers has {len(turns)} entries for {num} layers", remedy="mend config.json"
        )
    window = hf.integer_or_none("sliding_window") if hf.flag("use_sliding_window", False) else None
    types = [SLIDING if window and not turns[index] else FULL for index in range(num)]
    rope = hf.rope(sizes["head_dim"], 2_000_000.0)
    layers = _layers(hf, sizes, rope, _windows(hf, types, window))
    return {
        **sizes,
        "layers": tuple(
            layer if turns[index] else replace(layer, rope=None) for index, layer in enumerate(layers)
        ),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "mlp_bias": hf.flag("mlp_bias", False),
    }


def _with_experts(layers: tuple[LayerSpec, ...], experts: dict[int, ExpertsSpec]) -> tuple[LayerSpec, ...]:
    return tuple(replace(layer, experts=experts.get(index)) for index, layer in enumerate(layers))


def read_mixtral(hf: HfValues) -> Fields:
    sizes = _sizes(hf, kv_heads=8)
    sizes["norm_eps"] = hf.number("rms_norm_eps", 1e-5)
    windows = [hf.integer_or_none("sliding_window")] * _num_layers(hf)
    layers = _layers(hf, sizes, hf.rope(sizes["head_dim"], 1_000_000.0), windows)
    experts = ExpertsSpec(
        num_experts=hf.integer("num_local_experts", hf.integer("num_experts", 8)),
        num_experts_per_token=hf.integer("num_experts_per_tok", 2),
        intermediate_size=hf.integer("intermediate_size"),
    )
    return {
        **sizes,
        "layers": _with_experts(layers, dict.fromkeys(range(len(layers)), experts)),
        "router_aux_loss_coef": hf.number("router_aux_loss_coef", 0.001),
    }


def _sparse_layers(hf: HfValues, experts: ExpertsSpec) -> dict[int, ExpertsSpec]:
    """The layers that hold experts: every `decoder_sparse_step`-th but the `mlp_only_layers`."""
    step, dense = hf.integer("decoder_sparse_step", 1, least=1), hf.integers("mlp_only_layers")
    sparse = (i for i in range(_num_layers(hf)) if i not in dense and (i + 1) % step == 0)
    return dict.fromkeys(sparse, experts) if experts.num_experts else {}


def read_qwen3_moe(hf: HfValues) -> Fields:
    sizes = _sizes(hf, kv_heads=4)
    bias = hf.flag("attention_bias", False)
    window = hf.integer_or_none("sliding_window", 4096) if hf.flag("use_sliding_window", False) else None
    experts = ExpertsSpec(
        num_experts=hf.integer("num_local_experts", hf.integer("num_experts", 128)),
        num_experts_per_token=hf.integer("num_experts_per_tok", 8),
        intermediate_size=hf.integer("moe_intermediate_size", 768),
        norm_topk_prob=hf.flag("norm_topk_prob", False),
    )
    rope = hf.rope(sizes["head_dim"], 10_000.0)
    layers = _layers(hf, sizes, rope, [window] * _num_layers(hf))
    return {
        **sizes,
        "layers": _with_experts(layers, _sparse_layers(hf, experts)),
        "qkv_bias": bias,
        "attention_output_bias": bias,
        "qk_norm": "head",
        "router_aux_loss_coef": hf.number("router_aux_loss_coef", 0.001),
    }


def read_qwen2_moe(hf: HfValues) -> Fields:
    sizes = _sizes(hf)
    is_local = hf.flag("use_sliding_window", False)
    window = hf.integer_or_none("sliding_window", 4096) if is_local else None
    last = hf.integer("max_window_layers", 28)
    types = [
        SLIDING if is_local and (index + 1) % 2 and index < last else FULL for index in range(_num_layers(hf))
    ]
    experts = ExpertsSpec(
        num_experts=hf.integer("num_experts", 60),
        num_experts_per_token=hf.integer("num_experts_per_tok", 4),
        intermediate_size=hf.integer("moe_intermediate_size", 1408),
        norm_topk_prob=hf.flag("norm_topk_prob", False),
        shared_intermediate_size=hf.integer("shared_expert_intermediate_size", 5632),
    )
    layers = _layers(hf, sizes, hf.rope(sizes["head_dim"], 10_000.0), _windows(hf, types, window))
    return {
        **sizes,
        "layers": _with_experts(layers, _sparse_layers(hf, experts)),
        "qkv_bias": hf.flag("qkv_bias", True),
        "router_aux_loss_coef": hf.number("router_aux_loss_coef", 0.001),
    }
