"""Time real training steps of a recipe's model in a process of its own: `python -m cairn.lifecycle.probe`.

Reads `{"model", "vocab_size", "training", "document_tokens"}` as JSON from stdin and writes
its `Measured`. The steps are the Trainer's own, on random tokens. A process of its own has its own peak
memory and thread pools; it loads what a build loads. On a busy machine the clock on the wall says little:
there the processor time of the steps tells how long they would take on a quiet one.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core import Silent, StorageError
from cairn.core.progress import Task
from cairn.lifecycle.hardware import resolved, this_device, torch_device
from cairn.lifecycle.recipe import ModelStage, Recipe
from cairn.training import TrainConfig

_ENOUGH_SECONDS = 4.0
_MORE_STEPS = 10
_BUSY_SHARE = 0.75
"""A step that gets less than this of the time its threads could use is disturbed by others."""
_SCALING = 0.7
"""What a further thread adds, in threads; from the tutorial's 4,561 tokens/s on one core and 7,007 to 8,463
on two."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What real steps showed."""

    tokens_per_second: float
    """On a quiet machine."""
    peak_memory_bytes: int
    is_disturbed: bool
    """Whether other processes took much of the machine meanwhile; the rate is then an estimate."""


def measure(recipe: Recipe, training: TrainConfig, *, document_tokens: int) -> Measured:
    """Time steps of the recipe's model under a training config, in a fresh process.

    `document_tokens` is the usual length of a document: many short ones cost more than few long ones.
    """
    request = {
        "model": recipe.model.model_dump(mode="json"),
        "vocab_size": recipe.tokenizer.vocab_size,
        "training": training.model_dump(mode="json"),
        "document_tokens": document_tokens,
    }
    process = subprocess.run(
        [sys.executable, "-m", "cairn.lifecycle.probe"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise StorageError(
            f"a step of this model cannot be timed: {last[0]}",
            remedy="it may not fit the memory: make model or micro batch smaller, or use --no-measure",
        )
    return Measured(**json.loads(process.stdout))


def main() -> None:
    """The process that measures."""
    import cairn.lifecycle.stages  # noqa: F401 - their libraries count in the memory of a build

    request = json.load(sys.stdin)
    work = _Work(
        model=ModelStage.model_validate(request["model"]),
        vocab_size=request["vocab_size"],
        document_tokens=request["document_tokens"],
    )
    training = TrainConfig.model_validate(request["training"])
    with tempfile.TemporaryDirectory() as folder:
        rate, is_disturbed = _rate(work, training, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    values = {"tokens_per_second": rate, "peak_memory_bytes": peak, "is_disturbed": is_disturbed}
    json.dump(values, sys.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is trained in the measurement."""

    model: ModelStage
    vocab_size: int
    document_tokens: int


def _rate(work: _Work, training: TrainConfig, folder: Path) -> tuple[float, bool]:
    """Tokens per second at the config's batch size, and whether others disturbed the measurement.

    From steps of one and of two micro batches, so that the optimizer's share is known.
    """
    micro, num_micro = training.micro_tokens, training.num_micro_batches
    batch = {"micro_batch_tokens": micro, "batch_tokens": micro}
    single = training.model_copy(update=batch)
    is_disturbed = _is_disturbed(work, single, folder / "first")
    one = _step_seconds(work, single, folder / "one", is_disturbed=is_disturbed)
    if num_micro == 1:
        return micro / one, is_disturbed
    double = training.model_copy(update=batch | {"batch_tokens": 2 * micro})
    two = _step_seconds(work, double, folder / "two", is_disturbed=is_disturbed)
    per_micro = max(two - one, one / 2)
    update = max(2 * one - two, 0.0)
    return training.batch_tokens / (num_micro * per_micro + update), is_disturbed


def _is_disturbed(work: _Work, training: TrainConfig, folder: Path) -> bool:
    """Whether a step gets less of the processors than it could use."""
    import torch

    if torch_device() != "cpu":
        return False
    if os.getloadavg()[0] > this_device().num_cores:
        return True
    clock = _timed_steps(work, training, folder, 2)
    threads = training.threads or torch.get_num_threads()
    return clock.processor[-1] < _BUSY_SHARE * threads * clock.wall[-1]


def _step_seconds(work: _Work, training: TrainConfig, folder: Path, *, is_disturbed: bool) -> float:
    """Median seconds of a step on a quiet machine, warm-up steps left out."""
    import torch

    threads = training.threads or torch.get_num_threads()
    if is_disturbed:
        # Threads that wait for each other spin: on a busy machine only the processor time of one thread alone
        # says what the work takes.
        clock = _timed_steps(work, training.model_copy(update={"threads": 1}), folder, 3)
        return float(np.median(clock.processor[1:])) / (1 + _SCALING * (threads - 1))
    clock = _timed_steps(work, training, folder / "few", 3)
    if clock.wall[-1] * _MORE_STEPS < _ENOUGH_SECONDS:
        clock = _timed_steps(work, training, folder / "more", _MORE_STEPS)
    return float(np.median(clock.wall[1:]))


class _Clock(Silent):
    """Wall and processor seconds of each step; the Trainer reports to it."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self._last: tuple[float, float] | None = None

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        # Other tasks (validation) are not steps.
        yield self if label == "train" else Silent()

    def advance(self, amount: float = 1) -> None:
        now = time.perf_counter(), time.process_time()
        if self._last is not None:
            self.wall.append(now[0] - self._last[0])
            self.processor.append(now[1] - self._last[1])
        self._last = now


def _timed_steps(work: _Work, training: TrainConfig, folder: Path, steps: int) -> _Clock:
    """Times of each of the Trainer's first steps."""
    from cairn.training import Trainer

    config = training.model_copy(update={"steps": steps, "tokens": None, "epochs": None, "log_every": 1})
    clock = _Clock()
    Trainer(
        _decoder(work),
        _random_shards(work, folder / "data", training.batch_tokens * (steps + 1)),
        resolved(config),
        run_folder=folder,
        progress=clock,
    ).fit()
    return clock


def _decoder(work: _Work) -> Any:
    from cairn.lifecycle.network import decoder_config
    from cairn.models import Decoder

    decoder = Decoder(decoder_config(work.model, vocab_size=work.vocab_size))
    decoder.init_weights(0)
    return decoder.to(torch_device())


def _random_shards(work: _Work, folder: Path, num_tokens: int) -> Any:
    from cairn.data import PackedDataset, write_shards

    random = np.random.default_rng(0)
    length = work.document_tokens
    documents = (
        (random.integers(0, work.vocab_size, length), None, length) for _ in range(num_tokens // length + 1)
    )
    write_shards(documents, folder, vocab_size=work.vocab_size)
    return PackedDataset.open(folder)


if __name__ == "__main__":
    main()
