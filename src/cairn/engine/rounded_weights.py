"""Weights in 4 and 8 bits for torch: int4 with the native engine's numbers, and fp8.

int4: w = scale * (nibble - 8), a half-precision scale for 32 inputs, (the value of largest magnitude) / -8,
as `native/layout.h` says: the same numbers bit for bit. A row's groups follow each other, 16 bytes each; byte
b holds input b low and input 16 + b high.

fp8: w = scale * e4m3, a float a row, largest magnitude / 448 (Micikevicius et al. 2022).

A product of decode tokens in int4 is a Triton kernel that widens the weights in registers. In fp8 it is
torch's own with activations rounded to e4m3 a row, on GPUs that multiply e4m3 (compute capability 8.9 and up)
and in bfloat16. Everything else, prompts in int4 too, widens the matrix first: exact activations.
"""

import copy
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cairn.engine.row_tiles import DECODE_ROWS, RowTiles, by_tiles, has_triton, product_of
from cairn.models import Decoder
from cairn.models.layers import Experts
from cairn.models.linear import Linear

RoundedFormat = Literal["fp8", "int4"]
GROUP = 32
KERNEL_ROWS = 16
"""Rows that the int4 kernel computes at a time."""
_LARGEST_HALF = 65504.0
_LARGEST_E4M3 = 448.0


class RoundedMatrix(Protocol):
    """A matrix [N, K] in few bits."""

    @property
    def row_multiple(self) -> int:
        """How many rows a decode step's products take at a time."""
        ...

    @property
    def nbytes(self) -> int: ...

    def widened(self, dtype: torch.dtype, rows: Tensor | None = None) -> Tensor:
        """Its values, or those of some rows."""
        ...

    def product(self, x: Tensor, size: int) -> Tensor:
        """x [T, K] times it transposed -> [T, N], in tiles of `size` rows."""
        ...


