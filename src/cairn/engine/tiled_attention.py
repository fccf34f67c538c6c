"""Attention over the paged KV cache in tiles of queries and keys of fixed size: how a GPU computes it.

The cache is that of `paged_attention`, [num_layers, 2, num_blocks, kv_heads, block_size, head_dim], read
where it lies: nothing is gathered first. A tile is a few queries of one sequence, each with the heads that
share a key-value head: one decode token, or prompt tokens from a multiple of the tile size on. Its keys come
in tiles of `KEY_TILE` from multiples of `KEY_TILE` on, first to last, under an online softmax in float32
(Milakov and Gimelshein 2018; Dao et al. 2022).

Numbers do not depend on the batch: a query's place in its tile and the places where its keys are cut follow
from its position, all tiles have one size, and a tile of keys that a query must not see changes no bit of its
result. A decode token's keys are shared out to `SPLITS` programs at most, by their number alone, and what
these found is added up in order (flash-decoding with a split that is the sequence's own).

`attend` is the algorithm in plain torch, for any device; `triton_attention` is the same as a kernel.

Shapes: T tokens of the step, N tiles, H heads, K key-value heads, G = H / K, D head size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cairn.engine.row_tiles import has_triton
from cairn.engine.runner import IntArray, ModelInput
from cairn.models import AttentionSpec

KEY_TILE = 64
SPLITS = 32
"""Programs that share the keys of one decode token, at most."""
ROWS = 64
"""Queries times heads of a tile of prompt tokens, unless more heads share a key-value head."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """N tiles of `size` places, each for queries of one sequence; some places may have none."""

    size: int
    rows: Tensor
    """[N]: the row of the step that place 0 is, or would be."""
    starts: Tensor
    """[N]: the position of place 0 in the sequence."""
    firsts: Tensor
    """[N]: the first place that has a query."""
    stops: Tensor
    """[N]: the place after the last that has one."""
    tables: Tensor
    """[N]: which row of `blocks` is its sequence's block table."""
    blocks: Tensor
    """[sequences, most blocks], of any strides; what lies past a sequence's end is not read."""


class Attend(Protocol):
    """Attention of all tiles, into their rows of `out`."""

    def __call__(
        self, out: Tensor, q: Tensor, keys: Tensor, values: Tensor, tiles: Tiles, spec: AttentionSpec
    ) -> None:
        """q and out [T, H, D]; keys and values [num_blocks, K, block_size, D] of one layer."""
        ...


