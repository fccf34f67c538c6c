"""`tiled_attention.attend` as a Triton kernel. Importing this needs Triton, which comes with torch for CUDA.

A program computes one tile of queries for one key-value head: all its keys, or one share of them where the
tile is a single decode token. Shares are runs of whole key tiles, as long as the token's number of keys says;
`_combine` adds them up in their order. Every size is fixed when the kernel is compiled.

Per call: reads K and V once a tile and head, 4 * D operations a visible key and query head.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from cairn.engine.tiled_attention import KEY_TILE, ROWS, SPLITS, Tiles
from cairn.models import AttentionSpec

_LEAST_TILES = 2
"""Key tiles of a share, at least."""


def attend(out: Tensor, q: Tensor, keys: Tensor, values: Tensor, tiles: Tiles, spec: AttentionSpec) -> None:
    """`Attend`; see there."""
    num_kv_heads, block_size, head_dim = keys.shape[1:]
    num_tokens, num_heads, _ = q.shape
    splits = SPLITS if tiles.size == 1 else 0
    partial = q.new_empty((num_tokens, num_heads, splits, head_dim), dtype=torch.float32)
    # Of each share the largest score and the sum of weights.
    stats = q.new_empty((2, num_tokens, num_heads, splits), dtype=torch.float32)
    grid = (len(tiles.rows), num_kv_heads, max(splits, 1))
    groups = num_heads // num_kv_heads
    rows = max(16, triton.next_power_of_2(groups)) if splits else max(ROWS, triton.next_power_of_2(groups))
    window, padded = spec.window or 0, max(16, triton.next_power_of_2(head_dim))
    _attend[grid](
        out, q, keys, values, partial, stats[0], stats[1],
        tiles.rows, tiles.starts, tiles.firsts, tiles.stops, tiles.tables, tiles.blocks,
        spec.scale, spec.softcap or 0.0,
        q.stride(0), q.stride(1), tiles.blocks.stride(0), tiles.blocks.stride(1),
        num_heads=num_heads, groups=groups, block_size=block_size, head_dim=head_dim, padded=padded,
        rows=rows, key_tile=KEY_TILE, window=window, has_cap=spec.softcap is not None,
        splits=splits, least=_LEAST_TILES,
    )  # fmt: skip
    if splits:
        _combine[(len(tiles.rows), num_heads)](
            out, partial, stats[0], stats[1], tiles.rows, tiles.starts,
            num_heads=num_heads, head_dim=head_dim, padded=padded, key_tile=KEY_TILE, window=window,
            splits=splits, least=_LEAST_TILES,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _first_tile(start, window: tl.constexpr, key_tile: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first key tile that a query at `start` sees anything of."""
    first = start * 0
    if window > 0:
        first = tl.maximum(start - window + 1, 0) // key_tile
    return first


