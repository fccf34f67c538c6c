"""`plan`: what each stage of a recipe will take on this machine.

Training stages are computed (`cairn.compute.plan`), with step rate and peak memory either measured on real
steps of this very model or taken from the machine profile and the formulas. The other stages take what
they took the last time; the first time a rule of thumb by the amount of text. The basis is always named.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cairn.compute import TrainingPlan, machine_profile, weight_bytes
from cairn.compute import plan as plan_training
from cairn.core import Settings
from cairn.lifecycle.amounts import BYTES_PER_TOKEN, Amounts, estimate_amounts
from cairn.lifecycle.hardware import resolved, this_device
from cairn.lifecycle.head_predictions import plan_head
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.history import last_seconds
from cairn.lifecycle.network import decoder_config
from cairn.lifecycle.probe import Measured
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import load_recipe
from cairn.lifecycle.stage_plan import BRIEF_SECONDS, LAST_RUN, RULE, START_SECONDS, RecipePlan, StagePlan
from cairn.lifecycle.stages import STAGES
from cairn.registry import Registry
from cairn.training import TrainConfig

_MB_PER_SECOND = {"data": 0.35, "tokenizer": 2.2, "pack": 2.0}
_INSTRUCTIONS_MB_PER_SECOND = 0.4
_XZ_MB_PER_SECOND = 0.6
_TOKENIZER_BYTES_PER_ENTRY = 70
_CONVERSATION_TOKENS = 128
_REPLIES_AT_ONCE = 16
_REPLY_STEP_SECONDS = 0.006
"""A step of the engine with all replies in it, whatever the (small) model."""


def plan_recipe(recipe_path: Path, registry: Registry, *, measure: bool = True) -> RecipePlan:
    """Predict a recipe; `measure` times real steps of its model, else the machine profile has to do."""
    recipe = load_recipe(recipe_path)
    if isinstance(recipe, HeadRecipe):
        return plan_head(recipe, recipe_path, registry)
    amounts = estimate_amounts(recipe, recipe_path, registry)
    measured = _measured(recipe) if measure else {}
    tokens = {"pretrain": amounts.train_tokens, "sft": amounts.instruction_tokens}
    trained = {
        stage: _training(recipe, config, tokens[stage], registry.settings, measured.get(stage))
        for stage, config in (("pretrain", recipe.pretrain), ("sft", recipe.sft))
    }
    pretrain = trained["pretrain"]
    return RecipePlan(
        recipe=recipe.name,
        num_params=pretrain.num_params,
        model_bytes=pretrain.num_params * 2,
        dtype=resolved(recipe.pretrain).dtype,
        stages=tuple(_stages(recipe, registry, amounts, trained, measured)),
        warnings=(*_warnings(recipe, pretrain, amounts), *_disturbance(measured)),
    )


def _measured(recipe: Recipe) -> dict[str, Measured]:
    """Real steps of both training stages; conversations are many short documents."""
    from cairn.lifecycle import probe

    context = recipe.model.context
    lengths = {"pretrain": context, "sft": min(context, _CONVERSATION_TOKENS)}
    configs = {"pretrain": recipe.pretrain, "sft": recipe.sft}
    return {
        stage: probe.measure(recipe, resolved(config), document_tokens=lengths[stage])
        for stage, config in configs.items()
    }


def _training(
    recipe: Recipe, config: TrainConfig, dataset_tokens: int, settings: Settings, measured: Measured | None
) -> TrainingPlan:
    config = resolved(config)
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
        measured_tokens_per_second=measured.tokens_per_second if measured else None,
    )


def _stages(
    recipe: Recipe,
    registry: Registry,
    amounts: Amounts,
    trained: Mapping[str, TrainingPlan],
    measured: Mapping[str, Measured],
) -> Iterator[StagePlan]:
    last = last_seconds(registry, recipe.name)
    rough = _rough(recipe, amounts, trained["pretrain"])
    for stage in (each.name for each in STAGES):
        if found := trained.get(stage):
            steps = measured.get(stage)
            yield StagePlan(
                stage=stage,
                seconds=START_SECONDS + found.seconds + _validation_seconds(recipe, stage, found, amounts),
                basis=found.basis,
                tokens=found.tokens,
                flops=found.flops,
                memory_bytes=steps.peak_memory_bytes if steps else found.memory.total,
                tokens_per_second=found.tokens_per_second,
            )
        elif stage in last:
            yield StagePlan(stage=stage, seconds=last[stage], basis=LAST_RUN)
        else:
            yield StagePlan(stage=stage, seconds=rough.get(stage, BRIEF_SECONDS), basis=RULE)


def _validation_seconds(recipe: Recipe, stage: str, plan: TrainingPlan, amounts: Amounts) -> float:
    """Seconds of validating now and then: a forward pass is a third of a step."""
    config = {"pretrain": recipe.pretrain, "sft": recipe.sft}[stage]
    every = config.eval_every or plan.steps
    held_out = {"pretrain": amounts.held_out_tokens, "sft": amounts.held_out_instruction_tokens}[stage]
    tokens = min(held_out, config.eval_tokens or held_out)
    return -(-plan.steps // every) * tokens / (3 * plan.tokens_per_second)


def _rough(recipe: Recipe, amounts: Amounts, pretrain: TrainingPlan) -> dict[str, float]:
    """Seconds by rule of thumb of the stages that do not train."""
    config, megabytes = recipe.evaluate, amounts.text_bytes / 1e6
    # Scoring is a forward pass, a third of a step, over overlapping windows, for two models.
    scoring = 2 * 2 * amounts.held_out_tokens / (3 * pretrain.tokens_per_second)
    rounds = -(-config.num_instructions // _REPLIES_AT_ONCE) + 2
    replying = rounds * config.max_reply_tokens * _REPLY_STEP_SECONDS
    rough = {name: BRIEF_SECONDS + megabytes / rate for name, rate in _MB_PER_SECOND.items()}
    asked = amounts.instruction_tokens * (1 - recipe.instructions.replay_share) * BYTES_PER_TOKEN / 1e6
    rough["instructions"] = BRIEF_SECONDS + asked / _INSTRUCTIONS_MB_PER_SECOND
    return {**rough, "evaluate": 0.5 + scoring + replying + 2 * megabytes / _XZ_MB_PER_SECOND}


def _disturbance(measured: Mapping[str, Measured]) -> Iterator[str]:
    if any(each.is_disturbed for each in measured.values()):
        yield "other programs are using this machine: the times are estimates for when it is quiet again"


def _warnings(recipe: Recipe, plan: TrainingPlan, amounts: Amounts) -> Iterator[str]:
    device, limit = this_device(), recipe.release.max_bytes
    if not device.gpus and plan.memory.total > device.memory_bytes:
        yield (
            f"training needs about {plan.memory.total / 1e9:.1f} GB, this machine has "
            f"{device.memory_bytes / 1e9:.1f} GB: lower micro_batch_tokens or set checkpoint_activations"
        )
    shape = decoder_config(recipe.model, vocab_size=recipe.tokenizer.vocab_size).shape()
    shipped = weight_bytes(shape, "bfloat16") + _TOKENIZER_BYTES_PER_ENTRY * recipe.tokenizer.vocab_size
    if limit and shipped > limit:
        yield (
            f"the model will have about {shipped / 1e6:.1f} MB, release.max_bytes allows "
            f"{limit / 1e6:.1f} MB: make the model or the tokenizer smaller"
        )
    if plan.tokens > 40 * max(amounts.train_tokens, 1):
        yield (
            f"the texts have about {amounts.train_tokens:,} tokens and are read "
            f"{plan.tokens / max(amounts.train_tokens, 1):.0f} times: expect it to learn them by heart"
        )
