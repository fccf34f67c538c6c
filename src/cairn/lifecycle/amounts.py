"""How much text a recipe has: counted where a stage has been built, estimated where not."""

from dataclasses import dataclass
from pathlib import Path

from cairn.core import Settings
from cairn.data import find_dataset, local_dataset
from cairn.lifecycle.recipe import InstructionSource, Recipe, TextSource
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
    return Amounts(
        text_bytes=text_bytes,
        train_tokens=tokens,
        held_out_tokens=held_out,
        instruction_tokens=_instruction_tokens(recipe, recipe_path, built.get("instructions"), settings),
    )


def _instruction_tokens(recipe: Recipe, recipe_path: Path, built: Artifact | None, settings: Settings) -> int:
    if built is not None:
        num_bytes = next(entry.size for entry in built.files if entry.path == "train.jsonl")
    else:
        sources = recipe.instructions.sources
        num_bytes = sum(_source_bytes(source, recipe_path, settings) for source in sources)
    return round(num_bytes / BYTES_PER_TOKEN / (1 - recipe.instructions.replay_share))


def _source_bytes(source: TextSource | InstructionSource, recipe_path: Path, settings: Settings) -> int:
    if not source.dataset:
        return sum(path.stat().st_size for path in source_files(source, recipe_path))
    if local := local_dataset(source.dataset, settings):
        return sum(path.stat().st_size for path in local.folder.rglob("*") if path.is_file())
    return round(find_dataset(source.dataset).archive_bytes * _UNPACKED)
