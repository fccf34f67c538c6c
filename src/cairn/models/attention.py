"""Attention over a flat token axis: the protocol the network calls, and its packed form.

The network hands over queries, keys and values of all tokens of a step, normed and rotated; who
calls the network decides what they may see and where keys and values are kept. `PackedAttention`
is the one for whole documents laid end to end: causal within each document, nothing between them.
Used by training, scoring and tests; decoding with a cache is the engine's.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from cairn.models.linear import has_bfloat16
from cairn.models.specs import AttentionSpec

_BLOCK = 256
"""Queries handled at once where a mask or a soft cap forbids the fused causal kernel."""


class Attention(Protocol):
    """What a decoder layer calls."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        """q [T, H, D], k and v [T, K, D] of this step's tokens -> [T, H, D]."""
        ...


class PackedAttention:
    """Causal attention within each of several documents laid end to end.

    `cu_seqlens` are the documents' boundaries, 0 first and the number of tokens last.
    """

    def __init__(self, cu_seqlens: Sequence[int] | Tensor) -> None:
        bounds = [int(bound) for bound in cu_seqlens]
        assert len(bounds) >= 2, "boundaries need a start and an end"
        assert bounds[0] == 0, "the first document starts at 0"
        assert all(start < end for start, end in pairwise(bounds)), "empty document"
        self._num_tokens = bounds[-1]
        self._lengths = [end - start for start, end in pairwise(bounds)]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        assert q.shape[0] == self._num_tokens, f"{q.shape[0]} tokens, boundaries for {self._num_tokens}"
        if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not has_bfloat16():
            return self(layer, q.float(), k.float(), v.float(), spec).to(q.dtype)
        if len(self._lengths) == 1:
            return attend(q, k, v, spec)
        # `split`, not slices: its backward is one concatenation, not a zero-filled sum per document.
        lengths = self._lengths
        documents = zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
        return torch.cat([attend(*document, spec=spec) for document in documents])


def attend(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
    """Causal attention of one document: q [T, H, D], k and v [T, K, D] -> [T, H, D]."""
    num_tokens = q.shape[0]
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    if spec.softcap is None and (spec.window is None or spec.window >= num_tokens):
        out = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=spec.scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out[0].transpose(0, 1)
    blocks = [_attend_block(q, k, v, start, spec) for start in range(0, num_tokens, _BLOCK)]
    return torch.cat(blocks, dim=2)[0].transpose(0, 1)


def _attend_block(q: Tensor, k: Tensor, v: Tensor, start: int, spec: AttentionSpec) -> Tensor:
    """A block of queries against the keys its first and last may see; shapes [1, heads, T, D]."""
    end = min(start + _BLOCK, q.shape[2])
    first = 0 if spec.window is None else max(0, start - spec.window + 1)
    queries = torch.arange(start, end, device=q.device)[:, None]
    keys = torch.arange(first, end, device=q.device)[None, :]
    mask = keys <= queries
    if spec.window is not None:
        mask &= keys > queries - spec.window
    q, k, v = q[:, :, start:end], k[:, :, first:end], v[:, :, first:end]
    if spec.softcap is None:
        gqa = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=spec.scale, enable_gqa=gqa)
    return _attend_capped(q, k, v, mask, spec.scale, spec.softcap)


def _attend_capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float) -> Tensor:
    """Scores bent by softcap * tanh(score / softcap) before the mask; no fused kernel knows that."""
    groups = q.shape[1] // k.shape[1]
    grouped = q.unflatten(1, (k.shape[1], groups))
    scores = (grouped @ k.unsqueeze(2).transpose(-1, -2)).float() * scale
    scores = torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype)
    return (weights @ v.unsqueeze(2)).flatten(1, 2)
