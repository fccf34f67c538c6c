"""The report of a build: HTML and Markdown, self-contained, stored as an artifact.

Loss curves, scores beside their baselines, samples, what the data stage dropped, predicted
against actual, the card's facts, and the digest of everything that was made.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cairn.core import digest_json, short
from cairn.lifecycle.card import score_rows
from cairn.lifecycle.comparison import comparison_rows
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.report.blocks import Block, Exchange, Figures, Heading, Image, Table, Text
from cairn.lifecycle.report.html import to_html
from cairn.lifecycle.report.markdown import to_markdown
from cairn.lifecycle.result import BuildResult
from cairn.lifecycle.stages.evaluate import SAMPLES
from cairn.lifecycle.stages.judge import score_rows as head_score_rows
from cairn.registry import Artifact, Registry

REPORT_HTML = "report.html"
REPORT_MARKDOWN = "report.md"
_INSTRUCTIONS_SHOWN = 10
_SHOWN_CHARACTERS = 320


def write_report(result: BuildResult, registry: Registry) -> Artifact:
    """Write the report of a finished build and store it."""
    blocks = _blocks(result, registry)
    title = result.recipe.release.title or result.recipe.release.name
    subtitle = result.recipe.description or f"Built from the recipe {result.recipe.name}."
    with registry.create(
        "report",
        parents=[result.model.digest],
        metadata={"recipe": result.recipe.name, "title": title},
        run_id=result.run_id,
    ) as writer:
        (writer.folder / REPORT_HTML).write_text(to_html(title, subtitle, blocks), encoding="utf-8")
        (writer.folder / REPORT_MARKDOWN).write_text(to_markdown(title, blocks), encoding="utf-8")
        for block in blocks:
            if isinstance(block, Image):
                (writer.folder / block.file).write_bytes(block.png)
    return writer.artifact


def _blocks(result: BuildResult, registry: Registry) -> list[Block]:
    if isinstance(result.recipe, HeadRecipe):
        return _head_blocks(result, registry)
    scores = result.outcome("evaluate").artifact
    samples = json.loads((scores.folder / SAMPLES).read_text(encoding="utf-8"))
    return [
        _glance(result, scores.metadata),
        *_training(result, registry, ("pretrain", "sft")),
        Heading("Scores"),
        Table(("what", "value"), score_rows(scores.metadata), frozenset({1})),
        *_samples(samples),
        *_data(result),
        *_stages(result, registry),
        *_provenance(result),
    ]


def _head_blocks(result: BuildResult, registry: Registry) -> list[Block]:
    scores = head_score_rows(result.outcome("judge").artifact.metadata["scores"])
    head = result.model
    return [
        Figures(
            [
                ("trained weights", f"{head.metadata['trained_parameters']:,}", f"{head.size / 1e6:.1f} MB"),
                *((what, shown, "") for what, shown in scores[:2]),
                ("built in", _duration(sum(outcome.seconds for outcome in result.outcomes)), "all stages"),
            ]
        ),
        *_training(result, registry, ("train",)),
        Heading("Scores"),
        Table(("what", "value"), scores, frozenset({1})),
        Heading("Data"),
        *_sources(result, "examples", "Questions"),
        *_stages(result, registry),
        *_provenance(result),
    ]


def _glance(result: BuildResult, scores: Mapping[str, Any]) -> Figures:
    bits, model = scores["bits_per_byte"], result.model
    following = scores["template_following"]
    return Figures(
        [
            (
                "parameters",
                f"{model.metadata['parameters'] / 1e6:.2f} M",
                f"{model.size / 1e6:.1f} MB as shipped",
            ),
            (
                "bits per byte",
                f"{bits['chat']:.3f}",
                f"n-gram {bits['kneser_ney']:.3f}, xz {bits['xz_after_training_text']:.3f}",
            ),
            (
                "ends by itself",
                f"{following['ended']:.0%}",
                f"of {following['num_replies']} held-out instructions",
            ),
            (
                "built in",
                _duration(sum(outcome.seconds for outcome in result.outcomes)),
                "all stages, as last run",
            ),
        ]
    )


def _training(result: BuildResult, registry: Registry, stages: Sequence[str]) -> list[Block]:
    blocks: list[Block] = [Heading("Training")]
    for stage in stages:
        outcome = result.outcome(stage)
        folder = registry.run_folder(outcome.run_id) if outcome.run_id else Path()
        curve = folder / "loss.png"
        if outcome.run_id and curve.is_file():
            blocks.append(Image(curve.read_bytes(), f"{stage}: loss over tokens", f"{stage}-loss.png"))
    return blocks


def _samples(samples: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [
        Heading("Samples"),
        Text("The first replies with the recipe's seed; none was chosen."),
    ]
    blocks += [Exchange(each["prompt"], each["reply"]) for each in samples["chat"]]
    blocks += [Heading("The base model goes on", 3)]
    blocks += [Exchange(each["prompt"], each["reply"]) for each in samples["base"]]
    blocks += [Heading("Held-out instructions, greedy", 3)]
    answered = samples["held_out_instructions"]
    shown = answered[:: max(1, len(answered) // _INSTRUCTIONS_SHOWN)][:_INSTRUCTIONS_SHOWN]
    blocks += [Exchange(_end(each["prompt"]), each["reply"], _end(each["expected"])) for each in shown]
    return blocks


def _sources(result: BuildResult, stage: str, title: str) -> list[Block]:
    metadata = result.outcome(stage).artifact.metadata
    counts = metadata["counts"]
    rows = [
        (
            source["name"],
            source["licence"],
            f"{counts.get(source['name'], {}).get('train', 0):,}",
            f"{counts.get(source['name'], {}).get('held_out', 0):,}",
        )
        for source in metadata["sources"]
    ]
    return [Heading(title, 3), Table(("set", "licence", "used", "held out"), rows, frozenset({2, 3}))]


def _data(result: BuildResult) -> list[Block]:
    blocks: list[Block] = [Heading("Data")]
    for stage, what in (("data", "Texts"), ("instructions", "Instructions")):
        blocks += _sources(result, stage, what)
    steps = result.outcome("data").artifact.metadata["steps"]
    rows = [(step["step"], f"{step['kept']:,}", f"{step['dropped']:,}", step["why"]) for step in steps]
    blocks += [
        Heading("Cleaning", 3),
        Table(("step", "passages kept", "dropped", "most for"), rows, frozenset({1, 2})),
    ]
    return blocks


def _end(text: str) -> str:
    """The end of a long text: where the question stands."""
    return text if len(text) <= _SHOWN_CHARACTERS else "… " + text[-_SHOWN_CHARACTERS:].split(" ", 1)[-1]


def _stages(result: BuildResult, registry: Registry) -> list[Block]:
    columns = ("what", "predicted", "actual", "off by", "basis")
    rows = comparison_rows(result, registry)
    return [Heading("Predicted against actual"), Table(columns, rows, frozenset({1, 2, 3}))]


def _provenance(result: BuildResult) -> list[Block]:
    rows = [
        (
            outcome.stage,
            outcome.artifact.kind,
            f"`{outcome.artifact.digest}`",
            f"{outcome.artifact.size / 1e6:.1f} MB",
        )
        for outcome in result.outcomes
    ]
    recipe = digest_json(result.recipe.model_dump(mode="json"))
    return [
        Heading("Made from"),
        Table(("stage", "kind", "artifact", "size"), rows, frozenset({3})),
        Text(f"Recipe `{result.recipe.name}`, digest `{recipe}`, run `{result.run_id}`."),
        Text(f"See the whole way from the raw data: `cairn artifact lineage {short(result.model.digest)}`."),
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
