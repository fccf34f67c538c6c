"""What llama.cpp calls the tensors of a decoder, and how it keeps them differently from Hugging Face's files.

Llama: the rows of queries and keys are reordered within each head, from halves to pairs, because
llama.cpp turns neighbours where transformers turns dimension i with i + D/2. Gemma: norms are stored with
the 1 added that transformers adds when it computes. All else is only named differently.
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
_PARTS = {
    "llama": _LAYER,
    "qwen2": _LAYER,
    "qwen3": _LAYER | _QK_NORMS,
    "gemma": _LAYER,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA | _QK_NORMS,
}
_GGUF_LAYER = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")
_HF_LAYER = re.compile(r"model\.layers\.(\d{1,5})\.([\w.]+)\.(weight|bias)")


def hf_name(family: str, name: str) -> str | None:
    """The Hugging Face name of a GGUF tensor; None for one that this family does not have."""
    if name in _OUTER:
        return _OUTER[name]
    match = _GGUF_LAYER.fullmatch(name)
    part = _PARTS[family].get(match[2]) if match else None
    return f"model.layers.{match[1]}.{part}.{match[3]}" if match and part else None


def gguf_name(family: str, name: str) -> str | None:
    """The GGUF name of a Hugging Face tensor; None for one that this family does not have there."""
    for ours, theirs in _OUTER.items():
        if theirs == name:
            return ours
    match = _HF_LAYER.fullmatch(name)
    parts = {theirs: ours for ours, theirs in _PARTS[family].items()}
    part = parts.get(match[2]) if match else None
    return f"blk.{match[1]}.{part}.{match[3]}" if match and part else None


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
    return config.family == "llama" and (".q_proj." in name or ".k_proj." in name)


def _is_shifted(config: DecoderConfig, name: str) -> bool:
    return bool(config.norm_offset) and name.endswith("norm.weight")
