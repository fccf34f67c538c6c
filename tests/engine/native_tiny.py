"""The native runner over small random decoders, and what the tests compare it with."""

import functools
from pathlib import Path

import numpy as np
import pytest

from cairn.core.chat import SamplingParams
from cairn.engine import Request
from cairn.engine.native_runner import CacheFormat, NativeRunner, native_kernels
from cairn.engine.runner import FloatArray, LogitRow, Logits, ModelInput, PromptSpan
from cairn.engine.sequence import Sequence
from cairn.engine.weight_reader import WeightFormat
from cairn.models import Decoder, save_decoder
from tests.scratch import scratch_folder

needs_native = pytest.mark.skipif(not native_kernels(), reason="the native core is not built here")


@functools.cache
def checkpoint(model: Decoder) -> Path:
    """A folder with the model's weights, for as long as the tests run."""
    folder = scratch_folder("native")
    save_decoder(model, folder)
    return folder


def whole_prompt(token_ids: list[int], block_size: int, num_blocks: int) -> ModelInput:
    """One step that computes a prompt and wants every row's logits; its blocks lie backwards in the pool."""
    num = len(token_ids)
    table = np.arange(num_blocks - 1, num_blocks - 1 - -(-num // block_size), -1, dtype=np.int64)
    positions = np.arange(num, dtype=np.int64)
    request = Request("prompt", tuple(token_ids), SamplingParams(max_tokens=1))
    seq = Sequence(request, index=0, seed=0, arrival=0, max_len=num + 1)
    return ModelInput(
        token_ids=np.array(token_ids, np.int64),
        positions=positions,
        slot_mapping=table[positions // block_size] * block_size + positions % block_size,
        decode_tables=np.zeros((0, 0), np.int64),
        decode_lens=np.zeros(0, np.int64),
        prompt_spans=(PromptSpan(0, 0, num, table),),
        logit_rows=tuple(LogitRow(seq=seq, position=i, row=i) for i in range(num)),
    )


def all_logits(runner: NativeRunner, token_ids: list[int], *, block_size: int = 16) -> FloatArray:
    """Logits [T, vocab] of every token of a prompt."""
    num_blocks = 3 + -(-len(token_ids) // block_size)
    runner.allocate_kv_cache(num_blocks, block_size)
    logits = runner.run(whole_prompt(token_ids, block_size, num_blocks))
    return logits.select(list(range(len(token_ids))))


class RecordingNativeRunner(NativeRunner):
    """Keeps the bits of the logits of every sampled row, by request, choice and position."""

    def __init__(
        self, folder: Path, *, weights: WeightFormat, cache: CacheFormat | None = None, num_threads: int = 1
    ) -> None:
        super().__init__(folder, weights=weights, cache=cache, num_threads=num_threads, pin=False)
        self.bits: dict[tuple[str, int, int], bytes] = {}

    def run(self, model_input: ModelInput) -> Logits:
        logits = super().run(model_input)
        for i, row in enumerate(model_input.logit_rows):
            if row.is_sampled:
                key = (row.seq.request.request_id, row.seq.index, row.position)
                self.bits[key] = logits.select([i]).tobytes()
        return logits


def quantised_int4(values: FloatArray) -> FloatArray:
    """What int4 keeps of a matrix [N, K]: the formula of native/layout.h in numpy."""
    num_rows, num_inputs = values.shape
    padded = np.pad(values, ((0, 0), (0, -num_inputs % 32))).reshape(num_rows, -1, 32)
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(-1)[..., None], -1)
    scale = np.clip(extreme / np.float32(-8), -65504, 65504).astype(np.float16).astype(np.float32)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    levels = np.clip(np.rint(padded * inverse), -8, 7)
    whole: FloatArray = (levels * scale).reshape(num_rows, -1)[:, :num_inputs].astype(np.float32)
    return whole


def quantised_int8(values: FloatArray) -> FloatArray:
    """What int8 keeps of a matrix [N, K]."""
    scale = np.abs(values).max(-1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    whole: FloatArray = (np.clip(np.rint(values * inverse), -127, 127) * scale).astype(np.float32)
    return whole


def rounded_bfloat16(values: FloatArray) -> FloatArray:
    """Rounded to bfloat16, ties to even."""
    bits = values.view(np.uint32)
    rounded: FloatArray = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return rounded


def quantised_rows(x: FloatArray) -> FloatArray:
    """Activations [T, K] rounded to 8 bits by groups of 32."""
    num_rows, num_inputs = x.shape
    padded = np.pad(x, ((0, 0), (0, -num_inputs % 32))).reshape(num_rows, -1, 32)
    extreme = np.abs(padded).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), extreme, out=np.zeros_like(extreme), where=extreme > 0)
    levels = np.rint((padded * inverse).astype(np.float32))
    whole: FloatArray = (
        (levels * (extreme / np.float32(127))).reshape(num_rows, -1)[:, :num_inputs].astype(np.float32)
    )
    return whole
