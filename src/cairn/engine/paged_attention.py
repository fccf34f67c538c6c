"""Attention over the paged KV cache: decode tokens and prompt spans of one step.

Cache: [num_layers, 2, num_blocks, block_size, kv_heads, head_dim]. A step's keys and values are
written to their slots first; then every query gathers the blocks of its own sequence.

Numbers do not depend on the batch: a decode token is one query against its own keys, and prompt
tokens are computed in tiles of `TILE` queries that start at multiples of `TILE` in the prompt and
are padded to full size, so that neither the chunks a prompt is cut into nor a cached beginning
changes the shape of what computes a token.

Shapes: T tokens of the step, N decode tokens, L keys, H heads, K key-value heads, G = H / K, D head size.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cairn.engine.runner import ModelInput, PromptSpan
from cairn.models import AttentionSpec

TILE = 64


class PagedAttention:
    """An `Attention` (cairn.models) for one step at a time: `begin` it, then every layer calls."""

    def __init__(self, cache: Tensor) -> None:
        self.cache = cache
        self.block_size = cache.shape[3]

    def begin(self, step: ModelInput) -> None:
        """Put the step's slots, tables and lengths where the layers need them."""
        device = self.cache.device
        self._num_decodes = step.num_decode_tokens
        self._slots = torch.from_numpy(step.slot_mapping).to(device)
        self._decode_tables = torch.from_numpy(step.decode_tables).to(device)
        self._decode_lens = torch.from_numpy(step.decode_lens).to(device)
        self._spans = [(span, torch.from_numpy(span.block_table).to(device)) for span in step.prompt_spans]
        self._masks: dict[int | None, Tensor] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        keys, values = self.cache[layer]
        keys.flatten(0, 1).index_copy_(0, self._slots, k)
        values.flatten(0, 1).index_copy_(0, self._slots, v)
        out = torch.zeros_like(q)
        if self._num_decodes:
            out[: self._num_decodes] = self._decode(q[: self._num_decodes], keys, values, spec)
        for span, table in self._spans:
            rows = slice(span.row, span.row + span.stop - span.start)
            out[rows] = self._prefill(q[rows], keys[table], values[table], span, spec)
        return out

    def _decode(self, q: Tensor, keys: Tensor, values: Tensor, spec: AttentionSpec) -> Tensor:
        """q [N, H, D]: one query each, against its own sequence's keys."""
        k = keys[self._decode_tables].flatten(1, 2)
        v = values[self._decode_tables].flatten(1, 2)
        grouped = q.unflatten(1, (k.shape[2], -1))
        if spec.window not in self._masks:
            self._masks[spec.window] = self._decode_mask(k.shape[1], spec.window, q.dtype)
        mask = self._masks[spec.window]
        return _attend(grouped, k.transpose(1, 2), v.transpose(1, 2), mask, spec).flatten(1, 2)

    def _decode_mask(self, num_keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
        keys = torch.arange(num_keys, device=self.cache.device)
        lens = self._decode_lens[:, None]
        visible = keys < lens
        if window is not None:
            visible &= keys >= lens - window
        return _additive(visible, dtype)[:, None, None]

    def _prefill(self, q: Tensor, k: Tensor, v: Tensor, span: PromptSpan, spec: AttentionSpec) -> Tensor:
        """q [rows, H, D] of one prompt against k and v [blocks, block_size, K, D], tile by tile."""
        first = span.start // TILE * TILE
        last = math.ceil(span.stop / TILE) * TILE
        padded = F.pad(q, (0, 0, 0, 0, span.start - first, last - span.stop))
        k, v = (
            F.pad(x.flatten(0, 1), (0, 0, 0, 0, 0, max(0, last - x.shape[0] * x.shape[1]))) for x in (k, v)
        )
        outputs = [
            self._tile(padded[start - first : start - first + TILE], k, v, start, spec)
            for start in range(first, last, TILE)
        ]
        return torch.cat(outputs)[span.start - first : span.stop - first]

    def _tile(self, q: Tensor, k: Tensor, v: Tensor, start: int, spec: AttentionSpec) -> Tensor:
        """q [TILE, H, D] of the tokens from `start` on, against keys up to the tile's end."""
        stop = start + TILE
        queries = torch.arange(start, stop, device=q.device)[:, None]
        keys = torch.arange(stop, device=q.device)
        visible = keys <= queries
        if spec.window is not None:
            visible &= keys > queries - spec.window
        groups = q.shape[1] // k.shape[1]
        # The queries of a group lie side by side: [1, K, G * TILE, D].
        grouped = q.unflatten(1, (k.shape[1], groups)).permute(1, 2, 0, 3).flatten(1, 2).unsqueeze(0)
        mask = _additive(visible, q.dtype).repeat(groups, 1)
        out = _attend(
            grouped, k[:stop].transpose(0, 1).unsqueeze(0), v[:stop].transpose(0, 1).unsqueeze(0), mask, spec
        )
        return out[0].unflatten(1, (groups, TILE)).permute(2, 0, 1, 3).flatten(1, 2)


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, spec: AttentionSpec) -> Tensor:
    """q [N, K, Q, D], k and v [N, K, L, D], mask broadcast to [N, K, Q, L] -> [N, K, Q, D]."""
    if spec.softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=spec.scale)
    scores = (q @ k.transpose(-1, -2)).float() * spec.scale
    scores = torch.tanh(scores / spec.softcap) * spec.softcap + mask
    return scores.softmax(-1).to(v.dtype) @ v
