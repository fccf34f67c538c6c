"""Rotary position embedding: the rotation itself, by the frequencies of `rope_frequencies`.

Cosines and sines are float32 and computed once a forward from the positions, shared by all layers
of an equal `RopeSpec`; nothing is tabulated, so no length is fixed and no memory kept. The halves
of a head are rotated against each other, as in the Hugging Face layout (Su et al. 2021).
"""

import functools
from typing import Any

import torch
from torch import Tensor

from cairn.models.rope_frequencies import attention_factor, frequencies_of
from cairn.models.specs import RopeSpec

_CPU = torch.device("cpu")


@functools.cache
@torch.inference_mode(False)
def inverse_frequencies(spec: RopeSpec, device: torch.device = _CPU) -> Tensor:
    """Radians per position, float32 [rotary_dim / 2]; shared, not to be changed.

    Kept for good: a recorded step knows where they lie.
    """
    return torch.from_numpy(frequencies_of(spec)).to(device)


def cos_sin(spec: RopeSpec, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of positions [T], each float32 [T, 1, rotary_dim].

    A head turns into head * cos + swapped * sin, `swapped` being its second half before its first.
    """
    frequencies = inverse_frequencies(spec, positions.device)
    angles = positions[:, None, None].float() * frequencies
    factor = attention_factor(spec)
    cos, sin = angles.cos() * factor, angles.sin() * factor
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads [T, N, D] turned by their positions; the dimensions past the rotary ones pass unchanged."""
    return _Rotate.apply(heads, cos, sin)  # type: ignore[no-untyped-call, no-any-return]


def split_rotated(
    qkv: Tensor, num_heads: int, num_kv_heads: int, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Joined heads [T, H + 2K, D] -> q [T, H, D] and k [T, K, D] turned, v [T, K, D]; all freshly written."""
    parts: tuple[Tensor, Tensor, Tensor] = _SplitRotated.apply(qkv, num_heads, num_kv_heads, cos, sin)  # type: ignore[no-untyped-call]
    return parts


def _turn(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads [T, N, D] turned, in their own dtype; a new tensor."""
    rotary_dim = cos.shape[-1]
    turning = heads[..., :rotary_dim].to(cos.dtype)
    first, second = turning.chunk(2, dim=-1)
    turned = torch.cat((second, first), -1).mul_(sin).addcmul_(turning, cos).to(heads.dtype)
    return turned if rotary_dim == heads.shape[-1] else torch.cat((turned, heads[..., rotary_dim:]), -1)


class _Rotate(torch.autograd.Function):
    """The backward of a rotation is the rotation back, so nothing but the angles is kept."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(heads, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grad_outputs[0], cos, -sin), None, None


class _SplitRotated(torch.autograd.Function):
    """Split and rotation in one sweep each way; the joined projection need not be kept."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, num_heads: int, num_kv_heads: int, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        q, k, v = qkv.split((num_heads, num_kv_heads, num_kv_heads), dim=1)
        return _turn(q, cos, sin), _turn(k, cos, sin), v.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        grad_q, grad_k, grad_v = grad_outputs
        cos, sin = ctx.saved_tensors
        back = -sin
        grad_qkv = torch.cat((_turn(grad_q, cos, back), _turn(grad_k, cos, back), grad_v), 1)
        return grad_qkv, None, None, None, None
