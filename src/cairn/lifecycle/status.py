"""What a build would do with each stage, and why: cached, or to do because of which change."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cairn.core import ConfigError, short
from cairn.lifecycle.history import RUNS_SEARCHED
from cairn.lifecycle.stage import AnyRecipe, Recorded, Stage, differences, record
from cairn.lifecycle.stages import stages_of
from cairn.registry import Artifact, Registry, Run

_CHANGES_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """What a build would do with one stage, and why."""

    stage: str
    status: str
    """`cached` or `to do`."""
    why: str
    key: str = ""
    artifact: Artifact | None = None


def stage_statuses(
    recipe: AnyRecipe, recipe_path: Path, registry: Registry, *, again: Collection[str] = ()
) -> list[StageStatus]:
    """Status of every stage, in order; nothing is run."""
    digests: dict[str, str] = {}
    statuses = []
    for stage in stages_of(recipe):
        status = _status(stage, recipe, recipe_path, registry, digests, again)
        if status.artifact:
            digests[stage.name] = status.artifact.digest
        statuses.append(status)
    return statuses


def stages_again(recipe: AnyRecipe, from_stage: str | None, force: Collection[str]) -> frozenset[str]:
    """Names of the stages to run again whether or not they are cached; unknown names are an error."""
    names = [stage.name for stage in stages_of(recipe)]
    for name in (*force, *([from_stage] if from_stage else [])):
        if name not in names:
            raise ConfigError(f"there is no stage {name!r}, allowed: {', '.join(names)}")
    later = names[names.index(from_stage) :] if from_stage else []
    return frozenset(force) | frozenset(later)


def last_run(registry: Registry, recipe: str, stage: str) -> Run | None:
    """The newest run of a stage of this recipe."""
    runs = registry.runs(RUNS_SEARCHED)
    return next((run for run in runs if run.recipe == recipe and run.stage == stage), None)


def run_of_key(registry: Registry, key: str) -> Run | None:
    """The newest successful run of a stage key."""
    runs = registry.runs(RUNS_SEARCHED)
    return next((run for run in runs if run.key == key and run.status == "succeeded"), None)


def _status(
    stage: Stage,
    recipe: AnyRecipe,
    recipe_path: Path,
    registry: Registry,
    digests: Mapping[str, str],
    again: Collection[str],
) -> StageStatus:
    if missing := [name for name in stage.needs if name not in digests]:
        return StageStatus(stage=stage.name, status="to do", why=f"waits for {', '.join(missing)}")
    recorded = record(stage, recipe, recipe_path, digests)
    key = recorded.key(stage.name)
    if stage.name in again:
        return StageStatus(stage=stage.name, status="to do", why="asked for", key=key)
    if artifact := registry.cached_output(key):
        why = f"unchanged: {short(artifact.digest)}"
        return StageStatus(stage=stage.name, status="cached", why=why, key=key, artifact=artifact)
    why = _why(last_run(registry, recipe.name, stage.name), recorded, key)
    return StageStatus(stage=stage.name, status="to do", why=why, key=key)


def _why(last: Run | None, recorded: Recorded, key: str) -> str:
    if last is None:
        return "never built"
    if last.key == key:
        gone = last.status == "succeeded"
        return "its output is gone" if gone else f"{last.status} before, goes on where it stopped"
    changed = differences(last.config, recorded.values)
    more = f"; and {len(changed) - _CHANGES_SHOWN} more" if len(changed) > _CHANGES_SHOWN else ""
    return "changed: " + "; ".join(changed[:_CHANGES_SHOWN]) + more
