"""A GGUF file of a Llama checkpoint with Q4_0 or Q8_0 weights, for llama.cpp to be measured on.

The format of ggml-org/llama.cpp (docs of ggml: gguf.md), version 3, with no vocabulary. Queries and keys are
permuted as llama.cpp's conversion does. For benchmarks only.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cairn.models import DecoderConfig
from cairn.models.mapped_weights import map_weights

_ALIGNMENT = 32
_TYPES = {"f32": 0, "q4_0": 2, "q8_0": 8}
_FILE_TYPES = {"q4_0": 2, "q8_0": 7}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def write_llama_gguf(folder: Path, path: Path, config: DecoderConfig, weights: str) -> None:
    """Write the checkpoint in `folder` as a GGUF file with its matrices in `weights`."""
    stored = map_weights(folder)
    names = {name: _gguf_name(name) for name in stored}
    metadata = _metadata(config, weights)
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(names), len(metadata)))
        for key, value in metadata.items():
            _write_string(file, key)
            _write_value(file, value)
        at = 0
        for name, tensor in stored.items():
            kind = weights if len(tensor.shape) > 1 else "f32"
            _write_string(file, names[name])
            file.write(struct.pack("<I", len(tensor.shape)))
            file.write(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape[::-1]))
            file.write(struct.pack("<IQ", _TYPES[kind], at))
            at += _padded(_num_bytes(tensor.shape, kind))
        _pad(file)
        for name, tensor in stored.items():
            values = tensor.read()
            if "q_proj" in name or "k_proj" in name:
                values = _permuted(values, config.head_dim)
            file.write(_encoded(values, weights) if values.ndim > 1 else values.tobytes())
            _pad(file)


def _metadata(config: DecoderConfig, weights: str) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "general.file_type": _FILE_TYPES[weights],
        "llama.context_length": config.max_position,
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_layers,
        "llama.feed_forward_length": config.layers[0].intermediate_size,
        "llama.attention.head_count": config.num_heads,
        "llama.attention.head_count_kv": config.num_kv_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.rope.dimension_count": config.head_dim,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": config.norm_eps,
        "llama.vocab_size": config.vocab_size,
        "tokenizer.ggml.model": "no_vocab",
    }


def _gguf_name(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    _, _, index, rest = name.split(".", 3)
    return f"blk.{index}.{_LAYER[rest.removesuffix('.weight')]}.weight"


def _permuted(values: Any, head_dim: int) -> Any:
    """Rows of a head from halves to pairs, the order in which llama.cpp turns them."""
    heads = values.reshape(-1, 2, head_dim // 2, values.shape[1])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(values.shape)


def _encoded(values: Any, weights: str) -> bytes:
    groups = values.reshape(-1, 32)
    if weights == "q8_0":
        scale = np.abs(groups).max(1) / np.float32(127)
        levels = np.rint(groups / np.where(scale == 0, 1, scale)[:, None]).astype(np.int8)
        block = np.zeros(len(groups), [("d", "<f2"), ("q", "i1", 32)])
        block["d"], block["q"] = scale, levels
        return block.tobytes()
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)[:, 0]
    scale = extreme / np.float32(-8)
    levels = np.clip(np.rint(groups / np.where(scale == 0, 1, scale)[:, None]) + 8, 0, 15).astype(np.uint8)
    block = np.zeros(len(groups), [("d", "<f2"), ("q", "u1", 16)])
    block["d"], block["q"] = scale, levels[:, :16] | levels[:, 16:] << 4
    return block.tobytes()


def _num_bytes(shape: tuple[int, ...], kind: str) -> int:
    count = int(np.prod(shape))
    return count * 4 if kind == "f32" else count // 32 * {"q4_0": 18, "q8_0": 34}[kind]


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _write_string(file: BinaryIO, text: str) -> None:
    file.write(struct.pack("<Q", len(text)) + text.encode())


def _write_value(file: BinaryIO, value: Any) -> None:
    if isinstance(value, str):
        file.write(struct.pack("<I", 8))
        _write_string(file, value)
    elif isinstance(value, float):
        file.write(struct.pack("<If", 6, value))
    else:
        file.write(struct.pack("<II", 4, value))
