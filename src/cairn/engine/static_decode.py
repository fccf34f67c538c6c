"""A decode step over buffers that stay where they are, so that a GPU can record it.

The number of tokens is rounded up to one of a few sizes; a token too many stands at position 0 and writes to
a block of its own, and nobody reads its logits. Rows are filled up further, to whole tiles of products
(`row_multiple`), so that no product has to be; what those rows hold is not attended to at all. A step of a
size runs as it is the first time, is recorded then (`capture`), and started again from there on. Where
recording fails, steps go on unrecorded and the log says why, once.

`_inputs` [4 + most blocks, rows] holds token ids, positions, slots and lengths, then the block tables column
by column, so that what a step fills of it lies together.
"""

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cairn.engine.cuda_graphs import Capture, Work
from cairn.engine.runner import ModelInput

MOST_ROWS = 128
"""Rows of a step; more are computed in several."""
_FIELDS = 4
_log = logging.getLogger(__name__)

Compute = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Token ids and positions [rows], slots and lengths [n], tables [n, most blocks] -> logits [rows, vocab].

There are as many rows as tokens, or more.
"""


class StaticDecode:
    """Decode tokens in, logits out; `spare_block` is the block that rows too many write to."""

    def __init__(
        self,
        compute: Compute,
        *,
        vocab_size: int,
        most_blocks: int,
        block_size: int,
        row_multiple: int,
        spare_block: int,
        device: torch.device,
        capture: Capture | None,
    ) -> None:
        self._compute, self._capture = compute, capture
        self._row_multiple = row_multiple
        self._spare_block, self._spare_slot = spare_block, spare_block * block_size
        self._inputs = torch.zeros(_FIELDS + most_blocks, MOST_ROWS, dtype=torch.int64, device=device)
        self._logits = torch.zeros(MOST_ROWS, vocab_size, device=device)
        self._work: dict[int, Work] = {}

    def run(self, step: ModelInput, token_ids: Tensor | None = None) -> Tensor:
        """Logits [n, vocab] of the first n rows, the decode tokens; valid until the next call.

        `token_ids` [n], on the device, take the place of the step's.
        """
        num = len(step.decode_lens)
        parts = [
            self._run(step, start, min(start + MOST_ROWS, num), token_ids)
            for start in range(0, num, MOST_ROWS)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def close(self) -> None:
        """Let go of what was recorded and of who computes."""
        self._work.clear()
        del self._compute

    def _run(self, step: ModelInput, start: int, stop: int, token_ids: Tensor | None) -> Tensor:
        num, size = stop - start, padded_size(stop - start)
        inputs = self._filled(step, start, stop, size)
        self._inputs[: len(inputs), :size].copy_(torch.from_numpy(inputs), non_blocking=True)
        if token_ids is not None:
            self._inputs[0, :num].copy_(token_ids[start:stop])
        work = self._work.get(size)
        if work is not None:
            work()
        else:
            self._step(size)
            self._work[size] = self._recorded(size)
        logits = self._logits[:num]
        return logits.clone() if stop < len(step.decode_lens) else logits

    def _filled(self, step: ModelInput, start: int, stop: int, size: int) -> np.ndarray:
        """The columns of these rows and of those too many, as far down as the widest block table goes."""
        tables = step.decode_tables[start:stop]
        inputs = np.zeros((_FIELDS + tables.shape[1], size), np.int64)
        num = stop - start
        for field, values in enumerate((step.token_ids, step.positions, step.slot_mapping, step.decode_lens)):
            inputs[field, :num] = values[start:stop]
        inputs[_FIELDS:, :num] = tables.T
        inputs[2, num:], inputs[3, num:], inputs[_FIELDS, num:] = self._spare_slot, 1, self._spare_block
        return inputs

    def _step(self, size: int) -> None:
        num_rows = -(-size // self._row_multiple) * self._row_multiple
        token_ids, positions = self._inputs[:2, :num_rows]
        slots, lens = self._inputs[2:_FIELDS, :size]
        tables = self._inputs[_FIELDS:, :size].t()
        self._logits[:size].copy_(self._compute(token_ids, positions, slots, lens, tables)[:size])

    def _recorded(self, size: int) -> Work:
        def work() -> None:
            self._step(size)

        if self._capture is None:
            return work
        try:
            return self._capture(work)
        except RuntimeError as error:
            self._capture = None
            _log.warning("decode steps are not recorded and start kernel by kernel: %s", error)
            return work


def padded_size(num: int) -> int:
    """The sizes steps have: 1, 2, 4, and multiples of 8."""
    return 1 << (num - 1).bit_length() if num <= 4 else -(-num // 8) * 8
