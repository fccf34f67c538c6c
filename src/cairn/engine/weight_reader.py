"""Parameters of a checkpoint folder, read one at a time and packed at once for the native core.

Reads safetensors through a memory map, so that memory peaks at the packed model and one matrix in float32.
Joined projections are laid out as `native/model.h` says: heads padded to 16 rows, gate and up in turn by 32.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cairn.core import IntegrityError
from cairn.core.progress import Silent, Task
from cairn.engine.packed_weights import PackedWeights
from cairn.models.mapped_weights import MappedTensor
from cairn.models.tensor_names import Layout

WeightFormat = Literal["float32", "bfloat16", "int8", "int4"]
Array = NDArray[np.float32]
HEAD_ROWS = 16
UNIT = 32


class WeightReader:
    """The parameters named in `shapes`, filled from `stored` by `plan`; matrices from `packed` if there."""

    def __init__(
        self,
        folder: Path,
        stored: Mapping[str, MappedTensor],
        shapes: Mapping[str, tuple[int, ...]],
        plan: Mapping[str, Layout],
        weights: WeightFormat,
        packed: Path | None,
        *,
        head_dim: int,
        gated: bool,
        task: Task | None = None,
    ) -> None:
        self._native = importlib.import_module("cairn._native")
        self._folder, self._stored, self._shapes, self._plan = folder, stored, shapes, plan
        self._format, self._head_dim, self._parts = weights, head_dim, 2 if gated else 1
        self._packed = PackedWeights(packed) if packed else None
        self._task = task or Silent()
        self.matrices: dict[str, Any] = {}
        self._last_stacked: tuple[str, Array] | None = None

    def _norm(self, name: str, offset: float = 0.0) -> Any:
        """An empty norm where the model has none."""
        norm = self._native.Norm()
        if f"{name}.weight" in self._shapes:
            norm.weight = (self._read(f"{name}.weight") + np.float32(offset)).tolist()
        if f"{name}.bias" in self._shapes:
            norm.bias = self._read(f"{name}.bias").tolist()
        return norm

    def _read(self, name: str) -> Array:
        """A parameter in float32, joined from its pieces."""
        layout = self._plan[name]
        if len(layout) == 1 and not layout[0].index:
            return self._piece(layout[0].name, transposed=layout[0].transposed)
        whole = np.empty(self._shapes[name], np.float32)
        for piece in layout:
            whole[piece.index] = self._piece(piece.name, transposed=piece.transposed)
        return whole

    def _stacked(self, name: str) -> Array:
        """The parameter of all experts; the last one read is at hand."""
        if self._last_stacked is None or self._last_stacked[0] != name:
            self._last_stacked = name, self._read(name)
        return self._last_stacked[1]

    def _piece(self, name: str, *, transposed: bool) -> Array:
        values = self._stored[name].read()
        if not np.isfinite(values).all():
            raise IntegrityError(
                f"weights in {self._folder} hold NaN or infinity: {name}",
                remedy="the training that made them diverged; take an earlier checkpoint",
            )
        return values.T if transposed else values

    def _matrix(
        self,
        name: str,
        laid_out: Callable[[Array], Array] = np.ascontiguousarray,
        *,
        expert: int | None = None,
        weights: WeightFormat | None = None,
    ) -> Any:
        """A parameter, or one expert's part of it, rearranged and packed."""
        key = name if expert is None else f"{name}.{expert}"
        if self._packed is not None:
            return self._packed[key]
        values = self._read(name) if expert is None else self._stacked(name)[expert]
        packed = self._native.pack(np.ascontiguousarray(laid_out(values)), weights or self._format)
        self.matrices[key] = packed
        self._task.advance(values.size)
        return packed

    def _pad_heads(self, rows: Array) -> Array:
        return pad_heads(rows, self._head_dim)

    def _interleave(self, rows: Array) -> Array:
        """[gate | up, ...] -> 32 rows of the gate, the same of up, and so on; padded with zeros."""
        halves = rows.reshape(self._parts, -1, rows.shape[1])
        padded = np.pad(halves, ((0, 0), (0, -halves.shape[1] % UNIT), (0, 0)))
        blocks = padded.reshape(self._parts, -1, UNIT, rows.shape[1]).swapaxes(0, 1)
        return np.ascontiguousarray(blocks).reshape(-1, rows.shape[1])


def pad_heads(rows: Array, head_dim: int) -> Array:
    """[heads * D, ...] -> [heads * D', ...], D' the next multiple of 16."""
    heads = rows.reshape(-1, head_dim, rows.shape[1])
    padded = np.pad(heads, ((0, 0), (0, -head_dim % HEAD_ROWS), (0, 0)))
    return padded.reshape(-1, rows.shape[1])
