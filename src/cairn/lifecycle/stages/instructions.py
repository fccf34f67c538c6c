"""instructions: what the chat model is taught to answer, split into a part to learn and a part held out."""

from pathlib import Path
from typing import Any

from cairn.lifecycle.conversations import Conversation, Split, read_file, read_split
from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN, read_texts, write_rows
from cairn.lifecycle.filters import apart, evaluation_index
from cairn.lifecycle.recipe import InstructionSource, Recipe
from cairn.lifecycle.sources import evaluation_folders, source_config, store_source
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
            split = _limited(_read(source, artifact), source)
            train += split.train * source.repeat
            held_out += split.held_out
            raw.append(artifact.digest)
            origins.append(origin.values)
            counts[source.name] = {"train": len(split.train), "held_out": len(split.held_out)}
            task.advance()
    train = _unasked(train, held_out)
    texts = read_texts(context.inputs["data"].folder / CORPUS_HELD_OUT)
    evaluation = evaluation_index(texts, evaluation_folders(context), context.recipe.data)
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
        write_rows(map(_row, train), writer.folder / CORPUS_TRAIN)
        write_rows(map(_row, held_out), writer.folder / CORPUS_HELD_OUT)
    return writer.artifact


def _read(source: InstructionSource, artifact: Artifact) -> Split:
    if source.dataset:
        return read_split(source.dataset, artifact.folder, held_out_share=source.held_out_share)
    splits = [
        read_file(artifact.folder / entry.path, name=source.name, held_out_share=source.held_out_share)
        for entry in artifact.files
    ]
    return Split(
        [each for split in splits for each in split.train],
        [each for split in splits for each in split.held_out],
    )


def _limited(split: Split, source: InstructionSource) -> Split:
    """Drop what is too long, then keep an even sample of `limit`."""
    train = [each for each in split.train if each.characters <= source.max_characters]
    held_out = [each for each in split.held_out if each.characters <= source.max_characters]
    if source.limit and len(train) > source.limit:
        train = [train[place * len(train) // source.limit] for place in range(source.limit)]
    return Split(train, held_out)


def _unasked(train: list[Conversation], held_out: list[Conversation]) -> list[Conversation]:
    """Nothing that is held out is asked in training, whichever set it came from."""
    asked = {conversation.user.casefold() for conversation in held_out}
    return [each for each in train if each.user.casefold() not in asked]


def _row(conversation: Conversation) -> dict[str, str]:
    return {"user": conversation.user, "assistant": conversation.assistant, "source": conversation.source}


STAGE = Stage(name="instructions", version=1, needs=("data",), config=_config, run=_run)
