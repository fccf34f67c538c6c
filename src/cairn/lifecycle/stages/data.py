"""data: texts, cleaned, without duplicates, and apart from everything that is held out.

Documents are cut at paragraphs into passages; passages are filtered; what stays of a document is
joined again in order. Held-out documents are cleaned but never filtered, so that a score is on
whole texts, and no passage of a training document may share 13 words in a row with them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cairn.data import Document, write_rows
from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN
from cairn.lifecycle.filters import cleaned, evaluation_index, filtered
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.sources import evaluation_sets, source_config, store_source
from cairn.lifecycle.stage import Stage, StageContext
from cairn.lifecycle.texts import read_source
from cairn.registry import Artifact


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    values = recipe.data.model_dump(mode="json")
    return {**values, "sources": [source_config(source, recipe_path) for source in recipe.data.sources]}


def _run(context: StageContext) -> Artifact:
    config = context.recipe.data
    train: list[Document] = []
    held_out: list[dict[str, str]] = []
    names: list[str] = []
    raw, origins = [], []
    with context.progress.task("reading", len(config.sources)) as task:
        for source in config.sources:
            artifact, origin = store_source(source, context)
            raw.append(artifact.digest)
            origins.append(origin.values)
            split = read_source(source, artifact.folder)
            train += split.train
            names += [source.name] * len(split.train)
            held_out += [_row(each, source.name, cleaned(each.text, config)) for each in split.held_out]
            task.advance()
    evaluation = evaluation_index((row["text"] for row in held_out), evaluation_sets(context), config)
    kept, steps = filtered(train, config, evaluation, context.progress)
    rows = [_row(train[place], names[place], text) for place, text in kept]
    metadata = {
        "recipe": context.recipe.name,
        "sources": origins,
        "counts": _counts(rows, held_out),
        "steps": steps,
        "train_documents": len(rows),
        "train_bytes": _bytes(rows),
        "held_out_documents": len(held_out),
        "held_out_bytes": _bytes(held_out),
    }
    with context.registry.create("corpus", parents=raw, metadata=metadata, run_id=context.run_id) as writer:
        write_rows(rows, writer.folder / CORPUS_TRAIN)
        write_rows(held_out, writer.folder / CORPUS_HELD_OUT)
    return writer.artifact


def _row(document: Document, source: str, text: str) -> dict[str, str]:
    return {"text": text, "source": source, "path": str(document.source.path)}


def _counts(train: Sequence[dict[str, str]], held_out: Sequence[dict[str, str]]) -> dict[str, dict[str, int]]:
    names = {row["source"] for row in (*train, *held_out)}
    return {
        name: {
            "train": sum(1 for row in train if row["source"] == name),
            "held_out": sum(1 for row in held_out if row["source"] == name),
        }
        for name in sorted(names)
    }


def _bytes(rows: Sequence[dict[str, str]]) -> int:
    return sum(len(row["text"].encode()) for row in rows)


STAGE = Stage(name="data", version=1, needs=(), config=_config, run=_run)
