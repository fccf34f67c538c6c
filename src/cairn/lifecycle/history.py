"""What earlier runs of a recipe took, read from the registry."""

from cairn.registry import Registry, Run

RUNS_SEARCHED = 2000


def stage_runs(registry: Registry, recipe: str) -> dict[str, Run]:
    """The newest successful run of each stage of a recipe."""
    runs = [run for run in registry.runs(RUNS_SEARCHED) if run.recipe == recipe and run.stage]
    return {run.stage: run for run in reversed(runs) if run.status == "succeeded"}


def last_seconds(registry: Registry, recipe: str) -> dict[str, float]:
    """Seconds that each stage's newest successful run took."""
    return {
        stage: run.finished_at - run.started_at
        for stage, run in stage_runs(registry, recipe).items()
        if run.finished_at is not None
    }
