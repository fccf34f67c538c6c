"""A checkpoint as a GGUF file that llama.cpp opens: matrices in F16, BF16, Q8_0 or Q4_0, all else in F32.

Quantised as ggml's reference does, so the file holds what llama.cpp's own converter would. A matrix whose
rows are no multiple of 32 stays F16, one that chooses experts F32. Written to a temporary neighbour, synced
and renamed, one matrix in memory at a time. A family, or a setting of one, that llama.cpp would compute in
another way is refused. No torch is needed.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cairn.core import IntegrityError, UnsupportedModelError
from cairn.core.file_writing import replace_file
from cairn.models.config import DecoderConfig
from cairn.models.generation import read_generation_defaults, read_json
from cairn.models.gguf import ARRAY, DEFAULT_ALIGNMENT, MAGIC, STRING
from cairn.models.gguf_blocks import BY_NAME, quantise
from cairn.models.gguf_config import rope_factors
from cairn.models.gguf_keys import gguf_keys
from cairn.models.gguf_names import (
    ROPE_FREQS,
    SHARED_GATE,
    gguf_name,
    holds_experts,
    stays_float32,
    values_to_gguf,
)
from cairn.models.gguf_sampling import sampling_keys
from cairn.models.mapped_weights import MappedTensor, map_weights
from cairn.models.parameters import parameter_shapes
from cairn.models.tensor_names import HEAD, is_buffer
from cairn.models.weight_plan import plan_weights

GgufType = Literal["f16", "bf16", "q8_0", "q4_0"]
_FILE_TYPES: dict[GgufType, int] = {"f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2}
_LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tensor of the file to write."""

    name: str
    shape: tuple[int, ...]
    type: str
    sources: list[str]
    """What it is made of, end to end, by Hugging Face names: one, or one for each expert."""


def export_gguf(folder: Path, path: Path, weights: GgufType, tokenizer: Mapping[str, Any]) -> None:
    """Write the checkpoint in `folder` to `path`; `tokenizer` are the key-values of its tokenizer."""
    config = DecoderConfig.from_hf(read_json(folder / "config.json"))
    keys = {
        **gguf_keys(config),
        "general.file_type": _FILE_TYPES[weights],
        "general.quantization_version": 2,
        **sampling_keys(read_generation_defaults(folder)),
        **tokenizer,
    }
    stored = map_weights(folder)
    plan_weights(config, parameter_shapes(config), stored, folder)
    stored = {name: each for name, each in stored.items() if not is_buffer(name)}
    if config.tie_embeddings:
        stored.pop(HEAD, None)
    replace_file(path, _pieces(config, keys, stored, weights))


def _pieces(
    config: DecoderConfig, keys: Mapping[str, Any], stored: Mapping[str, MappedTensor], weights: GgufType
) -> Iterator[bytes | memoryview]:
    """The bytes of the file, in order."""
    factors = _rope_factors(config)
    planned = list(_plan(config, stored, weights))
    if factors is not None:
        planned.insert(0, _Planned(ROPE_FREQS, factors.shape, "F32", []))
    header = _header(keys, planned)
    yield header + bytes(-len(header) % DEFAULT_ALIGNMENT)
    if factors is not None:
        yield _padded(quantise(factors, "F32"))
    for tensor in planned:
        size = 0
        for name in tensor.sources:
            data = _quantised(config, name, stored[name], tensor.type)
            size += len(data)
            yield data.data
        yield bytes(-size % DEFAULT_ALIGNMENT)


def _plan(config: DecoderConfig, stored: Mapping[str, MappedTensor], weights: GgufType) -> Iterator[_Planned]:
    """The tensors to write; a layer's experts, whose names lie anywhere among the others, become one."""
    sources: dict[str, list[str]] = {}
    for name in stored:
        sources.setdefault(_name(config, name), []).append(name)
    for name, names in sources.items():
        shape = stored[names[0]].shape
        if holds_experts(name):
            names.sort(key=lambda each: int(each.split(".experts.")[1].split(".")[0]))
            shape = (len(names), *shape)
        elif name.endswith(SHARED_GATE):
            shape = shape[1:]
        yield _Planned(name, shape, _block_type(name, shape, weights), names)


def _quantised(config: DecoderConfig, name: str, tensor: MappedTensor, kind: str) -> NDArray[np.uint8]:
    values = values_to_gguf(config, name, tensor.read())
    largest = np.inf if kind in ("F32", "BF16") else _LARGEST_HALF
    if not np.isfinite(values).all() or np.abs(values).max() > largest:
        raise IntegrityError(
            f"weights of {name} are not finite or above {_LARGEST_HALF:g}, which {kind} cannot hold",
            remedy="the training that made them diverged; take an earlier checkpoint",
        )
    return quantise(np.ascontiguousarray(values), kind)


def _name(config: DecoderConfig, name: str) -> str:
    theirs = gguf_name(config.family, name)
    if theirs is None:
        raise UnsupportedModelError(
            f"llama.cpp's {config.family} has no tensor for {name}",
            remedy="only models without it can be written as GGUF",
        )
    return theirs


def _block_type(name: str, shape: tuple[int, ...], weights: GgufType) -> str:
    if len(shape) == 1 or stays_float32(name):
        return "F32"
    return weights.upper() if shape[-1] % BY_NAME[weights.upper()].size == 0 else "F16"


def _rope_factors(config: DecoderConfig) -> NDArray[np.float32] | None:
    """Llama 3's rope scaling, which the file holds as a tensor."""
    rope = config.layers[0].rope
    return rope_factors(rope) if rope and rope.scaling == "llama3" else None


def _header(keys: Mapping[str, Any], planned: Sequence[_Planned]) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", 3, len(planned), len(keys))]
    parts += [_string(key) + _typed(value) for key, value in keys.items()]
    at = 0
    for tensor in planned:
        block, shape = BY_NAME[tensor.type], tensor.shape
        parts += [_string(tensor.name), struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])]
        parts.append(struct.pack("<IQ", block.number, at))
        size = int(np.prod(shape, dtype=np.int64)) // block.size * block.num_bytes
        at += size + -size % DEFAULT_ALIGNMENT
    return b"".join(parts)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _typed(value: Any) -> bytes:
    """A value with its type: flags, u32, f32, texts, and arrays of flags, i32, f32 or texts."""
    if isinstance(value, list):
        kind, packed = _array(value)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + packed
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)


def _array(values: Sequence[Any]) -> tuple[int, bytes]:
    first = values[0] if values else ""
    if isinstance(first, str):
        return STRING, b"".join(map(_string, values))
    if isinstance(first, bool):
        return 7, np.array(values, "?").tobytes()
    return (
        (6, np.array(values, "<f4").tobytes())
        if isinstance(first, float)
        else (
            5,
            np.array(values, "<i4").tobytes(),
        )
    )


def _padded(data: NDArray[np.uint8]) -> bytes:
    return data.tobytes() + bytes(-len(data) % DEFAULT_ALIGNMENT)
