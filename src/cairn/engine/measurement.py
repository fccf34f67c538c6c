"""How fast the native engine computes here, step by step, and what each step had to read and multiply.

Three kinds of work: one stream decodes, 32 streams decode, a prompt is read. Steps go straight to
`NativeRunner.run` with the argmax of its logits, as an engine's do; scheduling and HTTP are not in it.
What a step reads is what it must at least: each weight once, each visible key and value once a sequence.
Its operations are two a weight and token, and four a visible key, head and dimension.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cairn.compute import ModelShape
from cairn.core.chat import SamplingParams
from cairn.engine.native_runner import NativeRunner
from cairn.engine.runner import LogitRow, ModelInput, PromptSpan
from cairn.engine.sequence import Request, Sequence

Work = Literal["1 stream", "32 streams", "prompt"]
WORKS: tuple[Work, ...] = get_args(Work)
BLOCK = 16
CHUNK = 256
"""Tokens of a prompt in one step, as the engine cuts it by default."""
_IDS = 32
"""Token ids in use: every vocabulary has them, and which ones they are costs nothing."""
_CONTEXT = 128
"""Tokens that a decoding stream has behind it at the first step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Medians of one kind of work."""

    work: Work
    tokens_per_second: float
    bytes_per_second: float
    operations_per_second: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations_per_second / self.bytes_per_second


@dataclass(slots=True)
class Cost:
    """What steps must at least read and multiply."""

    num_bytes: float = 0.0
    operations: float = 0.0


def measure(runner: NativeRunner, work: Work, *, num_steps: int, prompt_tokens: int = 512) -> Speed:
    """Do one kind of work for a number of steps (prompts: rounds) after one to warm up."""
    if work == "prompt":
        num_tokens = min(prompt_tokens, runner.max_position)
        steps = list(prompt_steps(num_tokens))
        runner.allocate_kv_cache(-(-num_tokens // BLOCK), BLOCK)
        seconds = _median_seconds(runner, [steps] * num_steps)
        cost = prompt_cost(runner, num_tokens)
    else:
        num_tokens = 1 if work == "1 stream" else 32
        first = max(0, min(_CONTEXT, runner.max_position - num_steps))
        steps = list(decode_steps(num_tokens, first, first + num_steps))
        runner.allocate_kv_cache(num_tokens * -(-(first + num_steps) // BLOCK), BLOCK)
        seconds = _median_seconds(runner, [[step] for step in steps])
        cost = decode_cost(runner, num_tokens, first + num_steps // 2 + 1)
    return Speed(
        work=work,
        tokens_per_second=num_tokens / seconds,
        bytes_per_second=cost.num_bytes / seconds,
        operations_per_second=cost.operations / seconds,
    )


def decode_steps(num_streams: int, start: int, stop: int) -> Iterator[ModelInput]:
    """Every stream's token at `start` .. `stop`, its context given; logits of all."""
    blocks = -(-stop // BLOCK)
    tables = np.arange(num_streams * blocks, dtype=np.int64).reshape(num_streams, blocks)
    for position in range(start, stop):
        yield ModelInput(
            token_ids=np.full(num_streams, position % _IDS, np.int64),
            positions=np.full(num_streams, position, np.int64),
            slot_mapping=tables[:, position // BLOCK] * BLOCK + position % BLOCK,
            decode_tables=np.ascontiguousarray(tables[:, : position // BLOCK + 1]),
            decode_lens=np.full(num_streams, position + 1, np.int64),
            prompt_spans=(),
            logit_rows=tuple(_row(position, row) for row in range(num_streams)),
        )


def prompt_steps(num_tokens: int) -> Iterator[ModelInput]:
    """A prompt in chunks; logits of its last token."""
    table = np.arange(-(-num_tokens // BLOCK), dtype=np.int64)
    for start in range(0, num_tokens, CHUNK):
        stop = min(start + CHUNK, num_tokens)
        positions = np.arange(start, stop, dtype=np.int64)
        yield ModelInput(
            token_ids=positions % _IDS,
            positions=positions,
            slot_mapping=positions,
            decode_tables=np.zeros((0, 0), np.int64),
            decode_lens=np.zeros(0, np.int64),
            prompt_spans=(PromptSpan(0, start, stop, table),),
            logit_rows=(_row(stop - 1, stop - 1 - start),) if stop == num_tokens else (),
        )


def decode_cost(runner: NativeRunner, num_streams: int, context: int) -> Cost:
    """Of one step of streams that see so many tokens, their own included."""
    shape = runner.config.shape()
    cost = Cost(num_bytes=num_streams * _cache_bytes(runner, context))
    _add_products(cost, runner, num_streams, num_logits=num_streams)
    cost.operations += num_streams * _attention_operations(shape, context)
    return cost


def prompt_cost(runner: NativeRunner, num_tokens: int) -> Cost:
    """Of all steps of one prompt."""
    shape = runner.config.shape()
    cost = Cost()
    for start in range(0, num_tokens, CHUNK):
        stop = min(start + CHUNK, num_tokens)
        _add_products(cost, runner, stop - start, num_logits=int(stop == num_tokens))
        cost.num_bytes += _cache_bytes(runner, stop)
        cost.operations += sum(_attention_operations(shape, token + 1) for token in range(start, stop))
    return cost


def _add_products(cost: Cost, runner: NativeRunner, num_tokens: int, *, num_logits: int) -> None:
    """Products with the layers' weights and, where logits are wanted, the head's."""
    shape = runner.config.shape()
    head = shape.embedding_params
    cost.operations += 2.0 * (num_tokens * (shape.matmul_params - head) + num_logits * head)
    # Of a mixture's experts at most so many are met; an embedding that is not the head is only looked up in.
    met = min(shape.num_experts, num_tokens * shape.num_experts_per_token)
    unread = shape.num_layers * (shape.num_experts - met) * shape.expert_params
    unread += head * (not shape.tied_embeddings) + head * (num_logits == 0)
    cost.num_bytes += runner.num_weight_bytes * (1 - unread / shape.num_params)


def _cache_bytes(runner: NativeRunner, context: int) -> float:
    """Keys and values that one sequence's attention reads."""
    shape = runner.config.shape()
    layer_bytes = runner.bytes_per_block(BLOCK) / BLOCK / shape.num_layers
    return layer_bytes * sum(_visible(shape, context))


def _attention_operations(shape: ModelShape, context: int) -> float:
    return 4.0 * shape.num_heads * shape.head_dim * sum(_visible(shape, context))


def _visible(shape: ModelShape, context: int) -> Iterator[int]:
    """Keys that a token of so long a context sees in each layer."""
    windows = shape.windows or (None,) * shape.num_layers
    return (context if window is None else min(window, context) for window in windows)


def _median_seconds(runner: NativeRunner, rounds: list[list[ModelInput]]) -> float:
    times = []
    for steps in [rounds[0], *rounds]:
        started = time.perf_counter()
        for step in steps:
            runner.run(step).argmax()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _row(position: int, row: int) -> LogitRow:
    return LogitRow(seq=_SEQUENCE, position=position, row=row)


_SEQUENCE = Sequence(
    Request("measured", (1,), SamplingParams(max_tokens=1)), index=0, seed=0, arrival=0, max_len=2
)
