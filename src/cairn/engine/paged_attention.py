"""Attention over the paged KV cache: decode tokens and prompt spans of one step.

Cache: [num_layers, 2, num_blocks, kv_heads, block_size, head_dim]. A step's keys and values are
written to their slots first; then the blocks each query may see are gathered, head by head, and
two batched matrix products attend over them. What decode tokens gathered is kept for the next step: as
long as the same sequences go on together, only their newest keys and values are added to it.

Numbers do not depend on the batch. A decode token is one query against its own keys, padded to a
length that follows from its own position alone. Prompt tokens are computed in tiles of `TILE`
queries that start at multiples of `TILE` in the prompt and are padded to full size, so that neither
the chunks a prompt is cut into nor a cached beginning changes the shape of what computes a token.

On a CPU scores and sums are float32 whatever the cache's dtype; on other devices the fused kernel
of torch does what it does.

Shapes: T tokens of the step, N decode tokens, L keys, H heads, K key-value heads, G = H / K, D head size.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from cairn.engine.runner import ModelInput, PromptSpan
from cairn.models import AttentionSpec

TILE = 64


@dataclass(frozen=True, slots=True)
class _DecodeGroup:
    """Decode tokens `rows` of the step, all with equally many (padded) keys."""

    rows: slice
    lens: Tensor
    """[n, 1]: keys of each sequence, the newest included."""
    positions: Tensor
    """[n, blocks]: where in its sequence each block begins."""
    tables: Tensor
    """[n, blocks]"""
    newest: Tensor
    """[n * K]: the newest key's row in what was gathered, seen as [n * K * L, D]."""
    mask: Tensor
    """[n * K, 1, L], 0 or -inf."""
    gathered: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values by layer, each [n * K, L, D]."""

    def follows(self, last: "_DecodeGroup") -> bool:
        """Whether these are the last step's sequences, each one token further."""
        if self.tables.shape != last.tables.shape or not torch.equal(self.lens, last.lens + 1):
            return False
        unused = last.positions >= last.lens
        same_blocks = bool(((self.tables == last.tables) | unused).all())
        return same_blocks and torch.equal(self.positions, last.positions)


@dataclass(frozen=True, slots=True)
class _Span:
    """A prompt span, with its gather index [K * blocks] and the tiles it lies in."""

    rows: slice
    start: int
    stop: int
    first: int
    """Start of the first tile."""
    last: int
    """End of the last tile."""
    blocks: Tensor


