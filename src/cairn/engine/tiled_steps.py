"""Steps as a GPU computes them: prompt spans in one pass, then decode tokens through static buffers.

Two passes, so that a decode token is computed by the same kernels over the same shapes whatever is read
beside it. Prompt spans come first: a preempted sequence has both in one step, and its generated tokens look
at its prompt.
"""

import torch
from torch import Tensor, nn

from cairn.engine.cuda_graphs import Capture
from cairn.engine.row_tiles import DECODE_ROWS, PROMPT_ROWS, RowTiles
from cairn.engine.runner import AdapterRows, ModelInput
from cairn.engine.static_decode import StaticDecode
from cairn.engine.tiled_attention import TiledAttention
from cairn.engine.torch_adapter import AdaptedStep
from cairn.models import Decoder


class TiledSteps:
    """Computes steps over a cache of its own.

    `head` gives logits of hidden states; it and all products in `model` follow `tiles`, those that can be
    adapted `adapted`.
    """

    def __init__(
        self,
        model: Decoder,
        head: nn.Module,
        tiles: RowTiles,
        adapted: AdaptedStep,
        *,
        num_blocks: int,
        block_size: int,
        row_multiple: int,
        capture: Capture | None,
    ) -> None:
        config, like = model.config, model.norm.weight
        self._model, self._head, self._tiles, self._adapted = model, head, tiles, adapted
        # One block more than there are, for rows that nobody asked for.
        shape = (config.num_layers, 2, num_blocks + 1, config.num_kv_heads, block_size, config.head_dim)
        self._attention = TiledAttention(like.new_zeros(shape), config.num_heads)
        self._static = StaticDecode(
            self._decode,
            vocab_size=config.vocab_size,
            most_blocks=-(-config.max_position // block_size),
            block_size=block_size,
            row_multiple=row_multiple,
            spare_block=num_blocks,
            device=like.device,
            # Tokens are sorted by expert on the host's word, which cannot be recorded.
            capture=None if any(layer.experts for layer in config.layers) else capture,
        )

    def clear(self, block_ids: list[int]) -> None:
        """Write zeros over blocks."""
        self._attention.clear(block_ids)

    def copy(self, source: int, target: int) -> None:
        """Everything in one block to another."""
        self._attention.copy(source, target)

    def close(self) -> None:
        """Let go of graphs and buffers, which hold this object as it holds them."""
        self._static.close()

    def logits(self, step: ModelInput) -> Tensor:
        """Logits [rows, vocab] of the step's `logit_rows`; valid until the next call."""
        num = len(step.decode_lens)
        rows = [row.row for row in step.logit_rows]
        decoded = [row for row in rows if row < num]
        parts: list[Tensor] = []
        if step.prompt_spans:
            hidden = self._prompts(step)
            if len(decoded) < len(rows):
                wanted = torch.tensor([row - num for row in rows[len(decoded) :]], device=hidden.device)
                parts.append(self._scored(hidden[wanted]))
        if num:
            scores = self._decodes(step)
            parts.insert(0, scores if len(decoded) == num else scores[decoded])
        if not parts:
            return self._model.norm.weight.new_empty((0, self._model.config.vocab_size), dtype=torch.float32)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def decode(self, step: ModelInput, token_ids: Tensor | None) -> Tensor:
        """Logits [n, vocab] of a step of decode tokens alone, without adapters; valid until the next call.

        `token_ids`, on the device, take the place of the step's where the host does not know them yet.
        """
        assert not step.prompt_spans
        assert not step.adapters
        self._adapted.begin((), self._attention.cache.device)
        return self._static.run(step, token_ids)

    def _prompts(self, step: ModelInput) -> Tensor:
        """Hidden states of the rows of the prompt spans."""
        first, device = len(step.decode_lens), self._attention.cache.device
        token_ids, positions = (
            torch.from_numpy(values[first:]).to(device) for values in (step.token_ids, step.positions)
        )
        self._attention.begin_prompts(step)
        self._adapted.begin(_rows_of(step, first, step.num_tokens), device)
        self._tiles.size = PROMPT_ROWS
        hidden: Tensor = self._model(token_ids, positions, self._attention)
        return hidden

    def _decodes(self, step: ModelInput) -> Tensor:
        """Logits of all decode tokens."""
        num, device = len(step.decode_lens), self._attention.cache.device
        adapters = _rows_of(step, 0, num)
        self._adapted.begin(adapters, device)
        if not adapters:
            return self._static.run(step)
        values = (step.token_ids[:num], step.positions[:num], step.slot_mapping[:num])
        inputs = (
            torch.from_numpy(each).to(device) for each in (*values, step.decode_lens, step.decode_tables)
        )
        return self._decode(*inputs)

    def _decode(
        self, token_ids: Tensor, positions: Tensor, slots: Tensor, lens: Tensor, tables: Tensor
    ) -> Tensor:
        self._attention.begin_decodes(slots, lens, tables)
        self._tiles.size = DECODE_ROWS
        return self._scored(self._model(token_ids, positions, self._attention))

    def _scored(self, hidden: Tensor) -> Tensor:
        return self._model.cap_logits(self._head(hidden).float())


def _rows_of(step: ModelInput, start: int, stop: int) -> tuple[AdapterRows, ...]:
    """The adapters of a part of the step, rows counted from its start."""
    groups = (
        (group, group.rows[(start <= group.rows) & (group.rows < stop)] - start) for group in step.adapters
    )
    return tuple(AdapterRows(group.adapter, rows) for group, rows in groups if len(rows))