class TiledAttention:
    """An `Attention` (cairn.models) for one step at a time: `begin` it, then every layer calls."""

    def __init__(self, cache: Tensor, num_heads: int) -> None:
        self.cache = cache
        self.num_kv_heads, self.block_size, self.head_dim = cache.shape[3:]
        self._heads = torch.arange(self.num_kv_heads, device=cache.device)
        self._size = max(1, ROWS * self.num_kv_heads // num_heads)
        self._attend = kernel(cache.device)

    def clear(self, block_ids: list[int]) -> None:
        """Write zeros over blocks."""
        self.cache[:, :, block_ids] = 0

    def copy(self, source: int, target: int) -> None:
        """Everything in one block to another."""
        self.cache[:, :, target] = self.cache[:, :, source]

    def begin_prompts(self, step: ModelInput) -> None:
        """What follows are the rows of the step's prompt spans, the first of them row 0."""
        first = len(step.decode_lens)
        device = self.cache.device
        self._set(
            torch.from_numpy(step.slot_mapping[first:]).to(device),
            prompt_tiles(step, self._size, device),
        )

    def begin_decodes(self, slots: Tensor, lens: Tensor, tables: Tensor) -> None:
        """What follows are decode tokens: their slots [n], keys [n] and block tables [n, most blocks]."""
        rows, one = torch.arange(len(lens), device=lens.device), torch.ones_like(lens)
        self._set(slots, Tiles(1, rows, lens - 1, one - 1, one, tables=rows, blocks=tables))

    def _set(self, slots: Tensor, tiles: Tiles) -> None:
        rows = (slots // self.block_size)[:, None] * self.num_kv_heads + self._heads
        self._slots = (rows * self.block_size + (slots % self.block_size)[:, None]).flatten()
        self._tiles = tiles

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        """q [T, H, D], k and v [T, K, D] -> [T, H, D]."""
        keys, values = self.cache[layer]
        num = len(self._slots) // self.num_kv_heads  # rows after these only fill up a tile of products
        keys.view(-1, self.head_dim).index_copy_(0, self._slots, k[:num].reshape(-1, self.head_dim))
        values.view(-1, self.head_dim).index_copy_(0, self._slots, v[:num].reshape(-1, self.head_dim))
        out = q.new_zeros(q.shape)
        self._attend(out, q, keys, values, self._tiles, spec)
        return out


def prompt_tiles(step: ModelInput, size: int, device: torch.device) -> Tiles:
    """The tiles that the prompt spans of a step lie in; the first span's row is row 0."""
    spans = step.prompt_spans
    blocks = np.zeros((len(spans), max(len(span.block_table) for span in spans)), np.int64)
    parts: list[IntArray] = []
    for index, span in enumerate(spans):
        blocks[index, : len(span.block_table)] = span.block_table
        starts = np.arange(span.start // size * size, span.stop, size, dtype=np.int64)
        rows = span.row - len(step.decode_lens) + starts - span.start
        firsts, stops = np.maximum(span.start - starts, 0), np.minimum(span.stop - starts, size)
        parts.append(np.stack([rows, starts, firsts, stops, np.full_like(starts, index)]))
    rows, starts, firsts, stops, tables = torch.from_numpy(np.concatenate(parts, 1)).to(device)
    return Tiles(size, rows, starts, firsts, stops, tables, torch.from_numpy(blocks).to(device))


def kernel(device: torch.device) -> Attend:
    """The Triton kernel where there is Triton."""
    if has_triton(device):
        found: Any = import_module("cairn.engine.triton_attention")
        return found.attend  # type: ignore[no-any-return]
    return attend


def attend(out: Tensor, q: Tensor, keys: Tensor, values: Tensor, tiles: Tiles, spec: AttentionSpec) -> None:
    """`Attend` in plain torch, all tiles at once, key tile by key tile."""
    num_kv_heads, block_size, head_dim = keys.shape[1:]
    groups, num_tiles = q.shape[1] // num_kv_heads, len(tiles.rows)
    place = torch.arange(tiles.size, device=q.device)
    positions = (tiles.starts[:, None] + place)[..., None]  # [N, size, 1]
    is_query = (place >= tiles.firsts[:, None]) & (place < tiles.stops[:, None])
    rows = torch.where(is_query, tiles.rows[:, None] + place, 0)
    # [N, size, K, G, D] -> [N * K, size * G, D]
    queries = q[rows].unflatten(2, (num_kv_heads, groups)).transpose(1, 2)
    queries = queries.reshape(num_tiles * num_kv_heads, -1, head_dim).float()
    most = queries.new_full((*queries.shape[:2], 1), -torch.inf)
    total, sums = torch.zeros_like(most), torch.zeros_like(queries)
    gather = _gatherer(tiles, block_size, num_kv_heads)
    last = int((tiles.starts + tiles.stops).max())
    for first in range(0, last, KEY_TILE):
        at = first + torch.arange(KEY_TILE, device=q.device)
        is_seen = (at <= positions) & is_query[..., None]
        if spec.window is not None:
            is_seen &= at > positions - spec.window
        mask = is_seen[:, None, :, None].expand(-1, num_kv_heads, -1, groups, -1).reshape(*most.shape[:2], -1)
        scores = torch.bmm(queries, gather(keys, at).transpose(1, 2)) * spec.scale
        if spec.softcap is not None:
            scores = torch.tanh(scores / spec.softcap) * spec.softcap
        scores = scores.masked_fill(~mask, -torch.inf)
        new = torch.maximum(most, scores.amax(-1, keepdim=True))
        base = new.masked_fill(new == -torch.inf, 0)  # nothing seen yet: exp(-inf), not exp(nan)
        weights, decay = torch.exp(scores - base), torch.exp(most - base)
        total = total * decay + weights.sum(-1, keepdim=True)
        sums = sums * decay + torch.bmm(weights, gather(values, at))
        most = new
    found = (sums / total).view(num_tiles, num_kv_heads, tiles.size, groups, head_dim).transpose(1, 2)
    out[rows[is_query]] = found.reshape(num_tiles, tiles.size, -1, head_dim)[is_query].to(out.dtype)


def _gatherer(tiles: Tiles, block_size: int, num_kv_heads: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Keys or values at some positions of every tile's sequence, float32 [N * K, positions, D]."""

    def gather(pool: Tensor, at: Tensor) -> Tensor:
        # Past the end of a table anything will do: the mask hides it.
        wanted = (at // block_size).clamp(max=tiles.blocks.shape[1] - 1)
        blocks = tiles.blocks[tiles.tables][:, wanted]
        found = pool[blocks, :, (at % block_size)].float()  # [N, positions, K, D]
        return found.transpose(1, 2).reshape(len(blocks) * num_kv_heads, len(at), -1)

    return gather
