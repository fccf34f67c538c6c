"""Safetensors files through numpy and a memory map: no torch, and nothing read before it is asked for.

The header is checked in full before any tensor is touched: sizes, offsets and overlaps. A file that is cut
short or lies about itself is an `IntegrityError`. bfloat16 and float16 come back as float32, exactly.
Format: https://github.com/huggingface/safetensors (8 bytes of header length, JSON header, data).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core import IntegrityError, NotFoundError, StorageError
from cairn.models.config import DecoderConfig
from cairn.models.generation import read_json
from cairn.models.parameters import parameter_shapes
from cairn.models.tensor_names import HEAD, embedding_names
from cairn.models.weight_paths import weight_paths
from cairn.models.weight_plan import plan_weights

_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MOST_HEADER_BYTES = 100_000_000
_FETCH = "fetch the file again; it was not copied whole"


@dataclass(frozen=True, slots=True)
class MappedTensor:
    """A tensor in a mapped file."""

    shape: tuple[int, ...]
    dtype: str
    data: NDArray[np.uint8]
    """Its bytes in the map."""

    def read(self) -> NDArray[np.float32]:
        """The values in float32 [shape]: a view of the map where they are stored so."""
        if self.dtype == "BF16":
            wide = self.data.view("<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(self.shape)
        stored = self.data.view({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[self.dtype])
        return stored.astype(np.float32, copy=False).reshape(self.shape)


def map_weights(folder: Path) -> dict[str, MappedTensor]:
    """Every tensor of a checkpoint folder by its name; the maps live as long as the tensors do."""
    tensors: dict[str, MappedTensor] = {}
    for path in weight_paths(folder):
        tensors |= map_file(path)
    return tensors


def check_weights(folder: Path) -> DecoderConfig:
    """The config of a checkpoint folder whose weights fit it by name and shape."""
    if not (folder / "config.json").exists():
        raise NotFoundError(f"{folder} holds no config.json", remedy="give the folder of a checkpoint")
    config, stored = DecoderConfig.from_hf(read_json(folder / "config.json")), map_weights(folder)
    plan_weights(config, parameter_shapes(config), stored, folder)
    check_tied_head(config, stored, folder)
    return config


def check_tied_head(config: DecoderConfig, stored: Mapping[str, MappedTensor], folder: Path) -> None:
    """A head stored beside a tied embedding must be that embedding."""
    if not config.tie_embeddings or HEAD not in stored:
        return
    name = next(name for name in embedding_names(config) if name in stored)
    if not np.array_equal(stored[HEAD].read(), stored[name].read()):
        raise IntegrityError(
            f"config.json in {folder} ties the head to the embedding, but {HEAD} differs from it",
            remedy="set tie_word_embeddings to false in config.json",
        )


def map_file(path: Path) -> dict[str, MappedTensor]:
    """Every tensor of a safetensors file by its name."""
    try:
        if path.stat().st_size < 8:
            raise _damaged(path, "it has no header")
        content = np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}", remedy="check the disk and permissions") from None
    start = 8 + int(content[:8].view("<u8")[0])
    if start > len(content) or start > _MOST_HEADER_BYTES:
        raise _damaged(path, f"its header would end at byte {start} of {len(content)}")
    try:
        header = json.loads(content[8:start].tobytes())
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is no JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    data = content[start:]
    tensors = {name: _tensor(path, name, entry, data) for name, entry in header.items()}
    _check_cover(path, header, len(data))
    return tensors


def _tensor(path: Path, name: str, entry: Any, data: NDArray[np.uint8]) -> MappedTensor:
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        first, last = entry["data_offsets"]
        is_sound = all(isinstance(n, int) and n >= 0 for n in (*shape, first, last))
    except (TypeError, KeyError, ValueError):
        raise _damaged(path, f"the entry of {name} is malformed") from None
    if not isinstance(dtype, str) or dtype not in _WIDTHS or not is_sound:
        raise _damaged(path, f"{name} has type {dtype} and shape {list(shape)}")
    if last > len(data) or last - first != math.prod(shape) * _WIDTHS[dtype]:
        raise _damaged(path, f"{name} of shape {list(shape)} lies at bytes {first} to {last} of {len(data)}")
    return MappedTensor(shape, dtype, data[first:last])


def _check_cover(path: Path, header: Mapping[str, Any], num_bytes: int) -> None:
    """Tensors lie end to end: none overlap, and nothing is between them."""
    at = 0
    for first, last in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
        if first != at:
            raise _damaged(path, f"its tensors overlap or leave a gap at byte {min(at, first)}")
        at = last
    if at != num_bytes:
        raise _damaged(path, f"its tensors end at byte {at} of {num_bytes}")


def _damaged(path: Path, how: str) -> IntegrityError:
    return IntegrityError(f"{path} is no whole safetensors file: {how}", remedy=_FETCH)