@dataclass(frozen=True, slots=True)
class Int4Matrix:
    """Nibbles [N, groups * 16] and scales [N, groups]."""

    nibbles: Tensor
    scales: Tensor
    num_inputs: int

    @classmethod
    def of(cls, values: Tensor) -> "Int4Matrix":
        """Round [N, K]."""
        num_inputs = values.shape[1]
        groups = F.pad(values.float(), (0, -num_inputs % GROUP)).unflatten(1, (-1, GROUP))
        extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
        half = (extreme / -8).clamp(-_LARGEST_HALF, _LARGEST_HALF).half()
        scale = half.float()
        inverse = torch.where(scale == 0, 0, 1 / scale)
        levels = ((groups * inverse).round() + 8).clamp(0, 15).to(torch.uint8)
        nibbles = levels[..., : GROUP // 2] | levels[..., GROUP // 2 :] << 4
        return cls(nibbles.flatten(1), half.squeeze(-1), num_inputs)

    @property
    def row_multiple(self) -> int:
        return KERNEL_ROWS

    @property
    def nbytes(self) -> int:
        return self.nibbles.nbytes + self.scales.nbytes

    def widened(self, dtype: torch.dtype, rows: Tensor | None = None) -> Tensor:
        nibbles, scales = (each if rows is None else each[rows] for each in (self.nibbles, self.scales))
        nibbles = nibbles.unflatten(-1, (-1, GROUP // 2))
        levels = torch.cat((nibbles & 15, nibbles >> 4), -1).float() - 8
        return (levels * scales.float().unsqueeze(-1)).flatten(-2)[..., : self.num_inputs].to(dtype)

    def product(self, x: Tensor, size: int) -> Tensor:
        if size == DECODE_ROWS and has_triton(x.device):
            kernel: Any = import_module("cairn.engine.triton_int4")
            return kernel.product(x, self)  # type: ignore[no-any-return]
        return by_tiles(product_of(self.widened(x.dtype)), x, size)


@dataclass(frozen=True, slots=True)
class Fp8Matrix:
    """e4m3 values [N, K] and float32 scales [N, 1]."""

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, values: Tensor) -> "Fp8Matrix":
        """Round [N, K]."""
        return cls(*_as_e4m3(values))

    @property
    def row_multiple(self) -> int:
        return DECODE_ROWS

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes

    def widened(self, dtype: torch.dtype, rows: Tensor | None = None) -> Tensor:
        values, scales = (each if rows is None else each[rows] for each in (self.values, self.scales))
        return (values.float() * scales).to(dtype)

    def product(self, x: Tensor, size: int) -> Tensor:
        is_aligned = not any(length % 16 for length in self.values.shape)
        if is_aligned and x.dtype == torch.bfloat16 and _multiplies_e4m3(x.device):
            return by_tiles(self.multiplied, x, size)
        return by_tiles(product_of(self.widened(x.dtype)), x, size)

    def multiplied(self, x: Tensor) -> Tensor:
        """x [T, K] rounded to e4m3 a row, times the matrix transposed -> bfloat16 [T, N]."""
        rounded, scales = _as_e4m3(x)
        values, own = self.values.t(), self.scales.t()
        return torch._scaled_mm(rounded, values, scale_a=scales, scale_b=own, out_dtype=torch.bfloat16)


def round_matrix(values: Tensor, weights: RoundedFormat) -> RoundedMatrix:
    """[N, K] in a format."""
    return Int4Matrix.of(values) if weights == "int4" else Fp8Matrix.of(values)


class RoundedLinear(nn.Module):
    """x W^T + b in tiles of the pass under way."""

    def __init__(self, matrix: RoundedMatrix, bias: Tensor | None, tiles: RowTiles) -> None:
        super().__init__()
        self.matrix, self._bias, self._tiles = matrix, bias, tiles

    def forward(self, x: Tensor) -> Tensor:
        out = self.matrix.product(x, self._tiles.size)
        return out if self._bias is None else out.add_(self._bias)


@dataclass(frozen=True, slots=True)
class _Stacked:
    """The matrices of all experts, in place of one parameter."""

    matrices: tuple[RoundedMatrix, ...]

    def unbind(self) -> tuple[RoundedMatrix, ...]:
        return self.matrices


@torch.no_grad()
def rounded_copy(
    model: Decoder, dtype: torch.dtype, tiles: RowTiles, weights: RoundedFormat
) -> tuple[Decoder, RoundedLinear]:
    """The decoder ready to answer with its matrices in a format, and its head; `model` is not touched.

    Routers, gates of one row and learned positions stay as they are, in `dtype` like all vectors.
    """

    def rounded(values: Tensor) -> RoundedMatrix:
        return round_matrix(values.detach(), weights)

    def kept(parameter: Tensor) -> nn.Parameter:
        return nn.Parameter(parameter.detach().to(dtype), requires_grad=False)

    embedding = rounded(model.embedding)
    empty = nn.Parameter(model.embedding.new_empty(0, dtype=dtype), requires_grad=False)
    memo: dict[int, Any] = {id(model.embedding): empty}
    experts: list[tuple[_Stacked, _Stacked]] = []
    for name, module in model.named_modules():
        if isinstance(module, Linear) and name.rpartition(".")[2] not in ("router", "shared_gate"):
            bias = None if module.bias is None else kept(module.bias)
            memo[id(module)] = RoundedLinear(rounded(module.weight), bias, tiles)
            memo |= {id(parameter): empty for parameter in module.parameters()}
        elif isinstance(module, Experts):
            inner, output = (tuple(map(rounded, each.unbind())) for each in (module.inner, module.output))
            experts.append((_Stacked(inner), _Stacked(output)))
            memo |= {id(module.inner): empty, id(module.output): empty}
    memo |= {id(p): kept(p) for p in model.parameters() if id(p) not in memo}
    # deepcopy takes what the memo holds already instead of copying it.
    found: Any = copy.deepcopy(model, memo).eval()
    found.embed = lambda token_ids: embedding.widened(dtype, token_ids)
    for module in found.modules():
        if isinstance(module, Experts):
            del module.inner, module.output
            module.inner, module.output = experts.pop(0)  # type: ignore[assignment]
            module.product = _product  # type: ignore[assignment]
    return found, found.head or RoundedLinear(embedding, None, tiles)


def num_bytes(model: Decoder, head: RoundedLinear) -> int:
    """Memory of a rounded decoder: its matrices, the embedding's, and what stayed as it is."""
    found = [head.matrix]
    if model.head is not None:  # then the embedding takes as much again
        found.append(head.matrix)
    for module in model.layers.modules():
        if isinstance(module, RoundedLinear):
            found.append(module.matrix)
        elif isinstance(module, Experts):
            found += [*module.inner.unbind(), *module.output.unbind()]  # type: ignore[list-item]
    return sum(each.nbytes for each in found) + sum(each.nbytes for each in model.parameters())


def _product(x: Tensor, matrix: RoundedMatrix) -> Tensor:
    return matrix.product(x, DECODE_ROWS)


def _as_e4m3(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [T, K] as e4m3, and their scales [T, 1]."""
    wide = values.float()
    scales = wide.abs().amax(-1, keepdim=True).clamp(min=1e-30) / _LARGEST_E4M3
    return (wide / scales).clamp(-_LARGEST_E4M3, _LARGEST_E4M3).to(torch.float8_e4m3fn), scales


@cache
def _multiplies_e4m3(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)
