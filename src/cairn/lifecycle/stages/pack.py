"""pack: the corpus as token ids in memory-mapped shards, for training and for validation."""

from pathlib import Path
from typing import Any

from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN, read_corpus
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return {}


def _run(context: StageContext) -> Artifact:
    from cairn.data import Tokenizer, document_examples, write_shards

    corpus, tokenizer_artifact = context.inputs["data"], context.inputs["tokenizer"]
    tokenizer = Tokenizer.load(tokenizer_artifact.folder)
    total = corpus.metadata["train_documents"] + corpus.metadata["held_out_documents"]
    counts: dict[str, int] = {}
    with (
        context.registry.create(
            "shards", parents=[corpus.digest, tokenizer_artifact.digest], run_id=context.run_id
        ) as writer,
        context.progress.task("tokenising", total) as task,
    ):
        for part, name in (("train", CORPUS_TRAIN), ("validation", CORPUS_HELD_OUT)):
            index = write_shards(
                document_examples(tokenizer, read_corpus(corpus.folder / name, task)),
                writer.folder / part,
                vocab_size=tokenizer.vocab_size,
            )
            counts |= {f"{part}_tokens": index.num_tokens, f"{part}_bytes": index.num_bytes}
        writer.metadata = {"recipe": context.recipe.name, **counts}
    return writer.artifact


STAGE = Stage(name="pack", version=1, needs=("data", "tokenizer"), config=_config, run=_run)
