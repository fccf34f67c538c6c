"""The stages of a build, in the order they run. Each module is one stage; torch loads when one runs."""

from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.stage import AnyRecipe, Stage
from cairn.lifecycle.stages import (
    data,
    evaluate,
    examples,
    instructions,
    judge,
    pack,
    pretrain,
    register,
    register_head,
    sft,
    tokenizer,
    train_head,
)

STAGES: tuple[Stage, ...] = (
    data.STAGE,
    tokenizer.STAGE,
    pack.STAGE,
    pretrain.STAGE,
    instructions.STAGE,
    sft.STAGE,
    evaluate.STAGE,
    register.STAGE,
)
HEAD_STAGES: tuple[Stage, ...] = (
    examples.STAGE,
    train_head.STAGE,
    judge.STAGE,
    register_head.STAGE,
)


def stages_of(recipe: AnyRecipe) -> tuple[Stage, ...]:
    """The stages of a recipe of either sort."""
    return HEAD_STAGES if isinstance(recipe, HeadRecipe) else STAGES
