"""register: the finished head, calibrated, with its card, under its name."""

import json
import shutil
from pathlib import Path
from typing import Any

from cairn.lifecycle.card import CARD
from cairn.lifecycle.head_card import write_head_card
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.lifecycle.stages.judge import CALIBRATION
from cairn.lifecycle.stages.register import check_size
from cairn.registry import Artifact


def _config(recipe: HeadRecipe, recipe_path: Path) -> dict[str, Any]:
    return {**recipe.release.model_dump(mode="json"), "description": recipe.description}


def _run(context: StageContext[HeadRecipe]) -> Artifact:
    from cairn.models.encoder_heads import HEAD_NAME

    head, judged = context.inputs["train"], context.inputs["judge"]
    release = context.recipe.release
    metadata = {
        **head.metadata,
        "stage": "release",
        "title": release.title or release.name,
        "scores": judged.metadata["scores"],
    }
    with context.registry.create(
        "head", parents=[head.digest, judged.digest], metadata=metadata, run_id=context.run_id
    ) as writer:
        for entry in head.files:
            shutil.copyfile(head.folder / entry.path, writer.folder / entry.path)
        values = json.loads((head.folder / HEAD_NAME).read_text(encoding="utf-8"))
        values |= json.loads((judged.folder / CALIBRATION).read_text(encoding="utf-8"))
        (writer.folder / HEAD_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        write_head_card(writer.folder / CARD, context)
        check_size(writer.folder, release.max_bytes)
    return writer.artifact


STAGE = Stage(name="register", version=1, needs=("examples", "train", "judge"), config=_config, run=_run)