class PagedAttention:
    """An `Attention` (cairn.models) for one step at a time: `begin` it, then every layer calls."""

    def __init__(self, cache: Tensor) -> None:
        self.cache = cache
        self.num_kv_heads, self.block_size, self.head_dim = cache.shape[3:]
        self._heads = torch.arange(self.num_kv_heads, device=cache.device)
        self._groups: dict[int | None, list[_DecodeGroup]] = {}
        self._had_drafts = False

    def clear(self, block_ids: list[int]) -> None:
        """Write zeros over blocks."""
        self._groups = {}
        self.cache[:, :, block_ids] = 0

    def copy(self, source: int, target: int) -> None:
        """Everything in one block to another."""
        self._groups = {}
        self.cache[:, :, target] = self.cache[:, :, source]

    def begin(self, step: ModelInput) -> None:
        """Put the step's slots, tables and lengths where the layers need them."""
        self._step = step
        slots = torch.from_numpy(step.slot_mapping).to(self.cache.device)
        rows = (slots // self.block_size)[:, None] * self.num_kv_heads + self._heads
        self._slots = (rows * self.block_size + (slots % self.block_size)[:, None]).flatten()
        # What guesses have written may be written again by other tokens: such a step is no one's beginning.
        self._last_groups = {} if self._had_drafts else self._groups
        self._had_drafts, self._groups = step.num_drafted > 0, {}
        self._spans = [self._span(span) for span in step.prompt_spans]
        self._tile_masks: dict[tuple[int, int | None, int], Tensor] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        """q [T, H, D], k and v [T, K, D] -> [T, H, D]."""
        keys, values = self.cache[layer].view(2, -1, self.head_dim)
        keys.index_copy_(0, self._slots, k.reshape(-1, self.head_dim))
        values.index_copy_(0, self._slots, v.reshape(-1, self.head_dim))
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        if spec.window not in self._groups:
            self._groups[spec.window] = self._decode_groups(spec.window)
        for group in self._groups[spec.window]:
            out[group.rows] = self._decode(layer, q[group.rows], k[group.rows], v[group.rows], group, spec)
        for span in self._spans:
            out[span.rows] = self._prefill(layer, q[span.rows], span, spec)
        return out

    def _block_rows(self, tables: Tensor) -> Tensor:
        """Block tables [..., blocks] -> [... * K * blocks], rows of one layer's keys or values."""
        return (tables.unsqueeze(-2) * self.num_kv_heads + self._heads[:, None]).flatten()

    def _gather(self, layer: int, blocks: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Keys and values of `num` runs of blocks, each [num, L, D] in the cache's dtype."""
        keys, values = self.cache[layer].view(2, -1, self.block_size * self.head_dim)
        k = keys.index_select(0, blocks).view(num, -1, self.head_dim)
        v = values.index_select(0, blocks).view(num, -1, self.head_dim)
        return k, v

    def _decode_groups(self, window: int | None) -> list[_DecodeGroup]:
        """Cut the decode tokens, which come in order of length, where the padded length changes."""
        lens = self._step.decode_lens.tolist()
        num_keys = [padded_length(num if window is None else min(num, window)) for num in lens]
        bounds = [i for i in range(1, len(lens)) if num_keys[i] != num_keys[i - 1]]
        return [
            self._decode_group(slice(start, stop), num_keys[start], window)
            for start, stop in pairwise([0, *bounds, len(lens)])
            if start < stop
        ]

    def _decode_group(self, rows: slice, num_keys: int, window: int | None) -> _DecodeGroup:
        device = self.cache.device
        lens = torch.from_numpy(self._step.decode_lens[rows])[:, None]
        starts = torch.zeros_like(lens) if window is None else (lens - window).clamp_(min=0)
        # The first key in sight may lie anywhere in its block, so a window may touch one block more.
        num_blocks = -(-num_keys // self.block_size) + (window is not None)
        first = starts // self.block_size
        wanted = first + torch.arange(num_blocks)
        tables = torch.from_numpy(self._step.decode_tables[rows])
        tables = tables.gather(1, wanted.clamp(max=tables.shape[1] - 1))
        width = num_blocks * self.block_size
        positions = first * self.block_size + torch.arange(width)
        visible = (positions >= starts) & (positions < lens)
        mask = _additive(visible).repeat_interleave(self.num_kv_heads, 0).unsqueeze(1)
        newest = (lens - 1 - first * self.block_size).repeat_interleave(self.num_kv_heads)
        newest = newest + torch.arange(len(newest)) * width
        group = _DecodeGroup(rows, lens, wanted * self.block_size, tables, newest.to(device), mask.to(device))
        for last in self._last_groups.get(window, ()):
            if group.follows(last):
                return replace(group, gathered=last.gathered)
        return group

    def _decode(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, group: _DecodeGroup, spec: AttentionSpec
    ) -> Tensor:
        """q [n, H, D], k and v [n, K, D]: one query each, against its own sequence's keys."""
        num = q.shape[0] * self.num_kv_heads
        if layer in group.gathered:
            for kept, new in zip(group.gathered[layer], (k, v), strict=True):
                kept.view(-1, self.head_dim).index_copy_(0, group.newest, new.reshape(-1, self.head_dim))
        else:
            blocks = self._block_rows(group.tables.to(q.device))
            group.gathered[layer] = self._gather(layer, blocks, num)
        keys, values = group.gathered[layer]
        return _attend(q.reshape(num, -1, self.head_dim), keys, values, group.mask, spec).view(q.shape)

    def _span(self, span: PromptSpan) -> _Span:
        first = span.start // TILE * TILE
        last = -(-span.stop // TILE) * TILE
        table = torch.from_numpy(span.block_table)
        # Block 0 stands in for what the last tile reaches beyond the prompt; the mask hides it.
        table = F.pad(table, (0, -(-last // self.block_size) - len(table))).to(self.cache.device)
        rows = slice(span.row, span.row + span.stop - span.start)
        return _Span(rows, span.start, span.stop, first, last, self._block_rows(table))

    def _prefill(self, layer: int, q: Tensor, span: _Span, spec: AttentionSpec) -> Tensor:
        """q [rows, H, D] of one prompt, tile by tile, against the keys up to each tile's end."""
        k, v = self._gather(layer, span.blocks, self.num_kv_heads)
        groups = q.shape[1] // self.num_kv_heads
        padded = F.pad(q, (0, 0, 0, 0, span.start - span.first, span.last - span.stop))
        # The queries of a group lie side by side: tile by tile [K, G * TILE, D].
        tiles = padded.view(-1, TILE, self.num_kv_heads, groups, self.head_dim).permute(0, 2, 3, 1, 4)
        outputs = []
        for start, tile in zip(range(span.first, span.last, TILE), tiles, strict=True):
            seen = slice(_first_key(start, spec.window), start + TILE)
            mask = self._tile_mask(start, spec.window, groups)
            outputs.append(
                _attend(
                    tile.reshape(self.num_kv_heads, -1, self.head_dim), k[:, seen], v[:, seen], mask, spec
                )
            )
        out = torch.stack(outputs).view(len(outputs), self.num_kv_heads, groups, TILE, self.head_dim)
        out = out.permute(0, 3, 1, 2, 4).reshape(padded.shape)
        return out[span.start - span.first : span.stop - span.first]

    def _tile_mask(self, start: int, window: int | None, groups: int) -> Tensor:
        """[1, G * TILE, L] for the tile at `start`; the layers of a step share it."""
        found = self._tile_masks.get((start, window, groups))
        if found is None:
            queries = torch.arange(start, start + TILE)[:, None]
            keys = torch.arange(_first_key(start, window), start + TILE)
            visible = keys <= queries
            if window is not None:
                visible &= keys > queries - window
            found = _additive(visible).repeat(groups, 1).unsqueeze(0).to(self.cache.device)
            self._tile_masks[start, window, groups] = found
        return found


def padded_length(num_keys: int) -> int:
    """Keys a decode token is computed with: few distinct numbers, less than half as many again beyond 128."""
    granule = max(64, 1 << (num_keys.bit_length() - 2))
    return -(-num_keys // granule) * granule


def _first_key(start: int, window: int | None) -> int:
    """The first key that the tile at `start` looks at, a multiple of `TILE`."""
    return 0 if window is None else max(0, start - window + 1) // TILE * TILE


def _additive(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape).masked_fill_(~visible, -torch.inf)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, spec: AttentionSpec) -> Tensor:
    """q [N, Q, D], k and v [N, L, D], mask [N or 1, Q or 1, L] -> [N, Q, D]."""
    if q.device.type != "cpu" and spec.softcap is None:
        wide = mask.to(q.dtype).expand(q.shape[0], q.shape[1], -1)
        return F.scaled_dot_product_attention(q[None], k[None], v[None], wide[None], scale=spec.scale)[0]
    dtype, keys = q.dtype, k.float().transpose(1, 2)
    if spec.softcap is None:
        scores = torch.baddbmm(mask, q.float(), keys, alpha=spec.scale)
    else:
        scores = (
            torch.bmm(q.float(), keys).mul_(spec.scale / spec.softcap).tanh_().mul_(spec.softcap).add_(mask)
        )
    return torch.bmm(scores.softmax(-1), v.float()).to(dtype)
