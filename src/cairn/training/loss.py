"""Cross-entropy over a large vocabulary without the [tokens, vocabulary] logits.

Chunks of tokens go through the output head, and the gradients of the hidden states and of the
head's weight are made right there, in the forward pass, from the logits of that chunk, as Liger
Kernel (Hsu et al. 2024, arXiv 2410.10989) and Cut Cross-Entropy (Wijmans et al. 2024, arXiv
2411.09009) do. Peak memory is one chunk of logits. Tokens with label -100 cost nothing: they are
left out before the head. Optional z-loss: z * log(Z)^2 per token (PaLM, arXiv 2204.02311).

Not covered: second derivatives, label smoothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cairn.data.packing import IGNORED
from cairn.training.precision import product_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """How the head turns hidden states into logits, and what is added to the loss."""

    softcap: float | None = None
    """Logits become cap * tanh(logits / cap) (Gemma 2)."""
    z_loss: float = 0.0
    chunk_tokens: int = 512


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, options: LossOptions
) -> tuple[Tensor, Tensor]:
    """Summed loss to differentiate (z-loss included) and the summed nats alone, both float32 scalars.

    hidden [T, hidden_size], weight [vocab, hidden_size], labels [T] with -100 where nothing is to be
    predicted. Logits, softmax and the weight's gradient are float32 whatever the inputs are.
    """
    outputs: tuple[Tensor, Tensor] = _ChunkedCrossEntropy.apply(hidden, weight, labels, options)  # type: ignore[no-untyped-call]
    return outputs


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, options: LossOptions
    ) -> tuple[Tensor, Tensor]:
        # Where bfloat16 products are emulated, one float32 copy of the weight is far cheaper.
        dtype = product_dtype(weight.dtype, weight.device)
        head = weight.to(dtype)
        needs_hidden, needs_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        nats = torch.zeros((), dtype=torch.float64, device=hidden.device)
        penalty = torch.zeros_like(nats)
        for rows in _chunks(labels, options.chunk_tokens):
            part = hidden[rows].to(dtype)
            logits = _logits(part, head, options)
            target = logits.gather(1, labels[rows, None]).squeeze(1)
            log_z = torch.logsumexp(logits, dim=1)
            nats += (log_z - target).sum(dtype=torch.float64)
            penalty += log_z.square().sum(dtype=torch.float64)
            if not needs_hidden and not needs_weight:
                continue
            gradient = _to_gradient(logits, log_z, labels[rows], options)
            if grad_hidden is not None:
                grad_hidden[rows] = (gradient.to(dtype) @ head).to(hidden.dtype)
            if grad_weight is not None:
                _add_outer(grad_weight, gradient, part)
        ctx.gradients = (grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        total = (nats + options.z_loss * penalty).float()
        nats = nats.float()
        ctx.mark_non_differentiable(nats)
        return total, nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_hidden, grad_weight = ctx.gradients
        del ctx.gradients
        # The gradients are ours alone and used once, so they are scaled in place.
        for gradient in (grad_hidden, grad_weight):
            if gradient is not None:
                gradient.mul_(grads[0])
        return grad_hidden, grad_weight, None, None


def _chunks(labels: Tensor, chunk_tokens: int) -> list[Any]:
    """Indices of the tokens to predict, in chunks: slices (no copy) when that is all of them."""
    rows = (labels != IGNORED).nonzero().squeeze(1)
    if rows.numel() < labels.numel():
        return list(rows.split(chunk_tokens)) if rows.numel() else []
    return [slice(start, start + chunk_tokens) for start in range(0, labels.numel(), chunk_tokens)]


def _logits(hidden: Tensor, weight: Tensor, options: LossOptions) -> Tensor:
    """Float32 logits [C, vocab] of one chunk, soft-capped where the model does so."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    if options.softcap is not None:
        logits.div_(options.softcap).tanh_().mul_(options.softcap)
    return logits


def _to_gradient(logits: Tensor, log_z: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """d(loss)/d(hidden @ weight.T) of one chunk; takes the place of the logits where it can."""
    slope = None if options.softcap is None else (logits / options.softcap).square_().neg_().add_(1)
    gradient = logits.sub_(log_z[:, None]).exp_()
    if options.z_loss:
        gradient.mul_((1 + 2 * options.z_loss * log_z)[:, None])
    gradient[torch.arange(len(labels), device=labels.device), labels] -= 1
    if slope is not None:
        gradient.mul_(slope)
    return gradient


def _add_outer(total: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    """total [vocab, hidden_size] += gradient [C, vocab]^T hidden [C, hidden_size]."""
    if hidden.dtype == torch.float32:
        total.addmm_(gradient.T, hidden)
    else:
        total += (gradient.to(hidden.dtype).T @ hidden).float()
