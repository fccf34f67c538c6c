"""instructions: what the chat model is taught to answer, split into a part to learn and a part held out."""

from pathlib import Path
from typing import Any

from cairn.data import Conversation, write_conversations
from cairn.lifecycle.conversations import prompt_of, read_source
from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN, read_texts
from cairn.lifecycle.filters import apart, evaluation_index
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.sources import evaluation_sets, source_config, store_source
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return {"sources": [source_config(source, recipe_path) for source in recipe.instructions.sources]}


def _run(context: StageContext) -> Artifact:
    sources = context.recipe.instructions.sources
    train: list[Conversation] = []
    held_out: list[Conversation] = []
    raw, origins, counts = [], [], {}
    with context.progress.task("reading", len(sources)) as task:
        for source in sources:
            artifact, origin = store_source(source, context)
            split = read_source(source, artifact.folder)
            train += split.train * source.repeat
            held_out += split.held_out
            raw.append(artifact.digest)
            origins.append(origin.values)
            counts[source.name] = {"train": len(split.train), "held_out": len(split.held_out)}
            task.advance()
    train = _unasked(train, held_out)
    texts = read_texts(context.inputs["data"].folder / CORPUS_HELD_OUT)
    evaluation = evaluation_index(texts, evaluation_sets(context), context.recipe.data)
    train, dropped = apart(train, evaluation)
    metadata = {
        "recipe": context.recipe.name,
        "sources": origins,
        "counts": counts,
        "near_held_out": dropped,
        "train_conversations": len(train),
        "held_out_conversations": len(held_out),
    }
    with context.registry.create(
        "instructions",
        parents=[*raw, context.inputs["data"].digest],
        metadata=metadata,
        run_id=context.run_id,
    ) as writer:
        write_conversations(train, writer.folder / CORPUS_TRAIN)
        write_conversations(held_out, writer.folder / CORPUS_HELD_OUT)
    return writer.artifact


def _unasked(train: list[Conversation], held_out: list[Conversation]) -> list[Conversation]:
    """Nothing that is held out is asked in training, whichever set it came from."""
    asked = {prompt_of(conversation).casefold() for conversation in held_out}
    return [each for each in train if prompt_of(each).casefold() not in asked]


STAGE = Stage(name="instructions", version=1, needs=("data",), config=_config, run=_run)
