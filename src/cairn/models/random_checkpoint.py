"""Checkpoints of random weights, for measuring: a known shape, and nothing to download.

Written with numpy alone, in bfloat16, in the Hugging Face layout. What they say means nothing; how fast they
say it is as if they had been trained.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core.file_writing import replace_file
from cairn.models.config import DecoderConfig
from cairn.models.gguf_blocks import quantise
from cairn.models.parameters import parameter_shapes
from cairn.models.tensor_names import layouts

_COMMON: dict[str, Any] = {
    "model_type": "llama",
    "dtype": "bfloat16",
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


def _llama(*sizes: int, **others: Any) -> dict[str, Any]:
    return _COMMON | dict(zip(_SIZES, sizes, strict=True)) | others


SHAPES: dict[str, dict[str, Any]] = {
    "8m": _llama(288, 768, 6, 6, 6, 8192, head_dim=48),
    "135m": _llama(576, 1536, 30, 9, 3, 49_152),
    "420m": _llama(1024, 3072, 28, 16, 8, 65_536),
}
"""Llamas of 8 M, 135 M and 0.42 B parameters, as the values of their config.json."""


def write_random_checkpoint(folder: Path, values: Mapping[str, Any]) -> None:
    """Fill a folder with a config.json of these values and the weights that it asks for."""
    config = DecoderConfig.from_hf(dict(values))
    rng = np.random.default_rng(0)
    header: dict[str, Any] = {}
    pieces: list[memoryview] = []
    at = 0
    for name, shape in parameter_shapes(config).items():
        array = np.ones(shape, np.float32)
        if len(shape) > 1:
            array = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        for piece in next(layouts(config, name, shape)):
            part = array[piece.index] if piece.index else array
            pieces.append(quantise(part, "BF16").data)
            offsets = [at, at := at + pieces[-1].nbytes]
            header[piece.name] = {"dtype": "BF16", "shape": list(part.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    replace_file(folder / "model.safetensors", [len(text).to_bytes(8, "little") + text, *pieces])
    (folder / "config.json").write_text(json.dumps(dict(values)))
