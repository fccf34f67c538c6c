"""The parts of a decoder layer: attention's projections, the MLP and the mixture of experts.

Projections that read the same input are one matrix: queries, keys and values; gate and up. The
checkpoint code joins and splits them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cairn.models.config import DecoderConfig
from cairn.models.linear import Linear, linear
from cairn.models.norm import Norm
from cairn.models.rope import rotate, split_rotated
from cairn.models.specs import ExpertsSpec, LayerSpec

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of a step's positions."""


class SelfAttention(nn.Module):
    """Projections, query and key norms, rotation; the attending itself is the caller's."""

    def __init__(self, config: DecoderConfig, spec: LayerSpec) -> None:
        super().__init__()
        query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.qkv = Linear(config.hidden_size, query + 2 * key, bias=config.qkv_bias)
        self.output = Linear(query, config.hidden_size, bias=config.attention_output_bias)
        self.q_norm = self.k_norm = None
        if config.qk_norm != "none":
            is_full = config.qk_norm == "full"
            self.q_norm = Norm(config, query if is_full else config.head_dim, kind="rms")
            self.k_norm = Norm(config, key if is_full else config.head_dim, kind="rms")
        self._norms_heads = config.qk_norm == "head"
        self._num_heads, self._num_kv_heads = config.num_heads, config.num_kv_heads
        self._head_dim = config.head_dim

    def project(self, x: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """x [T, hidden] -> q [T, H, D], k and v [T, K, D], normed and rotated."""
        heads = (self._num_heads, self._num_kv_heads, self._num_kv_heads)
        qkv = self.qkv(x).unflatten(-1, (sum(heads), self._head_dim))
        if self.q_norm is None or self.k_norm is None:
            if angles is None:
                q, k, v = qkv.split(heads, dim=1)
                return q, k, v
            return split_rotated(qkv, self._num_heads, self._num_kv_heads, *angles)
        q, k, v = qkv.split(heads, dim=1)
        if self._norms_heads:
            q, k = self.q_norm(q), self.k_norm(k)
        else:
            q = self.q_norm(q.flatten(1)).view_as(q)
            k = self.k_norm(k.flatten(1)).view_as(k)
        return (q, k, v) if angles is None else (rotate(q, *angles), rotate(k, *angles), v)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


def activate(inner: Tensor, activation: str, *, gated: bool) -> Tensor:
    """The inner activation of an MLP: act(x), or act(gate) * up where [..., gate | up] came in."""
    if not gated:
        return _ACTIVATIONS[activation](inner)
    if activation == "silu":
        return _SwiGLU.apply(inner)  # type: ignore[no-untyped-call, no-any-return]
    gate, up = inner.chunk(2, dim=-1)
    return _ACTIVATIONS[activation](gate) * up


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020), keeping only its input and writing one gradient for both halves."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor) -> Tensor:
        ctx.save_for_backward(inner)
        gate, up = inner.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (grad,) = grad_outputs
        (inner,) = ctx.saved_tensors
        gate, up = inner.chunk(2, dim=-1)
        grad_inner = torch.empty_like(inner)
        grad_gate, grad_up = grad_inner.chunk(2, dim=-1)
        # The gate's half of the result serves as the only scratch space.
        torch.ops.aten.silu.out(gate, out=grad_gate)
        torch.mul(grad, grad_gate, out=grad_up)
        torch.mul(grad, up, out=grad_gate)
        torch.ops.aten.silu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        return grad_inner


class Mlp(nn.Module):
    """The dense MLP, gated or plain."""

    def __init__(self, config: DecoderConfig, width: int, *, bias: bool) -> None:
        super().__init__()
        self.inner = Linear(config.hidden_size, width * (2 if config.gated_mlp else 1), bias=bias)
        self.output = Linear(width, config.hidden_size, bias=bias)
        self._activation, self._gated = config.activation, config.gated_mlp

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output(activate(self.inner(x), self._activation, gated=self._gated))
        return out


class Experts(nn.Module):
    """A router and its experts; tokens are sorted by expert, so each expert is two matrix products."""

    product: Callable[[Tensor, Tensor], Tensor] = staticmethod(linear)
    """x [T, in] times an expert's matrix [out, in] transposed."""
    change: Callable[[str, int, Tensor, Tensor, Tensor], None] | None = None
    """May change y in place; told of each product: inner or output, the expert, its tokens' rows, x, y."""

    def __init__(self, config: DecoderConfig, spec: ExpertsSpec) -> None:
        super().__init__()
        self.spec = spec
        width, hidden = spec.intermediate_size, config.hidden_size
        inner = width * (2 if config.gated_mlp else 1)
        self.router = Linear(hidden, spec.num_experts, bias=False)
        self.inner = nn.Parameter(torch.empty(spec.num_experts, inner, hidden))
        self.output = nn.Parameter(torch.empty(spec.num_experts, hidden, width))
        self.shared = self.shared_gate = None
        if spec.shared_intermediate_size:
            self.shared = Mlp(config, spec.shared_intermediate_size, bias=False)
            self.shared_gate = Linear(hidden, 1, bias=False)
        self._activation, self._gated = config.activation, config.gated_mlp

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, hidden] -> the same shape, and [2, E]: choices of and probability given to each expert."""
        probabilities = self.router(x).float().softmax(-1)
        weights, chosen = probabilities.topk(self.spec.num_experts_per_token, dim=-1)
        if self.spec.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        counts = torch.bincount(chosen.flatten(), minlength=self.spec.num_experts)
        out = self._dispatch(x, chosen, weights.to(x.dtype), counts)
        if self.shared is not None and self.shared_gate is not None:
            out = out + _gate(x, self.shared_gate.weight) * self.shared(x)
        return out, torch.stack((counts.float(), probabilities.sum(0)))

    def _dispatch(self, x: Tensor, chosen: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Each token through its experts; summed in the router's order, whoever else is in the batch."""
        order = chosen.flatten().argsort(stable=True)
        rows, sizes = order // chosen.shape[1], counts.tolist()
        # `unbind`, not indexing: its backward writes the experts' gradients once, not once an expert.
        matrices = zip(self.inner.unbind(), self.output.unbind(), strict=True)
        experts = zip(rows.split(sizes), x[rows].split(sizes), matrices, strict=True)
        outputs = [self._expert(i, *expert) for i, expert in enumerate(experts) if len(expert[0])]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        by_token = torch.cat(outputs)[back].view(*chosen.shape, x.shape[-1])
        return (by_token * weights.unsqueeze(-1)).sum(1)

    def _expert(self, expert: int, rows: Tensor, x: Tensor, matrices: tuple[Tensor, Tensor]) -> Tensor:
        def product(part: str, x: Tensor, matrix: Tensor) -> Tensor:
            y = self.product(x, matrix)
            if self.change is not None:
                self.change(part, expert, rows, x, y)
            return y

        inner, output = matrices
        hidden = activate(product("inner", x, inner), self._activation, gated=self._gated)
        return product("output", hidden, output)


def _gate(x: Tensor, weight: Tensor) -> Tensor:
    """sigmoid(x weight^T) for weight [1, hidden] -> [T, 1], row by row.

    A product with one column, and a sigmoid over a flat axis, take other kernels for other numbers of
    rows; a sum and a softmax over the last axis do not.
    """
    scores = (x.float() * weight.float()).sum(-1, keepdim=True)
    return F.pad(scores, (0, 1)).softmax(-1)[:, :1].to(x.dtype)
