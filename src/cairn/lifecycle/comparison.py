"""Predicted against actual: the plan made when a build began, kept, and held against what happened."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cairn.core import Settings, StorageError
from cairn.lifecycle.history import last_seconds, stage_runs
from cairn.lifecycle.predictions import RecipePlan, StagePlan
from cairn.lifecycle.result import BuildResult
from cairn.lifecycle.train import read_result
from cairn.registry import Registry

Row = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One stage: the seconds its build was predicted to take, and took."""

    stage: str
    predicted: float | None
    actual: float

    @property
    def off_by(self) -> float | None:
        """Relative error of the prediction; None when there was none."""
        return self.predicted / self.actual - 1 if self.predicted and self.actual else None


def keep_plan(plan: RecipePlan, settings: Settings) -> None:
    """Keep the plan of a build that begins, by the recipe's name."""
    path = _path(plan.recipe, settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(plan), indent=2))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy="free some space") from None


def kept_plan(recipe: str, settings: Settings) -> dict[str, StagePlan]:
    """The plan of the newest build of a recipe, by stage; empty when there was none."""
    try:
        values = json.loads(_path(recipe, settings).read_text())
    except OSError:
        return {}
    return {stage["stage"]: StagePlan(**stage) for stage in values["stages"]}


def comparisons(recipe: str, registry: Registry) -> dict[str, Comparison]:
    """Predicted and actual seconds of every stage of a recipe that has been built."""
    kept = kept_plan(recipe, registry.settings)
    return {
        stage: Comparison(stage, kept[stage].seconds if stage in kept else None, actual)
        for stage, actual in last_seconds(registry, recipe).items()
    }


def whole_comparison(result: BuildResult, registry: Registry) -> Comparison | None:
    """All stages that a build ran itself; None when it trained nothing, because then it made no plan."""
    ran = [outcome for outcome in result.outcomes if not outcome.is_cached]
    kept = kept_plan(result.recipe.name, registry.settings)
    if not kept or all(outcome.stage != "pretrain" for outcome in ran):
        return None
    predicted = sum(kept[outcome.stage].seconds for outcome in ran if outcome.stage in kept)
    return Comparison("total", predicted, sum(outcome.seconds for outcome in ran))


def comparison_rows(result: BuildResult, registry: Registry) -> list[Row]:
    """(what, predicted, actual, off by, basis) of a build, for its report."""
    kept = kept_plan(result.recipe.name, registry.settings)
    runs = stage_runs(registry, result.recipe.name)
    rows: list[Row] = []
    peak = 0
    for outcome in result.outcomes:
        if (found := kept.get(outcome.stage)) is None:
            continue
        rows.append(_row(f"{outcome.stage}, seconds", found.seconds, outcome.seconds, found.basis))
        if found.tokens_per_second and outcome.stage in runs:
            folder = registry.run_folder(runs[outcome.stage].run_id)
            # What is measured is the peak of the whole process so far.
            peak = max(peak, found.memory_bytes or 0)
            rows += _training_rows(replace(found, memory_bytes=peak), read_result(folder))
    return rows


def _training_rows(found: StagePlan, actual: Mapping[str, float | None]) -> Iterator[Row]:
    tokens, rate, peak = (actual.get(name) for name in ("tokens", "tokens_per_second", "peak_memory_bytes"))
    if found.tokens and tokens:
        yield _row(f"{found.stage}, tokens", found.tokens, tokens, "recipe")
        if found.flops:
            done = found.flops / found.tokens * tokens
            yield _row(f"{found.stage}, TFLOP", found.flops / 1e12, done / 1e12, "formula")
    if found.tokens_per_second and rate:
        yield _row(f"{found.stage}, tokens per second", found.tokens_per_second, rate, found.basis)
    if found.memory_bytes and peak:
        yield _row(f"{found.stage}, peak memory in MB", found.memory_bytes / 1e6, peak / 1e6, found.basis)


def _row(what: str, predicted: float, actual: float, basis: str) -> Row:
    digits = 1 if max(predicted, actual) < 100 else 0
    off = f"{predicted / actual - 1:+.0%}" if actual else "-"
    return what, f"{predicted:,.{digits}f}", f"{actual:,.{digits}f}", off, basis


def _path(recipe: str, settings: Settings) -> Path:
    return settings.home / "plans" / f"{recipe}.json"
