"""How much text a recipe has: counted where a stage has been built, estimated where not."""

from dataclasses import dataclass
from pathlib import Path

from cairn.core import Settings
from cairn.data import find_dataset, local_dataset
from cairn.lifecycle.conversations import characters, read_source
from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN
from cairn.lifecycle.recipe import Recipe, TextSource
from cairn.lifecycle.sources import source_files
from cairn.lifecycle.status import stage_statuses
from cairn.registry import Artifact, Registry

BYTES_PER_TOKEN = 3.7
_UNPACKED = 3.2
"""Bytes of text per byte of an xz archive of it."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Text of a recipe."""

    text_bytes: int
    train_tokens: int
    held_out_tokens: int
    instruction_tokens: int
    """What is learned from, replayed passages included."""
    held_out_instruction_tokens: int


def estimate_amounts(recipe: Recipe, recipe_path: Path, registry: Registry) -> Amounts:
    """Amounts of the recipe as it stands now."""
    built = {
        status.stage: status.artifact
        for status in stage_statuses(recipe, recipe_path, registry)
        if status.artifact is not None
    }
    settings = registry.settings
    text_bytes = sum(_source_bytes(source, recipe_path, settings) for source in recipe.data.sources)
    tokens = round(text_bytes / BYTES_PER_TOKEN)
    held_out = round(tokens / 12)
    if shards := built.get("pack"):
        tokens, held_out = shards.metadata["train_tokens"], shards.metadata["validation_tokens"]
        text_bytes = shards.metadata["train_bytes"] + shards.metadata["validation_bytes"]
    if limit := recipe.evaluate.max_held_out_bytes:
        held_out = min(held_out, round(limit / BYTES_PER_TOKEN))
    learned, kept_back = _instruction_bytes(recipe, recipe_path, built.get("instructions"), settings)
    return Amounts(
        text_bytes=text_bytes,
        train_tokens=tokens,
        held_out_tokens=held_out,
        instruction_tokens=round(learned / BYTES_PER_TOKEN / (1 - recipe.instructions.replay_share)),
        held_out_instruction_tokens=round(kept_back / BYTES_PER_TOKEN),
    )


def _instruction_bytes(
    recipe: Recipe, recipe_path: Path, built: Artifact | None, settings: Settings
) -> tuple[float, float]:
    """Text to learn from and text held out; of sets that are not here yet a guess."""
    if built is not None:
        sizes = {entry.path: entry.size for entry in built.files}
        return sizes[CORPUS_TRAIN], sizes[CORPUS_HELD_OUT]
    learned = kept_back = 0.0
    for source in recipe.instructions.sources:
        local = local_dataset(source.dataset, settings) if source.dataset else None
        if source.dataset and local is None:
            guess = find_dataset(source.dataset).archive_bytes * _UNPACKED
            learned, kept_back = learned + 0.9 * guess * source.repeat, kept_back + 0.1 * guess
            continue
        split = read_source(source, local.folder if local else source_files(source, recipe_path))
        learned += source.repeat * sum(map(characters, split.train))
        kept_back += sum(map(characters, split.held_out))
    return learned, kept_back


def _source_bytes(source: TextSource, recipe_path: Path, settings: Settings) -> int:
    if not source.dataset:
        return sum(path.stat().st_size for path in source_files(source, recipe_path))
    if local := local_dataset(source.dataset, settings):
        return sum(path.stat().st_size for path in local.folder.rglob("*") if path.is_file())
    return round(find_dataset(source.dataset).archive_bytes * _UNPACKED)
