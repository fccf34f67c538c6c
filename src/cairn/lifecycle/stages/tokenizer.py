"""tokenizer: a byte-level BPE learnt from the training texts."""

from pathlib import Path
from typing import Any

from cairn.lifecycle.corpus import CORPUS_TRAIN, read_texts
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return recipe.tokenizer.model_dump(mode="json")


def _run(context: StageContext) -> Artifact:
    from cairn.data import Tokenizer

    corpus = context.inputs["data"]
    total = corpus.metadata["train_documents"]
    with context.progress.task("reading", total) as task:
        tokenizer = Tokenizer.train(
            read_texts(corpus.folder / CORPUS_TRAIN, task), vocab_size=context.recipe.tokenizer.vocab_size
        )
    with context.registry.create(
        "tokenizer",
        parents=[corpus.digest],
        metadata={"recipe": context.recipe.name, "vocab_size": tokenizer.vocab_size},
        run_id=context.run_id,
    ) as writer:
        tokenizer.save(writer.folder)
    return writer.artifact


STAGE = Stage(name="tokenizer", version=1, needs=("data",), config=_config, run=_run)
