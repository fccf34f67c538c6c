"""Predicted against actual: what was planned when a build began is kept with each stage's run.

A run that went on where an earlier one stopped has no plan: it did only part of the work.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cairn.core import StorageError
from cairn.lifecycle.history import stage_runs
from cairn.lifecycle.result import BuildResult
from cairn.lifecycle.stage_plan import StagePlan
from cairn.lifecycle.train import read_result
from cairn.registry import Registry

_FILE = "plan.json"

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


def keep_plan(plan: StagePlan, run_folder: Path) -> None:
    """Keep what a stage was predicted to take with its run."""
    try:
        (run_folder / _FILE).write_text(json.dumps(asdict(plan), indent=2))
    except OSError as error:
        raise StorageError(
            f"cannot write {run_folder / _FILE}: {error.strerror}", remedy="free some space"
        ) from None


def drop_plan(run_folder: Path) -> None:
    """Forget the plan of a run whose work another one had begun."""
    (run_folder / _FILE).unlink(missing_ok=True)


def kept_plan(run_folder: Path) -> StagePlan | None:
    """What the stage of this run was predicted to take; None where nothing was predicted."""
    try:
        return StagePlan(**json.loads((run_folder / _FILE).read_text()))
    except OSError:
        return None


def comparisons(recipe: str, registry: Registry) -> dict[str, Comparison]:
    """Predicted and actual seconds of every stage of a recipe that has been built."""
    found = {}
    for stage, run in stage_runs(registry, recipe).items():
        if run.finished_at is not None:
            plan = kept_plan(registry.run_folder(run.run_id))
            actual = run.finished_at - run.started_at
            found[stage] = Comparison(stage, plan.seconds if plan else None, actual)
    return found


def whole_comparison(result: BuildResult, registry: Registry) -> Comparison | None:
    """The stages that a build ran itself; None unless it predicted and trained."""
    ran = [outcome for outcome in result.outcomes if not outcome.is_cached]
    plans = [kept_plan(registry.run_folder(outcome.run_id)) for outcome in ran]
    known = [plan for plan in plans if plan is not None]
    if len(known) < len(ran) or all(plan.stage not in ("pretrain", "train") for plan in known):
        return None
    return Comparison("total", sum(plan.seconds for plan in known), sum(outcome.seconds for outcome in ran))


def comparison_rows(result: BuildResult, registry: Registry) -> list[Row]:
    """(what, predicted, actual, off by, basis) of a build, for its report."""
    rows: list[Row] = []
    peak = 0
    for outcome in result.outcomes:
        folder = registry.run_folder(outcome.run_id)
        if not outcome.run_id or (found := kept_plan(folder)) is None:
            continue
        rows.append(_row(f"{outcome.stage}, seconds", found.seconds, outcome.seconds, found.basis))
        if found.tokens_per_second:
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
