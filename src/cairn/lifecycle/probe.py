"""Time real training steps of a recipe's model in a process of its own: `python -m cairn.lifecycle.probe`.

Reads `{"model", "vocab_size", "training", "masked"}` as JSON from stdin and writes
`{"tokens_per_second", "peak_memory_bytes"}`. The steps are the Trainer's own, on random tokens in
documents of one context. A process of its own has its own peak memory and thread pools.
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


def measure(recipe: Recipe, training: TrainConfig) -> Measured:
    """Time steps of the recipe's model under a training config, in a fresh process."""
    request = {
        "model": recipe.model.model_dump(mode="json"),
        "vocab_size": recipe.tokenizer.vocab_size,
        "training": training.model_dump(mode="json"),
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
    request = json.load(sys.stdin)
    model = ModelStage.model_validate(request["model"])
    training = TrainConfig.model_validate(request["training"])
    with tempfile.TemporaryDirectory() as folder:
        rate = _rate(model, request["vocab_size"], training, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"tokens_per_second": rate, "peak_memory_bytes": peak}, sys.stdout)


def _rate(model: ModelStage, vocab_size: int, training: TrainConfig, folder: Path) -> float:
    """Tokens per second at the config's batch size, from steps of one and of two micro batches."""
    micro, num_micro = training.micro_tokens, training.num_micro_batches
    batch = {"micro_batch_tokens": micro, "batch_tokens": micro}
    one = _step_seconds(model, vocab_size, training.model_copy(update=batch), folder / "one")
    if num_micro == 1:
        return micro / one
    batch["batch_tokens"] = 2 * micro
    two = _step_seconds(model, vocab_size, training.model_copy(update=batch), folder / "two")
    per_micro = max(two - one, one / 2)
    update = max(2 * one - two, 0.0)
    return training.batch_tokens / (num_micro * per_micro + update)


def _step_seconds(model: ModelStage, vocab_size: int, training: TrainConfig, folder: Path) -> float:
    """Median seconds of a step, warm-up steps left out."""
    seconds = _timed_steps(model, vocab_size, training, folder / "few", 2)
    if seconds[-1] * _MORE_STEPS < _ENOUGH_SECONDS:
        seconds = _timed_steps(model, vocab_size, training, folder / "more", _MORE_STEPS)
    return float(np.median(seconds[1:]))


def _timed_steps(
    model: ModelStage, vocab_size: int, training: TrainConfig, folder: Path, steps: int
) -> list[float]:
    """Seconds of each of the Trainer's first steps."""
    from cairn.training import Trainer

    config = training.model_copy(update={"steps": steps, "tokens": None, "epochs": None, "log_every": 1})
    Trainer(
        _decoder(model, vocab_size),
        _random_shards(folder / "data", vocab_size, model.context, training.batch_tokens * (steps + 1)),
        resolved(config),
        run_folder=folder,
    ).fit()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [training.batch_tokens / line["tokens_per_second"] for line in lines if line["split"] == "train"]


def _decoder(model: ModelStage, vocab_size: int) -> Any:
    from cairn.lifecycle.network import decoder_config
    from cairn.models import Decoder

    decoder = Decoder(decoder_config(model, vocab_size=vocab_size))
    decoder.init_weights(0)
    return decoder.to(torch_device())


def _random_shards(folder: Path, vocab_size: int, context: int, num_tokens: int) -> Any:
    from cairn.data import PackedDataset, write_shards

    random = np.random.default_rng(0)
    count = num_tokens // context + 1
    documents = ((random.integers(0, vocab_size, context), None, context) for _ in range(count))
    write_shards(documents, folder, vocab_size=vocab_size)
    return PackedDataset.open(folder)


if __name__ == "__main__":
    main()
