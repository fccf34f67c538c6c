"""The card of a head: what it is, what it was made from, what it scores, what it cannot do."""

import json
from pathlib import Path

from cairn.lifecycle.card import data_section, provenance_section
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.stage import StageContext
from cairn.lifecycle.stages.judge import SCORES, score_rows


def write_head_card(path: Path, context: StageContext[HeadRecipe]) -> None:
    """Write the card of the head that `context`'s inputs led to."""
    recipe, head = context.recipe, context.inputs["train"].metadata
    release, trained = recipe.release, recipe.head
    scores = json.loads((context.inputs["judge"].folder / SCORES).read_text(encoding="utf-8"))
    facts = (
        f"Low-rank changes (rank {trained.rank}) of every matrix in the layers of {trained.base}, "
        f"{head['trained_parameters']:,} weights, in PEFT's layout, trained on {head['tokens']:,} tokens. It "
        f"reads texts of at most {trained.max_tokens} tokens. Built by Cairn from the recipe `{recipe.name}`."
    )
    parts = [f"# {release.title or release.name}", recipe.description, facts]
    if release.intended_use:
        parts.append(f"**Intended use.** {release.intended_use}")
    if release.limits:
        parts.append("\n".join(["## What it cannot do", "", *(f"- {limit}" for limit in release.limits)]))
    rows = [f"| {what} | {value} |" for what, value in score_rows(scores)]
    parts.append("\n".join(["## Scores", "", "| what | value |", "|---|---|", *rows]))
    parts += [data_section("Questions", context.inputs["examples"].metadata), provenance_section(context)]
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