@triton.jit  # type: ignore[untyped-decorator]
def _share(num_tiles, splits: tl.constexpr, least: tl.constexpr):  # type: ignore[no-untyped-def]
    """Key tiles of each share of a decode token's."""
    return tl.maximum((num_tiles + splits - 1) // splits, least)


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    out, q, keys, values, partial, largest, totals,
    tile_rows, tile_starts, tile_firsts, tile_stops, tile_tables, blocks,
    scale, softcap,
    token_stride, head_stride, table_stride, block_stride,
    num_heads: tl.constexpr, groups: tl.constexpr, block_size: tl.constexpr, head_dim: tl.constexpr,
    padded: tl.constexpr, rows: tl.constexpr, key_tile: tl.constexpr, window: tl.constexpr,
    has_cap: tl.constexpr, splits: tl.constexpr, least: tl.constexpr,
):  # fmt: skip
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_kv_heads: tl.constexpr = num_heads // groups
    start = tl.load(tile_starts + tile)
    last_key = start + tl.load(tile_stops + tile)
    begin = _first_tile(start, window, key_tile)
    end = (last_key + key_tile - 1) // key_tile
    if splits > 0:
        share = _share(end - begin, splits, least)
        begin += split * share
        end = tl.minimum(end, begin + share)
        if begin >= end:
            return

    row, dim, place = tl.arange(0, rows), tl.arange(0, padded), tl.arange(0, key_tile)
    head, query_place = kv_head * groups + row % groups, row // groups
    token = tl.load(tile_rows + tile) + query_place
    position = (start + query_place)[:, None]
    is_query = (query_place >= tl.load(tile_firsts + tile)) & (start + query_place < last_key)
    is_dim = dim < head_dim
    is_value = is_query[:, None] & is_dim[None, :]
    where = token[:, None] * token_stride + head[:, None] * head_stride + dim[None, :]
    query = tl.load(q + where, mask=is_value, other=0.0)
    table = blocks + tl.load(tile_tables + tile) * table_stride

    most = tl.full([rows], float("-inf"), tl.float32)
    total = tl.zeros([rows], tl.float32)
    sums = tl.zeros([rows, padded], tl.float32)
    for index in range(begin, end):
        at = index * key_tile + place
        is_key = at < last_key
        block = tl.load(table + at // block_size * block_stride, mask=is_key, other=0)
        line = ((block * num_kv_heads + kv_head) * block_size + at % block_size) * head_dim
        is_there = is_key[:, None] & is_dim[None, :]
        key = tl.load(keys + line[:, None] + dim[None, :], mask=is_there, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        if has_cap:
            # tanh(x) = 1 - 2 / (exp(2 x) + 1)
            scores = softcap * (1 - 2 / (tl.exp(2 * scores / softcap) + 1))
        is_seen = (at[None, :] <= position) & is_query[:, None]
        if window > 0:
            is_seen = is_seen & (at[None, :] > position - window)
        scores = tl.where(is_seen, scores, float("-inf"))
        new = tl.maximum(most, tl.max(scores, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        weights = tl.exp(scores - base[:, None])
        decay = tl.exp(most - base)
        value = tl.load(values + line[:, None] + dim[None, :], mask=is_there, other=0.0)
        total = total * decay + tl.sum(weights, 1)
        sums = sums * decay[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        most = new

    if splits > 0:
        line = (token * num_heads + head) * splits + split
        tl.store(partial + line[:, None] * head_dim + dim[None, :], sums, mask=is_value)
        tl.store(largest + line, most, mask=is_query)
        tl.store(totals + line, total, mask=is_query)
    else:
        line = (token * num_heads + head) * head_dim
        whole = (sums / tl.where(is_query, total, 1.0)[:, None]).to(out.dtype.element_ty)
        tl.store(out + line[:, None] + dim[None, :], whole, mask=is_value)


@triton.jit  # type: ignore[untyped-decorator]
def _combine(  # type: ignore[no-untyped-def]
    out, partial, largest, totals, tile_rows, tile_starts,
    num_heads: tl.constexpr, head_dim: tl.constexpr, padded: tl.constexpr, key_tile: tl.constexpr,
    window: tl.constexpr, splits: tl.constexpr, least: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1)
    token, start = tl.load(tile_rows + tile), tl.load(tile_starts + tile)
    num_tiles = (start + key_tile) // key_tile - _first_tile(start, window, key_tile)
    share = _share(num_tiles, splits, least)
    num_shares = (num_tiles + share - 1) // share
    dim, line = tl.arange(0, padded), (token * num_heads + head) * splits
    most = tl.load(largest + line)
    for split in range(1, num_shares):
        most = tl.maximum(most, tl.load(largest + line + split))
    total = most * 0
    sums = tl.zeros([padded], tl.float32)
    for split in range(0, num_shares):
        weight = tl.exp(tl.load(largest + line + split) - most)
        total += weight * tl.load(totals + line + split)
        found = tl.load(partial + (line + split) * head_dim + dim, mask=dim < head_dim, other=0.0)
        sums += weight * found
    line = (token * num_heads + head) * head_dim
    tl.store(out + line + dim, (sums / total).to(out.dtype.element_ty), mask=dim < head_dim)
