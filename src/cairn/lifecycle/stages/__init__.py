"""The stages of a build, in the order they run. Each module is one stage; torch loads when one runs."""

from cairn.lifecycle.stage import Stage
from cairn.lifecycle.stages import data, evaluate, instructions, pack, pretrain, register, sft, tokenizer

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
