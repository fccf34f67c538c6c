"""pretrain: a decoder from scratch, predicting the next token of the texts."""

from pathlib import Path
from typing import Any

from cairn.lifecycle.hardware import result_config
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return {
        "model": recipe.model.model_dump(mode="json"),
        "seed": recipe.seed,
        "training": result_config(recipe.pretrain),
    }


def _run(context: StageContext) -> Artifact:
    from cairn.data import PackedDataset, Tokenizer
    from cairn.lifecycle.network import decoder_config
    from cairn.lifecycle.train import save_trained, train
    from cairn.models import Decoder

    shards, tokenizer_artifact = context.inputs["pack"], context.inputs["tokenizer"]
    tokenizer = Tokenizer.load(tokenizer_artifact.folder)
    model = Decoder(
        decoder_config(
            context.recipe.model, vocab_size=tokenizer.vocab_size, eos_token_id=tokenizer.eos_token_id
        )
    )
    model.init_weights(context.recipe.seed)
    result = train(
        context,
        model,
        context.recipe.pretrain,
        dataset=PackedDataset.open(shards.folder / "train"),
        validation=PackedDataset.open(shards.folder / "validation"),
    )
    return save_trained(
        context,
        model,
        tokenizer,
        result,
        stage="base",
        parents=[shards.digest, tokenizer_artifact.digest],
        dtype="float32",
    )


STAGE = Stage(name="pretrain", version=1, needs=("tokenizer", "pack"), config=_config, run=_run)
