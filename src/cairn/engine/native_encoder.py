"""An encoder in C++: token ids of whole texts in, vectors out, one call a batch, the GIL released.

A text's vector is the same bits alone and in any batch, with any number of threads. Numbers: weights in
float32, bfloat16, int8 or int4, sums in float32; keys and values are bfloat16 unless the weights are float32;
with int8 and int4 the activations are rounded to 8 bits by groups of 32. Never imports torch. How it works:
native/encoder.h and docs/encoders.md.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core import IntegrityError, UnsupportedModelError
from cairn.engine.encoder_weights import load_encoder_spec
from cairn.engine.native_runner import native_kernels, usable_threads
from cairn.engine.runner import FloatArray
from cairn.engine.weight_reader import WeightFormat


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as token ids; `types` says which of two segments each belongs to, empty: all to the first."""

    token_ids: Sequence[int]
    types: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.token_ids)


class NativeEncoder:
    """`cairn._native`'s encoder, from a checkpoint folder; `packed`: its matrices, packed before.

    `head`: the folder of a head on it, merged into the matrices as they are read. One call of `run` at a
    time. `pin` keeps the threads to cores of their own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        weights: WeightFormat = "bfloat16",
        packed: Path | None = None,
        head: Path | None = None,
        num_threads: int | None = None,
        pin: bool = False,
        kernels: str = "",
    ) -> None:
        if not native_kernels():
            raise UnsupportedModelError(
                "the native engine, which encoders need, is not in this installation",
                remedy="install cairn again on a machine with a C++20 compiler",
            )
        self.config, spec = load_encoder_spec(Path(folder), weights, packed, head)
        if self.config.head_dim % 8:
            raise UnsupportedModelError(
                f"heads of {self.config.head_dim} numbers, the native engine takes multiples of 8",
                remedy="choose another encoder",
            )
        self.weights = weights
        native: Any = importlib.import_module("cairn._native")
        threads = num_threads or usable_threads()
        try:
            self._model = native.Encoder(spec, num_threads=threads, pin=pin, kernels=kernels)
        except ValueError as error:
            raise IntegrityError(
                f"the weights in {packed or folder} do not fit {Path(folder) / 'config.json'}: {error}",
                remedy="fetch the model again",
            ) from None

    @property
    def kernels(self) -> str:
        """Name of the instruction set in use."""
        return str(self._model.kernels)

    @property
    def num_threads(self) -> int:
        return int(self._model.num_threads)

    @property
    def num_weight_bytes(self) -> int:
        """Memory of the packed weights."""
        return int(self._model.num_bytes)

    def run(self, texts: Sequence[Encoding]) -> list[FloatArray]:
        """What the head makes of each text, [rows, out_width]; a row a token where it does not pool."""
        if not texts:
            return []
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=bounds[1:])
        token_ids = np.concatenate([np.asarray(text.token_ids, np.int64) for text in texts])
        types = np.concatenate([np.asarray(text.types or [0] * len(text), np.int64) for text in texts])
        rows = bounds if self.config.head.pooling == "tokens" else np.arange(len(texts) + 1)
        out = np.empty((rows[-1], self.config.out_width), np.float32)
        self._model.forward(token_ids=token_ids, types=types, bounds=bounds, out=out)
        assert np.isfinite(out).all(), "the encoder's output is not finite"
        return np.split(out, rows[1:-1])
