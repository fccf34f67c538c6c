"""train: the head learns on an encoder whose own weights rest; what it learned is stored, not the encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cairn.lifecycle.hardware import result_config
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.lifecycle.stages.examples import TOKEN_WEIGHTS, TRAIN, VALIDATION, base_folder
from cairn.registry import Artifact

if TYPE_CHECKING:
    from cairn.training.objectives import AnyObjective


def _config(recipe: HeadRecipe, recipe_path: Path) -> dict[str, Any]:
    head = recipe.head.model_dump(mode="json")
    return {**head, "training": result_config(recipe.train), "seed": recipe.seed}


def _run(context: StageContext[HeadRecipe]) -> Artifact:
    import numpy as np

    from cairn.core.digests import digest_file
    from cairn.data.examples import ExampleSet
    from cairn.lifecycle.train import train
    from cairn.models.adapted_encoder import adaptable_encoder, save_head
    from cairn.models.encoder_heads import BASE_WEIGHTS, HeadSpec
    from cairn.training.contrast import ContrastObjective
    from cairn.training.span import SpanObjective

    head, examples = context.recipe.head, context.inputs["examples"]
    base = base_folder(context)
    model = adaptable_encoder(
        base,
        head.task,
        rank=head.rank,
        alpha=head.alpha,
        max_tokens=head.max_tokens,
        seed=context.recipe.seed,
    )
    token_weights = np.load(examples.folder / TOKEN_WEIGHTS, allow_pickle=False)
    is_reading = head.task == "reading"
    objective: AnyObjective = SpanObjective() if is_reading else ContrastObjective(token_weights)
    result = train(
        context,
        model,
        context.recipe.train,
        dataset=ExampleSet.open(examples.folder / TRAIN),
        validation=ExampleSet.open(examples.folder / VALIDATION),
        objective=objective,
    )
    spec = HeadSpec(
        task=head.task,
        base=head.base,
        base_digest=digest_file(base / BASE_WEIGHTS),
        max_tokens=head.max_tokens,
        values={},
    )
    metadata = {
        "recipe": context.recipe.name,
        "task": head.task,
        "trained_parameters": model.num_trained,
        "steps": result.steps,
        "tokens": result.tokens,
        "loss": round(result.final_loss, 4),
        "validation_loss": round(result.validation_loss or 0.0, 4),
    }
    with context.registry.create(
        "head", parents=[examples.digest], metadata=metadata, run_id=context.run_id
    ) as writer:
        save_head(model, spec, writer.folder, token_weights=None if is_reading else token_weights)
    return writer.artifact


STAGE = Stage(name="train", version=2, needs=("examples",), config=_config, run=_run)
