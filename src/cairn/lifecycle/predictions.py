"""`plan`: what each stage of a recipe will take here, and, after a build, how right that was.

Training stages are computed (`cairn.compute.plan`), with the step rate either measured on real
steps of this model or taken from the machine profile. The other stages take what they took the
last time; the first time a rule of thumb by the amount of text. The basis is always named.
Predictions are kept in the home folder by recipe name, so that a build can be held against them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cairn.compute import TrainingPlan, machine_profile, weight_bytes
from cairn.compute import plan as plan_training
from cairn.core import Settings
from cairn.lifecycle.amounts import Amounts, estimate_amounts
from cairn.lifecycle.hardware import resolved, this_device
from cairn.lifecycle.history import last_seconds, stage_runs
from cairn.lifecycle.network import decoder_config
from cairn.lifecycle.recipe import Recipe, load_recipe
from cairn.lifecycle.train import read_result
from cairn.registry import Registry
from cairn.training import TrainConfig

if TYPE_CHECKING:
    from cairn.lifecycle.build import BuildResult

MEASURED, PROFILE, LAST_RUN, RULE = "measured", "profile", "last run", "rule of thumb"
_MB_PER_SECOND = {"data": 1.0, "tokenizer": 3.0, "pack": 3.0}
_XZ_MB_PER_SECOND = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Predictions for one stage; None where a stage has no such number."""

    stage: str
    seconds: float
    basis: str
    tokens: int | None = None
    flops: float | None = None
    memory_bytes: int | None = None
    tokens_per_second: float | None = None
    actual_seconds: float | None = None
    """What the newest successful run of the stage took."""
    actual_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePlan:
    """Predictions for a recipe on this machine."""

    recipe: str
    num_params: int
    model_bytes: int
    dtype: str
    stages: tuple[StagePlan, ...]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def flops(self) -> float:
        return sum(stage.flops or 0.0 for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        return max(stage.memory_bytes or 0 for stage in self.stages)


def plan_recipe(recipe_path: Path, registry: Registry, *, measure: bool = True) -> RecipePlan:
    """Predict a recipe; `measure` times real steps of its model, else the machine profile has to do."""
    recipe = load_recipe(recipe_path)
    amounts = estimate_amounts(recipe, recipe_path, registry)
    shape = decoder_config(recipe.model, vocab_size=recipe.tokenizer.vocab_size).shape()
    pretrain = _training(recipe, recipe.pretrain, amounts.train_tokens, registry.settings, measure=measure)
    # The same model and, per token, the same work: its rate need not be measured twice.
    sft = _training(
        recipe,
        recipe.sft,
        amounts.instruction_tokens,
        registry.settings,
        measure=False,
        rate=pretrain.tokens_per_second if pretrain.basis == MEASURED else None,
    )
    stages = _stages(recipe, registry, amounts, pretrain, sft)
    result = RecipePlan(
        recipe=recipe.name,
        num_params=shape.num_params,
        model_bytes=weight_bytes(shape, "bfloat16"),
        dtype=resolved(recipe.pretrain).dtype,
        stages=stages,
        warnings=tuple(_warnings(recipe, pretrain, shape.num_params, amounts)),
    )
    _keep(result, registry.settings)
    return result


def comparison_rows(result: "BuildResult", registry: Registry) -> list[tuple[str, str, str, str, str]]:
    """(stage, predicted, actual, difference, basis) of a build, for its report."""
    kept = kept_predictions(result.recipe.name, registry.settings)
    rows = []
    for outcome in result.outcomes:
        found = kept.get(outcome.stage)
        predicted = f"{found.seconds:.1f} s" if found else "-"
        difference = f"{outcome.seconds / found.seconds - 1:+.0%}" if found and found.seconds else "-"
        basis = found.basis if found else "-"
        rows.append((outcome.stage, predicted, f"{outcome.seconds:.1f} s", difference, basis))
    return rows


def kept_predictions(recipe: str, settings: Settings) -> dict[str, StagePlan]:
    """The newest stored predictions for a recipe, by stage."""
    try:
        values = json.loads(_path(recipe, settings).read_text())
    except OSError:
        return {}
    return {stage["stage"]: StagePlan(**stage) for stage in values["stages"]}


def _training(
    recipe: Recipe,
    config: TrainConfig,
    dataset_tokens: int,
    settings: Settings,
    *,
    measure: bool,
    rate: float | None = None,
) -> TrainingPlan:
    config = resolved(config)
    if measure:
        from cairn.lifecycle.probe import measure as measure_steps

        rate = measure_steps(recipe, config).tokens_per_second
    return plan_training(
        decoder_config(recipe.model, vocab_size=recipe.tokenizer.vocab_size).shape(),
        machine_profile(settings, device=this_device()),
        tokens=config.num_steps(dataset_tokens) * config.batch_tokens,
        batch_tokens=config.batch_tokens,
        micro_batch_tokens=config.micro_tokens,
        context=recipe.model.context,
        dtype=config.dtype,
        optimizer=config.optimizer,
        checkpoint_activations=config.checkpoint_activations,
        loss_chunk_tokens=config.loss_chunk_tokens,
        measured_tokens_per_second=rate,
    )


def _stages(
    recipe: Recipe, registry: Registry, amounts: Amounts, pretrain: TrainingPlan, sft: TrainingPlan
) -> tuple[StagePlan, ...]:
    trained = {"pretrain": pretrain, "sft": sft}
    runs = stage_runs(registry, recipe.name)
    actual = last_seconds(registry, recipe.name)
    rough = _rough(recipe, amounts, pretrain)
    plans = []
    for stage, guess in rough.items():
        result = read_result(registry.run_folder(runs[stage].run_id)) if stage in runs else {}
        peak = result.get("peak_memory_bytes")
        known = {"actual_seconds": actual.get(stage), "actual_memory_bytes": int(peak) if peak else None}
        if found := trained.get(stage):
            plans.append(
                StagePlan(
                    stage=stage,
                    seconds=found.seconds,
                    basis=found.basis,
                    tokens=found.tokens,
                    flops=found.flops,
                    memory_bytes=found.memory.total,
                    tokens_per_second=found.tokens_per_second,
                    **known,  # type: ignore[arg-type]
                )
            )
        else:
            seconds, basis = (actual[stage], LAST_RUN) if stage in actual else (guess, RULE)
            plans.append(StagePlan(stage=stage, seconds=seconds, basis=basis, **known))  # type: ignore[arg-type]
    return tuple(plans)


def _rough(recipe: Recipe, amounts: Amounts, pretrain: TrainingPlan) -> dict[str, float]:
    """Seconds by rule of thumb; training stages are filled in by who calls."""
    megabytes = amounts.text_bytes / 1e6
    rough = {name: 1 + megabytes / rate for name, rate in _MB_PER_SECOND.items()}
    # Scoring is a forward pass, a third of a step, over overlapping windows, for two models.
    scored_tokens = 2 * 2 * amounts.held_out_tokens
    replies = (
        recipe.evaluate.num_instructions + len(recipe.evaluate.prompts)
    ) * recipe.evaluate.max_reply_tokens
    forward_rate = 3 * pretrain.tokens_per_second
    evaluate = scored_tokens / forward_rate + 4 * replies / forward_rate + 2 * megabytes / _XZ_MB_PER_SECOND
    order = ("data", "tokenizer", "pack", "pretrain", "instructions", "sft", "evaluate", "register")
    return {name: {**rough, "evaluate": 2 + evaluate, "instructions": 2.0}.get(name, 1.0) for name in order}


def _warnings(recipe: Recipe, plan: TrainingPlan, num_params: int, amounts: Amounts) -> Sequence[str]:
    warnings = []
    device = this_device()
    if not device.gpus and plan.memory.total > device.memory_bytes:
        warnings.append(
            f"training needs about {plan.memory.total / 1e9:.1f} GB, this machine has "
            f"{device.memory_bytes / 1e9:.1f} GB: lower micro_batch_tokens or set checkpoint_activations"
        )
    limit = recipe.release.max_bytes
    # A tokenizer of the Hugging Face layout takes about 70 bytes an entry.
    shipped = num_params * 2 + 70 * recipe.tokenizer.vocab_size
    if limit and shipped > limit:
        warnings.append(
            f"the model will have about {shipped / 1e6:.1f} MB, release.max_bytes allows "
            f"{limit / 1e6:.1f} MB: make the model or the tokenizer smaller"
        )
    if plan.tokens > 40 * max(amounts.train_tokens, 1):
        warnings.append(
            f"the texts have about {amounts.train_tokens:,} tokens and are read "
            f"{plan.tokens / amounts.train_tokens:.0f} times: expect it to learn them by heart"
        )
    return warnings


def _keep(plan: RecipePlan, settings: Settings) -> None:
    path = _path(plan.recipe, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(plan), indent=2))


def _path(recipe: str, settings: Settings) -> Path:
    return settings.home / "plans" / f"{recipe}.json"
