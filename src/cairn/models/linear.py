"""The matrix product all weights go through, and what it promises on a CPU.

Row invariance: in float32 a row's result does not depend on which or how many rows come with it. MKL
takes other kernels, with other orders of summation, for the one to three rows left over when few rows
are cut into fours; for 32 rows and more, and for multiples of four, all agree bit for bit (measured on
AVX2 with one to four threads). So few rows are padded with zeros to a multiple of eight. It holds within
a process of a fixed number of threads; other BLAS libraries and GPUs are not covered.

A CPU without bfloat16 products emulates them several times slower than float32; there, bfloat16 weights
are multiplied in float32 and the result rounded.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW_ROWS = 32
_ROW_BLOCK = 8


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [T, in] times weight [out, in] transposed, plus bias [out] -> [T, out]."""
    if x.device.type != "cpu":
        return F.linear(x, weight, bias)
    num_rows = x.shape[0]
    if num_rows < _FEW_ROWS and num_rows % _ROW_BLOCK:
        padded = F.pad(x, (0, 0, 0, -num_rows % _ROW_BLOCK))
        return _product(padded, weight, bias)[:num_rows]
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if weight.dtype != torch.bfloat16 or has_bfloat16():
        return F.linear(x, weight, bias)
    product = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    return product.to(x.dtype)


@functools.cache
def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 without emulating it."""
    # The one question torch asks itself before it hands a bfloat16 product to oneDNN.
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear(nn.Module):
    """x W^T + b, its weights left to `Decoder.init_weights` or a checkpoint."""

    def __init__(self, size_in: int, size_out: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size_out, size_in))
        self.bias = nn.Parameter(torch.empty(size_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
