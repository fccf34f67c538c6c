"""register: the finished model, in the Hugging Face layout, with its card, under its name."""

import json
import shutil
from pathlib import Path
from typing import Any

from cairn.core import ConfigError
from cairn.lifecycle.card import CARD, write_card
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.lifecycle.stages.evaluate import end_tokens
from cairn.registry import Artifact

_GENERATION_CONFIG = "generation_config.json"


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return {
        **recipe.release.model_dump(mode="json"),
        "description": recipe.description,
        "temperature": recipe.evaluate.temperature,
    }


def _run(context: StageContext) -> Artifact:
    from cairn.data import Tokenizer

    chat, scores = context.inputs["sft"], context.inputs["evaluate"]
    release = context.recipe.release
    metadata = {**chat.metadata, "stage": "release", "title": release.title or release.name}
    metadata["bits_per_byte"] = scores.metadata["bits_per_byte"]["chat"]
    with context.registry.create(
        "model",
        parents=[chat.digest, scores.digest],
        metadata=metadata,
        run_id=context.run_id,
    ) as writer:
        for entry in chat.files:
            shutil.copyfile(chat.folder / entry.path, writer.folder / entry.path)
        tokenizer = Tokenizer.load(chat.folder)
        _write_generation_config(writer.folder, end_tokens(tokenizer), tokenizer, context.recipe)
        write_card(writer.folder / CARD, context)
        check_size(writer.folder, release.max_bytes)
    return writer.artifact


def check_size(folder: Path, max_bytes: int) -> None:
    """Refuse what has grown larger than the recipe allows."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if max_bytes and size > max_bytes:
        raise ConfigError(
            f"the finished model has {size:,} bytes, release.max_bytes allows {max_bytes:,}",
            remedy="make model or tokenizer smaller, or raise release.max_bytes",
        )


def _write_generation_config(
    folder: Path, end_token_ids: tuple[int, ...], tokenizer: Any, recipe: Recipe
) -> None:
    values = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": list(end_token_ids),
        "pad_token_id": tokenizer.eos_token_id,
        "do_sample": recipe.evaluate.temperature > 0,
        "temperature": recipe.evaluate.temperature or 1.0,
        "top_p": 0.95,
    }
    (folder / _GENERATION_CONFIG).write_text(json.dumps(values, indent=2) + "\n")


STAGE = Stage(
    name="register",
    version=1,
    needs=("data", "instructions", "pretrain", "sft", "evaluate"),
    config=_config,
    run=_run,
)
