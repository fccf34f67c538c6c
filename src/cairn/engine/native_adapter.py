"""An adapter as the native core computes it: laid out as the base's matrices are (native/adapters.h)."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cairn.engine.weight_reader import HEAD_ROWS, UNIT, Array, pad_heads
from cairn.models import DecoderConfig
from cairn.models.adapters import AdapterWeights, LowRank, read_adapter

_Part = tuple[int, Array] | None
_Adapted = tuple[Array, list[_Part]] | None
_Layout = tuple[list[int], Callable[[Array], Array]]
"""The bounds of a product's parts, and how the rows of a part are laid out."""


@dataclass(frozen=True, slots=True, eq=False)
class NativeAdapter:
    """An `Adapter` of the native runner."""

    core: Any
    digest: str

    @property
    def num_bytes(self) -> int:
        return int(self.core.num_bytes)


def load_native_adapter(model: Any, config: DecoderConfig, folder: Path, *, exact: bool) -> NativeAdapter:
    """Read an adapter's folder for a native `Model`; kept in float32 if `exact`, else in bfloat16."""
    native: Any = importlib.import_module("cairn._native")
    weights = read_adapter(folder, config)
    layers = [_layer(config, weights, index) for index in range(config.num_layers)]
    return NativeAdapter(
        native.make_adapter(model, layers, "float32" if exact else "bfloat16"), weights.digest
    )


def _layer(config: DecoderConfig, weights: AdapterWeights, index: int) -> list[_Adapted]:
    """The four products of a layer, in the order of `Projection`; of adapted experts two each after them."""
    spec, name = config.layers[index], f"layers.{index}."
    mlp, width = "mlp.{}.weight", spec.intermediate_size
    if spec.experts is not None:
        mlp, width = "mlp.shared.{}.weight", spec.experts.shared_intermediate_size
    query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    products: dict[str, _Layout] = {
        "attention.qkv.weight": (
            [0, query, query + key, query + 2 * key],
            lambda rows: pad_heads(rows, config.head_dim),
        ),
        "attention.output.weight": ([0, config.hidden_size], lambda rows: _padded(rows, HEAD_ROWS)),
    }
    products |= _mlp(config, mlp, width)
    if spec.experts is not None:
        each_expert = {
            product: layout
            for expert in range(spec.experts.num_experts)
            for product, layout in _mlp(config, f"mlp.{{}}.{expert}", spec.experts.intermediate_size).items()
        }
        if any(name + product in weights.low_rank for product in each_expert):
            products |= each_expert
    return [
        _product(weights.low_rank.get(name + product, ()), bounds, laid_out)
        for product, (bounds, laid_out) in products.items()
    ]


def _mlp(config: DecoderConfig, name: str, width: int) -> dict[str, _Layout]:
    """Gate and up, and down, of an MLP whose matrices are called by `name`."""
    inner = [0, width, 2 * width] if config.gated_mlp else [0, width]
    return {
        name.format("inner"): (inner, lambda rows: _padded(rows, UNIT)),
        name.format("output"): ([0, config.hidden_size], lambda rows: _padded(rows, HEAD_ROWS)),
    }


def _product(found: Sequence[LowRank], bounds: Sequence[int], laid_out: Callable[[Array], Array]) -> _Adapted:
    """All A's of a product below each other; of each part its B and where in the low-rank row it reads."""
    if not found:
        return None
    parts: list[_Part] = [None] * (len(bounds) - 1)
    first = 0
    for each in found:
        for part, (start, stop) in enumerate(pairwise(bounds)):
            if each.start <= start and stop <= each.stop:
                rows = each.b[start - each.start : stop - each.start]
                parts[part] = first, np.ascontiguousarray(laid_out(rows))
        first += len(each.a)
    return np.concatenate([each.a for each in found]), parts


def _padded(rows: Array, multiple: int) -> Array:
    return np.pad(rows, ((0, -len(rows) % multiple), (0, 0)))
