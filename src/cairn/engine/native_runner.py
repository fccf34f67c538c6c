"""The network in C++ over a paged KV cache: how text is computed on a CPU.

One call a step, the GIL released. A sequence's logits are the same bits alone and in any batch, chunked or
not, from the prefix cache or not, and with any number of threads. Numbers: weights in float32, bfloat16, int8
(a scale a row) or int4 (a scale for 32 inputs), sums in float32; with int8 and int4 the activations are
rounded to 8 bits by groups of 32. Never imports torch. How it works: native/ and docs/native.md.
"""

import importlib
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cairn.compute.device import available_memory
from cairn.core import IntegrityError, UnsupportedModelError
from cairn.engine.adapters import Adapter
from cairn.engine.block_manager import BlockCopy
from cairn.engine.native_adapter import NativeAdapter, load_native_adapter
from cairn.engine.native_weights import load_spec
from cairn.engine.runner import FloatArray, IntArray, Logits, ModelInput
from cairn.engine.weight_reader import WeightFormat
from cairn.models import DecoderConfig

CacheFormat = Literal["float32", "bfloat16", "int8"]
_KEPT_LOGIT_BYTES = 32 << 20


@cache
def native_kernels() -> tuple[str, ...]:
    """Instruction sets that the native core can use here, the fastest first; none where it is not built."""
    try:
        return tuple(importlib.import_module("cairn._native").runnable_kernels())
    except ImportError:
        return ()


def can_run(config: DecoderConfig) -> bool:
    """Whether the native core is installed and computes this network."""
    return bool(native_kernels()) and config.head_dim % 8 == 0


class NativeLogits:
    """Logits [rows, vocab], until the runner's next step."""

    def __init__(self, scores: FloatArray, likeliest: IntArray, *, is_finite: bool) -> None:
        self._scores, self._likeliest, self._is_finite = scores, likeliest, is_finite

    def argmax(self) -> IntArray:
        assert self._is_finite, "the model's logits are not finite"
        return self._likeliest

    def select(self, rows: list[int]) -> FloatArray:
        return self._scores[rows]


class NativeRunner:
    """A `ModelRunner` over `cairn._native`, from a checkpoint folder; `packed`: its matrices, packed before.

    The cache is float32 beside float32 weights, otherwise bfloat16, unless `cache` says so. `pin` keeps the
    threads to cores of their own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        weights: WeightFormat = "bfloat16",
        packed: Path | None = None,
        cache: CacheFormat | None = None,
        num_threads: int | None = None,
        pin: bool = True,
        kernels: str = "",
    ) -> None:
        if not native_kernels():
            raise UnsupportedModelError(
                "the native engine is not in this installation",
                remedy="install cairn again on a machine with a C++20 compiler, or use torch (cairn[train])",
            )
        self.config, spec = load_spec(Path(folder), weights, packed)
        if not can_run(self.config):
            raise UnsupportedModelError(
                f"heads of {self.config.head_dim} numbers, the native engine takes multiples of 8",
                remedy="install cairn[train] to run this model with torch",
            )
        self.weights, self.cache = weights, cache or ("float32" if weights == "float32" else "bfloat16")
        native: Any = importlib.import_module("cairn._native")
        threads = num_threads or usable_threads()
        try:
            self._model = native.Model(spec, num_threads=threads, pin=pin, kernels=kernels)
        except ValueError as error:
            raise IntegrityError(
                f"the weights in {packed or folder} do not fit {Path(folder) / 'config.json'}: {error}",
                remedy="fetch the model again; packed weights are made anew once their artifact is removed",
            ) from None
        self._is_mapped = packed is not None
        self._scores = np.empty((0, self.vocab_size), np.float32)

    @property
    def kernels(self) -> str:
        """Name of the instruction set in use."""
        return str(self._model.kernels)

    @property
    def num_threads(self) -> int:
        return int(self._model.num_threads)

    @property
    def num_weight_bytes(self) -> int:
        """Memory of the packed weights, all of which a token reads but for an untied embedding."""
        return int(self._model.num_bytes)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def max_position(self) -> int:
        return self.config.max_position

    def bytes_per_block(self, block_size: int) -> int:
        return int(self._model.bytes_per_block(block_size, self.cache))

    def free_bytes(self) -> int:
        # Mapped weights count as available, because the kernel could drop them; every token reads them.
        return max(0, available_memory() - (self.num_weight_bytes if self._is_mapped else 0))

    def allocate_kv_cache(self, num_blocks: int, block_size: int) -> None:
        self._model.allocate_cache(num_blocks, block_size, self.cache)

    def clear_blocks(self, block_ids: list[int]) -> None:
        self._model.clear_blocks(block_ids)

    def copy_blocks(self, copies: tuple[BlockCopy, ...]) -> None:
        self._model.copy_blocks(copies)

    def read_adapter(self, folder: Path) -> Adapter:
        exact = self.weights == "float32"
        return load_native_adapter(self._model, self.config, folder, exact=exact)

    def run(self, model_input: ModelInput) -> Logits:
        rows = [row.row for row in model_input.logit_rows]
        scores, likeliest = self._room(len(rows)), np.empty(len(rows), np.int64)
        is_finite = self._model.forward(
            token_ids=model_input.token_ids,
            positions=model_input.positions,
            slots=model_input.slot_mapping,
            tables=model_input.decode_tables,
            spans=[(span.row, span.start, span.stop, span.block_table) for span in model_input.prompt_spans],
            logit_rows=rows,
            logits=scores,
            likeliest=likeliest,
            adapters=[(_core(group.adapter), group.rows) for group in model_input.adapters],
        )
        return NativeLogits(scores, likeliest, is_finite=is_finite)

    def _room(self, num_rows: int) -> FloatArray:
        # The same memory again: the system takes longer to give out pages than a small model to fill them.
        if num_rows > len(self._scores):
            scores = np.empty((num_rows, self.vocab_size), np.float32)
            if scores.nbytes > _KEPT_LOGIT_BYTES:
                return scores
            self._scores = scores
        return self._scores[:num_rows]

    def close(self) -> None:
        del self._model, self._scores


def _core(adapter: Adapter) -> Any:
    assert isinstance(adapter, NativeAdapter), "an adapter of another runner"
    return adapter.core


def usable_threads() -> int:
    """OMP_NUM_THREADS where it is set, as for torch; otherwise every core this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(importlib.import_module("cairn._native").usable_cores())
    return min(max(1, int(given)), cores) if given.isdigit() else cores
