"""What the training stages share: run the Trainer in the run's folder, store the model with its tokenizer.

A model's metadata holds only what is the same however often the run was interrupted, so that its
digest is too; times and rates go to `result.json` in the run's folder.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cairn.core import Progress
from cairn.lifecycle.hardware import resolved, torch_device
from cairn.lifecycle.stage import StageContext
from cairn.registry import Artifact
from cairn.training import TrainConfig, TrainResult

if TYPE_CHECKING:
    from cairn.data import Tokenizer
    from cairn.models import Decoder
    from cairn.training.objectives import AnyObjective, Data, Network

RESULT = "result.json"


def train(
    context: StageContext[Any],
    model: "Network",
    config: TrainConfig,
    *,
    dataset: "Data",
    validation: "Data | None",
    objective: "AnyObjective | None" = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train in the run's folder (resuming what is there); the result is also written beside the metrics."""
    from cairn.training import Trainer

    model.to(torch_device())
    trainer = Trainer(
        model,
        dataset,
        resolved(config),
        run_folder=context.folder,
        validation=validation,
        objective=objective,
        progress=progress or context.progress,
    )
    result = trainer.fit()
    model.to("cpu")
    (context.folder / RESULT).write_text(json.dumps(asdict(result), indent=2))
    return result


def read_result(run_folder: Path) -> dict[str, float | None]:
    """What `train` wrote for a run, or nothing."""
    try:
        values: dict[str, float | None] = json.loads((run_folder / RESULT).read_text())
    except OSError:
        return {}
    return values


def save_trained(
    context: StageContext,
    model: "Decoder",
    tokenizer: "Tokenizer",
    result: TrainResult,
    *,
    stage: Literal["base", "chat"],
    parents: Sequence[str],
    dtype: Literal["float32", "bfloat16"],
) -> Artifact:
    """Store a model in the Hugging Face layout, with the tokenizer it was trained with."""
    import torch

    from cairn.models import save_decoder

    metadata = {
        "recipe": context.recipe.name,
        "stage": stage,
        "family": context.recipe.model.family,
        "parameters": model.config.num_params,
        "context": model.config.max_position,
        "dtype": dtype,
        "steps": result.steps,
        "tokens": result.tokens,
        "loss": round(result.final_loss, 4),
    }
    if result.validation_loss is not None:
        metadata["validation_loss"] = round(result.validation_loss, 4)
    if result.bits_per_byte is not None:
        metadata["bits_per_byte"] = round(result.bits_per_byte, 4)
    with context.registry.create(
        "model", parents=parents, metadata=metadata, run_id=context.run_id
    ) as writer:
        save_decoder(model.to(getattr(torch, dtype)), writer.folder)
        tokenizer.save(writer.folder)
    return writer.artifact
