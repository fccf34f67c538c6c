"""The joint between engine and device: a scheduled batch as flat arrays, and who computes it.

`prepare` lays a step's tokens end to end: first the *decode tokens* (generated ones, each a query
of its own, in order of length), then the *prompt spans* (runs of prompt tokens of one sequence). A
generated token is always a decode token, also when a preempted sequence is computed again or when it
was guessed, so a token's keys and values come from the same kernel whatever happened to its sequence.

Plain numpy: a runner without torch reads the same arrays and block tables.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cairn.engine.adapters import Adapter
from cairn.engine.block_manager import BlockCopy
from cairn.engine.scheduler import ScheduledBatch, ScheduledSequence
from cairn.engine.sequence import Sequence

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PromptSpan:
    """Rows `row` .. `row + stop - start` of the step are tokens `start` .. `stop` of one prompt.

    `block_table` covers at least the tokens up to `stop`.
    """

    row: int
    start: int
    stop: int
    block_table: IntArray


@dataclass(frozen=True, slots=True)
class AdapterRows:
    """Rows of the step that an adapter takes part in."""

    adapter: Adapter
    rows: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitRow:
    """A row of the step whose logits are wanted: those after token `position` of a sequence."""

    seq: Sequence
    position: int
    row: int

    @property
    def is_sampled(self) -> bool:
        """Whether the next token is chosen here; otherwise it is a prompt token to be scored."""
        return self.position == self.seq.num_tokens - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One step, T tokens flat. A slot is `block_id * block_size + offset`."""

    token_ids: IntArray
    positions: IntArray
    slot_mapping: IntArray
    decode_tables: IntArray
    """[num_decode_tokens, most blocks]; rows shorter than the widest end in block 0, which is not read."""
    decode_lens: IntArray
    """[num_decode_tokens]: how many tokens each decode token sees, itself included."""
    prompt_spans: tuple[PromptSpan, ...]
    logit_rows: tuple[LogitRow, ...]
    num_drafted: int = 0
    """Decode tokens that are guesses; other tokens may take their places in the cache."""
    adapters: tuple[AdapterRows, ...] = ()
    """Each adapter once, each row in one of them at most."""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


class Logits(Protocol):
    """Scores of the step's `logit_rows`, wherever they are kept; good until the runner's next step."""

    def argmax(self) -> IntArray:
        """[rows]: the likeliest token of each row, the lowest id where several tie."""
        ...

    def select(self, rows: list[int]) -> FloatArray:
        """[len(rows), vocab] on the host; the caller may write to it."""
        ...


class ModelRunner(Protocol):
    """Who computes a step: the network and the KV cache's tensors."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_position(self) -> int:
        """Longest context the network can take."""
        ...

    def bytes_per_block(self, block_size: int) -> int:
        """Memory of one block: keys and values of all layers."""
        ...

    @property
    def num_weight_bytes(self) -> int:
        """Memory of the weights."""
        ...

    def free_bytes(self) -> int:
        """Memory that is free for the KV pool now, measured."""
        ...

    def allocate_kv_cache(self, num_blocks: int, block_size: int) -> None:
        """Make the pool; called once, before the first `run`."""
        ...

    def clear_blocks(self, block_ids: list[int]) -> None:
        """Zero these blocks: a failed step may have left numbers there that are not finite.

        Attention multiplies what it must not see by zero, which only finite numbers survive.
        """
        ...

    def copy_blocks(self, copies: tuple[BlockCopy, ...]) -> None:
        """Do these copies, one after the other, before what `run` is asked next."""
        ...

    def read_adapter(self, folder: Path) -> Adapter:
        """A LoRA in PEFT's layout, ready for `run`; called from any thread, also while a step runs."""
        ...

    def run(self, model_input: ModelInput) -> Logits:
        """Compute the step's tokens, write their keys and values to their slots."""
        ...

    def close(self) -> None:
        """Free weights and cache, whoever still holds the runner; nothing is asked of it afterwards."""
        ...


def prepare(batch: ScheduledBatch, block_size: int) -> ModelInput:
    """The flat arrays of a scheduled batch."""
    decodes, spans = _parts(batch)
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    logit_rows: list[LogitRow] = []
    prompt_spans = []
    adapted: dict[Adapter, list[int]] = {}
    for item in (*decodes, *spans):
        seq, row = item.seq, len(token_ids)
        if seq.adapter is not None:
            adapted.setdefault(seq.adapter.adapter, []).extend(range(row, row + item.stop - item.start))
        token_ids += seq.token_ids[item.start : item.stop] if not item.draft else item.draft
        positions += range(item.start, item.stop)
        table = seq.block_table
        slots += [table[p // block_size] * block_size + p % block_size for p in range(item.start, item.stop)]
        logit_rows += [
            LogitRow(seq=seq, position=position, row=row + position - item.start)
            for position in _logit_positions(item)
        ]
        if item.start < seq.num_prompt_tokens:
            blocks = table[: -(-item.stop // block_size)]
            prompt_spans.append(PromptSpan(row, item.start, item.stop, np.array(blocks, np.int64)))
    return ModelInput(
        token_ids=np.array(token_ids, np.int64),
        positions=np.array(positions, np.int64),
        slot_mapping=np.array(slots, np.int64),
        decode_tables=_tables(decodes, block_size),
        decode_lens=np.array([item.stop for item in decodes], np.int64),
        prompt_spans=tuple(prompt_spans),
        num_drafted=sum(len(item.draft) for item in batch.items),
        logit_rows=tuple(logit_rows),
        adapters=tuple(AdapterRows(adapter, np.array(rows, np.int64)) for adapter, rows in adapted.items()),
    )


def _parts(batch: ScheduledBatch) -> tuple[list[ScheduledSequence], list[ScheduledSequence]]:
    """Single generated or guessed tokens, the shortest sequence first, and runs of prompt tokens."""
    decodes: list[ScheduledSequence] = []
    spans: list[ScheduledSequence] = []
    for item in batch.items:
        bound = item.seq.num_prompt_tokens
        if item.start < bound:
            spans.append(ScheduledSequence(item.seq, item.start, min(item.stop, bound)))
        decodes += [
            ScheduledSequence(item.seq, position, position + 1)
            for position in range(max(item.start, bound), item.stop)
        ]
        decodes += [
            ScheduledSequence(item.seq, item.stop + i, item.stop + i + 1, (token_id,))
            for i, token_id in enumerate(item.draft)
        ]
    return sorted(decodes, key=lambda item: item.stop), spans


def _logit_positions(item: ScheduledSequence) -> range:
    if item.seq.wants_prompt_logprobs and not item.seq.prompt_logprobs_done:
        return range(item.start, item.stop)
    return range(item.stop - 1, item.stop) if item.is_complete or item.draft else range(0)


def _tables(decodes: list[ScheduledSequence], block_size: int) -> IntArray:
    num_blocks = [-(-item.stop // block_size) for item in decodes]
    tables = np.zeros((len(decodes), max(num_blocks, default=0)), np.int64)
    for table, item, num in zip(tables, decodes, num_blocks, strict=True):
        table[:num] = item.seq.block_table[:num]
    return tables
