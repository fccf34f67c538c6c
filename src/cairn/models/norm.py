"""RMS norm and layer norm over the last dimension, accumulated in float32 whatever the dtype.

On a CPU torch has no fused RMS norm: its backward pass is a chain of a dozen element-wise
operations. `_RmsNorm` does both passes in as few sweeps over memory as plain torch allows and keeps
only the input and one number a row.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cairn.models.config import DecoderConfig


class Norm(nn.Module):
    """RMS norm (Zhang and Sennrich 2019), or layer norm with a bias (Ba et al. 2016)."""

    def __init__(self, config: DecoderConfig, size: int, *, kind: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size)) if kind == "layer" else None
        self.eps = config.norm_eps
        self.offset = config.norm_offset

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is not None:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        weight = self.weight.float() + self.offset if self.offset else self.weight
        return rms_norm(x, weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension; x [..., N] any dtype, weight [N]."""
    if x.device.type == "cpu":
        return _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call, no-any-return]
    if x.dtype == weight.dtype:
        return F.rms_norm(x, weight.shape, weight, eps)
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = (size.square_() / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        out: Tensor = (wide * inverse).mul_(weight)
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        grad, wide = grad_outputs[0].float(), x.float()
        num = x.shape[-1]
        products = (grad * wide).view(-1, num)
        rows = inverse.view(-1)
        grad_weight = rows @ products
        along = (products @ weight.float()).view_as(inverse)
        # d x = inverse * weight * grad - x * inverse^3 * (sum of weight * grad * x) / N
        grad_x = (grad * weight).mul_(inverse)
        grad_x.addcmul_(wide, along.mul_(inverse.pow(3)).div_(-num))
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None
