"""Products in tiles of a fixed number of rows: how a row's bits stay its own on a GPU.

A BLAS picks its kernel, and with it the order of summation, by the shape of the product. So every product has
one shape: rows are cut into tiles, the last one filled up with zeros. A decode token is multiplied in a tile
of `DECODE_ROWS` whatever comes with it, a prompt token in one of `PROMPT_ROWS`; a token is always the one or
the other. That a row's result does not depend on its place in a tile holds for the kernels there are, and is
tested where there is a GPU.

A decode step is bound by reading the weights, which `DECODE_ROWS` rows do not change: padding costs little.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECODE_ROWS = 64
PROMPT_ROWS = 256

Product = Callable[[Tensor], Tensor]
"""x [rows, in] -> [rows, out]."""


@dataclass(slots=True)
class RowTiles:
    """The size of tiles in the pass under way."""

    size: int = DECODE_ROWS


def has_triton(device: torch.device) -> bool:
    """Whether Triton kernels run here: on a GPU, or anywhere in Triton's interpreter."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return find_spec("triton") is not None and (device.type == "cuda" or interpreted)


def product_of(weight: Tensor, bias: Tensor | None = None) -> Product:
    """x W^T + b."""
    return partial(F.linear, weight=weight, bias=bias)


def by_tiles(product: Product, x: Tensor, size: int = DECODE_ROWS) -> Tensor:
    """x [T, in] -> [T, out], tile by tile; T is at least 1."""
    num_rows = x.shape[0]
    missing = -num_rows % size
    whole = F.pad(x, (0, 0, 0, missing)) if missing else x
    if len(whole) == size:
        return product(whole)[:num_rows]
    return torch.cat([product(tile) for tile in whole.split(size)])[:num_rows]


def tiled_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T in tiles for decode tokens."""
    return by_tiles(product_of(weight), x)


class TiledLinear(nn.Module):
    """A product in tiles of the pass under way."""

    def __init__(self, product: Product, tiles: RowTiles) -> None:
        super().__init__()
        self._product, self._tiles = product, tiles

    def forward(self, x: Tensor) -> Tensor:
        return by_tiles(self._product, x, self._tiles.size)
