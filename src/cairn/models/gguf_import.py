"""A GGUF file as a checkpoint in the Hugging Face layout: config.json and model.safetensors.

Weights are dequantised one tensor at a time and kept as floats: float32 or float16 where the file's
matrices are that, bfloat16 otherwise; what has one dimension stays float32. The engine quantises when it
loads, to its own formats. What does not fit the config, and weights that are not finite, are refused. No
torch is needed.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.core import IntegrityError, UnsupportedModelError
from cairn.core.file_writing import replace_file, write_json
from cairn.models.config import DecoderConfig
from cairn.models.gguf import GgufFile, GgufTensor, damaged
from cairn.models.gguf_config import read_config
from cairn.models.gguf_names import (
    ROPE_FREQS,
    SHARED_GATE,
    hf_names,
    holds_experts,
    stays_float32,
    values_from_gguf,
)
from cairn.models.parameters import parameter_shapes
from cairn.models.weight_paths import SINGLE
from cairn.models.weight_plan import plan_weights

Floats = NDArray[np.float32]
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 14: "Q4_K_S"}
_FILE_TYPES |= {15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"}
"""llama.cpp's mixes of the number formats that are read here."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A tensor of the file to write, and where it comes from."""

    source: GgufTensor
    dtype: str
    """As safetensors calls it."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * (4 if self.dtype == "F32" else 2)


def convert_gguf(file: GgufFile, folder: Path) -> DecoderConfig:
    """Write config.json and model.safetensors into `folder`."""
    config = read_config(file)
    stored = main_type(file)
    targets = _targets(file, config, stored if stored in _DTYPES else "BF16")
    plan_weights(config, parameter_shapes(config), targets, file.path)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / SINGLE, _pieces(file, config, targets))
    dtype = _DTYPES.get(stored, "bfloat16")
    write_json(folder / "config.json", {**config.to_hf(), "dtype": dtype})
    return config


def main_type(file: GgufFile) -> str:
    """The number format that most of the weights are in."""
    counts = Counter({"F32": 0})
    for tensor in file.tensors.values():
        counts[tensor.type.name] += len(tensor.data) // tensor.type.num_bytes * tensor.type.size
    return counts.most_common(1)[0][0]


def quantisation(file: GgufFile) -> str:
    """What the file calls its mix of number formats (Q4_K_M); else the format of most of its weights."""
    stated = file.metadata.get("general.file_type")
    return _FILE_TYPES[stated] if type(stated) is int and stated in _FILE_TYPES else main_type(file)


def _targets(file: GgufFile, config: DecoderConfig, dtype: str) -> dict[str, _Target]:
    """The tensors to write by their Hugging Face names."""
    targets: dict[str, _Target] = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_FREQS:
            continue  # part of the config
        theirs = hf_names(config, name)
        if not theirs:
            raise UnsupportedModelError(
                f"{file.path} holds {name}, which models of the family {config.family} do not have in Cairn",
                remedy="import the Hugging Face checkpoint that the file was made from",
            )
        is_vector = len(tensor.shape) == 1 or stays_float32(name)
        for each, part in zip(theirs, _parts(file, name, tensor, len(theirs)), strict=True):
            targets[each] = _Target(part, "F32" if is_vector else dtype)
    return targets


def _parts(file: GgufFile, name: str, tensor: GgufTensor, count: int) -> list[GgufTensor]:
    """A tensor as Hugging Face's files have it: experts one by one, a shared expert's gate as a matrix."""
    if name.endswith(SHARED_GATE) and len(tensor.shape) == 1:
        return [GgufTensor((1, *tensor.shape), tensor.type, tensor.data)]
    if not holds_experts(name):
        return [tensor]
    if len(tensor.shape) != 3 or tensor.shape[0] != count:
        raise damaged(
            file.path, f"{name} is {list(tensor.shape)}, allowed: a matrix for each of {count} experts"
        )
    size = len(tensor.data) // count
    return [
        GgufTensor(tensor.shape[1:], tensor.type, tensor.data[at * size : (at + 1) * size])
        for at in range(count)
    ]


def _pieces(
    file: GgufFile, config: DecoderConfig, targets: dict[str, _Target]
) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, one tensor in memory at a time."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, target in targets.items():
        start, end = end, end + target.num_bytes
        header[name] = {"dtype": target.dtype, "shape": list(target.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name, target in targets.items():
        values = values_from_gguf(config, name, target.source.read())
        if not np.isfinite(values).all():
            raise IntegrityError(
                f"{file.path}: the weights {name} hold NaN or infinity", remedy="take another file"
            )
        yield _stored(values, target.dtype).reshape(-1).view(np.uint8).data


def _stored(values: Floats, dtype: str) -> NDArray[np.generic]:
    """Rounded to the nearest, ties to even."""
    values = np.ascontiguousarray(values)
    if dtype != "BF16":
        return values.astype("<f4" if dtype == "F32" else "<f2", copy=False)
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype("<u2")
