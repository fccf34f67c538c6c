"""A product with int4 weights as a Triton kernel: nibbles and scales are read, values exist in registers.

A program computes 16 rows of x times 32 of the matrix over one share of the inputs, 256 at a time; the sums
of the shares are added in their order. How many shares there are follows from the matrix alone, so that small
ones keep a GPU busy too. A row's result depends on nothing else in the batch.

Per call: reads 0.5625 bytes a weight once for every 16 rows of x (from the cache but for the first).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from cairn.engine.rounded_weights import GROUP, KERNEL_ROWS, Int4Matrix

OUTPUTS = 32
_GROUPS = 8
_PROGRAMS = 512
"""Programs that a matrix is worth at least, as long as each has `_LEAST` inputs."""
_LEAST = 512
_ADDED = 1024


def product(x: Tensor, matrix: Int4Matrix) -> Tensor:
    """x [T, K] times the matrix [N, K] transposed -> [T, N], in the dtype of x."""
    num_rows, num_outputs = x.shape[0], matrix.nibbles.shape[0]
    num_groups = matrix.scales.shape[1]
    steps = triton.cdiv(num_groups, _GROUPS)
    tiles = triton.cdiv(num_outputs, OUTPUTS)
    shares = max(1, min(triton.cdiv(_PROGRAMS, tiles), num_groups * GROUP // _LEAST))
    sums = x.new_empty((shares, num_rows, num_outputs), dtype=torch.float32)
    x = x.contiguous()
    # Programs of the same weights follow each other.
    _product[(triton.cdiv(num_rows, KERNEL_ROWS), tiles, shares)](
        sums, x, matrix.nibbles, matrix.scales, num_rows,
        num_outputs=num_outputs, num_inputs=matrix.num_inputs, num_groups=num_groups,
        steps=triton.cdiv(steps, shares), rows=KERNEL_ROWS, outputs=OUTPUTS, groups=_GROUPS,
    )  # fmt: skip
    out = x.new_empty((num_rows, num_outputs))
    _add_up[(triton.cdiv(out.numel(), _ADDED),)](out, sums, out.numel(), shares=shares, added=_ADDED)
    return out


@triton.jit  # type: ignore[untyped-decorator]
def _product(  # type: ignore[no-untyped-def]
    sums, x, nibbles, scales, num_rows,
    num_outputs: tl.constexpr, num_inputs: tl.constexpr, num_groups: tl.constexpr, steps: tl.constexpr,
    rows: tl.constexpr, outputs: tl.constexpr, groups: tl.constexpr,
):  # fmt: skip
    share = tl.program_id(2)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    output = tl.program_id(1) * outputs + tl.arange(0, outputs)
    byte = tl.arange(0, groups * 16)
    is_row, is_output = row < num_rows, output < num_outputs
    line = output.to(tl.int64)
    total = tl.zeros([rows, outputs], tl.float32)
    for step in range(steps):
        first = (share * steps + step) * groups
        group = first + byte // 16
        is_there = (group < num_groups)[None, :] & is_output[:, None]
        where = line[:, None] * (num_groups * 16) + first * 16 + byte[None, :]
        both = tl.load(nibbles + where, mask=is_there, other=0)
        scale = tl.load(scales + line[:, None] * num_groups + group[None, :], mask=is_there, other=0.0)
        scale = scale.to(tl.float32)
        for half in tl.static_range(2):
            place = group * 32 + half * 16 + byte % 16
            is_input = is_row[:, None] & (place < num_inputs)[None, :]
            inputs = tl.load(x + row[:, None] * num_inputs + place[None, :], mask=is_input, other=0.0)
            levels = ((both >> (4 * half)) & 15).to(tl.float32) - 8.0
            weights = (levels * scale).to(inputs.dtype)
            total += tl.dot(inputs, tl.trans(weights), input_precision="ieee")
    where = (share * num_rows + row.to(tl.int64))[:, None] * num_outputs + output[None, :]
    tl.store(sums + where, total, mask=is_row[:, None] & is_output[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def _add_up(out, sums, size, shares: tl.constexpr, added: tl.constexpr):  # type: ignore[no-untyped-def]
    place = tl.program_id(0).to(tl.int64) * added + tl.arange(0, added)
    total = tl.zeros([added], tl.float32)
    for share in range(shares):
        total += tl.load(sums + share * size + place, mask=place < size, other=0.0)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=place < size)
