"""The matrix product all weights go through, and what it promises on a CPU.

Row invariance: without gradients a row's result in float32 does not depend on which or how many rows come
with it. oneDNN keeps that for two rows and more (measured with AVX2, AVX-512 and AMX, one and two threads),
so a single row gets one of zeros beside it. MKL, which torch asks otherwise, takes other kernels with other
orders of summation for other numbers of rows. Where torch has no oneDNN, and on GPUs, nothing is promised.

A CPU without bfloat16 products emulates them several times slower than float32; there, bfloat16 weights
are multiplied in float32 and the result rounded.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [T, in] times weight [out, in] transposed, plus bias [out] -> [T, out]."""
    if x.device.type == "cpu" and weight.dtype == torch.bfloat16 and not has_bfloat16():
        product = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
        return product.to(x.dtype)
    # oneDNN's operator has no gradient.
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if x.device.type == "cpu" and x.dtype == torch.float32 and not needs_gradient and _has_onednn():
        return onednn_linear(x, weight, bias)
    return F.linear(x, weight, bias)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by oneDNN; `weight` may be in oneDNN's own layout."""
    num_rows = x.shape[0]
    if num_rows == 1:
        x = F.pad(x, (0, 0, 0, 1))
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out[:num_rows]


@functools.cache
def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())


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
