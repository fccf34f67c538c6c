"""The model card: what it is, what it was made from, what it scores, what it cannot do.

Written into the model's artifact, so it holds nothing that changes from build to build (no times).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cairn.core import digest_json
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import StageContext
from cairn.lifecycle.stages.evaluate import SAMPLES

CARD = "card.md"
_SAMPLES_SHOWN = 4
_SAMPLE_CHARACTERS = 700


def write_card(path: Path, context: StageContext) -> None:
    """Write the card of the model that `context`'s inputs led to."""
    scores = context.inputs["evaluate"]
    samples = json.loads((scores.folder / SAMPLES).read_text(encoding="utf-8"))
    sections = [
        _head(context.recipe, context.inputs["sft"].metadata),
        _limits(context.recipe),
        _scores(scores.metadata),
        data_section("Texts", context.inputs["data"].metadata),
        data_section("Instructions", context.inputs["instructions"].metadata),
        _samples(samples["chat"]),
        provenance_section(context),
    ]
    path.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")


def score_rows(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured, in words, with its value; for card and report."""
    bits, following = scores["bits_per_byte"], scores["template_following"]
    return [
        ("bits per byte of the held-out text, this model", f"{bits['chat']:.3f}"),
        ("the same, before instruction tuning", f"{bits['base']:.3f}"),
        ("the same, Kneser-Ney n-gram on the same training text", f"{bits['kneser_ney']:.3f}"),
        ("the same, `xz -9e` after the training text", f"{bits['xz_after_training_text']:.3f}"),
        ("the same, `xz -9e` on the held-out text alone", f"{bits['xz']:.3f}"),
        ("replies that end by themselves", f"{following['ended']:.0%} of {following['num_replies']}"),
        ("replies without a stray template token", f"{following['clean']:.0%}"),
        ("repeated 4-grams in replies", f"{scores['diversity']['repetition']:.1%}"),
    ]


def quoted(text: str, limit: int = _SAMPLE_CHARACTERS) -> str:
    """Generated text as a Markdown quotation that cannot break out of it."""
    shown = text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"
    return (
        "\n".join(f"> {line}".rstrip() for line in shown.replace("<", "&lt;").splitlines()) or "> (nothing)"
    )


def _head(recipe: Recipe, model: Mapping[str, Any]) -> str:
    release = recipe.release
    facts = (
        f"A {model['family']}-style decoder of {model['parameters']:,} parameters with a context of "
        f"{model['context']:,} tokens, weights in {model['dtype']}, "
        f"built by Cairn from the recipe `{recipe.name}`."
    )
    parts = [f"# {release.title or release.name}", recipe.description, facts]
    if release.intended_use:
        parts.append(f"**Intended use.** {release.intended_use}")
    return "\n\n".join(part for part in parts if part)


def _limits(recipe: Recipe) -> str:
    limits = [
        *recipe.release.limits,
        "It has no knowledge of the world beyond its training texts and makes things up.",
        "It has had no safety training; what it says is not to be relied on for any decision.",
    ]
    return "\n".join(["## What it cannot do", "", *(f"- {limit}" for limit in limits)])


def _scores(scores: Mapping[str, Any]) -> str:
    held_out = scores["held_out"]
    rows = [f"| {what} | {value} |" for what, value in score_rows(scores)]
    note = f"Held out: {held_out['documents']} documents, {held_out['bytes']:,} bytes. Lower bits are better."
    return "\n".join(["## Scores", "", "| what | value |", "|---|---|", *rows, "", note])


def data_section(title: str, metadata: Mapping[str, Any]) -> str:
    """The sources of a stage, with licence, origin and how much of each was used."""
    rows = [
        f"| {source['name']} | {source['licence']} | {source['source']} | "
        f"{_counts(metadata['counts'], source['name'])} |"
        for source in metadata["sources"]
    ]
    return "\n".join(
        [f"## {title}", "", "| set | licence | from | used / held out |", "|---|---|---|---|", *rows]
    )


def _counts(counts: Mapping[str, Any], name: str) -> str:
    found = counts.get(name, {})
    return f"{found.get('train', 0):,} / {found.get('held_out', 0):,}"


def _samples(samples: Sequence[Mapping[str, str]]) -> str:
    shown = [f"**{sample['prompt']}**\n\n{quoted(sample['reply'])}" for sample in samples[:_SAMPLES_SHOWN]]
    return (
        "\n\n".join(["## Samples", "Not chosen: the first replies with the recipe's seed.", *shown])
        if shown
        else ""
    )


def provenance_section(context: StageContext[Any]) -> str:
    """The digests of everything it was made from."""
    recipe = digest_json(context.recipe.model_dump(mode="json"))
    rows = [f"- {name}: `{artifact.digest}`" for name, artifact in context.inputs.items()]
    return "\n".join(["## Made from", "", f"- recipe: `{recipe}`", *rows])
