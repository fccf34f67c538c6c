"""What llama.cpp calls the tensors of a decoder, and how it keeps them differently from Hugging Face's files.

Llama: the rows of queries and keys are reordered within each head, from halves to pairs, because
llama.cpp turns neighbours where transformers turns dimension i with i + D/2. Gemma: norms are stored with
the 1 added that transformers adds when it computes. Experts: each of a layer's three matrices lies in one
tensor [experts, rows, columns], a matrix for each expert in Hugging Face's files; the gate of a shared expert
is a vector. All else is only named differently.
Source: convert_hf_to_gguf.py and gguf-py/gguf/tensor_mapping.py of ggml-org/llama.cpp.
"""

import re

import numpy as np
from numpy.typing import NDArray

from cairn.models.config import DecoderConfig

Floats = NDArray[np.float32]
ROPE_FREQS = "rope_freqs.weight"
HEAD = "output.weight"
EMBEDDING = "token_embd.weight"
SHARED_GATE = ".ffn_gate_inp_shexp.weight"

_OUTER = {
    EMBEDDING: "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    HEAD: "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA = _LAYER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_ATTENTION = {ours: theirs for ours, theirs in _LAYER.items() if not theirs.startswith("mlp.")}
_SHARED = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_QWEN_MOE = _ATTENTION | {"ffn_gate_inp": "mlp.gate"}
_PARTS = {
    "llama": _LAYER,
    "mixtral": _ATTENTION | {"ffn_gate_inp": "block_sparse_moe.gate"},
    "qwen2": _LAYER,
    "qwen2_moe": _QWEN_MOE | _SHARED,
    "qwen3": _LAYER | _QK_NORMS,
    "qwen3_moe": _QWEN_MOE | _QK_NORMS,
    "gemma": _LAYER,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA | _QK_NORMS,
}
_QWEN_EXPERTS = {
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
_EXPERTS = {
    "mixtral": {
        "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
        "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
        "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
    },
    "qwen2_moe": _QWEN_EXPERTS,
    "qwen3_moe": _QWEN_EXPERTS,
}
_ROUTERS = (".ffn_gate_inp.weight", SHARED_GATE)
_GGUF_LAYER = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")
_HF_LAYER = re.compile(r"model\.layers\.(\d{1,5})\.([\w.]+)\.(weight|bias)")


def hf_names(config: DecoderConfig, name: str) -> list[str]:
    """The Hugging Face name of a GGUF tensor, or one for each expert in it; none if the family has it not."""
    if name in _OUTER:
        return [_OUTER[name]]
    match = _GGUF_LAYER.fullmatch(name)
    if match is None:
        return []
    if part := _EXPERTS.get(config.family, {}).get(match[2]):
        return [f"model.layers.{match[1]}.{part.format(i)}.{match[3]}" for i in range(num_experts(config))]
    part = _PARTS[config.family].get(match[2])
    return [f"model.layers.{match[1]}.{part}.{match[3]}"] if part else []


def gguf_name(family: str, name: str) -> str | None:
    """The GGUF name of a Hugging Face tensor; None for one that this family does not have there."""
    for ours, theirs in _OUTER.items():
        if theirs == name:
            return ours
    match = _HF_LAYER.fullmatch(name)
    if match is None:
        return None
    named = re.sub(r"(?<=\.experts\.)\d{1,5}", "{}", match[2])
    parts = {theirs: ours for ours, theirs in (_PARTS[family] | _EXPERTS.get(family, {})).items()}
    part = parts.get(named)
    return f"blk.{match[1]}.{part}.{match[3]}" if part else None


def num_experts(config: DecoderConfig) -> int:
    """Experts in each layer; 0 for a dense model."""
    experts = config.layers[0].experts
    return experts.num_experts if experts else 0


def holds_experts(name: str) -> bool:
    """Whether a GGUF tensor holds a matrix for each expert."""
    return name.endswith(tuple(f".{part}.weight" for part in _QWEN_EXPERTS))


def stays_float32(name: str) -> bool:
    """Whether llama.cpp keeps a matrix of this GGUF name in F32: those that choose the experts."""
    return name.endswith(_ROUTERS)


def values_from_gguf(config: DecoderConfig, name: str, values: Floats) -> Floats:
    """A tensor as transformers keeps it; `name` is its Hugging Face name."""
    if _turns(config, name):
        heads = values.reshape(-1, config.head_dim // 2, 2, *values.shape[1:])
        return heads.swapaxes(1, 2).reshape(values.shape)
    return values - np.float32(config.norm_offset) if _is_shifted(config, name) else values


def values_to_gguf(config: DecoderConfig, name: str, values: Floats) -> Floats:
    """A tensor as llama.cpp keeps it; `name` is its Hugging Face name."""
    if _turns(config, name):
        heads = values.reshape(-1, 2, config.head_dim // 2, *values.shape[1:])
        return heads.swapaxes(1, 2).reshape(values.shape)
    return values + np.float32(config.norm_offset) if _is_shifted(config, name) else values


def _turns(config: DecoderConfig, name: str) -> bool:
    return config.family in ("llama", "mixtral") and (".q_proj." in name or ".k_proj." in name)


def _is_shifted(config: DecoderConfig, name: str) -> bool:
    return bool(config.norm_offset) and name.endswith("norm.weight")
