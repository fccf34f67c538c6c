"""Time real training steps of a recipe's model in a process of its own: `python -m cairn.lifecycle.probe`.

Reads `{"model", "vocab_size", "training", "document_tokens"}` as JSON from stdin and writes
`{"tokens_per_second", "peak_memory_bytes"}`. The steps are the Trainer's own, on random tokens. A process
of its own has its own peak memory and thread pools; it loads what a build loads.
"""

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cairn.core import StorageError
from cairn.lifecycle.hardware import resolved, torch_device
from cairn.lifecycle.recipe import ModelStage, Recipe
from cairn.training import TrainConfig

_ENOUGH_SECONDS = 4.0
_MORE_STEPS = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """What real steps showed."""

    tokens_per_second: float
    peak_memory_bytes: int


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
        rate = _rate(work, training, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"tokens_per_second": rate, "peak_memory_bytes": peak}, sys.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is trained in the measurement."""

    model: ModelStage
    vocab_size: int
    document_tokens: int


def _rate(work: _Work, training: TrainConfig, folder: Path) -> float:
    """Tokens per second at the config's batch size, from steps of one and of two micro batches."""
    micro, num_micro = training.micro_tokens, training.num_micro_batches
    batch = {"micro_batch_tokens": micro, "batch_tokens": micro}
    one = _step_seconds(work, training.model_copy(update=batch), folder / "one")
    if num_micro == 1:
        return micro / one
    batch["batch_tokens"] = 2 * micro
    two = _step_seconds(work, training.model_copy(update=batch), folder / "two")
    per_micro = max(two - one, one / 2)
    update = max(2 * one - two, 0.0)
    return training.batch_tokens / (num_micro * per_micro + update)


def _step_seconds(work: _Work, training: TrainConfig, folder: Path) -> float:
    """Median seconds of a step, warm-up steps left out."""
    seconds = _timed_steps(work, training, folder / "few", 3)
    if seconds[-1] * _MORE_STEPS < _ENOUGH_SECONDS:
        seconds = _timed_steps(work, training, folder / "more", _MORE_STEPS)
    return float(np.median(seconds[1:]))


def _timed_steps(work: _Work, training: TrainConfig, folder: Path, steps: int) -> list[float]:
    """Seconds of each of the Trainer's first steps."""
    from cairn.training import Trainer

    config = training.model_copy(update={"steps": steps, "tokens": None, "epochs": None, "log_every": 1})
    Trainer(
        _decoder(work),
        _random_shards(work, folder / "data", training.batch_tokens * (steps + 1)),
        resolved(config),
        run_folder=folder,
    ).fit()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [training.batch_tokens / line["tokens_per_second"] for line in lines if line["split"] == "train"]


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
